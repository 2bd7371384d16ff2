package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/multiraftd/multiraftd/client"
)

const (
	producersPerClient = 64      // share one set of connections: nodes limit the streams of each
	recordSlackBytes   = 256     // what a record may cost a producer's buffer beyond its value
	bufferBytesMin     = 1 << 20 // of a producer
	progressInterval   = 5 * time.Second
)

// load is all clients of one run.
type load struct {
	generators []*generator
	producers  []producer
	clients    []*client.Client // for the producers only
	stops      *stopWatch
	started    time.Time
	stop       context.CancelCauseFunc // the first cause stands
}

// loadResult is what the load did.
type loadResult struct {
	acknowledged, batches, errors uint64
	elapsed, cpu, behind          time.Duration
	latency                       *histogram
	stops                         *stops
	err                           error // why it ended early
}

func newLoad(ctx context.Context, o *options, partitions int, p *payload) (*load, error) {
	l := &load{stops: newStopWatch(partitions)}
	for id := range o.clients {
		l.generators = append(l.generators, l.generator(o, id, partitions, p))
	}
	for id, g := range l.generators {
		if id%producersPerClient == 0 {
			c, err := o.open()
			if err != nil {
				return nil, errors.Join(err, l.close())
			}
			l.clients = append(l.clients, c)
		}
		producer, err := l.clients[len(l.clients)-1].NewProducer(ctx, o.topic, o.producerConfig(g.acked))
		if err != nil {
			return nil, errors.Join(err, l.close())
		}
		l.producers = append(l.producers, producer)
		if limit := producer.RecordBytesMax(); o.size > limit {
			return nil, errors.Join(fmt.Errorf("--size %d: the cluster takes records of at most %d bytes", o.size, limit), l.close())
		}
	}
	return l, nil
}

// generator makes the client with an id: its share of records, rate and window. It is used after started is set.
func (l *load) generator(o *options, id, partitions int, p *payload) *generator {
	g := &generator{id: id, payload: p, partitions: partitions, batchBytes: o.batchBytes, linger: o.linger,
		clock: func() time.Duration { return time.Since(l.started) }, failed: func(err error) { l.stop(err) },
		window: newWindow(o.window/o.clients, partitions), stops: l.stops, latency: newHistogram()}
	if o.rate > 0 {
		g.interval = float64(time.Second) * float64(o.clients) / o.rate
		g.offset = time.Duration(g.interval * float64(id) / float64(o.clients))
	}
	if o.records > 0 {
		g.records = o.records / uint64(o.clients)
		if uint64(id) < o.records%uint64(o.clients) {
			g.records++
		}
	}
	return g
}

// close gives up; after run there is nothing left to give up.
func (l *load) close() error {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	var errs []error
	for _, p := range l.producers {
		_ = p.Close(ended) // that nothing was flushed is known
	}
	for _, c := range l.clients {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// run loads the cluster until ctx ends, the time is over, input ends, the records are used up, or a batch fails.
func (l *load) run(ctx context.Context, duration time.Duration, input io.Reader, progress io.Writer) (*loadResult, error) {
	cpuBefore, err := cpuTime()
	if err != nil {
		return nil, err
	}
	ctx, l.stop = context.WithCancelCause(ctx)
	defer l.stop(nil)
	if duration > 0 {
		timer := time.AfterFunc(duration, func() { l.stop(errDone) })
		defer timer.Stop()
	}
	if input != nil { // it ends with the input or the process
		go func() {
			_, _ = io.Copy(io.Discard, input) // whatever ends it
			l.stop(errDone)
		}()
	}
	l.started = time.Now()
	var wg, printing sync.WaitGroup
	over := make(chan struct{})
	printing.Go(func() { l.progress(over, progress) })
	for i, g := range l.generators {
		if g.records > 0 || duration > 0 || input != nil {
			wg.Go(func() { g.run(ctx, l.producers[i]) })
		}
	}
	wg.Wait()
	close(over)
	printing.Wait()
	cpuAfter, err := cpuTime()
	res := l.result()
	res.cpu = cpuAfter - cpuBefore
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, errDone) {
		res.err = cause
	}
	return res, err
}

func (l *load) result() *loadResult {
	r := &loadResult{latency: newHistogram(), stops: l.stops.seen(l.started)}
	for _, g := range l.generators {
		r.acknowledged += g.acknowledged.Load()
		r.batches += g.batches
		r.errors += g.refused.count()
		r.latency.add(g.latency)
		r.elapsed = max(r.elapsed, g.lastAck)
		r.behind = max(r.behind, g.behind)
	}
	return r
}

// progress tells now and then that something happens.
func (l *load) progress(over <-chan struct{}, w io.Writer) {
	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
	before := uint64(0)
	for {
		select {
		case <-over:
			return
		case <-tick.C:
		}
		n := uint64(0)
		for _, g := range l.generators {
			n += g.acknowledged.Load()
		}
		fmt.Fprintf(w, "%d records acknowledged, %.0f/s\n", n, float64(n-before)/progressInterval.Seconds())
		before = n
	}
}
