package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/multiraftd/multiraftd/client"
)

const (
	runsPerWindow = 4                // a client spreads its window over at least so many batches
	paceMin       = time.Millisecond // a paced client looks no more often, and takes in all that is due
)

// producer is what a generator appends through: a *client.Producer, or a stand-in in tests.
type producer interface {
	Append(ctx context.Context, partition int, r client.Record) (client.Ticket, error)
	Close(ctx context.Context) error
}

// generator is one client of the load: it appends from one goroutine and hears of acknowledgements, in
// acked, from another.
type generator struct {
	id         int
	payload    *payload
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

	// Written by acked, read after the producer's Close, but for the counter.
	acknowledged atomic.Uint64
	batches      uint64
	latency      *histogram
	refused      spans // sequences that were not acknowledged
	lastAck      time.Duration
}

// run appends until ctx ends or all records are taken in, and returns when every one of them is settled.
func (g *generator) run(ctx context.Context, p producer) {
	if err := g.generate(ctx, p); err != nil {
		g.failed(err)
	}
	// What is in flight is settled even if ctx has ended: the producer gives up by itself in time.
	if err := p.Close(context.WithoutCancel(ctx)); err != nil {
		g.failed(err)
	}
}

func (g *generator) generate(ctx context.Context, p producer) error {
	g.partition = g.id % g.partitions
	r := client.Record{Value: g.payload.value()}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for seq := uint64(0); g.records == 0 || seq < g.records; seq++ {
		if !g.mayTakeIn(ctx, timer, seq) {
			return nil
		}
		now := g.clock()
		g.choose(now, len(r.Value))
		g.payload.stamp(r.Value, g.id, seq)
		if g.window.add(g.partition, seq, now) {
			g.stops.waiting(g.partition, now)
		}
		if _, err := p.Append(ctx, g.partition, r); err != nil {
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
func (g *generator) mayTakeIn(ctx context.Context, timer *time.Timer, seq uint64) bool {
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
func (g *generator) pace(ctx context.Context, timer *time.Timer, seq uint64) bool {
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
func (g *generator) choose(now time.Duration, bytes int) {
	if g.runLeft <= 0 || g.bytesLeft < bytes || g.linger > 0 && now >= g.runEnds {
		g.partition = (g.partition + 1) % g.partitions
		g.runLeft = max(1, len(g.window.slots)/runsPerWindow)
		g.bytesLeft, g.runEnds = max(g.batchBytes, bytes), now+g.linger
	}
	g.runLeft--
	g.bytesLeft -= bytes
}

// acked is the producer's OnAck.
func (g *generator) acked(a client.Ack) {
	now := g.clock()
	taken, empty := g.window.settle(int(a.Partition), a.Records, func(s *slot) {
		if a.Err != nil {
			g.refused.add(s.sequence)
		} else {
			g.latency.record(now - s.start)
		}
	})
	g.lastAck = now
	if taken > 0 {
		g.stops.acknowledged(int(a.Partition), now, empty)
	}
	switch {
	case taken != a.Records:
		g.failed(fmt.Errorf("%d records of partition %d acknowledged, %d were in flight", a.Records, a.Partition, taken))
	case a.Err != nil:
		g.failed(a.Err)
	default:
		g.batches++
		g.acknowledged.Add(uint64(taken))
	}
}

// spans is a set of sequences, for runs of them.
type spans []struct{ from, to uint64 } // to is exclusive

func (s *spans) add(sequence uint64) {
	if n := len(*s); n > 0 && (*s)[n-1].to == sequence {
		(*s)[n-1].to++
		return
	}
	*s = append(*s, struct{ from, to uint64 }{sequence, sequence + 1})
}

func (s spans) count() (n uint64) {
	for _, span := range s {
		n += span.to - span.from
	}
	return n
}
