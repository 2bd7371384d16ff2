package client

import (
	"context"
	"slices"
	"time"

	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/proto/recordbatch"
	"github.com/multiraftd/multiraftd/proto/trace"
)

// Record is what is stored. Absent (nil) and empty keys and values are different. Offset is set on reading.
type Record = recordbatch.Record

// Header is a named value beside a record.
type Header = recordbatch.Header

// Receipt is what an acknowledgement says: the batch is fsynced on a majority of the replicas.
type Receipt struct {
	Partition uint32
	Offset    int64 // of the first record; -1 for a duplicate older than what the partition remembers
	Count     uint32
	Term      uint64
	Index     uint64 // of the Raft entry
	Fsynced   uint32 // replicas known to have fsynced it when the answer was made
	Duplicate bool   // an earlier attempt had stored it
}

func receiptOf(r *multiraftv1.Receipt) Receipt {
	return Receipt{Partition: r.GetPartition(), Offset: r.GetFirstOffset(), Count: r.GetCount(), Term: r.GetTerm(),
		Index: r.GetIndex(), Fsynced: r.GetFsyncedReplicas(), Duplicate: r.GetDuplicate()}
}

// Ack is the fate of one batch.
type Ack struct {
	Partition uint32
	Records   int
	Queued    time.Time // when Append took in its first record
	Receipt   Receipt   // if Err is nil
	Err       error
	TraceID   string // of its trace, in hexadecimal; empty = it is not sampled
}

// Ticket stands for one appended record.
type Ticket struct {
	batch *batch
	index int
}

// Wait returns the record's offset once it is stored. When ctx ends first the error is OutcomeUnknown: the
// producer goes on trying. The offset is -1 for a duplicate that the partition no longer remembers.
func (t Ticket) Wait(ctx context.Context) (int64, error) {
	if t.batch == nil {
		return -1, ErrClosed // the zero Ticket belongs to no producer
	}
	select {
	case <-t.batch.done:
	case <-ctx.Done():
		return -1, unknownOutcome(ctx.Err())
	}
	ack := &t.batch.ack
	if ack.Err != nil || ack.Receipt.Offset < 0 {
		return -1, ack.Err
	}
	return ack.Receipt.Offset + int64(t.index), nil
}

const (
	chunkBytesMin = 4 << 10 // a batch copies its records into chunks that double
	chunkBytesMax = 256 << 10
)

// batch is a run of records of one partition on its way. Until it is first sent it holds records; then it is
// frozen: encoded, with its sequence, and every retry sends the same bytes.
//
// Invariant: encoded bytes that may have been stored are never changed (lane.reset checks maybeStored).
type batch struct {
	lane    *lane
	records []Record
	chunk   []byte // the records' bytes go here
	bytes   int    // what it counts against the buffer

	whole       bool   // AppendBatch brought it, encoded: its records are not ours to take apart
	raw         []byte // a whole batch before it is frozen
	encoded     []byte
	via         courier // in flight on it; nil = waiting or settled
	request     uint64  // of that attempt
	sentAt      time.Time
	maybeStored bool // some attempt may have been stored
	settled     bool // ack is final
	followed    bool // sent while an older one was open: a gap may come of that one

	span   *trace.Span // nil = not sampled
	traced bool        // it has been decided

	ack  Ack
	done chan struct{} // closed when ack has been delivered
}

func newBatch(l *lane, now time.Time) *batch {
	return &batch{lane: l, bytes: recordbatch.HeaderBytes, ack: Ack{Partition: l.partition, Queued: now}, done: make(chan struct{})}
}

// add copies r, so that the caller can use its buffers again, and returns its index.
func (b *batch) add(r Record, bytes int) int {
	r.Key, r.Value = b.copy(r.Key), b.copy(r.Value)
	if len(r.Headers) > 0 {
		r.Headers = slices.Clone(r.Headers)
		for i := range r.Headers {
			r.Headers[i].Value = b.copy(r.Headers[i].Value)
		}
	}
	b.records = append(b.records, r)
	b.bytes += bytes
	b.ack.Records++
	return b.ack.Records - 1
}

func (b *batch) copy(data []byte) []byte {
	switch {
	case data == nil:
		return nil
	case len(data) == 0:
		return []byte{} // a slice of a nil chunk would be nil: absent instead of empty
	case len(data) > chunkBytesMax:
		return slices.Clone(data)
	case cap(b.chunk)-len(b.chunk) < len(data):
		b.chunk = make([]byte, 0, max(len(data), min(2*cap(b.chunk), chunkBytesMax), chunkBytesMin))
	}
	start := len(b.chunk)
	b.chunk = append(b.chunk, data...)
	return b.chunk[start:len(b.chunk):len(b.chunk)]
}

// freeze encodes the batch under p.
func (b *batch) freeze(p recordbatch.Producer) error {
	if b.whole {
		recordbatch.SetProducer(b.raw, p)
		b.encoded, b.raw = b.raw, nil
		return nil
	}
	encoded, err := recordbatch.Encode(nil, p, b.records)
	if err != nil {
		return err
	}
	b.encoded, b.records, b.chunk = encoded, nil, nil
	return nil
}

// thaw undoes freeze: a batch that was never stored may get another producer id and sequence.
func (b *batch) thaw() error {
	if b.whole {
		b.raw, b.encoded = b.encoded, nil
		return nil
	}
	records, err := recordbatch.Decode(b.encoded)
	if err != nil {
		return err
	}
	b.records, b.encoded = records, nil
	return nil
}

func (b *batch) settle(r Receipt, err error) {
	b.ack.Receipt, b.ack.Err, b.settled = r, err, true
	b.records, b.chunk, b.raw, b.encoded = nil, nil, nil, nil
	if b.span != nil {
		endAppend(b.span, r, err)
	}
}

// waiting says that the batch can be sent.
func (b *batch) waiting() bool { return b.via == nil && !b.settled }
