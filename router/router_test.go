package router

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/proto"

	"github.com/multiraftd/multiraftd/actors"
	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// coreRig is a Core on one goroutine: nothing happens but in run.
type coreRig struct {
	t        *testing.T
	queue    []func()
	kv       *countingKV
	core     *Core
	counters Counters
	controls []*raftv1.Control
	reports  []*raftv1.NodeReport
	failed   []error
	panics   bool
	logger   *slog.Logger // nil = nothing is said
}

func (r *coreRig) Schedule(f func()) { r.queue = append(r.queue, f) }
func (r *coreRig) Throughput() int   { return 1 << 30 }

func (r *coreRig) run() {
	for len(r.queue) > 0 {
		f := r.queue[0]
		r.queue = r.queue[1:]
		f()
	}
}

func (r *coreRig) Send(raftcore.NodeID, *raftv1.Envelope) {}

func (r *coreRig) SendReport(_ raftcore.NodeID, rep *raftv1.NodeReport) {
	r.reports = append(r.reports, rep)
}

func (r *coreRig) SendControl(_ raftcore.NodeID, c *raftv1.Control) {
	r.controls = append(r.controls, c)
}

func (r *coreRig) NowMillis() int64 {
	if r.panics {
		panic("planted")
	}
	return 1
}

// countingKV counts commits, and fails them when told.
type countingKV struct {
	store.KV
	commits int
	err     error
}

func (k *countingKV) Commit(b *store.Batch, sync bool) error {
	if k.commits++; k.err != nil {
		return k.err
	}
	return k.KV.Commit(b, sync)
}

// newCoreRig starts a Core with a replica of the metadata group and of each of groups, all of one member.
func newCoreRig(t *testing.T, groups ...raftcore.GroupID) *coreRig {
	t.Helper()
	r := &coreRig{t: t, kv: &countingKV{KV: store.NewMem()}}
	b := new(store.Batch)
	for _, g := range append(groups, raftcore.MetadataGroup) {
		store.PutBirth(b, store.Birth{Group: g, Replica: 1, Members: map[raftcore.ReplicaID]raftcore.NodeID{1: 1}})
	}
	must(t, r.kv.KV.Commit(b, true))
	r.startCore()
	return r
}

func (r *coreRig) startCore() {
	r.spawnCore()
	for range 3 * 10 { // every group elects its only member
		r.run()
		r.core.Tick()
	}
	r.run()
}

func (r *coreRig) spawnCore() {
	r.core = StartCore(Config{
		Replica: actors.ReplicaConfig{Node: 1, Start: 1, Log: r.kv, Clock: r, Counters: &actors.Counters{}, Core: &raftcore.Counters{},
			Logger: cmp.Or(r.logger, slog.New(slog.DiscardHandler))},
		Sender: r, Tables: NewTables(), Counters: &r.counters,
		Writer: actors.LogWriterConfig{OnFailure: func(err error) { r.failed = append(r.failed, err) }, Counters: &actors.Counters{}},
		Props:  []actor.PropsOption{actor.WithDispatcher(r)},
	})
}

// propose proposes to a group and returns how that ended, if it did.
func (r *coreRig) propose(g raftcore.GroupID, payload []byte) *actors.ProposeResult {
	end := make(awaited, 1)
	r.core.Dispatch(Routed{g, &actors.Propose{Payload: payload, Reply: proposed{end}}})
	r.run()
	select {
	case res := <-end:
		return &res
	default:
		return nil
	}
}

// proposed is a ProposeReply without admission.
type proposed struct{ awaited }

func (p proposed) Proposed(res actors.ProposeResult) { p.ended(res) }

func (r *coreRig) command(c *metav1.Command) *actors.ProposeResult {
	return r.propose(raftcore.MetadataGroup, marshal(r.t, c))
}

func marshal(t *testing.T, c *metav1.Command) []byte {
	t.Helper()
	payload, err := proto.Marshal(c)
	must(t, err)
	return payload
}

// propose makes a proposal whose end nobody waits for.
func propose(payload []byte) *actors.Propose {
	return &actors.Propose{Payload: payload, Reply: proposed{make(awaited, 1)}}
}

func (r *coreRig) createTopic(name string, partitions uint32) {
	r.t.Helper()
	res := r.command(&metav1.Command{Command: &metav1.Command_CreateTopic{CreateTopic: &metav1.CreateTopic{
		Name: name, Partitions: partitions, Replicas: 1, RequestId: []byte(name + "0123456789abcdef")[:16]}}})
	if res == nil || res.Err != nil || res.Outcome.Verdict != raftcore.Accepted {
		r.t.Fatalf("%+v", res)
	}
}

