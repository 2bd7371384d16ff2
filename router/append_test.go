package router

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/multiraftd/multiraftd/actors"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/proto/recordbatch"
	"github.com/multiraftd/multiraftd/raftcore"
)

// keeper is a replica that answers when the test says so.
type keeper struct {
	mu   sync.Mutex
	kept []*actors.Propose
}

func (k *keeper) take(it Routed) bool {
	p, ok := it.Msg.(*actors.Propose)
	if !ok || it.Group == raftcore.MetadataGroup {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kept = append(k.kept, p)
	return true
}

func (k *keeper) len() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.kept)
}

// answer ends what is kept, in order.
func (k *keeper) answer(res actors.ProposeResult) {
	k.mu.Lock()
	kept := k.kept
	k.kept = nil
	k.mu.Unlock()
	for _, p := range kept {
		p.Reply.Proposed(res)
	}
}

func send(t *testing.T, rpc grpc.BidiStreamingClient[multiraftv1.AppendRequest, multiraftv1.AppendResponse], items ...*multiraftv1.AppendItem) {
	t.Helper()
	must(t, rpc.Send(&multiraftv1.AppendRequest{Items: items}))
}

func TestOneItemsErrorEndsNeitherTheStreamNorTheOrder(t *testing.T) {
	n := single(t)
	ctx := testContext(t)
	topic := n.createTopic(ctx, "t", 2, 1)
	rpc, err := n.log.Append(ctx)
	must(t, err)
	record := func(v string) *multiraftv1.AppendItem {
		return &multiraftv1.AppendItem{TopicId: topic, Content: &multiraftv1.AppendItem_Records{
			Records: &multiraftv1.RecordList{Records: []*multiraftv1.Record{{Value: []byte(v)}}}}}
	}
	items := []*multiraftv1.AppendItem{
		batchItem(0, topic, 0, batch(t, recordbatch.None, "a", "b")),
		batchItem(0, topic, 0, []byte("no batch")),
		record("c"),
		{TopicId: topic},
		batchItem(0, 99, 0, nil),
		batchItem(0, topic, 1, batch(t, recordbatch.None, "z")),
		batchItem(0, topic, 2, nil),
		batchItem(0, topic, 0, batch(t, recordbatch.None, "d")),
	}
	for i, it := range items {
		it.RequestId = uint64(i)
	}
	send(t, rpc, items...)
	send(t, rpc) // nothing in it, nothing comes of it
	must(t, rpc.CloseSend())
	var order []uint64
	got := map[uint64]string{}
	for _, r := range results(t, rpc) {
		if it := items[r.GetRequestId()]; it.GetTopicId() == topic && it.GetPartition() == 0 {
			order = append(order, r.GetRequestId())
		}
		got[r.GetRequestId()] = r.GetError().GetReason()
		if o := r.GetReceipt(); o != nil {
			got[r.GetRequestId()] = fmt.Sprintf("%d+%d", o.GetFirstOffset(), o.GetCount())
		}
	}
	want := []string{"0+2", "INVALID_BATCH", "2+1", "INVALID_ARGUMENT", "UNKNOWN_TOPIC", "0+1", "UNKNOWN_PARTITION", "3+1"}
	for i, w := range want {
		if got[uint64(i)] != w {
			t.Errorf("item %d: %q, want %q", i, got[uint64(i)], w)
		}
	}
	if !slices.Equal(order, []uint64{0, 1, 2, 3, 7}) {
		t.Errorf("partition 0 was answered in the order %v", order)
	}
}

func TestAReaderThatTakesNoResultsIsNotReadFrom(t *testing.T) {
	n := single(t)
	ctx := testContext(t)
	ctx, cancel := context.WithCancel(ctx)
	topic := n.createTopic(ctx, "t", 1, 1)
	var taken sync.Map
	st := &appendStream{s: n.services, rpc: &deafClient{ctx: ctx, taken: &taken}, ctx: ctx, wake: make(chan struct{}, 1), room: make(chan struct{}, 1),
		share: n.services.outflow.open(ctx), lanes: map[laneKey]*lane{}, forwards: map[raftcore.NodeID]*forwardStream{}}
	bad := &multiraftv1.AppendItem{TopicId: topic} // answered at once, with an error
	deaf := st.rpc.(*deafClient)
	deaf.items = slices.Repeat([]*multiraftv1.AppendItem{bad}, 1000)
	var handler sync.WaitGroup
	handler.Go(st.read)
	handler.Go(func() { _ = st.write() }) // its error is the client's end
	eventually(t, "reading stops", func() bool {
		st.mu.Lock()
		defer st.mu.Unlock()
		return st.open+st.unsent >= streamItemsMax
	})
	st.mu.Lock()
	waiting := st.open + st.unsent
	st.mu.Unlock()
	if waiting >= streamItemsMax+1000 {
		t.Errorf("%d results wait, more than one message above %d", waiting, streamItemsMax)
	}
	cancel()
	handler.Wait()
	st.share.close()
}

