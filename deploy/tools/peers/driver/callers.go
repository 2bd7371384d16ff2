package driver

import (
	"bytes"
	"context"
	"sync"
	"time"

	"github.com/multiraftd/multiraftd/cmd/mrbench/load"
)

// record waits for a caller.
type record struct {
	partition int
	sequence  uint64
	value     []byte
}

// callers is the producer of a system whose calls end with the acknowledgement: as many goroutines as there may be
// records in flight, each with one call at a time.
type callers struct {
	records chan record
	flight  Flight
	limit   time.Duration
	ended   sync.WaitGroup
}

// NewCallers makes a producer with n callers, each with one call of call at a time. It tells to what became of a record.
// limit is how long Close waits for the last ones.
func NewCallers(n int, to *load.Generator, limit time.Duration, call func(partition int, sequence uint64, value []byte) error) load.Producer {
	c := &callers{records: make(chan record, n), limit: limit}
	for range n {
		c.ended.Go(func() {
			for r := range c.records {
				to.AckedOne(r.partition, r.sequence, call(r.partition, r.sequence, r.value))
				c.flight.Done()
			}
		})
	}
	return c
}

// Append is part of load.Producer.
func (c *callers) Append(ctx context.Context, partition int, sequence uint64, value []byte) error {
	c.flight.Add()
	select {
	case c.records <- record{partition, sequence, bytes.Clone(value)}:
		return nil
	case <-ctx.Done():
		c.flight.Done()
		return ctx.Err()
	}
}

// Close is part of load.Producer.
func (c *callers) Close(context.Context) error {
	close(c.records)
	if err := c.flight.Wait(c.limit); err != nil {
		return err
	}
	c.ended.Wait()
	return nil
}
