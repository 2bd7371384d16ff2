package router

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/multiraftd/multiraftd/actors"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/proto/recordbatch"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// shareOf opens a share of a host.
func shareOf(ctx context.Context, o *outflow, host string) *share {
	s := o.open(ctx)
	s.host = host
	return s
}

func TestTheClientThatHasTakenNothingForLongestMakesRoom(t *testing.T) {
	o, began := newOutflow(), time.Now()
	at := func(d time.Duration) time.Time { return began.Add(d) }
	forwarded := metadata.NewIncomingContext(t.Context(), metadata.Pairs(hopsKey, "1"))
	first, second, node := shareOf(t.Context(), o, "a"), shareOf(t.Context(), o, "b"), shareOf(forwarded, o, "c")
	idle, elsewhere := shareOf(t.Context(), o, "d"), shareOf(t.Context(), o, "e")
	for s, has := range map[*share]struct {
		bytes int64
		since time.Duration
	}{node: {16 << 20, 0}, idle: {0, 0}, first: {8 << 20, time.Second / 2}, second: {8 << 20, time.Second}} {
		if !s.tryTake(has.bytes) {
			t.Fatal("there is no room at the start")
		}
		s.mark(at(has.since))
	}
	if !shareOf(t.Context(), o, "f").tryTake(32<<20) || elsewhere.tryTake(1) {
		t.Fatal("64 MiB, and no more")
	}
	for _, step := range []struct {
		wanted  int64
		now     time.Duration
		victims []*share
		next    time.Duration
	}{
		{1, 2 * time.Second, nil, time.Second / 2},
		{1, 5 * time.Second, []*share{first}, stallMax},
		{8 << 20, 5 * time.Second, nil, stallMax}, // what the first one holds is as good as given back
		{9 << 20, 5 * time.Second, []*share{second}, stallMax},
		{17 << 20, 5 * time.Second, nil, stallMax}, // another node has more time
		{17 << 20, time.Hour, []*share{node}, stallMax},
		{outflowHostBytesMax, time.Hour, nil, stallMax}, // who holds nothing can make no room
	} {
		victims, next := o.stalled(elsewhere, step.wanted, at(step.now))
		if !slices.Equal(victims, step.victims) || next != step.next {
			t.Errorf("%d MiB after %v: %+v and %v, want %+v and %v", step.wanted>>20, step.now, victims, next, step.victims, step.next)
		}
	}
}

func TestAHostThatIsFullMakesRoomItselfAndLeavesTheRest(t *testing.T) {
	o, long := newOutflow(), time.Now().Add(time.Hour)
	other, own := shareOf(t.Context(), o, "other"), shareOf(t.Context(), o, "host")
	for _, s := range []*share{other, own} {
		if !s.tryTake(outflowHostBytesMax - 10) {
			t.Fatal("there is no room at the start")
		}
		s.mark(time.Now())
	}
	waiting := shareOf(t.Context(), o, "host")
	if waiting.tryTake(11) || !waiting.tryTake(10) || !shareOf(t.Context(), o, "third").tryTake(10) {
		t.Error("a host may have half of it")
	}
	if victims, _ := o.stalled(waiting, 1, long); !slices.Equal(victims, []*share{own}) {
		t.Errorf("%+v make room for their neighbour", victims)
	}
	if victims, _ := o.stalled(waiting, outflowHostBytesMax, long); len(victims) != 0 {
		t.Errorf("%+v make room for another host's client", victims)
	}
}

// waits begins to wait for n bytes, and returns when it is in line.
func (s *share) waits(t *testing.T, n int64, takes bool) (served <-chan error) {
	t.Helper()
	waiting := func() (n int) {
		s.of.mu.Lock()
		defer s.of.mu.Unlock()
		for _, l := range s.of.lines {
			n += l.asking.Len() + l.taking.Len()
		}
		return n
	}
	before, ctx, done := waiting(), testContext(t), make(chan error, 1)
	go func() { done <- s.wait(ctx, n, takes) }()
	eventually(t, "it is in line", func() bool { return waiting() == before+1 })
	return done
}

