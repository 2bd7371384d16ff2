package router

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/metadata"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// moveRig is a coreRig (node 1) in a cluster of four nodes, of which the others are only names.
type moveRig struct {
	*coreRig
	mem *store.MemKV
}

func newMoveRig(t *testing.T) *moveRig {
	t.Helper()
	r := &moveRig{coreRig: newCoreRig(t)}
	r.mem = r.kv.KV.(*store.MemKV)
	for id := uint64(1); id <= 4; id++ {
		r.must(&metav1.Command{Command: &metav1.Command_RegisterNode{RegisterNode: &metav1.RegisterNode{
			Node: &metav1.Node{NodeId: id, StoreId: fmt.Sprint("s", id), StartNumber: 1, ClientAddr: "a", PeerAddr: "b"}}}})
	}
	return r
}

func (r *moveRig) must(c *metav1.Command) {
	r.t.Helper()
	if res := r.command(c); res == nil || res.Err != nil || res.Outcome.Verdict != raftcore.Accepted {
		r.t.Fatalf("%v: %+v", c, res)
	}
}

// partition creates a partition with one replica and returns its group; the least loaded node gets it: this one first.
func (r *moveRig) partition(name string) raftcore.GroupID {
	r.t.Helper()
	r.createTopic(name, 1)
	topic, ok := r.core.Table().Meta.TopicByName(name)
	if !ok {
		r.t.Fatal("no topic")
	}
	return raftcore.GroupID(topic.GetPartitions()[0].GetGroupId())
}

func (r *moveRig) move(g raftcore.GroupID, to ...uint64) metadata.Target {
	r.t.Helper()
	r.must(&metav1.Command{Command: &metav1.Command_SetTarget{SetTarget: &metav1.SetTarget{GroupId: uint64(g), Voters: to}}})
	t, ok := r.core.Table().Meta.Target(g)
	if !ok {
		r.t.Fatal("no target")
	}
	return t
}

func (r *moveRig) settle(g raftcore.GroupID, t metadata.Target) {
	r.t.Helper()
	r.must(settled(g, t))
}

func settled(g raftcore.GroupID, t metadata.Target) *metav1.Command {
	return &metav1.Command{Command: &metav1.Command_GroupSettled{GroupSettled: &metav1.GroupSettled{GroupId: uint64(g), TargetId: t.ID}}}
}

func (r *moveRig) confirm(order metadata.Removal) {
	r.t.Helper()
	r.must(&metav1.Command{Command: &metav1.Command_ReplicaGone{ReplicaGone: &metav1.ReplicaGone{
		NodeId: 1, GroupId: uint64(order.Group), ReplicaId: uint64(order.Replica)}}})
}

// stored returns the identity record of a group, and whether any key of its data is left.
func (r *moveRig) stored(g raftcore.GroupID) (id store.StoredGroup, data bool) {
	r.t.Helper()
	v, err := r.kv.View()
	must(r.t, err)
	defer v.Close()
	all, err := store.Groups(v)
	must(r.t, err)
	for _, s := range all {
		if s.Group == g {
			id = s
		}
	}
	lo := store.MachinePrefix(g, 0)
	must(r.t, v.Scan(lo[:len(lo)-9], store.MachinePrefix(g+1, 0)[:len(lo)-9], false, func(_, _ []byte) bool { data = true; return false }))
	return id, data
}

// powerLoss starts the core anew on what its disk holds. keep is how many unsynced commits have survived.
func (r *moveRig) powerLoss(keep func(int) int) {
	r.queue = nil
	r.mem = r.mem.Crash(keep)
	r.kv = &countingKV{KV: r.mem}
	r.startCore()
}

func TestAReplicaThatIsMovedAwayIsDeletedOnOrderAndReported(t *testing.T) {
	r := newMoveRig(t)
	g := r.partition("t")
	target := r.move(g, 2)
	for range 3 {
		r.core.Tick()
		r.run()
	}
	if st := r.status(g); st.Role != raftcore.Leader || !slices.Equal(st.LearnerIDs, []raftcore.ReplicaID{target.Voters[0].ID}) || st.Waits != raftcore.WaitLearner {
		t.Fatalf("the group is not on its way to %+v: %+v", target, st)
	}
	if _, ok := r.core.Table().Hosted(g); !ok || len(r.core.Table().Deleted) != 0 {
		t.Fatal("deleted without an order")
	}
	r.settle(g, target) // as if the others had said so
	if _, ok := r.core.Table().Hosted(g); ok {
		t.Fatal("still here")
	}
	if id, data := r.stored(g); !id.Tombstone || id.Replica != 1 || data {
		t.Fatalf("stored is %+v, data %v", id, data)
	}
	order := metadata.Removal{Group: g, Replica: 1}
	if got := r.core.Table().Deleted; !slices.Equal(got, []metadata.Removal{order}) {
		t.Fatalf("reports %v", got)
	}
	commits := r.kv.commits
	r.confirm(order)
	if got := r.core.Table().Deleted; len(got) != 0 || r.counters.ReplicasDeleted.Load() != 1 || len(r.failed) != 0 {
		t.Fatalf("after the confirmation it reports %v, counted %d", got, r.counters.ReplicasDeleted.Load())
	}
	if r.kv.commits-commits > 3 { // of the command, no second tombstone
		t.Fatalf("%d commits", r.kv.commits-commits)
	}
}

func TestADeletionGoesOnWhereverThePowerWasLost(t *testing.T) {
	points, unfinished := 0, 0
	for steps := 0; ; steps++ {
		r := newMoveRig(t)
		g := r.partition("t")
		target := r.move(g, 2)
		payload := marshal(t, settled(g, target))
		r.core.Dispatch(Routed{raftcore.MetadataGroup, propose(payload)})
		done := 0
		for ; done < steps && len(r.queue) > 0; done++ {
			f := r.queue[0]
			r.queue = r.queue[1:]
			f()
		}
		all := done < steps // nothing was left to do: the last point
		if id, _ := r.stored(g); !id.Tombstone {
			unfinished++
		}
		reported := len(r.core.Table().Deleted) > 0
		keep := func(n int) int { return n / 2 }
		if reported { // what was reported must be on the disk, whatever else is lost
			keep = nil
		}
		r.queue = nil
		r.mem = r.mem.Crash(keep)
		r.kv = &countingKV{KV: r.mem}
		if id, _ := r.stored(g); reported && !id.Tombstone {
			t.Fatalf("after %d steps it was reported deleted, and is not: %+v", steps, id)
		}
		r.startCore()
		if _, open := r.core.Table().Meta.Target(g); open {
			r.settle(g, target) // the order itself had been lost
		}
		id, data := r.stored(g)
		_, hosted := r.core.Table().Hosted(g)
		if !id.Tombstone || data || hosted || !slices.Equal(r.core.Table().Deleted, []metadata.Removal{{Group: g, Replica: 1}}) {
			t.Fatalf("power lost after %d steps: stored %+v, data %v, hosted %v, reports %v", steps, id, data, hosted, r.core.Table().Deleted)
		}
		if points++; all {
			break
		}
	}
	if t.Logf("%d points, at %d of them the tombstone was not there yet", points, unfinished); unfinished < 3 || points-unfinished < 2 {
		t.Errorf("%d points, %d before the tombstone: not in the middle", points, unfinished)
	}
}

func TestALaterReplicaOfTheSameGroupIsBornEmptyAfterTheFirstWasDeleted(t *testing.T) {
	for _, restart := range []bool{false, true} {
		r := newMoveRig(t)
		g := r.partition("t")
		r.settle(g, r.move(g, 2))
		again := &metav1.Command{Command: &metav1.Command_SetTarget{SetTarget: &metav1.SetTarget{GroupId: uint64(g), Voters: []uint64{1}}}}
		if res := r.command(again); res == nil || res.Outcome.Verdict != raftcore.Refused {
			t.Fatalf("it may come back before the deletion is confirmed: %+v", res)
		}
		r.confirm(metadata.Removal{Group: g, Replica: 1})
		if restart {
			r.powerLoss(func(n int) int { return n })
		}
		target := r.move(g, 1)
		me := target.Voters[0]
		if id, _ := r.stored(g); id.Tombstone || id.Replica != me.ID || me.ID < 3 {
			t.Fatalf("stored is %+v, placed was %+v", id, me)
		}
		if st := r.status(g); st.Replica != me.ID || st.Applied != 0 || len(st.VoterIDs) != 0 || st.Role != raftcore.Follower {
			t.Fatalf("it is not empty: %+v", st)
		}
		for range 100 { // it has no members, and must not make itself one
			r.core.Tick()
			r.run()
		}
		if st := r.status(g); st.Role != raftcore.Follower || st.Term != 0 {
			t.Fatalf("it campaigned: %+v", st)
		}
		// The order of before, which metadata that lag may show again, deletes nothing.
		r.core.system.Root.Send(r.core.router, &MetadataApplied{r.core.Table().Meta})
		r.run()
		if _, ok := r.core.Table().Hosted(g); !ok {
			t.Fatal("gone again")
		}
	}
}

func TestAReplicaOrderedDeletedBeforeItWasBornNeverIs(t *testing.T) {
	r := newMoveRig(t)
	g := r.partition("t")
	moved := r.move(g, 2)
	r.settle(g, moved)
	r.confirm(metadata.Removal{Group: g, Replica: 1})
	target := r.move(g, 3, 1) // 1 gets a new replica, and loses it before it is born
	placed := r.core.Table().Meta
	r.must(&metav1.Command{Command: &metav1.Command_SetTarget{SetTarget: &metav1.SetTarget{GroupId: uint64(g), Voters: []uint64{3}, Supersede: true}}})
	latest, _ := r.core.Table().Meta.Target(g)
	r.settle(g, latest)
	ordered := r.core.Table().Meta
	r2 := newCoreRig(t) // node 1, had it been down all the time
	r2.core.system.Root.Send(r2.core.router, &MetadataApplied{ordered})
	r2.run()
	id := target.Voters[1].ID
	if got := r2.core.Table().Deleted; !slices.Equal(got, []metadata.Removal{{Group: g, Replica: id}}) {
		t.Fatalf("reports %v", got)
	}
	r2.core.system.Root.Send(r2.core.router, &MetadataApplied{placed}) // metadata that lag place it here
	r2.run()
	if _, ok := r2.core.Table().Hosted(g); ok {
		t.Fatal("it was born after its deletion")
	}
}

func TestNothingIsDeletedBecauseItIsNotMentioned(t *testing.T) {
	r := newMoveRig(t)
	g := r.partition("t")
	r.core.system.Root.Send(r.core.router, &MetadataApplied{metadata.Empty()})
	r.run()
	if _, ok := r.core.Table().Hosted(g); !ok {
		t.Fatal("gone with the metadata")
	}
	if id, data := r.stored(g); id.Tombstone || !data {
		t.Fatalf("stored is %+v", id)
	}
}

func TestMessagesOfADeletedReplicasGroupAreUnknown(t *testing.T) {
	r := newMoveRig(t)
	g := r.partition("t")
	r.settle(g, r.move(g, 2))
	r.core.Frame(2, &raftv1.Frame{Envelopes: []*raftv1.Envelope{{GroupId: uint64(g), FromReplica: 2, ToReplica: 1, Type: raftv1.MessageType_MESSAGE_TYPE_APPEND, Term: 9}}})
	r.run()
	if len(r.controls) == 0 || r.controls[len(r.controls)-1].GetKind() != raftv1.Control_KIND_GROUP_UNKNOWN {
		t.Fatalf("controls %v", r.controls)
	}
	if res := r.propose(g, []byte("x")); res == nil || !errors.Is(res.Err, ErrNotHosted) {
		t.Fatalf("a proposal: %+v", res)
	}
	if id, data := r.stored(g); !id.Tombstone || data {
		t.Fatalf("it came back: %+v", id)
	}
}

func TestAFailedReplicaIsDeletedOnOrderToo(t *testing.T) {
	r := newMoveRig(t)
	g := r.partition("t")
	target := r.move(g, 2)
	r.panics = true
	r.propose(g, []byte("x"))
	r.panics = false
	if r.status(g).Failure == "" {
		t.Fatal("it has not failed")
	}
	r.settle(g, target)
	if id, data := r.stored(g); !id.Tombstone || data || len(r.core.Table().Deleted) != 1 {
		t.Fatalf("stored is %+v, reports %v", id, r.core.Table().Deleted)
	}
}
