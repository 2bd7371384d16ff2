package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/multiraftd/multiraftd/actors"
	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/metadata"
	"github.com/multiraftd/multiraftd/raftcore/store"
	"github.com/multiraftd/multiraftd/router"
)

// replicaKey names a replica for ever.
type replicaKey struct {
	group   raftcore.GroupID
	replica raftcore.ReplicaID
}

// move wants a partition on other nodes; in a world in which there are others. As many as before, so that the
// calm, which does without one node, leaves every group a majority.
func (w *world) move() {
	groups := w.groups()[1:]
	if len(groups) == 0 || w.shape.replicas >= len(w.nodes) {
		return
	}
	g := groups[w.rnd.IntN(len(groups))]
	t := &metav1.SetTarget{GroupId: uint64(g), Supersede: w.chance(300)}
	for _, i := range w.rnd.Perm(len(w.nodes))[:w.shape.replicas] {
		t.Voters = append(t.Voters, uint64(i+1))
	}
	w.command(nil, &metav1.Command{Command: &metav1.Command_SetTarget{SetTarget: t}}, func(res actors.ProposeResult) {
		if res.Err == nil && res.Outcome.Verdict == raftcore.Accepted {
			w.fire(moved, "group %d is to go to nodes %v", g, t.GetVoters())
		}
	})
}

// handOver asks a leader to let another one lead.
func (w *world) handOver() {
	groups := w.groups()
	g := groups[w.rnd.IntN(len(groups))]
	n := w.leaderOf(g)
	if n == nil {
		return
	}
	call := &transferCall{n: n, life: n.life}
	if w.chance(500) {
		call.to = raftcore.NodeID(w.other(n).id)
	}
	if call.to != 0 && w.faulty && w.chance(staleMille) {
		w.askForEnds(n, g, transferDelay, 5)
		w.after(transferDelay, func() {
			if n.alive(call.life) {
				w.leaveInTheDark(n, uint64(call.to), g)
				w.transfer(call, g)
			}
		})
		return
	}
	w.transfer(call, g)
}

// transferDelay is long enough for some reads to be answered.
const transferDelay = 200 * time.Millisecond

func (w *world) transfer(call *transferCall, g raftcore.GroupID) {
	call.n.open[call] = true
	call.n.core.Dispatch(router.Routed{Group: g, Msg: &actors.Transfer{To: call.to, Reply: call}})
}

type transferCall struct {
	n    *node
	life int
	to   raftcore.NodeID
}

// Transferred is part of actors.TransferReply.
func (c *transferCall) Transferred(to raftcore.NodeID, err error) {
	w := c.n.w
	if !c.n.alive(c.life) {
		return
	}
	delete(c.n.open, c)
	if err != nil {
		return
	}
	w.fire(handedOver, "node %d hands over to node %d", c.n.id, to)
	if c.to != 0 && to != c.to {
		w.violate("a transfer ends elsewhere", "from node %d to node %d, asked was %d", c.n.id, to, c.to)
	}
}

// watchReplica: a replica id belongs to one node, and never comes back once its node has reported it deleted.
func (w *world) watchReplica(n *node, s *actors.Status) {
	key := replicaKey{s.Group, s.Replica}
	if at, ok := w.lives[key]; ok && at != n.id {
		w.violate("a replica id is used twice", "group %d, replica %d: nodes %d and %d", s.Group, s.Replica, at, n.id)
	}
	w.lives[key] = n.id
	if w.buried[key] {
		w.violate("a deleted replica is back", "node %d, group %d, replica %d", n.id, s.Group, s.Replica)
	}
	if s.Role == raftcore.Leader && s.Joint {
		w.watchPromoted(s)
	}
}

