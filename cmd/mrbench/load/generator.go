package load

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	runsPerWindow = 4                // a client spreads its window over at least so many batches
	paceMin       = time.Millisecond // a paced client looks no more often, and takes in all that is due
)

// Producer is what a Generator appends through. It tells the fate of each record to the Generator's Acked or AckedOne.
type Producer interface {
	// Append takes in the record with a sequence, for a partition. It may wait, and must not keep value. An error says
	// that the record was not taken in: its fate is never told.
	Append(ctx context.Context, partition int, sequence uint64, value []byte) error
	// Close returns when the fate of every record that was taken in has been told, and fails if some was lost.
	Close(ctx context.Context) error
}

// Generator is one client of the load: it appends from one goroutine and hears of acknowledgements from others.
type Generator struct {
	id         int
	payload    *Payload
	partitions int
	records    uint64        // how many to append; 0 = until told to stop
	interval   float64       // ns between two records; 0 = as fast as the window allows
	offset     time.Duration // of the first, so that clients do not act in step
	batchBytes int           // of one run on a partition
	linger     time.Duration // likewise; 0 = no bound
	clock      func() time.Duration
	failed     func(error) // hears of every failure; the first ends the load
	window     *window
	stops      *stopWatch // of all generators

	// Written by the appending goroutine, read after its end.
	appended uint64 // records taken in; their sequences are 0 to appended-1
	behind   time.Duration

	partition, runLeft, bytesLeft int
	runEnds                       time.Duration

	// Written by Acked and AckedOne, read after the producer's Close, but for the counter.
	settling     sync.Mutex
	acknowledged atomic.Uint64
	batches      uint64
	latency      *histogram
	refused      Spans // sequences that were not acknowledged
	failure      error // of the first of them
	lastAck      time.Duration
}

// run appends until ctx ends or all records are taken in, and returns when every one of them is settled.
func (g *Generator) run(ctx context.Context, p Producer) {
	if err := g.generate(ctx, p); err != nil {
		g.failed(err)
	}
	// What is in flight is settled even if ctx has ended: the producer gives up by itself in time.
	if err := p.Close(context.WithoutCancel(ctx)); err != nil {
		g.failed(err)
	}
}

func (g *Generator) generate(ctx context.Context, p Producer) error {
	g.partition = g.id % g.partitions
	value := g.payload.Value()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for seq := uint64(0); g.records == 0 || seq < g.records; seq++ {
		if !g.mayTakeIn(ctx, timer, seq) {
			return nil
		}
		now := g.clock()
		g.choose(now, len(value))
		g.payload.Stamp(value, g.id, seq)
		if g.window.add(g.partition, seq, now) {
			g.stops.waiting(g.partition, now)
		}
		if err := p.Append(ctx, g.partition, seq, value); err != nil {
			if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
				return nil
			}
			return err
		}
		g.appended++
	}
	return nil
}

// mayTakeIn waits until the next record is due and the window has room; no when ctx ends first.
func (g *Generator) mayTakeIn(ctx context.Context, timer *time.Timer, seq uint64) bool {
	select {
	case <-ctx.Done():
		return false
	default:
	}
	if g.interval > 0 && !g.pace(ctx, timer, seq) {
		return false
	}
	for g.window.full() {
		select {
		case <-ctx.Done():
			return false
		case <-g.window.room:
		}
	}
	return true
}

// pace waits until a record is due, and notes how late it is then.
func (g *Generator) pace(ctx context.Context, timer *time.Timer, seq uint64) bool {
	due := g.offset + time.Duration(float64(seq)*g.interval)
	for early := due - g.clock(); early > 0; early = due - g.clock() {
		timer.Reset(max(early, paceMin))
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
		}
	}
	g.behind = max(g.behind, g.clock()-due)
	return true
}

// choose finds the partition of the next record: the same one until a batch's worth went there.
func (g *Generator) choose(now time.Duration, bytes int) {
	if g.runLeft <= 0 || g.bytesLeft < bytes || g.linger > 0 && now >= g.runEnds {
		g.partition = (g.partition + 1) % g.partitions
		g.runLeft = max(1, len(g.window.slots)/runsPerWindow)
		g.bytesLeft, g.runEnds = max(g.batchBytes, bytes), now+g.linger
	}
	g.runLeft--
	g.bytesLeft -= bytes
}

// Acked hears the fate of the records of a partition that have been in flight longest, from a producer that settles each
// partition's in order.
func (g *Generator) Acked(partition, records int, err error) {
	g.settle(partition, records, err, func(see func(*slot)) (int, bool) { return g.window.settle(partition, records, see) })
}

// AckedOne hears the fate of the record with a sequence, from a producer that settles them in any order.
func (g *Generator) AckedOne(partition int, sequence uint64, err error) {
	g.settle(partition, 1, err, func(see func(*slot)) (int, bool) { return g.window.settleOne(partition, sequence, see) })
}

func (g *Generator) settle(partition, records int, err error, take func(see func(*slot)) (taken int, empty bool)) {
	g.settling.Lock()
	defer g.settling.Unlock()
	now := g.clock()
	taken, empty := take(func(s *slot) {
		if err != nil {
			g.refused.add(s.sequence)
		} else {
			g.latency.record(now - s.start)
		}
	})
	g.lastAck = now
	if taken > 0 {
		g.stops.acknowledged(partition, now, empty)
	}
	switch {
	case taken != records:
		g.failed(fmt.Errorf("%d records of partition %d acknowledged, %d were in flight", records, partition, taken))
	case err != nil:
		g.failure = cmp.Or(g.failure, err)
		g.failed(err)
	default:
		g.batches++
		g.acknowledged.Add(uint64(taken))
	}
}

// Outcome is what became of one client's records: those with the sequences 0 to Appended-1 were taken in, and all but
// the refused ones acknowledged.
type Outcome struct {
	Client   int
	Appended uint64
	Refused  Spans
}

// Spans is a set of sequences, for runs of them.
type Spans []struct{ From, To uint64 } // To is exclusive

func (s *Spans) add(sequence uint64) {
	if n := len(*s); n > 0 && (*s)[n-1].To == sequence {
		(*s)[n-1].To++
		return
	}
	*s = append(*s, struct{ From, To uint64 }{sequence, sequence + 1})
}

func (s Spans) count() (n uint64) {
	for _, span := range s {
		n += span.To - span.From
	}
	return n
}
