package router

import (
	"testing"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/multiraftd/multiraftd/actors"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// roles counts the replicas of partitions by whether they lead, and whether they ever campaigned.
func (r *coreRig) roles() (lead, campaigned int) {
	for _, g := range r.core.Table().Groups()[1:] {
		h, _ := r.core.Table().Hosted(g)
		if st := h.Board.Load(); st.Role == raftcore.Leader {
			lead++
		} else if st.Role != raftcore.Follower {
			campaigned++
		}
	}
	return lead, campaigned
}

func TestStoredReplicasCampaignSomeAtATime(t *testing.T) {
	var groups []raftcore.GroupID
	for g := range raftcore.GroupID(2*startingMax + 100) {
		groups = append(groups, g+2)
	}
	r := newCoreRig(t, groups...)
	r.spawnCore() // all are stored
	r.run()
	for i, want := range []int{startingMax, 2 * startingMax, len(groups)} {
		r.core.Tick()
		r.run()
		if lead, _ := r.roles(); lead > want {
			t.Errorf("after %d ticks %d lead, more than %d", i+1, lead, want)
		}
	}
	for range electionTicksDefault {
		r.core.Tick()
		r.run()
	}
	if lead, _ := r.roles(); lead != len(groups) {
		t.Errorf("in the end %d of %d lead", lead, len(groups))
	}
}

func TestStoredReplicasThatFindNoLeaderTakeTurns(t *testing.T) {
	r := newCoreRig(t)
	b := new(store.Batch)
	for g := range raftcore.GroupID(startingMax + 100) { // of members that are not there
		store.PutBirth(b, store.Birth{Group: g + 2, Replica: 1, Members: map[raftcore.ReplicaID]raftcore.NodeID{1: 1, 2: 2, 3: 3}})
	}
	must(t, r.kv.Commit(b, true))
	r.spawnCore()
	r.run()
	for range startTurnTimeouts * electionTicksDefault {
		r.core.Tick()
		r.run()
	}
	if _, n := r.roles(); n != startingMax {
		t.Errorf("%d campaign while no peer answers", n)
	}
	for range 5 {
		r.core.Tick()
		r.run()
	}
	if _, n := r.roles(); n != startingMax+100 { // those that had their turn are still what they were, without a tick
		t.Errorf("%d have campaigned after the first had their turn", n)
	}
}

func TestReplicasWithALeaderThatLivesHearOfANodeAFewPerTick(t *testing.T) {
	w := newWatchman(t)
	replica := w.rt.groups[7].PID
	led, _ := w.core.Table().Hosted(raftcore.MetadataGroup) // by node 1
	const many = 2*wakesPerTick + 50
	for g := range raftcore.GroupID(many) {
		w.rt.host(&Hosted{Group: 100 + g, PID: actor.NewPID(replica.Address, replica.Id), Board: led.Board})
	}
	w.hears(frameOf(2, 1))
	if n := len(w.hears(frameOf(2, 2))); n != 1+wakesPerTick { // group 7 has no board yet: it may be led by node 2
		t.Fatalf("at once %d are told", n)
	}
	for i, want := range []int{wakesPerTick, 50, 0} {
		if n := len(w.hears(&actors.ClockTick{})); n != want {
			t.Errorf("tick %d: %d are told, not %d", i, n, want)
		}
	}
}