func TestRoomIsGivenInTurnAndNobodyElseWakesUp(t *testing.T) {
	o, ctx := newOutflow(), testContext(t)
	a, b, other := shareOf(ctx, o, "a"), shareOf(ctx, o, "b"), shareOf(ctx, o, "c")
	for _, s := range []*share{a, b} {
		must(t, s.take(ctx, outflowHostBytesMax)) // all there is
	}
	much := shareOf(ctx, o, "a").waits(t, 4<<20, true)
	little := shareOf(ctx, o, "a").waits(t, 1, true)
	asks := shareOf(ctx, o, "a").waits(t, 1<<20, false)
	another := other.waits(t, 3<<20, true)
	held := func(want int64, what string) {
		t.Helper()
		if bytes, _ := o.snapshot(); bytes != want {
			t.Errorf("%s: %d bytes are held, want %d", what, bytes, want)
		}
	}
	a.give(1 << 20)
	must(t, <-asks) // before those of its host that take, and it takes nothing
	held(63<<20, "asked")
	a.give(1 << 20) // the other host's turn, which needs more
	b.give(1 << 20)
	must(t, <-another)
	held(64<<20, "another host served")
	b.give(4 << 20) // the first host has given 2 MiB of what it may have
	held(60<<20, "a host that may not have more")
	must(t, shareOf(ctx, o, "d").take(ctx, 1<<20)) // and nobody waits for it
	a.give(2 << 20)
	must(t, <-much)
	select {
	case <-little:
		t.Error("one was served for whom there is no room")
	default:
	}
	b.give(1 << 20)
	a.give(1)
	must(t, <-little)
	if len(o.lines)+len(o.turns) != 0 {
		t.Errorf("somebody still waits: %v", o.turns)
	}
}

func TestWhoGoesAwayLeavesTheLineToOthers(t *testing.T) {
	o, ctx := newOutflow(), testContext(t)
	full := shareOf(ctx, o, "a")
	must(t, full.take(ctx, outflowHostBytesMax-5))
	gone, cancel := context.WithCancel(ctx)
	wanted := shareOf(gone, o, "a")
	left := make(chan error, 1)
	go func() { left <- wanted.wait(gone, 6, true) }()
	eventually(t, "one waits", func() bool { o.mu.Lock(); defer o.mu.Unlock(); return len(o.turns) == 1 })
	behind := shareOf(ctx, o, "a").waits(t, 5, true)
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	must(t, <-behind)
}