// deafClient sends without end and takes nothing.
type deafClient struct {
	grpc.ServerStream
	ctx   context.Context
	items []*multiraftv1.AppendItem
	taken *sync.Map
}

func (d *deafClient) Recv() (*multiraftv1.AppendRequest, error) {
	return &multiraftv1.AppendRequest{Items: d.items}, d.ctx.Err()
}

func (d *deafClient) Send(*multiraftv1.AppendResponse) error {
	<-d.ctx.Done()
	return d.ctx.Err()
}

func (d *deafClient) Context() context.Context { return d.ctx }

func TestAClientThatGoesAwayLeavesNoAdmissionBehind(t *testing.T) {
	n := single(t)
	topic := n.createTopic(testContext(t), "t", 1, 1)
	k := &keeper{}
	n.held.intercept(k.take)
	ctx, cancel := context.WithCancel(testContext(t))
	rpc, err := n.log.Append(ctx)
	must(t, err)
	b := batch(t, recordbatch.None, "v")
	for range 10 {
		send(t, rpc, batchItem(1, topic, 0, b))
	}
	once := make(chan error, 1)
	go func() {
		_, err := n.log.AppendOnce(ctx, &multiraftv1.AppendOnceRequest{Item: batchItem(0, topic, 0, b)})
		once <- err
	}()
	eventually(t, "all are with the replica", func() bool { return k.len() == 11 })
	if got := n.services.admitted.bytes.Load(); got != int64(11*len(b)) {
		t.Fatalf("%d bytes admitted", got)
	}
	cancel()
	if err := <-once; status.Code(err) != codes.Canceled {
		t.Fatalf("the unary call ended with %v", err)
	}
	eventually(t, "the handlers have ended", func() bool {
		n.services.mu.Lock()
		defer n.services.mu.Unlock()
		return n.services.active == 0
	})
	if got := n.services.admitted.items.Load(); got != 11 {
		t.Fatalf("%d appends admitted while the replica has them", got)
	}
	k.answer(actors.ProposeResult{Err: actors.ErrOutcomeUnknown})
	if h := firstHosted(n); n.services.admitted.items.Load() != 0 || h.load.items.Load() != 0 || h.load.bytes.Load() != 0 || h.load.first != nil {
		t.Fatal("admission leaked")
	}
}

// firstHosted is the replica of the first topic's first partition.
func firstHosted(n *testNode) *Hosted {
	h, _ := n.core.Table().Hosted(2)
	return h
}

func TestWhatAFailedReplicaHeldEndsAndTheOthersGoOn(t *testing.T) {
	n := single(t)
	ctx := testContext(t)
	topic := n.createTopic(ctx, "t", 2, 1)
	n.append(ctx, topic, 0, "before")
	rpc, err := n.log.Append(ctx)
	must(t, err)
	n.panics.Store(true) // in the replica's turn, before its proposals are in the log
	send(t, rpc, batchItem(1, topic, 0, batch(t, recordbatch.None, "lost")))
	resp, err := rpc.Recv()
	must(t, err)
	if got := resp.GetResults()[0].GetError(); got.GetReason() != "REPLICA_FAILED" || codes.Code(got.GetCode()) != codes.Unavailable {
		t.Fatalf("the append ended with %v", resp)
	}
	n.panics.Store(false)
	send(t, rpc, batchItem(2, topic, 0, batch(t, recordbatch.None, "late")), batchItem(3, topic, 1, batch(t, recordbatch.None, "other")))
	must(t, rpc.CloseSend())
	for _, r := range results(t, rpc) {
		if want := map[uint64]string{2: "REPLICA_FAILED", 3: ""}[r.GetRequestId()]; r.GetError().GetReason() != want {
			t.Errorf("item %d: %v, want %q", r.GetRequestId(), r, want)
		}
	}
	if got := n.counters.ReplicasFailed.Load(); got != 1 {
		t.Errorf("%d replicas failed", got)
	}
	eventually(t, "nothing is admitted", func() bool { return n.services.admitted.items.Load() == 0 })
}

