package load

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

const progressInterval = 5 * time.Second

// errOver ends a load whose time or input is over.
var errOver = errors.New("over")

// Config says what load. Partitions, Clients and Window are required.
type Config struct {
	Partitions int
	Clients    int           // at most ClientsMax
	Window     int           // records in flight at most, all clients together; at least Clients
	Records    uint64        // how many to append, all clients together; 0 = until the end of Run's time or input
	Rate       float64       // records per second, all clients together; 0 = as many as the window allows
	BatchBytes int           // a client stays on a partition for so many at most
	Linger     time.Duration // likewise; 0 = no bound
}

// Load is all clients of one run.
type Load struct {
	generators []*Generator
	stops      *stopWatch
	started    time.Time
	stop       context.CancelCauseFunc // the first cause stands
}

// Result is what a load did.
type Result struct {
	Acknowledged, Batches, Errors uint64
	Elapsed, Behind               time.Duration
	Stops                         *Stops
	Err                           error // why it ended early, or else why a record was not acknowledged
	latency                       *histogram
}

// New makes the clients of a load. Each needs a Producer in Run.
func New(c Config, p *Payload) *Load {
	l := &Load{stops: newStopWatch(c.Partitions)}
	for id := range c.Clients {
		l.generators = append(l.generators, l.generator(c, id, p))
	}
	return l
}

// Clients are the clients, by id; whoever makes their producers needs them.
func (l *Load) Clients() []*Generator { return l.generators }

// generator makes the client with an id: its share of records, rate and window. It is used after started is set.
func (l *Load) generator(c Config, id int, p *Payload) *Generator {
	g := &Generator{id: id, payload: p, partitions: c.Partitions, batchBytes: c.BatchBytes, linger: c.Linger,
		clock: func() time.Duration { return time.Since(l.started) }, failed: func(err error) { l.stop(err) },
		window: newWindow(c.Window/c.Clients, c.Partitions), stops: l.stops, latency: newHistogram()}
	if c.Rate > 0 {
		g.interval = float64(time.Second) * float64(c.Clients) / c.Rate
		g.offset = time.Duration(g.interval * float64(id) / float64(c.Clients))
	}
	if c.Records > 0 {
		g.records = c.Records / uint64(c.Clients)
		if uint64(id) < c.Records%uint64(c.Clients) {
			g.records++
		}
	}
	return g
}

// Run appends through producers, one for each client, until ctx ends, the time is over, input ends, the records are used
// up, or an append fails, and returns when all is settled. It closes the producers.
func (l *Load) Run(ctx context.Context, producers []Producer, duration time.Duration, input io.Reader, progress io.Writer) *Result {
	ctx, l.stop = context.WithCancelCause(ctx)
	defer l.stop(nil)
	if duration > 0 {
		timer := time.AfterFunc(duration, func() { l.stop(errOver) })
		defer timer.Stop()
	}
	if input != nil { // it ends with the input or the process
		go func() {
			_, _ = io.Copy(io.Discard, input) // whatever ends it
			l.stop(errOver)
		}()
	}
	l.started = time.Now()
	var wg, printing sync.WaitGroup
	over := make(chan struct{})
	printing.Go(func() { l.progress(over, progress) })
	for i, g := range l.generators {
		if g.records > 0 || duration > 0 || input != nil {
			wg.Go(func() { g.run(ctx, producers[i]) })
		}
	}
	wg.Wait()
	close(over)
	printing.Wait()
	res := l.result()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, errOver) {
		res.Err = cause
	}
	return res
}

func (l *Load) result() *Result {
	r := &Result{latency: newHistogram(), Stops: l.stops.seen(l.started)}
	for _, g := range l.generators {
		r.Acknowledged += g.acknowledged.Load()
		r.Batches += g.batches
		r.Errors += g.refused.count()
		r.Err = cmp.Or(r.Err, g.failure)
		r.latency.add(g.latency)
		r.Elapsed = max(r.Elapsed, g.lastAck)
		r.Behind = max(r.Behind, g.behind)
	}
	return r
}

// Outcomes says what became of each client's records. After Run.
func (l *Load) Outcomes() []Outcome {
	outcomes := make([]Outcome, len(l.generators))
	for i, g := range l.generators {
		outcomes[i] = Outcome{Client: g.id, Appended: g.appended, Refused: g.refused}
	}
	return outcomes
}

// progress tells now and then that something happens.
func (l *Load) progress(over <-chan struct{}, w io.Writer) {
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