func TestWhoWaitsForRoomGetsItWhenItIsGiven(t *testing.T) {
	o, ctx := newOutflow(), testContext(t)
	full, waiting := shareOf(ctx, o, "host"), shareOf(ctx, o, "host")
	must(t, full.take(ctx, outflowHostBytesMax))
	short, cancel := context.WithCancel(ctx)
	cancel()
	if err := waiting.take(short, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	taken := make(chan error)
	go func() { taken <- waiting.take(ctx, 5) }()
	full.give(4)
	full.give(1)
	must(t, <-taken)
	if bytes, _ := o.snapshot(); bytes != outflowHostBytesMax {
		t.Errorf("%d bytes are held", bytes)
	}
	waiting.close()
	full.close()
	full.give(7) // what comes after the call counts for nothing
	if !full.tryTake(7) || o.bytes != 0 || len(o.byHost) != 0 {
		t.Errorf("%d bytes are held, %v", o.bytes, o.byHost)
	}
}

func TestAMessageThatIsHereDoesNotWaitAndFewWaitForOneThatIsNot(t *testing.T) {
	o, ctx := newOutflow(), testContext(t)
	full, s := shareOf(ctx, o, "host"), shareOf(ctx, o, "host")
	must(t, full.take(ctx, outflowHostBytesMax-10))
	must(t, s.await(ctx, 10))
	if must(t, s.mustTake(10)); s.bytes != 10 {
		t.Errorf("it holds %d bytes", s.bytes)
	}
	wantReason(t, s.mustTake(1), overloaded)
	waited := make(chan error)
	go func() { waited <- s.await(ctx, 1) }()
	eventually(t, "one waits", func() bool { return o.count(0) == 1 })
	o.count(outflowWaitingMax - 1)
	wantReason(t, shareOf(ctx, o, "host").await(ctx, 1), overloaded)
	must(t, shareOf(ctx, o, "another").await(ctx, 1))
	full.close()
	must(t, <-waited)
	if n := o.count(0); n != outflowWaitingMax-1 {
		t.Errorf("%d wait", n)
	}
}

// countedViews counts the images of the store that are open.
type countedViews struct {
	store.KV
	open *atomic.Int64
}

func (c countedViews) View() (store.View, error) {
	v, err := c.KV.View()
	if err == nil {
		c.open.Add(1)
	}
	return countedView{v, c.open}, err
}

type countedView struct {
	store.View
	open *atomic.Int64
}

func (c countedView) Close() error {
	c.open.Add(-1)
	return c.View.Close()
}

// stuffed is a node with a topic of some MiB.
func stuffed(t *testing.T, views *atomic.Int64) (n *testNode, topic uint64) {
	t.Helper()
	c := newSilentCluster(t)
	n = c.start(1, c.members(1), func(kv store.KV) store.KV { return countedViews{kv, views} })
	ctx := testContext(t)
	n.register(ctx)
	topic = n.createTopic(ctx, "t", 1, 1)
	n.stuff(ctx, topic)
	return n, topic
}

const stuffedRecords = 3000 // of 1000 bytes

func (n *testNode) stuff(ctx context.Context, topic uint64) {
	n.t.Helper()
	rpc, err := n.log.Append(ctx)
	must(n.t, err)
	record := strings.Repeat("x", testRecordBytesMax)
	b := batch(n.t, recordbatch.None, record, record, record)
	for i := range uint64(stuffedRecords / 3) {
		must(n.t, rpc.Send(&multiraftv1.AppendRequest{Items: []*multiraftv1.AppendItem{batchItem(i, topic, 0, b)}}))
	}
	must(n.t, rpc.CloseSend())
	for _, r := range results(n.t, rpc) {
		if r.GetReceipt() == nil {
			n.t.Fatalf("%v", r)
		}
	}
}

// slow reads over a connection of its own whose windows are as small as they get.
func (n *testNode) slow(ctx context.Context, topic uint64) grpc.ServerStreamingClient[multiraftv1.ReadResponse] {
	n.t.Helper()
	conn, err := grpc.NewClient(n.addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithStaticStreamWindowSize(64<<10))
	must(n.t, err)
	n.t.Cleanup(func() { must(n.t, conn.Close()) })
	rpc, err := multiraftv1.NewLogServiceClient(conn).Read(ctx, &multiraftv1.ReadRequest{TopicId: topic, From: &multiraftv1.ReadRequest_Offset{}, Follow: true})
	must(n.t, err)
	return rpc
}

func (o *outflow) snapshot() (bytes int64, sending int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.bytes, len(o.sending)
}

func TestASlowReaderHoldsNoImageOfTheStoreAndMakesRoomForOthers(t *testing.T) {
	var views atomic.Int64
	n, topic := stuffed(t, &views)
	ctx := testContext(t)
	rpc := n.slow(ctx, topic)
	eventually(t, "the reader is stuck", func() bool {
		bytes, sending := n.services.outflow.snapshot()
		return sending == 1 && bytes > readBytesDefault
	})
	if v := views.Load(); v != 0 {
		t.Errorf("%d images of the store are open", v)
	}
	if bytes, _ := n.services.outflow.snapshot(); bytes > 2*readBytesDefault {
		t.Errorf("it holds %d bytes", bytes)
	}
	waiting := n.services.outflow.open(ctx)
	waiting.host = "127.0.0.1"
	must(t, waiting.take(ctx, outflowHostBytesMax))
	waiting.close()
	var err error
	for err == nil {
		_, err = rpc.Recv()
	}
	wantCode(t, err, codes.Unavailable)
	if got := n.counters.Shed.Severed.Load(); got != 1 {
		t.Errorf("%d clients severed, want 1", got)
	}
}

func TestAReaderThatHasTakenEverythingHoldsNothing(t *testing.T) {
	var views atomic.Int64
	n, topic := stuffed(t, &views)
	ctx := testContext(t)
	rpc := n.slow(ctx, topic)
	for next := int64(0); next < stuffedRecords; {
		resp, err := rpc.Recv()
		must(t, err)
		next = resp.GetNextOffset()
	}
	// The response behind the last one tells the node; it says what the last one said.
	resp, err := rpc.Recv()
	must(t, err)
	if len(resp.GetBatches()) != 0 || resp.GetNextOffset() != stuffedRecords || resp.GetHighWatermark() != stuffedRecords || resp.GetEndOffset() != -1 {
		t.Errorf("%v", resp)
	}
	eventually(t, "nothing is held", func() bool { bytes, sending := n.services.outflow.snapshot(); return bytes == 0 && sending == 0 })
	n.append(ctx, topic, 0, "one more")
	resp, err = rpc.Recv()
	must(t, err)
	if len(resp.GetBatches()) != 1 || resp.GetNextOffset() != stuffedRecords+1 {
		t.Errorf("%v", resp)
	}
}

func TestAReadThatIsPassedOnCountsToo(t *testing.T) {
	c := newCluster(t, 2)
	ctx := testContext(t)
	topic := c.nodes[1].createTopic(ctx, "t", 2, 1)
	c.nodes[1].stuff(ctx, topic)
	var at, other *testNode
	for _, n := range c.nodes {
		if _, ok := n.core.Table().Hosted(2); ok {
			at = n
		} else {
			other = n
		}
	}
	if at == nil || other == nil {
		t.Fatal("the partition is not on one of two nodes")
	}
	rpc := other.slow(ctx, topic)
	eventually(t, "both nodes hold something", func() bool {
		here, _ := other.services.outflow.snapshot()
		there, _ := at.services.outflow.snapshot()
		return here > 0 && there > 0
	})
	for next := int64(0); next < stuffedRecords; {
		resp, err := rpc.Recv()
		must(t, err)
		next = resp.GetNextOffset()
	}
	for _, n := range c.nodes {
		eventually(t, fmt.Sprintf("node %d holds nothing", n.id), func() bool { bytes, _ := n.services.outflow.snapshot(); return bytes == 0 })
	}
}

func TestResultsThatNobodyTakesTakeRoom(t *testing.T) {
	n := single(t)
	ctx := testContext(t)
	topic := n.createTopic(ctx, "t", 1, 1)
	rpc, err := n.log.Append(ctx)
	must(t, err)
	k := &keeper{}
	n.held.intercept(k.take)
	const items = 100
	for i := range uint64(items) {
		must(t, rpc.Send(&multiraftv1.AppendRequest{Items: []*multiraftv1.AppendItem{batchItem(i, topic, 0, batch(t, recordbatch.None, "v"))}}))
	}
	eventually(t, "all results have their room", func() bool { bytes, _ := n.services.outflow.snapshot(); return bytes == items*resultBytes })
	eventually(t, "all are on their way", func() bool { return k.len() == items })
	k.answer(actors.ProposeResult{Err: actors.ErrOverloaded})
	must(t, rpc.CloseSend())
	if got := len(results(t, rpc)); got != items {
		t.Errorf("%d results", got)
	}
	eventually(t, "nothing is held", func() bool { bytes, _ := n.services.outflow.snapshot(); return bytes == 0 })
}
