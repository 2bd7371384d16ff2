package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/multiraftd/multiraftd/client"
	"github.com/multiraftd/multiraftd/proto/recordbatch"
)

// existing is what is in a partition before a restore appends to it: what an earlier restore has appended, record for
// record, or the restore ends here.
type existing struct {
	restore   *restore
	to        *Restored
	partition *Partition
	src       *source
	shift     int64

	next int64                // offset in the cluster
	have []recordbatch.Record // of the backup, not compared yet
}

// compare reads the partition to its linearizable end. It leaves src behind what is there, and returns what of src's
// last batch is not there yet.
func (e *existing) compare(ctx context.Context) (rest []recordbatch.Record, err error) {
	timeout := e.restore.options.Timeout
	open, cancel := withTimeout(ctx, timeout)
	defer cancel()
	r, err := e.restore.client.NewReader(open, e.to.As, client.ReadConfig{Partition: e.partition.Partition, To: client.End(), RetryTimeout: timeout})
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if r.TopicID() != e.to.ID {
		return nil, errors.New("the topic was deleted meanwhile, and created again")
	}
	for {
		rec, err := r.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if err := e.compareOne(&rec); err != nil {
			return nil, err
		}
	}
	e.next = r.Offset()
	if e.next+e.shift > e.partition.End {
		return nil, e.foreign(e.next-1, "the backup ends before it")
	}
	// Retention may have taken what an earlier restore had appended, down to the last record.
	err = e.skipTo(e.next+e.shift, e.next+e.shift)
	return e.have, err
}

func (e *existing) compareOne(rec *client.Record) error {
	at := rec.Offset + e.shift
	if err := e.skipTo(at, at+1); err != nil {
		return err
	}
	if len(e.have) == 0 {
		return e.foreign(rec.Offset, "the backup ends before it")
	}
	if want := &e.have[0]; !same(want, rec) {
		return e.foreign(rec.Offset, "it is not the one in the backup")
	}
	e.have = e.have[1:]
	e.restore.progress.moves.Add(1)
	return nil
}

// skipTo reads the backup as far as reach, and drops what is before offset.
func (e *existing) skipTo(offset, reach int64) error {
	for e.src.next < reach {
		b, _, err := e.src.batch()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if e.have, err = recordbatch.Decode(b); err != nil {
			return err
		}
	}
	for len(e.have) > 0 && e.have[0].Offset < offset {
		e.have = e.have[1:]
	}
	return nil
}

func (e *existing) foreign(offset int64, what string) error {
	return fmt.Errorf("%w: offset %d: %s: delete the topic, or restore under another name", ErrForeign, offset, what)
}

// same says whether two records are equal, but for their offsets.
func same(a, b *recordbatch.Record) bool {
	if a.TimestampMillis != b.TimestampMillis || !sameBytes(a.Key, b.Key) || !sameBytes(a.Value, b.Value) || len(a.Headers) != len(b.Headers) {
		return false
	}
	for i := range a.Headers {
		if a.Headers[i].Key != b.Headers[i].Key || !sameBytes(a.Headers[i].Value, b.Headers[i].Value) {
			return false
		}
	}
	return true
}

// sameBytes tells absent from empty.
func sameBytes(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }
