package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/multiraftd/multiraftd/client"
	"github.com/multiraftd/multiraftd/deploy/localcluster"
)

// stops notes the longest time in which no append to a partition was acknowledged.
type stops struct {
	mu      sync.Mutex
	last    map[uint32]time.Time
	longest map[uint32]time.Duration
	acked   map[uint32]int
}

func (s *stops) acknowledged(a client.Ack) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if last, ok := s.last[a.Partition]; ok {
		s.longest[a.Partition] = max(s.longest[a.Partition], now.Sub(last))
	}
	s.last[a.Partition] = now
	s.acked[a.Partition] += a.Records
}

// total is how many records of a partition were acknowledged so far.
func (s *stops) total(partition uint32) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acked[partition]
}

func (s *stops) worst() (worst time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.longest {
		worst = max(worst, d)
	}
	return worst
}

// rollingRestart restarts every node once under load, and returns the longest stop and what the nodes said.
func rollingRestart(t *testing.T, restart func(c *localcluster.Cluster, id int)) (time.Duration, string) {
	const partitions = 6
	c, ctx := startCluster(t)
	cl := connect(t, c)
	mustCreate(t, ctx, cl, "t", partitions)
	s := &stops{last: map[uint32]time.Time{}, longest: map[uint32]time.Duration{}, acked: map[uint32]int{}}
	ends := make([]func() int, partitions)
	for p := range uint32(partitions) {
		ends[p] = steadyLoad(ctx, t, cl, p, s)
	}
	for id := 1; id <= 3; id++ {
		restart(c, id)
		must(t, c.Healthy(ctx))
	}
	for i, end := range ends {
		p := uint32(i)
		n := end()
		if acked := s.total(p); acked != n {
			t.Errorf("partition %d: %d of %d records acknowledged", p, acked, n)
		}
		wantNumbered(ctx, t, cl, p, n)
	}
	var said strings.Builder
	for id := 1; id <= 3; id++ {
		said.WriteString(c.Tail(id))
	}
	return s.worst(), said.String()
}

// steadyLoad appends a numbered record every few milliseconds, and returns what ends that and says how many.
func steadyLoad(ctx context.Context, t *testing.T, cl *client.Client, partition uint32, s *stops) (end func() int) {
	t.Helper()
	const pause = 5 * time.Millisecond
	p, err := cl.NewProducer(ctx, "t", client.ProducerConfig{OnAck: s.acknowledged})
	must(t, err)
	stop, done, n := make(chan struct{}), make(chan error, 1), 0
	go func() {
		tick := time.NewTicker(pause)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				done <- p.Close(ctx)
				return
			case <-tick.C:
			}
			if _, err := p.Append(ctx, int(partition), client.Record{Value: fmt.Appendf(nil, "record %d", n)}); err != nil {
				done <- err
				return
			}
			n++
		}
	}()
	return func() int {
		close(stop)
		must(t, <-done)
		return n
	}
}

func wantNumbered(ctx context.Context, t *testing.T, cl *client.Client, partition uint32, n int) {
	t.Helper()
	r, err := cl.NewReader(ctx, "t", client.ReadConfig{Partition: partition})
	must(t, err)
	defer r.Close()
	for i := range n {
		rec, err := r.Next(ctx)
		must(t, err)
		if want := fmt.Sprintf("record %d", i); string(rec.Value) != want || rec.Offset != int64(i) {
			t.Fatalf("partition %d at offset %d: %q, want %q at %d", partition, rec.Offset, rec.Value, want, i)
		}
	}
	if rec, err := r.Next(ctx); err == nil {
		t.Fatalf("partition %d has more than was appended: %q", partition, rec.Value)
	}
}

func TestARollingRestartWithSIGTERMHandsLeadershipOverAndLosesNothing(t *testing.T) {
	stop, said := rollingRestart(t, func(c *localcluster.Cluster, id int) {
		code, err := c.Stop(id)
		must(t, err)
		if code != exitOK {
			t.Errorf("node %d ended with %d:\n%s", id, code, c.Tail(id))
		}
		must(t, c.Start(id))
	})
	if n := strings.Count(said, "leadership handed over"); n != 3 || strings.Contains(said, "not handed over") {
		t.Errorf("%d of 3 nodes have handed over:\n%s", n, said)
	}
	t.Logf("longest stop of appends in a rolling restart with SIGTERM: %v", stop.Round(time.Millisecond))
}

func TestARollingRestartWithSIGKILLLosesNothing(t *testing.T) {
	stop, _ := rollingRestart(t, func(c *localcluster.Cluster, id int) {
		_, err := c.Kill(id)
		must(t, err)
		must(t, c.Start(id))
	})
	t.Logf("longest stop of appends in a rolling restart with SIGKILL: %v", stop.Round(time.Millisecond))
}
