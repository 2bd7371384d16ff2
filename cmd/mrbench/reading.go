package main

import (
	"context"
	"errors"
	"io"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/multiraftd/multiraftd/client"
)

// responseBytes bounds one response of a read: large, because reading as fast as possible is the purpose.
const responseBytes = 4 << 20

// sink takes records of one partition, in order. Partitions come from different goroutines.
type sink func(partition int, records []client.Record) error

// tally counts what is read and passes it on.
type tally struct {
	records, bytes atomic.Uint64
	limit          uint64 // of records; 0 = none
	next           sink   // may be nil
}

func (t *tally) take(partition int, records []client.Record) error {
	bytes := 0
	for i := range records {
		bytes += len(records[i].Value)
	}
	n := t.records.Add(uint64(len(records)))
	t.bytes.Add(uint64(bytes))
	if t.next != nil {
		if err := t.next(partition, records); err != nil {
			return err
		}
	}
	if t.limit > 0 && n >= t.limit {
		return errDone
	}
	return nil
}

// readRanges reads a range of each partition, several partitions at a time.
func readRanges(ctx context.Context, c *client.Client, o *options, ranges []bounds, to sink) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var wg sync.WaitGroup
	var nextPartition atomic.Int64
	for range min(o.clients, len(ranges)) {
		wg.Go(func() {
			for p := int(nextPartition.Add(1)) - 1; p < len(ranges) && ctx.Err() == nil; p = int(nextPartition.Add(1)) - 1 {
				if err := readRange(ctx, c, o, p, ranges[p], to); err != nil {
					stop(err)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

func readRange(ctx context.Context, c *client.Client, o *options, partition int, b bounds, to sink) error {
	if b.from >= b.to {
		return nil
	}
	r, err := c.NewReader(ctx, o.topic, client.ReadConfig{Partition: uint32(partition), From: client.Offset(b.from), To: client.Offset(b.to),
		ResponseBytes: responseBytes, RetryTimeout: o.timeout})
	if err != nil {
		return err
	}
	var buf []client.Record
	for {
		if buf, err = nextRecords(ctx, r, buf[:0]); err != nil {
			break
		}
		if err = to(partition, buf); err != nil {
			break
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return errors.Join(err, r.Close())
}

// nextRecords waits for a record and takes those that came with it.
func nextRecords(ctx context.Context, r *client.Reader, buf []client.Record) ([]client.Record, error) {
	rec, err := r.Next(ctx)
	if err != nil {
		return buf, err
	}
	buf = append(buf, rec)
	for r.Buffered() > 0 {
		if rec, err = r.Next(ctx); err != nil {
			return buf, err
		}
		buf = append(buf, rec)
	}
	return buf, nil
}

// followers read partitions while they grow, until an end that is told later.
type followers struct {
	wg     sync.WaitGroup
	ctx    context.Context // ends when the first fails
	fail   context.CancelCauseFunc
	told   context.Context // ends when the ends are known
	tell   context.CancelFunc
	ends   []atomic.Int64
	lastAt atomic.Int64 // when the last record came, since started, in ns
	since  time.Time
}

func follow(ctx context.Context, c *client.Client, o *options, ranges []bounds, to sink) *followers {
	f := &followers{ends: make([]atomic.Int64, len(ranges)), since: time.Now()}
	f.ctx, f.fail = context.WithCancelCause(ctx)
	f.told, f.tell = context.WithCancel(f.ctx)
	for p, b := range ranges {
		f.ends[p].Store(math.MaxInt64)
		f.wg.Go(func() {
			if err := f.follow(c, o, p, b.to, to); err != nil {
				f.fail(err)
			}
		})
	}
	return f
}

func (f *followers) follow(c *client.Client, o *options, partition int, from int64, to sink) error {
	r, err := c.NewReader(f.ctx, o.topic, client.ReadConfig{Partition: uint32(partition), From: client.Offset(from), Follow: true,
		ResponseBytes: responseBytes, RetryTimeout: o.timeout})
	if err != nil {
		return err
	}
	var buf []client.Record
	for ctx := f.told; err == nil && from < f.ends[partition].Load(); {
		buf, err = nextRecords(ctx, r, buf[:0])
		if err != nil && ctx == f.told && f.ctx.Err() == nil && f.told.Err() != nil {
			ctx, err = f.ctx, nil // it waited for more than there will be; now there is an end
		}
		if err == nil && len(buf) > 0 {
			from = buf[len(buf)-1].Offset + 1
			f.lastAt.Store(int64(time.Since(f.since)))
			err = to(partition, buf)
		}
	}
	return errors.Join(err, r.Close())
}

// finish tells the followers where to end and waits for them. It returns how long after the end of the load the
// last record came.
func (f *followers) finish(ranges []bounds, loadEnd time.Time) (time.Duration, error) {
	for p, b := range ranges {
		f.ends[p].Store(b.to)
	}
	f.tell()
	f.wg.Wait()
	return max(time.Duration(f.lastAt.Load())-loadEnd.Sub(f.since), 0), context.Cause(f.ctx)
}

// abort ends the followers wherever they are.
func (f *followers) abort(cause error) {
	f.fail(cause)
	f.tell()
	f.wg.Wait()
}
