package router

import (
	"testing"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
)

// member registers a node with the rig's one-node metadata group.
func (r *coreRig) member(t *testing.T, n uint64) {
	t.Helper()
	r.command(t, registration(n))
}

func TestASilentNodeIsNoLongerAliveWithinTwoElectionTimeouts(t *testing.T) {
	r := newCoreRig(t)
	r.elect(t)
	r.member(t, 1)
	r.member(t, 2)
	tick := func(n int) {
		for range n {
			r.core.Tick()
			r.run()
		}
	}
	live := func() *Liveness { return r.core.cfg.Tables.Liveness() }
	tick(1)
	if !live().Alive(2) || !live().Alive(1) || !live().Alive(99) {
		t.Fatal("a node that has only just become known counts as dead, or this one, or an unknown one")
	}
	tick(electionTicksDefault)
	r.core.Frame(2, &raftv1.Frame{Controls: []*raftv1.Control{{Kind: raftv1.Control_KIND_ALIVE}}})
	tick(electionTicksDefault)
	if !live().Alive(2) {
		t.Fatal("dead though it said that it is alive within an election timeout")
	}
	tick(electionTicksDefault)
	if silent, known := live().Silence(2); live().Alive(2) || !known || silent >= 2*electionTicksDefault+1 {
		t.Fatalf("silent for %d ticks, alive: %v", silent, live().Alive(2))
	}
	r.core.Frame(2, &raftv1.Frame{})
	tick(1)
	if !live().Alive(2) {
		t.Fatal("dead though a frame came from it")
	}
}

func TestANodeSaysAtEachTickThatItIsAlive(t *testing.T) {
	r := newCoreRig(t)
	r.elect(t)
	r.member(t, 1)
	r.member(t, 2)
	r.controls = nil
	for range 3 {
		r.core.Tick()
		r.run()
	}
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

func TestAReportGoesToTheMetadataLeaderAndSaysWhatTheNodeLeads(t *testing.T) {
	r := newCoreRig(t, 7)
	r.elect(t)
	// This node leads the metadata group: what it reports goes to its own controller.
	rep := r.router(t).nodeReport()
	led := map[uint64]*raftv1.LedGroup{}
	for _, g := range rep.GetLed() {
		led[g.GetGroupId()] = g
	}
	g := led[7]
	if rep.GetLedCount() != 2 || g.GetTerm() < 2 || g.GetLeaderId() != 1 || len(g.GetConfState().GetVoters()) != 1 || len(g.GetLagging()) != 0 {
		t.Fatalf("%v", rep)
	}
	if len(r.reports) != 0 {
		t.Fatalf("sent away: %v", r.reports)
	}
}

func TestATransferIsAskedForOnlyByMembersOfTheCluster(t *testing.T) {
	r := newCoreRig(t, 7)
	r.elect(t)
	r.member(t, 2)
	ask := func(from uint64) raftcore.NodeID {
		r.core.Frame(from, &raftv1.Frame{Controls: []*raftv1.Control{{Kind: raftv1.Control_KIND_TRANSFER, GroupId: 7}}})
		r.run()
		return 0
	}
	ask(2)
	ask(3)
	if n := r.transfersAsked(t); n != 1 {
		t.Fatalf("%d transfers were asked for, want that of node 2", n)
	}
}
