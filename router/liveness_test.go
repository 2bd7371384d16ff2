package router

import (
	"testing"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/multiraftd/multiraftd/actors"
	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
)

func (r *coreRig) tick(n int) {
	for range n {
		r.core.Tick()
		r.run()
	}
}

// join makes node 2 a member, beside this node.
func (r *coreRig) join(t *testing.T) {
	t.Helper()
	r.command(&metav1.Command{Command: &metav1.Command_RegisterNode{RegisterNode: &metav1.RegisterNode{
		Node: &metav1.Node{NodeId: 1, StoreId: "s", StartNumber: 1, ClientAddr: "a", PeerAddr: "b"}}}})
	r.tick(4 * electionTicksDefault) // the controller records who votes
	res := r.command(&metav1.Command{Command: &metav1.Command_JoinNode{JoinNode: &metav1.JoinNode{Node: &metav1.Node{StoreId: "t"}}}})
	if n, ok := res.Outcome.Value.(*metav1.Node); !ok || n.GetNodeId() != 2 {
		t.Fatalf("%+v", res)
	}
	r.run()
}

func TestASilentNodeIsNoLongerAliveWithinTwoElectionTimeouts(t *testing.T) {
	r := newCoreRig(t)
	r.join(t)
	live := func() *Liveness { return r.core.cfg.Tables.Liveness() }
	r.tick(1)
	if !live().Alive(2) || !live().Alive(1) || !live().Alive(99) {
		t.Fatal("a node that has only just become known counts as dead, or this one, or an unknown one")
	}
	r.tick(electionTicksDefault)
	r.core.Frame(2, &raftv1.Frame{Controls: []*raftv1.Control{{Kind: raftv1.Control_KIND_ALIVE}}})
	r.tick(electionTicksDefault)
	if !live().Alive(2) {
		t.Fatal("dead though it said that it is alive within an election timeout")
	}
	r.tick(electionTicksDefault - 1)
	if silent, known := live().Silence(2); live().Alive(2) || !known || silent >= 2*electionTicksDefault {
		t.Fatalf("silent for %d ticks, alive: %v", silent, live().Alive(2))
	}
	r.core.Frame(2, &raftv1.Frame{})
	r.tick(1)
	if !live().Alive(2) {
		t.Fatal("dead though a frame came from it")
	}
}

func TestANodeSaysAtEachTickThatItIsAlive(t *testing.T) {
	r := newCoreRig(t)
	r.join(t)
	r.controls = nil
	r.tick(3)
	alive := 0
	for _, c := range r.controls {
		if c.GetKind() == raftv1.Control_KIND_ALIVE {
			alive++
		}
	}
	if alive != 3 {
		t.Fatalf("said %d times in 3 ticks to one other node", alive)
	}
}

func TestAReportNamesTheGroupsThatANodeLeadsInTurnWhenTheyAreMany(t *testing.T) {
	r := newCoreRig(t, 7)
	core := &Router{cfg: r.core.cfg, groups: r.core.Table().groups, ids: r.core.Table().ids}
	rep := core.nodeReport()
	led := map[uint64]*raftv1.LedGroup{}
	for _, g := range rep.GetLed() {
		led[g.GetGroupId()] = g
	}
	g := led[7]
	if rep.GetLedCount() != 2 || g.GetTerm() < 2 || g.GetLeaderId() != 1 || len(g.GetConfState().GetVoters()) != 1 || len(g.GetLagging()) != 0 {
		t.Fatalf("%v", rep)
	}
	if len(r.reports) != 0 {
		t.Fatalf("this node leads the metadata group, and sent reports away: %v", r.reports)
	}
	var many []raftcore.GroupID
	for g := range raftcore.GroupID(ledPerReportMax + 10) {
		many = append(many, g+2)
	}
	r = newCoreRig(t, many...)
	core = &Router{cfg: r.core.cfg, groups: r.core.Table().groups, ids: r.core.Table().ids}
	seen := map[uint64]bool{}
	for range 2 {
		rep := core.nodeReport()
		if len(rep.GetLed()) != ledPerReportMax || rep.GetLedCount() != uint32(len(many)+1) {
			t.Fatalf("%d of %d groups in one report", len(rep.GetLed()), rep.GetLedCount())
		}
		for _, g := range rep.GetLed() {
			seen[g.GetGroupId()] = true
		}
	}
	if len(seen) != len(many)+1 {
		t.Fatalf("%d groups in two reports", len(seen))
	}
}

func TestATransferIsAskedForOnlyByMembersOfTheCluster(t *testing.T) {
	r := newCoreRig(t)
	r.join(t)
	var got []*actors.Transfer
	opts := []actor.PropsOption{actor.WithDispatcher(r)}
	root := r.core.system.Root
	replica := root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
		if m, ok := ctx.Message().(*actors.Transfer); ok {
			got = append(got, m)
		}
	}, opts...))
	rt := &Router{cfg: r.core.cfg, meta: r.core.Table().Meta, groups: map[raftcore.GroupID]*Hosted{7: {Group: 7, PID: replica}},
		hearing: newHearing(), inbound: map[raftcore.GroupID]*actors.Inbound{}}
	router := root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
		if m, ok := ctx.Message().(*Frame); ok {
			rt.frame(ctx, m)
		}
	}, opts...))
	for _, from := range []raftcore.NodeID{3, 2} {
		root.Send(router, &Frame{From: from, Frame: &raftv1.Frame{Controls: []*raftv1.Control{{
			Kind: raftv1.Control_KIND_TRANSFER, GroupId: 7, ReplicaId: uint64(from), Term: 4}}}})
	}
	r.run()
	if len(got) != 1 || got[0].Replica != 2 || got[0].Term != 4 {
		t.Fatalf("asked for %+v, want what node 2 wants; node 3 is no member", got)
	}
}
