package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/multiraftd/multiraftd/actors"
	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/metadata"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// keeping is how a world's nodes come and go while there are faults, and what the Controller does about dead ones.
type keeping struct {
	joiners      int
	drains       bool
	cancels      bool
	replaceAfter int // ticks; 0 = never
	minute       int // ticks

	joined  map[string]uint64 // node ids by store
	drain   uint64            // the node that is to be drained; 0 = none
	metas   map[uint64]*metadata.State
	wanted  bool // that it is drained; false again when that was taken back
	drained bool // the command was answered
}

// drawKeeping is a world of its own, so that other draws stay what they were.
func (w *world) drawKeeping() keeping {
	k := keeping{joined: map[string]uint64{}, metas: map[uint64]*metadata.State{}, minute: 20 + w.rnd.IntN(100)}
	if w.shape.nodes < 5 {
		k.joiners = w.rnd.IntN(3)
	}
	if w.chance(400) {
		k.replaceAfter = 20 + w.rnd.IntN(80)
	}
	k.drains, k.cancels = w.chance(500), w.chance(300)
	return k
}

func (w *world) controller() actors.ControllerConfig {
	return actors.ControllerConfig{ReplaceAfterTicks: w.keeping.replaceAfter, MinuteTicks: w.keeping.minute}
}

// changeNodes lets nodes join and one be drained, some time in the faults.
func (w *world) changeNodes() {
	if w.keeping.joiners > 0 {
		w.after(w.between(0, w.shape.duration/2), w.join)
	}
	if w.keeping.drains {
		w.after(w.between(0, w.shape.duration), w.drainOne)
	}
}

// join asks until a new node is a member, as the node itself does: again with the same store.
func (w *world) join() {
	id := uint64(len(w.nodes) + 1)
	storeID := storeID(id)
	var ask func()
	ask = func() {
		if len(w.nodes) >= int(id) && !w.chance(200) { // sometimes once more: the answer may have been lost
			return
		}
		w.command(nil, &metav1.Command{Command: &metav1.Command_JoinNode{JoinNode: &metav1.JoinNode{Node: &metav1.Node{
			StoreId: storeID, Rack: fmt.Sprintf("rack-%d", id%3), ClientAddr: fmt.Sprintf("node-%d:1", id), PeerAddr: fmt.Sprintf("node-%d:2", id),
		}}}}, func(res actors.ProposeResult) {
			if n, ok := res.Outcome.Value.(*metav1.Node); ok && res.Err == nil {
				w.admitted(storeID, n.GetNodeId())
			}
		})
		w.after(w.between(200*time.Millisecond, electionTimeout), ask)
	}
	ask()
}

// admitted is the answer to a node that joins: each time the same id, and one that nobody had.
func (w *world) admitted(storeID string, id uint64) {
	known, again := w.keeping.joined[storeID]
	switch {
	case again && known != id:
		w.violate("a node joins twice", "%s: nodes %d and %d", storeID, known, id)
	case again:
	case int(id) != len(w.nodes)+1:
		w.violate("a node id is given out twice", "%s gets %d, there are %d nodes", storeID, id, len(w.nodes))
	default:
		w.keeping.joined[storeID] = id
		w.shape.drift, w.shape.skew = append(w.shape.drift, 1), append(w.shape.skew, 0)
		n := joinedNode(w, id)
		w.nodes = append(w.nodes, n)
		w.fire(joined, "node %d joins", id)
		n.start()
		if w.keeping.joiners--; w.keeping.joiners > 0 {
			w.after(w.between(0, w.shape.duration/4), w.join)
		}
	}
}

// joinedNode has what a node writes down when it has been admitted.
func joinedNode(w *world, id uint64) *node {
	n := &node{w: w, id: id, mem: store.NewMem(), drift: 1}
	b := new(store.Batch)
	store.PutNode(b, store.Node{Cluster: "sim", StoreID: storeID(id), NodeID: raftcore.NodeID(id), State: raftv1.StoreState_STORE_STATE_FORMED})
	store.PutJoin(b, raftcore.MetadataGroup, raftcore.ReplicaID(id))
	if err := n.mem.Commit(b, true); err != nil {
		panic(fmt.Sprintf("mrsim: node %d: %v", id, err))
	}
	return n
}