func (r *coreRig) status(g raftcore.GroupID) *actors.Status {
	r.t.Helper()
	h, ok := r.core.Table().Hosted(g)
	if !ok || h.Board.Load() == nil {
		r.t.Fatalf("group %d has no replica", g)
	}
	return h.Board.Load()
}

func TestAnUnknownGroupInAFrameLeavesNothingButAWordToTheSender(t *testing.T) {
	r := newCoreRig(t)
	table, commits := r.core.Table(), r.kv.commits
	env := &raftv1.Envelope{GroupId: 77, FromReplica: 2, ToReplica: 1, Type: raftv1.MessageType_MESSAGE_TYPE_VOTE, Term: 9}
	r.core.Frame(2, &raftv1.Frame{Envelopes: []*raftv1.Envelope{env}, Heartbeats: []*raftv1.GroupHeartbeat{{GroupId: 78, Term: 9}}})
	r.run()
	if len(r.controls) != 2 || r.controls[0].GetGroupId() != 78 || r.controls[1].GetGroupId() != 77 ||
		r.controls[0].GetKind() != raftv1.Control_KIND_GROUP_UNKNOWN {
		t.Fatalf("the sender was told %v", r.controls)
	}
	if r.core.Table() != table || r.kv.commits != commits || r.counters.UnknownGroup.Load() != 2 {
		t.Fatalf("table %v, %d commits, counted %d", r.core.Table() == table, r.kv.commits-commits, r.counters.UnknownGroup.Load())
	}
	if res := r.propose(77, []byte("x")); res == nil || !errors.Is(res.Err, ErrNotHosted) {
		t.Fatalf("a proposal to it: %+v", res)
	}
}

func TestATopicPlacedHereIsBornAndSpawnedOnce(t *testing.T) {
	r := newCoreRig(t)
	for id := uint64(1); id <= 2; id++ {
		r.command(&metav1.Command{Command: &metav1.Command_RegisterNode{RegisterNode: &metav1.RegisterNode{
			Node: &metav1.Node{NodeId: id, StoreId: "s", StartNumber: 1, ClientAddr: "a", PeerAddr: "b"}}}})
	}
	r.createTopic("t", 4) // two partitions on this node, two on the other
	r.createTopic("u", 2) // one and one
	if got := r.core.Table().Groups(); len(got) != 1+2+1 {
		t.Fatalf("groups %v", got)
	}
	before := map[raftcore.GroupID]*Hosted{}
	for _, g := range r.core.Table().Groups() {
		before[g], _ = r.core.Table().Hosted(g)
		if st := r.status(g); st.Role != raftcore.Leader {
			t.Errorf("group %d does not lead itself: %+v", g, st)
		}
	}
	// What is known already, and what was said twice, changes nothing.
	root, meta := r.core.system.Root, r.core.Table().Meta
	root.Send(r.core.router, &MetadataApplied{meta})
	root.Send(r.core.router, &MetadataApplied{meta})
	r.run()
	for g, h := range before {
		if now, _ := r.core.Table().Hosted(g); now != h {
			t.Errorf("group %d was spawned again", g)
		}
	}
	// A restart finds them stored, with what they hold, and does not give birth to them again.
	mine := r.core.Table().Groups()[1]
	for range 5 {
		r.propose(mine, []byte("an entry each"))
	}
	was := r.status(mine)
	r.startCore()
	if got := r.core.Table().Groups(); len(got) != len(before) || r.status(mine).Applied < was.Applied || r.status(mine).Term <= was.Term {
		t.Fatalf("after a restart: groups %v, and group %d went from %+v to %+v", got, mine, was, r.status(mine))
	}
}

func TestATopicsBirthsCopyTheTableAFewTimesAndNotOnceEach(t *testing.T) {
	r := newCoreRig(t)
	r.command(&metav1.Command{Command: &metav1.Command_RegisterNode{RegisterNode: &metav1.RegisterNode{
		Node: &metav1.Node{NodeId: 1, StoreId: "s", StartNumber: 1, ClientAddr: "a", PeerAddr: "b"}}}})
	before := r.core.Table()
	r.createTopic("t", 200)
	after := r.core.Table()
	if n := len(after.Groups()) - len(before.Groups()); n != 200 || !slices.IsSorted(after.Groups()) {
		t.Fatalf("%d groups were born: %v", n, after.Groups())
	}
	if copies := after.version - before.version; copies > 10 {
		t.Errorf("the table of groups was copied %d times", copies)
	}
	r.command(&metav1.Command{Command: &metav1.Command_AllocateProducers{AllocateProducers: &metav1.AllocateProducers{Count: 1}}})
	if now := r.core.Table(); now == after || !now.SameGroups(after) {
		t.Error("what does not concern the groups has copied their table, or was not published")
	}
}

