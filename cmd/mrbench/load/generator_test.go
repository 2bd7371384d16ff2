package load

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

// fakeProducer acknowledges from a goroutine of its own, several records of a partition at a time.
type fakeProducer struct {
	onAck func(partition, records int, err error)
	err   error // of every acknowledgement

	mu         sync.Mutex
	grown      sync.Cond
	partitions []int // of records without an acknowledgement, in the order of Append
	inFlight   int
	most       int
	closed     bool
	done       sync.WaitGroup
}

func newFakeProducer(onAck func(partition, records int, err error), err error) *fakeProducer {
	f := &fakeProducer{onAck: onAck, err: err}
	f.grown.L = &f.mu
	f.done.Go(f.acknowledge)
	return f
}

func (f *fakeProducer) Append(_ context.Context, partition int, _ uint64, _ []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.partitions = append(f.partitions, partition)
	f.inFlight++
	f.most = max(f.most, f.inFlight)
	f.grown.Signal()
	return nil
}

func (f *fakeProducer) Close(context.Context) error {
	f.mu.Lock()
	f.closed = true
	f.grown.Signal()
	f.mu.Unlock()
	f.done.Wait()
	return f.err
}

// acknowledge takes random runs from the front.
func (f *fakeProducer) acknowledge() {
	rng := rand.New(rand.NewPCG(3, 4))
	for {
		f.mu.Lock()
		for len(f.partitions) == 0 && !f.closed {
			f.grown.Wait()
		}
		if len(f.partitions) == 0 {
			f.mu.Unlock()
			return
		}
		n, limit := 0, 1+rng.IntN(20)
		p := f.partitions[0]
		for n < len(f.partitions) && n < limit && f.partitions[n] == p {
			n++
		}
		f.partitions = f.partitions[n:]
		f.inFlight -= n // before the generator hears of it: it may take in more at once
		f.mu.Unlock()
		f.onAck(p, n, f.err)
	}
}

func newTestGenerator(window int, records uint64) *Generator {
	start := time.Now()
	return &Generator{payload: NewPayload(7, 16), partitions: 5, records: records, batchBytes: 1 << 20,
		clock: func() time.Duration { return time.Since(start) }, failed: func(error) {}, window: newWindow(window, 5), stops: newStopWatch(5), latency: newHistogram()}
}

func TestAClientNeverHasMoreRecordsInFlightThanItsWindow(t *testing.T) {
	for _, size := range []int{1, 7, 64} {
		g := newTestGenerator(size, 5000)
		g.failed = func(err error) { t.Error(err) }
		p := newFakeProducer(g.Acked, nil)
		g.run(t.Context(), p)
		if p.most > size || p.most == 0 {
			t.Errorf("window %d: %d in flight", size, p.most)
		}
		if g.appended != 5000 || g.acknowledged.Load() != 5000 || g.latency.total != 5000 || g.batches == 0 {
			t.Errorf("window %d: appended %d, acknowledged %d, %d latencies", size, g.appended, g.acknowledged.Load(), g.latency.total)
		}
	}
}

func TestAFailedBatchIsCountedAndItsRecordsAreKnown(t *testing.T) {
	g := newTestGenerator(8, 100)
	failures := 0
	g.failed = func(error) { failures++ }
	g.run(t.Context(), newFakeProducer(g.Acked, errors.New("invalid batch")))
	if g.refused.count() != 100 || g.acknowledged.Load() != 0 || failures == 0 {
		t.Errorf("%d refused, %d acknowledged, %d failures", g.refused.count(), g.acknowledged.Load(), failures)
	}
}

func TestAClientWithAFullWindowStopsWhenItIsTold(t *testing.T) {
	g := newTestGenerator(4, 0)
	ctx, cancel := context.WithCancel(t.Context())
	p := &stuckProducer{full: make(chan struct{}), limit: 4}
	go func() {
		<-p.full
		cancel()
	}()
	g.run(ctx, p)
	if g.appended != 4 || !p.closed {
		t.Errorf("%d appended, closed %v", g.appended, p.closed)
	}
}

// stuckProducer never acknowledges anything.
type stuckProducer struct {
	full     chan struct{}
	n, limit int
	closed   bool
}

func (s *stuckProducer) Append(context.Context, int, uint64, []byte) error {
	if s.n++; s.n == s.limit {
		close(s.full)
	}
	return nil
}

func (s *stuckProducer) Close(context.Context) error {
	s.closed = true
	return nil
}

func TestAnAcknowledgementOfRecordsThatAreNotInFlightIsAFailure(t *testing.T) {
	g := newTestGenerator(4, 0)
	var failure error
	g.failed = func(err error) { failure = err }
	g.window.add(2, 0, 0)
	g.Acked(2, 2, nil)
	if failure == nil || g.acknowledged.Load() != 0 {
		t.Errorf("failure %v, %d acknowledged", failure, g.acknowledged.Load())
	}
}

