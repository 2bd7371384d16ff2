package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/multiraftd/multiraftd/client"
	"github.com/multiraftd/multiraftd/proto/recordbatch"
)

// joinedBytesMax is how large small batches get when they are joined.
const joinedBytesMax = 256 << 10

// fill appends what the topics lack, topic by topic.
func (r *restore) fill(ctx context.Context, restored []Restored, largest map[uint64]int) error {
	var total int64
	partitions := 0
	for i := range restored {
		total += restored[i].Topic.Bytes()
		partitions += len(restored[i].Topic.Partitions)
	}
	r.progress.begin("appending", total, partitions)
	for i := range restored {
		if err := r.fillTopic(ctx, &restored[i], largest[restored[i].Topic.ID]); err != nil {
			return fmt.Errorf("restore of %s: %w", restored[i].As, err)
		}
	}
	return nil
}

func (r *restore) fillTopic(ctx context.Context, to *Restored, largest int) error {
	l := newLedger(to, r.progress)
	open, cancel := withTimeout(ctx, r.options.Timeout)
	defer cancel()
	p, err := r.client.NewProducer(open, to.As, client.ProducerConfig{DeliveryTimeout: r.options.Timeout, OnAck: l.acked})
	if err != nil {
		return err
	}
	err = func() error {
		if p.TopicID() != to.ID {
			return errors.New("the topic was deleted meanwhile, and created again")
		}
		if n := p.RecordBytesMax(); largest > n {
			return fmt.Errorf("a record of %d bytes is in the backup, and the cluster takes %d: start its nodes with --record-bytes-max %d or more, then restore again", largest, n, largest)
		}
		ctx, fail := context.WithCancelCause(ctx)
		defer fail(nil)
		l.fail = fail
		return each(ctx, partitionsAtOnce, len(to.Topic.Partitions), func(ctx context.Context, i int) error {
			return r.fillPartition(ctx, p, l, to, &to.Topic.Partitions[i])
		})
	}()
	// After a failure nothing is waited for: the next restore looks at what is there.
	closing, cancel := context.WithCancel(ctx)
	defer cancel()
	if err != nil {
		cancel()
	}
	closed := p.Close(closing)
	for _, err := range []error{l.result(), err, closed} { // each repeats the one before in other words
		if err != nil {
			return err
		}
	}
	return errors.Join(l.complete(), r.nothingBehind(ctx, l))
}

// nothingBehind asks once more for the ends: what an earlier restore had sent before it was killed, or somebody else
// meanwhile, may have come behind the last record.
func (r *restore) nothingBehind(ctx context.Context, l *ledger) error {
	ask, cancel := withTimeout(ctx, r.options.Timeout)
	defer cancel()
	desc, err := r.client.Describe(ask, l.to.As, true)
	if err != nil {
		return err
	}
	for _, p := range desc.GetPartitions() {
		// -1 = no leader to ask just now: all that was sent to it has been acknowledged where it belongs.
		if end := l.ends[p.GetPartition()]; p.GetHighWatermark() > end {
			return fmt.Errorf("partition %d: %w: it ends at offset %d, and in the backup at %d: something else appends to the topic; delete it, and restore while nothing does",
				p.GetPartition(), ErrForeign, p.GetHighWatermark(), end)
		}
	}
	return nil
}

// fillPartition compares what is there and appends the rest.
func (r *restore) fillPartition(ctx context.Context, p *client.Producer, l *ledger, to *Restored, part *Partition) error {
	src := r.source(to.Topic, part)
	err := func() error {
		shift := int64(0)
		if r.options.Renumber {
			shift = part.Start
		}
		e := &existing{restore: r, to: to, partition: part, src: src, shift: shift}
		rest, err := e.compare(ctx)
		if err != nil {
			return err
		}
		l.begin(part.Partition, e.next, shift)
		j := &joiner{add: func(b []byte) error {
			_, err := p.AppendBatch(ctx, int(part.Partition), b)
			return err
		}}
		if len(rest) > 0 {
			b, err := recordbatch.Encode(nil, recordbatch.None, rest)
			if err != nil {
				return err
			}
			if err := j.add(b); err != nil {
				return err
			}
		}
		return j.joinAll(ctx, src)
	}()
	if err != nil {
		return fmt.Errorf("partition %d: %w", part.Partition, errors.Join(err, src.close()))
	}
	return src.close()
}