func TestADeletedReplicaIsNeverBornAgain(t *testing.T) {
	r := newCoreRig(t)
	r.command(&metav1.Command{Command: &metav1.Command_RegisterNode{RegisterNode: &metav1.RegisterNode{
		Node: &metav1.Node{NodeId: 1, StoreId: "s", StartNumber: 1, ClientAddr: "a", PeerAddr: "b"}}}})
	r.createTopic("t", 1)
	g := r.core.Table().Groups()[1]
	b := new(store.Batch)
	store.PutTombstone(b, g, 1)
	must(t, r.kv.Commit(b, true))
	r.startCore() // the metadata still place the group here
	if got := r.core.Table().Groups(); len(got) != 1 {
		t.Fatalf("groups %v", got)
	}
	v, err := r.kv.View()
	must(t, err)
	defer v.Close()
	if _, err := store.CurrentGeneration(v, g); !errors.Is(err, store.ErrTombstone) {
		t.Fatalf("%v", err)
	}
}

func TestMessagesOfAGroupThatIsBeingBornAreDroppedWithoutAWord(t *testing.T) {
	r := newCoreRig(t)
	r.command(&metav1.Command{Command: &metav1.Command_RegisterNode{RegisterNode: &metav1.RegisterNode{
		Node: &metav1.Node{NodeId: 1, StoreId: "s", StartNumber: 1, ClientAddr: "a", PeerAddr: "b"}}}})
	r.createTopic("t", 1)
	birth := &Router{cfg: r.core.cfg, birth: map[raftcore.GroupID]bool{9: true}, inbound: map[raftcore.GroupID]*actors.Inbound{}}
	if in := birth.inboundOf(nil, 2, 9); in != nil || len(r.controls) != 0 {
		t.Fatalf("%v, %v", in, r.controls)
	}
}

func TestAPanicInOneReplicaLeavesTheOthersRunningAndMarksItsBoard(t *testing.T) {
	r := newCoreRig(t, 2, 3)
	r.panics = true
	lost := r.propose(2, []byte("x"))
	r.panics = false
	if st := r.status(2); st.Failure != "planted" || st.Leader != 0 || r.counters.ReplicasFailed.Load() != 1 {
		t.Fatalf("the board says %+v", st)
	}
	if lost != nil && lost.Err == nil {
		t.Fatal("what it held was acknowledged")
	}
	if res := r.propose(2, []byte("x")); res == nil || !errors.Is(res.Err, actors.ErrStopped) {
		t.Fatalf("a later proposal: %+v", res)
	}
	if res := r.propose(3, []byte("x")); res == nil || res.Err != nil || res.Outcome.Verdict != raftcore.Invalid {
		t.Fatalf("the other group: %+v", res)
	}
	if len(r.failed) != 0 {
		t.Fatalf("it took the node with it: %v", r.failed)
	}
}

func TestAReplicaThatDoesNotOpenIsMarked(t *testing.T) {
	r := newCoreRig(t, 2)
	gone := &countingKV{KV: store.NewMem()}
	b := new(store.Batch)
	for _, g := range []raftcore.GroupID{raftcore.MetadataGroup, 2} {
		store.PutBirth(b, store.Birth{Group: g, Replica: 1, Members: map[raftcore.ReplicaID]raftcore.NodeID{1: 1}})
	}
	prefix := store.MachinePrefix(2, 1)
	b.DeleteRange(prefix[:len(prefix)-9], append(prefix[:len(prefix)-1:len(prefix)-1], 0xff)) // group 2 without state
	must(t, gone.Commit(b, true))
	r.kv = gone
	r.startCore()
	if st := r.status(2); st.Failure == "" {
		t.Fatalf("%+v", st)
	}
	if st := r.status(raftcore.MetadataGroup); st.Role != raftcore.Leader {
		t.Fatalf("%+v", st)
	}
}

func TestAFailedLogWriterEndsTheNodeAndAcknowledgesNothing(t *testing.T) {
	r := newCoreRig(t, 2)
	r.kv.err = errors.New("disk is gone")
	if res := r.propose(2, []byte("x")); res != nil {
		t.Fatalf("the proposal ended with %+v", res)
	}
	if len(r.failed) != 1 || !errors.Is(r.failed[0], r.kv.err) {
		t.Fatalf("reported %v", r.failed)
	}
}