func TestAPacedClientIsDueAtItsRate(t *testing.T) {
	g := newTestGenerator(4, 0)
	now := 10 * time.Second
	g.clock = func() time.Duration { return now }
	g.interval, g.offset = float64(time.Second), time.Second
	timer := time.NewTimer(0)
	defer timer.Stop()
	if !g.pace(t.Context(), timer, 9) || g.behind != 0 {
		t.Errorf("record 9 is due at 10 s; behind %v", g.behind)
	}
	if !g.pace(t.Context(), timer, 6) || g.behind != 3*time.Second {
		t.Errorf("record 6 was due at 7 s; behind %v", g.behind)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if g.pace(ctx, timer, 10) {
		t.Error("record 10 is taken in too early")
	}
}

func TestAClientStaysOnAPartitionForABatchOrItsLinger(t *testing.T) {
	g := newTestGenerator(400, 0)
	g.batchBytes, g.linger = 160, time.Second
	visit := func(n int, now time.Duration) (visited []int) {
		for range n {
			g.choose(now, 16)
			visited = append(visited, g.partition)
		}
		return visited
	}
	if v := visit(20, 0); v[0] != v[9] || v[10] != v[19] || v[9] == v[10] {
		t.Errorf("batches of ten: %v", v)
	}
	if a, b := visit(5, 0), visit(1, 2*time.Second); a[4] == b[0] {
		t.Errorf("after the linger: %v then %v", a, b)
	}
}

func TestTheWindowKeepsEachPartitionsOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	w := newWindow(16, 3)
	var model [3][]uint64
	inFlight, seq := 0, uint64(0)
	for range 10000 {
		if p := rng.IntN(3); rng.IntN(2) == 0 && inFlight < 16 {
			if only := w.add(p, seq, 0); only != (len(model[p]) == 0) {
				t.Fatalf("only %v beside %d others", only, len(model[p]))
			}
			model[p] = append(model[p], seq)
			inFlight++
			seq++
		} else {
			n := rng.IntN(5)
			var got []uint64
			taken, empty := w.settle(p, n, func(s *slot) { got = append(got, s.sequence) })
			if taken != min(n, len(model[p])) || taken != len(got) {
				t.Fatalf("%d taken of %d in flight", taken, len(model[p]))
			}
			for i := range got {
				if got[i] != model[p][i] {
					t.Fatalf("took %v, want %v", got, model[p][:taken])
				}
			}
			model[p] = model[p][taken:]
			inFlight -= taken
			if empty != (len(model[p]) == 0) {
				t.Fatalf("empty %v with %d left", empty, len(model[p]))
			}
		}
		if w.full() != (inFlight == 16) {
			t.Fatalf("full %v with %d in flight", w.full(), inFlight)
		}
	}
}

func TestARecordCanBeSettledOutOfItsPartitionsOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 9))
	w := newWindow(16, 2)
	var model [2][]uint64
	for seq := range uint64(10000) {
		p := int(seq % 2)
		if !w.full() {
			w.add(p, seq, time.Duration(seq))
			model[p] = append(model[p], seq)
		}
		if len(model[p]) == 0 || rng.IntN(3) == 0 {
			continue
		}
		at := rng.IntN(len(model[p]))
		want := model[p][at]
		model[p] = slices.Delete(model[p], at, at+1)
		taken, empty := w.settleOne(p, want, func(s *slot) {
			if s.sequence != want || s.start != time.Duration(want) {
				t.Fatalf("settled %+v, want %d", s, want)
			}
		})
		if taken != 1 || empty != (len(model[p]) == 0) {
			t.Fatalf("taken %d, empty %v with %d left", taken, empty, len(model[p]))
		}
	}
	for p := range model { // the order of what is left has survived
		w.settle(p, 16, func(s *slot) {
			if s.sequence != model[p][0] {
				t.Fatalf("%d is first, want %d", s.sequence, model[p][0])
			}
			model[p] = model[p][1:]
		})
		if len(model[p]) != 0 || w.first[p] != none || w.last[p] != none {
			t.Errorf("partition %d: %v left", p, model[p])
		}
	}
	if taken, _ := w.settleOne(0, 12345, func(*slot) {}); taken != 0 {
		t.Error("a record is settled that is not in flight")
	}
}

// nullProducer acknowledges in the caller's place, once per batch of 500.
type nullProducer struct {
	g       *Generator
	pending [5]int
}

func (n *nullProducer) Append(_ context.Context, partition int, _ uint64, _ []byte) error {
	if n.pending[partition]++; n.pending[partition] == 500 {
		n.g.Acked(partition, 500, nil)
		n.pending[partition] = 0
	}
	return nil
}

func (n *nullProducer) Close(context.Context) error { return errors.New("not all is acknowledged") }

// What the generator itself costs: window, stamp, clock, latency.
func BenchmarkGenerator(b *testing.B) {
	g := newTestGenerator(4096, uint64(b.N))
	b.ReportAllocs()
	g.run(b.Context(), &nullProducer{g: g})
}
