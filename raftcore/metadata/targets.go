package metadata

import (
	"fmt"
	"slices"

	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// setTarget opens a target. The one that is open or reached already is a Duplicate, so that a retry and a
// second controller do no harm; the outcome's value is the *Target in every accepted case.
func (m *Machine) setTarget(c *metav1.SetTarget, b *store.Batch) raftcore.Outcome {
	if raftcore.GroupID(c.GetGroupId()) == raftcore.MetadataGroup {
		return m.setVoters(c.GetVoters(), b)
	}
	p := m.state.partition(raftcore.GroupID(c.GetGroupId()))
	if p == nil {
		return refused(fmt.Errorf("%w: %d", ErrUnknownGroup, c.GetGroupId()))
	}
	if err := validateVoters(c.GetVoters(), ReplicasMax); err != nil {
		return refused(err)
	}
	if sameNodes(wanted(p), c.GetVoters()) {
		return raftcore.Outcome{Verdict: raftcore.Duplicate, Value: &Target{ID: p.GetTargetId(), Voters: membersOf(wanted(p))}}
	}
	if p.GetTarget() != nil && !c.GetSupersede() {
		open := Target{ID: p.GetTargetId(), Voters: membersOf(wanted(p))}
		return refused(&TargetOpenError{raftcore.GroupID(p.GetGroupId()), open})
	}
	for _, n := range c.GetVoters() {
		if err := m.mayHost(p, n); err != nil {
			return refused(err)
		}
	}
	next := retarget(p, c.GetVoters())
	m.putPartition(p, next, b)
	return raftcore.Outcome{Value: &Target{ID: next.GetTargetId(), Voters: membersOf(next.GetTarget().GetVoters())}}
}

// setVoters changes the voters of the metadata group. The first time it records them.
func (m *Machine) setVoters(nodes []uint64, b *store.Batch) raftcore.Outcome {
	if err := validateVoters(nodes, MetadataVotersMax); err != nil {
		return refused(err)
	}
	before := m.state.voters
	if before != nil {
		for _, n := range nodes {
			known, err := m.member(n)
			switch stays := m.votes(n); {
			case err != nil && !stays: // a recorded voter need not have registered
				return refused(err)
			case !stays && known.GetState() == metav1.NodeState_NODE_STATE_DRAINING:
				return refused(fmt.Errorf("%w: node %d", ErrNodeDraining, n))
			}
		}
	}
	verdict := raftcore.Duplicate
	if before == nil || !slices.Equal(slices.Sorted(slices.Values(before.GetNodeIds())), slices.Sorted(slices.Values(nodes))) {
		m.putVoters(slices.Clone(nodes), b)
		verdict = raftcore.Accepted
	}
	t, _ := m.state.Target(raftcore.MetadataGroup)
	return raftcore.Outcome{Verdict: verdict, Value: &t}
}

func validateVoters(nodes []uint64, most int) error {
	if len(nodes) < 1 || len(nodes) > most {
		return invalid("voters", "%d nodes, must be 1 to %d", len(nodes), most)
	}
	for i, n := range nodes {
		if n == 0 {
			return invalid("voters", "node 0 is none")
		}
		if slices.Contains(nodes[:i], n) {
			return invalid("voters", "node %d is named twice", n)
		}
	}
	return nil
}

// mayHost says whether a node may keep or take a replica of p.
func (m *Machine) mayHost(p *metav1.Partition, node uint64) error {
	n, err := m.member(node)
	if err != nil {
		return err
	}
	if replicaOn(p, node) != nil {
		return nil // it stays, also on a draining node
	}
	if n.GetState() == metav1.NodeState_NODE_STATE_DRAINING {
		return fmt.Errorf("%w: node %d", ErrNodeDraining, node)
	}
	for _, r := range m.state.Removals(raftcore.NodeID(node)) {
		if r.Group == raftcore.GroupID(p.GetGroupId()) {
			return fmt.Errorf("%w: node %d, group %d", ErrRemovalPending, node, r.Group)
		}
	}
	return nil
}

// replicaOn returns the replica of p on a node that was not ordered deleted; there is at most one.
func replicaOn(p *metav1.Partition, node uint64) *metav1.Replica {
	for _, r := range placed(p) {
		if r.GetNodeId() == node {
			return r
		}
	}
	return nil
}

// retarget returns p with a new target. Replicas that only the target before it wanted are leaving.
func retarget(p *metav1.Partition, nodes []uint64) *metav1.Partition {
	next := &metav1.Partition{
		GroupId: p.GetGroupId(), Replicas: p.GetReplicas(), Members: p.GetMembers(),
		TargetId: p.GetTargetId() + 1, NextReplicaId: p.GetNextReplicaId(),
	}
	if next.NextReplicaId == 0 {
		for _, r := range p.GetReplicas() {
			next.NextReplicaId = max(next.NextReplicaId, r.GetReplicaId()+1)
		}
	}
	next.Target = &metav1.Target{TargetId: next.GetTargetId()}
	for _, n := range nodes {
		r := replicaOn(p, n)
		if r == nil {
			r = &metav1.Replica{ReplicaId: next.GetNextReplicaId(), NodeId: n}
			next.NextReplicaId++
		}
		next.Target.Voters = append(next.Target.Voters, r)
	}
	for _, r := range placed(p) {
		if !contains(next.Target.Voters, r) && !contains(current(p), r) {
			next.Leaving = append(next.Leaving, r)
		}
	}
	return next
}

// putPartition stores what a partition has become, and counts where it is.
func (m *Machine) putPartition(before, after *metav1.Partition, b *store.Batch) {
	m.hosts.count(before, -1)
	m.hosts.count(after, 1)
	m.state = m.state.withPartition(after)
	set(b, m.idKey(partitionSpace, after.GetGroupId()), after)
}

// groupSettled closes a target that the group has reached.
func (m *Machine) groupSettled(c *metav1.GroupSettled, b *store.Batch) raftcore.Outcome {
	p := m.state.partition(raftcore.GroupID(c.GetGroupId()))
	switch {
	case p == nil:
		return refused(fmt.Errorf("%w: %d", ErrUnknownGroup, c.GetGroupId()))
	case c.GetTargetId() > p.GetTargetId() || c.GetTargetId() == 0:
		return refused(invalid("target_id", "%d, the latest is %d", c.GetTargetId(), p.GetTargetId()))
	case p.GetTarget() == nil || c.GetTargetId() != p.GetTargetId():
		return raftcore.Outcome{Verdict: raftcore.Duplicate}
	}
	after := &metav1.Partition{
		GroupId: p.GetGroupId(), Replicas: p.GetReplicas(), Members: p.GetTarget().GetVoters(),
		TargetId: p.GetTargetId(), NextReplicaId: p.GetNextReplicaId(),
	}
	m.orderDeleted(p, after.GetMembers(), b)
	m.putPartition(p, after, b)
	return raftcore.Outcome{}
}

// orderDeleted orders the replicas of p deleted, but for those that stay. A removed node has nothing to do.
func (m *Machine) orderDeleted(p *metav1.Partition, stay []*metav1.Replica, b *store.Batch) {
	var gone []ordered
	for _, r := range placed(p) {
		if _, ok := m.state.Node(raftcore.NodeID(r.GetNodeId())); !ok || contains(stay, r) {
			continue
		}
		gone = append(gone, ordered{raftcore.NodeID(r.GetNodeId()), Removal{raftcore.GroupID(p.GetGroupId()), raftcore.ReplicaID(r.GetReplicaId())}})
		set(b, m.idKey(removalSpace, r.GetNodeId(), p.GetGroupId(), r.GetReplicaId()),
			&metav1.Removal{NodeId: r.GetNodeId(), GroupId: p.GetGroupId(), ReplicaId: r.GetReplicaId()})
	}
	m.state = m.state.withRemovals(gone)
}

// replicaGone takes a node's confirmation. One that nobody waits for changes nothing.
func (m *Machine) replicaGone(c *metav1.ReplicaGone, b *store.Batch) raftcore.Outcome {
	o := ordered{raftcore.NodeID(c.GetNodeId()), Removal{raftcore.GroupID(c.GetGroupId()), raftcore.ReplicaID(c.GetReplicaId())}}
	if _, ok := slices.BinarySearchFunc(m.state.Removals(o.node), o.Removal, compareRemoval); !ok {
		return raftcore.Outcome{Verdict: raftcore.Duplicate}
	}
	m.state = m.state.withoutRemoval(o)
	b.Delete(m.idKey(removalSpace, c.GetNodeId(), c.GetGroupId(), c.GetReplicaId()))
	return raftcore.Outcome{}
}

// sameNodes compares sets: another order is no other membership.
func sameNodes(replicas []*metav1.Replica, nodes []uint64) bool {
	return len(replicas) == len(nodes) && !slices.ContainsFunc(replicas, func(r *metav1.Replica) bool { return !slices.Contains(nodes, r.GetNodeId()) })
}