// watchPromoted: who is made a voter has been filled. The leader knows where it is.
func (w *world) watchPromoted(s *actors.Status) {
	for _, p := range s.Progress {
		key := replicaKey{s.Group, p.Replica}
		if w.filled[key] || !slices.Contains(s.VoterIDs, p.Replica) || slices.Contains(s.OutgoingIDs, p.Replica) {
			continue
		}
		m := w.node(p.Node)
		if m == nil {
			continue
		}
		v := m.mem.Synced()
		at, err := store.Inspect(v, s.Group)
		if l := w.logs[s.Group]; l != nil && l.deleting {
			return // on that node it may have been deleted already
		}
		if err != nil || at.Last == 0 {
			w.violate("a replica is made a voter before it is filled", "group %d, replica %d on node %d: its disk has entries to %d (%v)", s.Group, p.Replica, p.Node, at.Last, err)
		}
		w.filled[key] = true
	}
}

// watchDeleted: what a node reports deleted is off its disk.
func (w *world) watchDeleted(n *node, deleted []metadata.Removal) {
	for _, d := range deleted {
		key := replicaKey{d.Group, d.Replica}
		if w.buried[key] {
			continue
		}
		w.buried[key] = true
		w.fire(deletedReplica, "node %d has deleted replica %d of group %d", n.id, d.Replica, d.Group)
		if groups, err := store.Groups(n.mem.Synced()); err != nil || slices.ContainsFunc(groups, func(g store.StoredGroup) bool {
			return g.Group == d.Group && g.Replica == d.Replica && !g.Tombstone
		}) {
			w.violate("reported deleted before it is", "node %d, group %d, replica %d (%v)", n.id, d.Group, d.Replica, err)
		}
	}
}

// note remembers the membership of a group as the one furthest on has it, and the last that was not joint.
func (w *world) note(s *actors.Status) {
	if known := w.members[s.Group]; known == nil || known.Applied <= s.Applied {
		w.members[s.Group] = s
		if !s.Joint {
			w.settled[s.Group] = s
		}
	}
}

// unsettled says which group is on its way, or where something is left of a replica that was to be deleted.
func (w *world) unsettled() string {
	l := w.leaderOf(raftcore.MetadataGroup)
	if l == nil {
		return "no leader of the metadata group"
	}
	meta := l.core.Table().Meta
	for _, n := range w.nodes {
		id := raftcore.NodeID(n.id)
		if orders := meta.Removals(id); len(orders) > 0 {
			return fmt.Sprintf("node %d has not confirmed the deletion of %v", n.id, orders)
		}
		for _, g := range n.core.Table().Groups() {
			if g == raftcore.MetadataGroup {
				continue
			}
			if p, ok := meta.Group(g); !ok || !slices.ContainsFunc(p.Current, func(m metadata.Member) bool { return m.Node == id }) {
				return fmt.Sprintf("node %d has a replica of group %d still", n.id, g)
			}
		}
		if left := n.leftOver(); left != "" {
			return left
		}
	}
	for _, g := range w.groups()[1:] {
		if t, open := meta.Target(g); open {
			return fmt.Sprintf("group %d is on its way to %v", g, t)
		}
	}
	return ""
}

// leftOver says of which deleted replica there are data on the disk.
func (n *node) leftOver() (left string) {
	v, err := n.mem.View()
	if err != nil {
		return err.Error()
	}
	defer v.Close()
	groups, err := store.Groups(v)
	if err != nil {
		return err.Error()
	}
	for _, g := range groups {
		if !g.Tombstone {
			continue
		}
		lo, hi := store.MachinePrefix(g.Group, 0), store.MachinePrefix(g.Group+1, 0)
		prefix := len(lo) - 9 // without generation and kind
		err = v.Scan(lo[:prefix], hi[:prefix], false, func(_, _ []byte) bool {
			left = fmt.Sprintf("node %d has data of the deleted replica %d of group %d", n.id, g.Replica, g.Group)
			return false
		})
		if err != nil {
			return err.Error()
		}
	}
	return left
}

// settleMax is how long the group that takes longest may need to reach its target, after everybody has healed.
const settleMax = 120 * time.Second
