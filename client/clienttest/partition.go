package clienttest

import (
	"fmt"
	"slices"

	"google.golang.org/grpc/codes"

	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/proto/recordbatch"
)

// windowBatches is how many batches a partition remembers of each producer.
const windowBatches = 5

// partition is a log. It has no lock: the cluster's guards it.
type partition struct {
	leader   uint64
	next     int64
	logStart int64
	batches  [][]byte
	sessions map[int64]*session
	gone     bool          // its topic is deleted
	grown    chan struct{} // closed and replaced when batches grows
}

type session struct {
	epoch int16
	next  int32
	last  []stored
}

type stored struct {
	sequence int32
	count    int
	offset   int64
}

func newPartition(leader uint64) *partition {
	return &partition{leader: leader, sessions: make(map[int64]*session), grown: make(chan struct{})}
}

// append judges a batch as multiraftd's partition machine does.
func (p *partition) append(number uint32, b []byte) (*multiraftv1.Receipt, *multiraftv1.AppendError) {
	info, err := recordbatch.Validate(b, recordbatch.Limits{RecordBytesMax: messageBytesMax, BatchBytesMax: messageBytesMax})
	if err != nil {
		return nil, refusal(codes.InvalidArgument, "INVALID_BATCH", err.Error(), 0)
	}
	receipt := &multiraftv1.Receipt{Partition: number, Count: uint32(info.Count), Term: 1, Index: uint64(len(p.batches) + 2), FsyncedReplicas: 2}
	if info.ProducerID >= 0 {
		offset, duplicate, refused := p.judge(info)
		if refused != nil {
			return nil, refused
		}
		if duplicate {
			receipt.FirstOffset, receipt.Duplicate = offset, true
			return receipt, nil
		}
	}
	receipt.FirstOffset = p.next
	p.store(b, info)
	return receipt, nil
}

func (p *partition) store(b []byte, info recordbatch.Info) {
	b = slices.Clone(b)
	recordbatch.SetBase(b, p.next, 1)
	p.batches = append(p.batches, b)
	p.next += int64(info.Count)
	close(p.grown)
	p.grown = make(chan struct{})
}

func (p *partition) judge(info recordbatch.Info) (offset int64, duplicate bool, refused *multiraftv1.AppendError) {
	s, known := p.sessions[info.ProducerID]
	switch {
	case !known && info.BaseSequence != 0:
		return 0, false, refusal(codes.FailedPrecondition, "UNKNOWN_PRODUCER", "the sequence does not begin at 0", 0)
	case !known:
		s = &session{epoch: info.Epoch}
		p.sessions[info.ProducerID] = s
	case info.Epoch < s.epoch:
		return 0, false, refusal(codes.FailedPrecondition, "PRODUCER_FENCED", "epoch is fenced", 0)
	}
	for _, l := range s.last {
		if l.sequence == info.BaseSequence && l.count == info.Count {
			return l.offset, true, nil
		}
	}
	if info.BaseSequence < s.next {
		return -1, true, nil
	}
	if info.BaseSequence != s.next {
		return 0, false, refusal(codes.FailedPrecondition, "SEQUENCE_GAP", fmt.Sprintf("sequence %d, expected %d", info.BaseSequence, s.next), 0)
	}
	s.next = recordbatch.NextSequence(info.BaseSequence, info.Count)
	s.last = append(s.last, stored{info.BaseSequence, info.Count, p.next})
	s.last = s.last[max(0, len(s.last)-windowBatches):]
	return 0, false, nil
}

func refusal(code codes.Code, reason, message string, retryMillis uint32) *multiraftv1.AppendError {
	return &multiraftv1.AppendError{Code: int32(code), Reason: reason, Message: message, RetryAfterMs: retryMillis}
}

// truncate drops the first batch.
func (p *partition) truncate() {
	if len(p.batches) == 0 {
		return
	}
	if info, err := recordbatch.ParseHeader(p.batches[0]); err == nil {
		p.logStart, p.batches = info.BaseOffset+int64(info.Count), p.batches[1:]
	}
}
