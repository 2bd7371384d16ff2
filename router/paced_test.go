package router

import (
	"testing"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/multiraftd/multiraftd/actors"
	"github.com/multiraftd/multiraftd/raftcore"
)

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