// joiner makes larger batches of small ones that follow each other. A batch that is alone, or compressed, stays as it
// is.
type joiner struct {
	add     func(batch []byte) error
	waiting [][]byte
	bytes   int
}

func (j *joiner) joinAll(ctx context.Context, src *source) error {
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		b, info, err := src.batch()
		if errors.Is(err, io.EOF) {
			return j.flush()
		}
		if err != nil {
			return err
		}
		if info.Compression != 0 || j.bytes+len(b) > joinedBytesMax {
			if err := j.flush(); err != nil {
				return err
			}
		}
		j.waiting, j.bytes = append(j.waiting, b), j.bytes+len(b)
		if info.Compression != 0 {
			if err := j.flush(); err != nil {
				return err
			}
		}
	}
}

func (j *joiner) flush() error {
	waiting := j.waiting
	j.waiting, j.bytes = nil, 0
	switch len(waiting) {
	case 0:
		return nil
	case 1:
		return j.add(waiting[0])
	}
	var records []recordbatch.Record
	for _, b := range waiting {
		rs, err := recordbatch.Decode(b)
		if err != nil {
			return err
		}
		records = append(records, rs...)
	}
	joined, err := recordbatch.Encode(nil, recordbatch.None, records)
	if err != nil {
		return err
	}
	return j.add(joined)
}

// ledger compares acknowledgements with what the backup says, and counts.
type ledger struct {
	to       *Restored
	progress *Progress
	fail     context.CancelCauseFunc

	mu   sync.Mutex
	next map[uint32]int64 // the offset that the next batch must get
	ends map[uint32]int64
	err  error
}

func newLedger(to *Restored, progress *Progress) *ledger {
	return &ledger{to: to, progress: progress, fail: func(error) {}, next: map[uint32]int64{}, ends: map[uint32]int64{}}
}

// begin notes where a partition goes on.
func (l *ledger) begin(partition uint32, next, shift int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	part := &l.to.Topic.Partitions[partition]
	l.next[partition], l.ends[partition] = next, part.End-shift
	l.to.WereThere += next + shift - part.Start
	if shift > 0 {
		l.to.Renumbered = append(l.to.Renumbered, Renumbered{partition, shift})
	}
	if next == l.ends[partition] {
		l.progress.partitionDone()
	}
}

// acked takes the fate of one batch. The producer calls it in the order of the offsets.
func (l *ledger) acked(a client.Ack) {
	l.mu.Lock()
	defer l.mu.Unlock()
	want := l.next[a.Partition]
	switch {
	case l.err != nil:
		return
	case a.Err != nil:
		// Not %w: an outcome that is unknown here is known to the next restore, which looks.
		l.err = fmt.Errorf("partition %d at offset %d: %v", a.Partition, want, a.Err)
	case a.Receipt.Offset != want:
		l.err = fmt.Errorf("partition %d: %w: what has offset %d in the backup was stored at %d: something else appends to the topic; delete it, and restore while nothing does",
			a.Partition, ErrForeign, want, a.Receipt.Offset)
	}
	if l.err != nil {
		l.fail(l.err)
		return
	}
	l.next[a.Partition] += int64(a.Records)
	l.to.Records += int64(a.Records)
	l.progress.add(int64(a.Records), 0)
	if l.next[a.Partition] == l.ends[a.Partition] {
		l.progress.partitionDone()
	}
}

func (l *ledger) result() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// complete checks that every record of the backup has been acknowledged.
func (l *ledger) complete() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p, end := range l.ends {
		if l.next[p] != end {
			return fmt.Errorf("partition %d ends at offset %d, and in the backup at %d", p, l.next[p], end)
		}
	}
	return nil
}
