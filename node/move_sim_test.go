package node

import (
	"fmt"
	"slices"
	"testing"
	"time"

	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
	"github.com/multiraftd/multiraftd/transport"
)

// join adds a node to the world, as a member that the metadata group has to fill.
func (w *world) join() *simNode {
	id := uint64(len(w.nodes) + 1)
	n := &simNode{w: w, id: id, disk: store.NewMem()}
	b := new(store.Batch)
	store.PutNode(b, store.Node{Format: store.FormatVersion, Cluster: "sim", StoreID: fmt.Sprint("store-", id), NodeID: raftcore.NodeID(id), State: raftv1.StoreState_STORE_STATE_FORMED})
	store.PutJoin(b, raftcore.MetadataGroup, raftcore.ReplicaID(id))
	if err := n.disk.Commit(b, true); err != nil {
		w.t.Fatal(err)
	}
	w.nodes[id] = n
	n.start()
	w.atMetadata(&metav1.Command{Command: &metav1.Command_SetTarget{SetTarget: &metav1.SetTarget{GroupId: 1, Voters: []uint64{1, 2, 3}}}})
	w.atMetadata(&metav1.Command{Command: &metav1.Command_JoinNode{JoinNode: &metav1.JoinNode{Node: &metav1.Node{StoreId: fmt.Sprint("store-", id)}}}})
	w.until("the new node is a member", func() bool { return len(n.core.Table().Meta.Nodes()) == len(w.nodes) })
	return n
}

// atMetadata proposes a command at whoever leads, if anybody does. A command that is lost has to be said again.
func (w *world) atMetadata(c *metav1.Command) {
	if l := w.leader(raftcore.MetadataGroup); l != nil {
		w.command(l, c)
	}
}

// move asks for other nodes until somebody has taken the order, and waits until the group is there and nothing is
// left of its replicas elsewhere.
func (w *world) move(nodes ...uint64) {
	want := make([]raftcore.NodeID, len(nodes))
	for i, n := range nodes {
		want[i] = raftcore.NodeID(n)
	}
	asked := time.Duration(-time.Second)
	w.until(fmt.Sprintf("the group on %v", nodes), func() bool {
		l := w.leader(raftcore.MetadataGroup)
		if l == nil {
			return false
		}
		meta := l.core.Table().Meta
		g, _ := meta.Group(simGroup)
		on := make([]raftcore.NodeID, 0, len(nodes))
		for _, m := range g.Current {
			on = append(on, m.Node)
		}
		slices.Sort(on)
		if !g.Moving && slices.Equal(on, want) {
			return w.settledEverywhere(want)
		}
		if !g.Moving && w.now-asked > 500*time.Millisecond { // refused while an earlier deletion is not confirmed
			asked = w.now
			w.command(l, &metav1.Command{Command: &metav1.Command_SetTarget{SetTarget: &metav1.SetTarget{GroupId: uint64(simGroup), Voters: nodes}}})
		}
		return false
	})
}

// settledEverywhere says whether exactly these nodes have something of the group, and nobody waits for anything.
func (w *world) settledEverywhere(nodes []raftcore.NodeID) bool {
	for id, n := range w.nodes {
		if !n.up || len(n.core.Table().Meta.Removals(raftcore.NodeID(id))) > 0 {
			return false
		}
		if _, hosted := n.core.Table().Hosted(simGroup); hosted != slices.Contains(nodes, raftcore.NodeID(id)) {
			return false
		}
	}
	return true
}

// checkMoved compares the replicas on these nodes, and looks for every acknowledged record once, at its offset.
func (w *world) checkMoved(nodes ...uint64) {
	w.until("equal replicas", func() bool {
		first := w.status(nodes[0], simGroup)
		for _, id := range nodes {
			s := w.status(id, simGroup)
			if s == nil || first == nil || s.Applied != first.Applied || s.Applied != s.Last || s.Hash != first.Hash {
				return false
			}
		}
		return true
	})
	for _, id := range nodes {
		if w.fault != "" {
			return
		}
		records, seen := w.read(id), map[uint64]raftcore.Offset{}
		for offset, record := range records {
			if other, twice := seen[record]; twice {
				w.fail("node %d: record %d at %d and %d", id, record, other, offset)
			}
			seen[record] = offset
		}
		for _, a := range w.acked {
			if got, ok := records[a.offset]; !ok || got != a.id {
				w.fail("node %d: record %d, acknowledged at offset %d, is lost (found %d)", id, a.id, a.offset, got)
				return
			}
		}
	}
	w.mix(uint64(len(w.acked)))
}

// movingWorld moves a partition to and fro under load, with lost and late messages, and crashes nodes meanwhile.
func movingWorld(t *testing.T, seed uint64) (w *world, crashes int) {
	w = newWorld(t, seed, nil)
	w.createTopic()
	w.join()
	w.net.SetFaults(transport.Faults{LossPerMille: 20, DuplicatePerMille: 20, ChunkLossPerMille: 100, DelayMin: time.Millisecond, DelayMax: 10 * time.Millisecond, Reorder: true})
	w.load(w.now + time.Hour)
	var crash func()
	crash = func() {
		if victim := w.nodes[1+w.rnd.Uint64N(4)]; victim.up {
			crashes++
			victim.crash()
			w.after(time.Duration(100+w.rnd.IntN(1500))*time.Millisecond, victim.start)
		}
		w.after(time.Duration(1000+w.rnd.IntN(4000))*time.Millisecond, crash)
	}
	w.after(time.Second, crash)
	for _, nodes := range [][]uint64{{2, 3, 4}, {1, 2, 4}, {1, 3, 4}, {1, 2, 3}} {
		w.move(nodes...)
	}
	w.events = nil // no more load, crashes or ticks of before
	return w, crashes
}

func TestAPartitionMovesUnderLoadAndCrashesAndLosesNothing(t *testing.T) {
	for seed := uint64(1); seed <= 10; seed++ {
		w, crashes := movingWorld(t, seed)
		if w.fault == "" {
			for _, n := range w.nodes {
				n.crash()
			}
			w.net.SetFaults(transport.Faults{DelayMin: time.Millisecond, DelayMax: 2 * time.Millisecond})
			for id := range uint64(4) {
				w.nodes[id+1].start()
			}
			w.until("nothing that was deleted is back", func() bool { return w.settledEverywhere([]raftcore.NodeID{1, 2, 3}) })
			w.checkMoved(1, 2, 3)
		}
		if w.fault != "" {
			t.Fatalf("seed %d: %s", seed, w.fault)
		}
		if len(w.acked) < 200 || crashes == 0 {
			t.Fatalf("seed %d: %d records, %d crashes: this run tested nothing", seed, len(w.acked), crashes)
		}
		t.Logf("seed %d: four moves in %v, %d crashes, %d records acknowledged", seed, w.now.Round(time.Millisecond), crashes, len(w.acked))
	}
}