func TestWhatWaitsForTooLongEndsButStaysAdmitted(t *testing.T) {
	n := single(t)
	ctx := testContext(t)
	topic := n.createTopic(ctx, "t", 1, 1)
	k := &keeper{}
	n.held.intercept(k.take)
	rpc, err := n.log.Append(ctx)
	must(t, err)
	send(t, rpc, batchItem(1, topic, 0, batch(t, recordbatch.None, "v")))
	eventually(t, "it is with the replica", func() bool { return k.len() == 1 })
	n.services.sweep(time.Now().Add(outcomeTimeout / 2))
	if n.counters.Abandoned.Load() != 0 {
		t.Fatal("ended too early")
	}
	n.services.sweep(time.Now().Add(outcomeTimeout + time.Minute))
	resp, err := rpc.Recv()
	must(t, err)
	if got := resp.GetResults()[0].GetError().GetReason(); got != "OUTCOME_UNKNOWN" {
		t.Fatalf("it ended with %q", got)
	}
	if n.services.admitted.items.Load() != 1 {
		t.Error("the replica still holds it, but its admission was given back")
	}
	k.answer(actors.ProposeResult{Outcome: raftcore.Outcome{Count: 1}}) // too late to change the answer
	must(t, rpc.CloseSend())
	if more := results(t, rpc); len(more) != 0 {
		t.Errorf("answered twice: %v", more)
	}
}

func TestCloseEndsWhatIsInFlight(t *testing.T) {
	n := single(t)
	ctx := testContext(t)
	topic := n.createTopic(ctx, "t", 1, 1)
	k := &keeper{}
	n.held.intercept(k.take)
	rpc, err := n.log.Append(ctx)
	must(t, err)
	idle, err := n.log.Append(ctx)
	must(t, err)
	follow := fromStart(topic, 0)
	follow.Follow = true
	reading, err := n.log.Read(ctx, follow)
	must(t, err)
	_, err = reading.Recv()
	must(t, err)
	send(t, rpc, batchItem(1, topic, 0, batch(t, recordbatch.None, "drained")))
	eventually(t, "it is with the replica", func() bool { return k.len() == 1 })
	closed := make(chan struct{})
	go func() { n.server.Close(); close(closed) }()
	eventually(t, "it is stopping", func() bool { return n.services.draining.Err() != nil })
	k.answer(actors.ProposeResult{Outcome: raftcore.Outcome{Offset: 7, Count: 1}})
	resp, err := rpc.Recv()
	must(t, err)
	if got := resp.GetResults()[0].GetReceipt().GetFirstOffset(); got != 7 {
		t.Errorf("what was in flight ended with %v", resp)
	}
	for what, recv := range map[string]func() error{
		"the stream":      func() error { _, err := rpc.Recv(); return err },
		"the idle stream": func() error { _, err := idle.Recv(); return err },
		"the follower":    func() error { _, err := reading.Recv(); return err },
	} {
		if err := recv(); fromStatus(err).reason != stopping {
			t.Errorf("%s ended with %v", what, err)
		}
	}
	<-closed
	_, err = n.services.ListTopics(ctx, nil)
	wantReason(t, err, stopping)
}

func TestCloseWaitsForNobodyForLong(t *testing.T) {
	n := single(t)
	ctx := testContext(t)
	topic := n.createTopic(ctx, "t", 1, 1)
	k := &keeper{}
	n.held.intercept(k.take)
	once := make(chan error, 1)
	go func() {
		_, err := n.services.AppendOnce(ctx, &multiraftv1.AppendOnceRequest{Item: batchItem(0, topic, 0, batch(t, recordbatch.None, "v"))})
		once <- err
	}()
	eventually(t, "it is with the replica", func() bool { return k.len() == 1 })
	n.services.patience = time.Millisecond
	n.services.Close()
	wantReason(t, <-once, outcomeUnknown)
}

func TestAdmissionRefusesAboveEachLimitAndGivesBack(t *testing.T) {
	var node gauge
	h := &Hosted{}
	admit := func(h *Hosted, bytes int64) (*proposal, error) {
		p := &proposal{hosted: h, node: &node, bytes: bytes, to: make(awaited, 1)}
		return p, p.admit(time.Now())
	}
	first, err := admit(h, partitionBytesMax-1)
	must(t, err)
	_, err = admit(h, 2)
	wantReason(t, err, overloaded)
	second, err := admit(h, 1)
	must(t, err)
	_, err = admit(nil, nodeBytesMax)
	wantReason(t, err, overloaded)
	other, err := admit(&Hosted{}, partitionBytesMax)
	must(t, err)
	h.load.items.Store(partitionAppendsMax)
	_, err = admit(h, 0)
	wantReason(t, err, overloaded)
	h.load.items.Store(2)
	for _, p := range []*proposal{second, other, first} { // from the middle, the end and the front of the list
		p.Proposed(actors.ProposeResult{})
		p.Proposed(actors.ProposeResult{}) // only the first counts
	}
	if node.bytes.Load() != 0 || node.items.Load() != 0 || h.load.bytes.Load() != 0 || h.load.first != nil {
		t.Fatalf("left: %d bytes, %d items", node.bytes.Load(), node.items.Load())
	}
}