func TestAPanicOfTheRouterEndsTheNode(t *testing.T) {
	r := newCoreRig(t)
	r.core.Dispatch(Routed{99, &actors.Propose{}}) // nobody to answer
	r.run()
	if len(r.failed) != 1 {
		t.Fatalf("reported %v", r.failed)
	}
	r.core.Tick()
	r.run()
	if len(r.failed) != 1 {
		t.Fatalf("it came back and reported %v", r.failed)
	}
}

func TestWhatComesAfterTheEndIsAnswered(t *testing.T) {
	r := newCoreRig(t, 2)
	r.core.system.Root.Stop(r.core.router)
	r.run()
	if res := r.propose(2, []byte("x")); res == nil || !errors.Is(res.Err, actors.ErrStopped) {
		t.Fatalf("%+v", res)
	}
	must(t, r.core.Stop()) // does not wait for an actor that is gone
}

func TestALostAppendAndAControlReachWhomTheyConcern(t *testing.T) {
	r := newCoreRig(t, 2)
	r.core.Lost(2, []uint64{2, 99})
	r.core.Frame(2, &raftv1.Frame{Controls: []*raftv1.Control{
		{Kind: raftv1.Control_KIND_GROUP_UNKNOWN, GroupId: 2}, {Kind: raftv1.Control_KIND_REPLICA_FAILED, GroupId: 2}, {Kind: 99}}})
	r.run()
	if r.counters.PeerGroupUnknown.Load() != 1 || r.counters.PeerReplicaFailed.Load() != 1 || r.status(2).Failure != "" {
		t.Fatalf("%d, %d, %+v", r.counters.PeerGroupUnknown.Load(), r.counters.PeerReplicaFailed.Load(), r.status(2))
	}
}

func TestAFrameIsDoneOnceNothingOfItWaits(t *testing.T) {
	r := newCoreRig(t, 2, 3)
	r.panics = true
	r.propose(2, []byte("x")) // group 2 has failed
	r.panics = false
	done := 0
	of := func(groups ...uint64) *raftv1.Frame {
		f := &raftv1.Frame{Controls: []*raftv1.Control{{Kind: raftv1.Control_KIND_GROUP_UNKNOWN, GroupId: 2}}}
		for _, g := range groups {
			f.Heartbeats = append(f.Heartbeats, &raftv1.GroupHeartbeat{GroupId: g}, &raftv1.GroupHeartbeat{GroupId: g})
			f.Envelopes = append(f.Envelopes, &raftv1.Envelope{GroupId: g})
		}
		return f
	}
	for i, f := range []*raftv1.Frame{of(), of(77), of(3), of(2), of(1, 2, 3, 77)} {
		r.core.FrameThen(2, f, func() { done++ })
		if done != i {
			t.Fatalf("frame %d is done before it was looked at", i)
		}
		if r.run(); done != i+1 {
			t.Fatalf("frame %d was done %d times", i, done-i)
		}
	}
	r.core.system.Root.Stop(r.core.router)
	r.run()
	r.core.FrameThen(2, of(3), func() { done++ })
	if r.run(); done != 6 {
		t.Errorf("a frame for a core that has stopped was done %d times", done-5)
	}
}

// lines keeps what is logged.
type lines struct {
	slog.Handler
	said []string
}

func (l *lines) Enabled(context.Context, slog.Level) bool { return true }

func (l *lines) Handle(_ context.Context, r slog.Record) error {
	l.said = append(l.said, r.Message)
	return nil
}

func TestAFailedPeerReplicaIsLoggedOnceAndOnlyWhenItIsAMember(t *testing.T) {
	r := newCoreRig(t, 2)
	log := &lines{Handler: slog.DiscardHandler}
	b := new(store.Batch)
	store.PutBirth(b, store.Birth{Group: 5, Replica: 1, Members: map[raftcore.ReplicaID]raftcore.NodeID{1: 1, 2: 2}})
	must(t, r.kv.Commit(b, true))
	r.logger = slog.New(log)
	r.startCore()
	log.said = nil
	for _, from := range []uint64{2, 2, 9} {
		f := &raftv1.Frame{}
		for g := range uint64(100) {
			f.Controls = append(f.Controls, &raftv1.Control{Kind: raftv1.Control_KIND_REPLICA_FAILED, GroupId: g})
		}
		r.core.Frame(from, f)
		r.run()
	}
	if len(log.said) != 1 || r.counters.PeerReplicaFailed.Load() != 300 {
		t.Errorf("it said %q, and counted %d", log.said, r.counters.PeerReplicaFailed.Load())
	}
}