// drainOne drains a node, where that leaves as many as a partition has replicas, and in some worlds ends that.
func (w *world) drainOne() {
	if len(w.nodes) <= max(3, w.shape.replicas) {
		return
	}
	w.keeping.drain = uint64(1 + w.rnd.IntN(len(w.nodes)))
	w.setDraining(true)
	if w.keeping.cancels {
		w.after(w.between(electionTimeout, 4*electionTimeout), func() { w.setDraining(false) })
	}
}

// setDraining asks until it is answered.
func (w *world) setDraining(on bool) {
	c := &metav1.SetNodeState{NodeId: w.keeping.drain}
	if on {
		c.State = metav1.NodeState_NODE_STATE_DRAINING
	}
	answered := false
	w.keeping.wanted = on
	var ask func()
	ask = func() {
		if answered || on != w.keeping.wanted {
			return
		}
		w.command(nil, &metav1.Command{Command: &metav1.Command_SetNodeState{SetNodeState: c}}, func(res actors.ProposeResult) {
			if res.Err == nil && !answered {
				answered = true
				w.keeping.drained = on
				w.fire(drained, "node %d is to be drained: %v", c.GetNodeId(), on)
			}
		})
		w.after(w.between(200*time.Millisecond, electionTimeout), ask)
	}
	ask()
}

// watchKeeping holds the metadata that a node shows against those that it showed before: nothing new is placed on a
// node that was being drained already, and no replica is both placed and ordered deleted.
func (w *world) watchKeeping(n *node) {
	meta, before := n.core.Table().Meta, w.keeping.metas[n.id]
	if meta == before {
		return
	}
	w.keeping.metas[n.id] = meta
	meta.Groups(func(g metadata.Group) bool {
		for _, m := range g.Placed() {
			if slices.Contains(meta.Removals(m.Node), metadata.Removal{Group: g.ID, Replica: m.ID}) {
				w.violate("a replica is placed and ordered deleted", "node %d: group %d, replica %d", n.id, g.ID, m.ID)
			}
			if before != nil && w.newlyOnDraining(before, meta, g, m) {
				w.violate("a draining node gets a replica", "node %d: group %d, replica %d on node %d", n.id, g.ID, m.ID, m.Node)
			}
		}
		return w.broken == nil
	})
}

// newlyOnDraining: the states are one command apart only where a node applies one entry at a time; so the node must
// have been draining in both, and the group's next target is the one after the last.
func (w *world) newlyOnDraining(before, meta *metadata.State, g metadata.Group, m metadata.Member) bool {
	was, ok := before.Group(g.ID)
	if !ok || !g.Moving || slices.Contains(was.Placed(), m) || !slices.Contains(g.Open.Voters, m) {
		return false
	}
	for _, s := range []*metadata.State{before, meta} {
		if n, ok := s.Node(m.Node); !ok || n.GetState() != metav1.NodeState_NODE_STATE_DRAINING {
			return false
		}
	}
	return !w.keeping.cancels // else it may have been in use in between
}

// emptied waits, when all has healed, until the drained node has nothing left: whoever leads goes on where another
// Controller was interrupted.
func (w *world) emptied() {
	if w.broken != nil || !w.keeping.drained || w.keeping.cancels {
		return
	}
	if !w.await(healingMax, func() bool { return w.leftOn(w.keeping.drain) == "" && w.idle() && w.unlike() == "" }) && w.broken == nil {
		w.violate("liveness", "node %d is not drained %v after everybody has healed: %s", w.keeping.drain, healingMax, w.leftOn(w.keeping.drain)+w.pending()+w.unlike())
	}
}

func (w *world) leftOn(id uint64) (left string) {
	l := w.leaderOf(raftcore.MetadataGroup)
	if l == nil {
		return "no leader of the metadata group"
	}
	meta := l.core.Table().Meta
	if t, ok := meta.Target(raftcore.MetadataGroup); ok && slices.Contains(t.Nodes(), raftcore.NodeID(id)) {
		return "it votes in the metadata group"
	}
	meta.Groups(func(g metadata.Group) bool {
		if slices.ContainsFunc(g.Placed(), func(m metadata.Member) bool { return uint64(m.Node) == id }) {
			left = fmt.Sprintf("group %d, moving: %v", g.ID, g.Moving)
		}
		return left == ""
	})
	return left
}
