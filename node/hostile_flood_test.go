package node

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/multiraftd/multiraftd/client"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/transport/guard/guardtest"
)

// hostileFull asks for floods as large as they come. A plain run takes fewer, which show the same. How much of what
// others get done is left, `make chaos ARGS=strangers` measures: here the floods are in the nodes' own process.
var hostileFull = os.Getenv("HOSTILE_FULL") != ""

func fullOr[T any](full, plain T) T {
	if hostileFull {
		return full
	}
	return plain
}

// givenBackBytesMax is what may be left when a flood is over: buffers that are kept, records of those who go on.
const givenBackBytesMax = 24 << 20

// flood is one way to use up a node. run makes it, calls hold while it is at its worst, and takes it down.
type flood struct {
	name    string
	heapMax int64 // MiB that it may cost all three nodes and itself, at its worst
	run     func(l *live, hold func())
}

func floods() []flood {
	return []flood{
		{"connections that never say what they want", 64, floodSilence},
		{"a million unknown groups in frames", 64, floodUnknownGroups},
		{"frames of which everything is refused", 64, floodRefusedFrames},
		{"10000 streams on one connection", 64, floodOneConnection},
		{"streams on many connections", 128, floodManyConnections},
		{"connections", 128, floodConnections},
		{"streams that are opened and reset", 64, floodResets},
		{"requests that never end, on both addresses", 384, floodUnfinished},
		{"requests of empty elements", 256, floodElements},
		{"readers that take nothing", 128, floodSlowReaders},
		{"append streams whose results nobody takes", fullOr[int64](320, 128), floodDeafAppends},
		{"headers", 64, floodHeaders},
		{"pings", 64, floodPings},
	}
}

func TestFloodsCostBoundedMemoryAndOthersGoOn(t *testing.T) {
	l := startLive(t)
	l.stuff()
	l.others(func() {})
	before := liveBytes()
	for i, f := range floods() {
		l.floodHost = fmt.Sprintf("127.0.1.%d", i+1) // what one host has used up is not the next one's concern
		t.Run(f.name, func(t *testing.T) {
			outer := l.t
			l.t = t
			defer func() { l.t = outer }()
			l.until("what the one before cost is given back", func() bool { return liveBytes()-before < givenBackBytesMax })
			began := time.Now()
			var cost int64
			held := false
			f.run(l, func() {
				cost = (liveBytes() - before) >> 20
				l.others(func() { cost, held = max(cost, (liveBytes()-before)>>20), true })
			})
			if !held {
				t.Fatal("the flood was never at its worst")
			}
			if cost > f.heapMax {
				t.Errorf("it cost %d MiB, at most %d are allowed", cost, f.heapMax)
			}
			t.Logf("%v; at its worst %d MiB; others went on", time.Since(began).Round(time.Millisecond), cost)
		})
	}
	l.until("what they cost is given back", func() bool { return liveBytes()-before < givenBackBytesMax })
	t.Logf("%d MiB before the floods, %d after them", before>>20, liveBytes()>>20)
	l.settled()
	l.wantAll()
}

// notShed wants that the limits keep nobody out who stays within his share, at the node that is flooded.
func (l *live) notShed() {
	l.t.Helper()
	log := multiraftv1.NewLogServiceClient(l.dial(l.clientAddr(1)))
	for range 10 {
		_, err := log.Describe(l.ctx, &multiraftv1.DescribeRequest{Topic: &multiraftv1.DescribeRequest_TopicId{TopicId: l.topic}})
		if code := status.Code(err); code == codes.ResourceExhausted || code == codes.Internal {
			l.t.Errorf("a client that means well was refused: %v", err)
		}
	}
}

// others lets a client that means well append, one record after the other and over a connection that it makes
// now, and read them back.
func (l *live) others(look func()) {
	l.t.Helper()
	const appends = 20
	cl, err := client.Open(client.Config{Addrs: []string{l.clientAddr(1), l.clientAddr(2), l.clientAddr(3)}})
	l.must(err)
	defer func() { l.must(cl.Close()) }()
	whole := l.client
	l.client = cl
	defer func() { l.client = whole }()
	for range appends {
		l.append()
	}
	look()
	l.notShed()
	l.wantAll()
}

// stuff stores some MiB in a topic of its own, for those who read.
func (l *live) stuff() {
	l.t.Helper()
	id, _, err := l.client.CreateTopic(l.ctx, "big", 1, 3)
	l.must(err)
	l.big = id
	p, err := l.client.NewProducer(l.ctx, "big", client.ProducerConfig{})
	l.must(err)
	for range 20 {
		_, err := p.Append(l.ctx, 0, client.Record{Value: make([]byte, 1<<20)})
		l.must(err)
	}
	l.must(p.Close(l.ctx))
}

// raws connects many times, and closes the connections in the end.
func (l *live) raws(n int, addr string, settings ...http2.Setting) (all []*guardtest.Client, end func()) {
	l.t.Helper()
	for range n {
		c, err := guardtest.Dial(l.ctx, l.floodHost, addr, settings...)
		l.must(err)
		all = append(all, c)
	}
	return all, func() {
		for _, c := range all {
			_ = c.Close() // the node may have closed it
		}
	}
}

// each runs f for every connection at once.
func each(all []*guardtest.Client, f func(c *guardtest.Client)) {
	var wg sync.WaitGroup
	for _, c := range all {
		wg.Go(func() { f(c) })
	}
	wg.Wait()
}

// again repeats f, beside what the caller does, until end.
func again(ctx context.Context, f func(context.Context)) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			f(ctx)
		}
	})
	return func() { cancel(); wg.Wait() }
}
