package metadata

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/multiraftd/multiraftd/proto/lineage"
	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// registerNode records a start of a node. Once the voters of the metadata group are recorded, all others come
// by joinNode: nobody becomes a member by claiming an id.
func (m *Machine) registerNode(c *metav1.RegisterNode, b *store.Batch) raftcore.Outcome {
	n := c.GetNode()
	if err := ValidateNode(n); err != nil {
		return refused(err)
	}
	if err := ValidateStarts(n, c.GetEarlierBootIds()); err != nil {
		return refused(err)
	}
	known, ok := m.state.Node(raftcore.NodeID(n.GetNodeId()))
	if err := m.mayRegister(known, n, c.GetEarlierBootIds()); err != nil {
		return refused(err)
	}
	if n.State = known.GetState(); ok && proto.Equal(known, n) {
		return raftcore.Outcome{Value: known}
	}
	m.putNode(n, b)
	return raftcore.Outcome{Value: n}
}

// mayRegister: known is nil for a new node.
func (m *Machine) mayRegister(known, n *metav1.Node, earlier [][]byte) error {
	id := raftcore.NodeID(n.GetNodeId())
	_, removed := m.state.Removed(id)
	switch {
	case removed:
		return fmt.Errorf("%w: node %d", ErrNodeRemoved, id)
	case known == nil && len(m.state.nodes) == NodesMax:
		return &LimitError{"nodes", NodesMax}
	case known == nil && m.state.voters != nil && !m.votes(n.GetNodeId()):
		return fmt.Errorf("%w: node %d has not joined", ErrUnknownNode, id)
	case known == nil:
		return nil
	case known.GetStoreId() != n.GetStoreId():
		return fmt.Errorf("%w: node %d came with %s, it had %s", ErrStoreChanged, id, n.GetStoreId(), known.GetStoreId())
	case known.GetStartNumber() > n.GetStartNumber():
		return fmt.Errorf("%w: node %d came with %d, it had %d", ErrStaleStart, id, n.GetStartNumber(), known.GetStartNumber())
	case !startOf(n, earlier).Follows(startOf(known, nil)):
		return fmt.Errorf("%w: node %d, start number %d was another one than start number %d follows from", ErrStoreCopied, id, known.GetStartNumber(), n.GetStartNumber())
	}
	return nil
}

func startOf(n *metav1.Node, earlier [][]byte) lineage.Start {
	return lineage.Start{Number: n.GetStartNumber(), ID: n.GetBootId(), Earlier: earlier}
}

// putNode stores a node. A new one is a learner of the metadata group, or one of its recorded voters.
func (m *Machine) putNode(n *metav1.Node, b *store.Batch) {
	_, known := m.state.Node(raftcore.NodeID(n.GetNodeId()))
	m.state = m.state.withNode(n)
	m.hosts.put(n)
	m.giveOut(n.GetNodeId())
	set(b, m.idKey(nodeSpace, n.GetNodeId()), n)
	if !known && m.state.voters != nil {
		m.putVoters(m.state.voters.GetNodeIds(), b)
	}
}

// giveOut moves the allocator of node ids above id.
func (m *Machine) giveOut(id uint64) {
	if a := m.state.allocators; uint64(a.Node) <= id {
		a.Node = raftcore.NodeID(id + 1)
		m.state = m.state.withAllocators(a)
	}
}

func (m *Machine) votes(node uint64) bool { return slices.Contains(m.state.voters.GetNodeIds(), node) }

// putVoters stores the voters of the metadata group, or that its learners have changed.
func (m *Machine) putVoters(nodes []uint64, b *store.Batch) {
	v := &metav1.MetadataVoters{NodeIds: nodes, TargetId: m.state.voters.GetTargetId() + 1}
	m.state = m.state.withVoters(v)
	for _, n := range nodes {
		m.giveOut(n)
	}
	set(b, m.key(votersSpace, nil), v)
}

// joinNode makes a node a member under a new id; the same store gets the same one.
func (m *Machine) joinNode(n *metav1.Node, b *store.Batch) raftcore.Outcome {
	if err := ValidateStore(n); err != nil {
		return refused(err)
	}
	for _, known := range m.state.nodes {
		if known.GetStoreId() == n.GetStoreId() {
			return raftcore.Outcome{Verdict: raftcore.Duplicate, Value: known}
		}
	}
	for _, gone := range m.state.removed {
		if gone.GetStoreId() == n.GetStoreId() {
			return refused(fmt.Errorf("%w: its store was node %d's", ErrNodeRemoved, gone.GetNodeId()))
		}
	}
	switch {
	case m.state.voters == nil:
		return refused(ErrVotersUnknown)
	case len(m.state.nodes) == NodesMax:
		return refused(&LimitError{"nodes", NodesMax})
	}
	n.NodeId, n.StartNumber, n.State = uint64(m.state.allocators.Node), 0, metav1.NodeState_NODE_STATE_UNSPECIFIED
	m.putNode(n, b)
	return raftcore.Outcome{Value: n}
}

func (m *Machine) setNodeState(c *metav1.SetNodeState, b *store.Batch) raftcore.Outcome {
	known, err := m.member(c.GetNodeId())
	if err != nil {
		return refused(err)
	}
	if _, ok := metav1.NodeState_name[int32(c.GetState())]; !ok {
		return refused(invalid("state", "%d is not known", c.GetState()))
	}
	if known.GetState() == c.GetState() {
		return raftcore.Outcome{Verdict: raftcore.Duplicate, Value: known}
	}
	n := proto.CloneOf(known)
	n.State = c.GetState()
	m.putNode(n, b)
	return raftcore.Outcome{Value: n}
}

// member returns a node that is in the cluster.
func (m *Machine) member(id uint64) (*metav1.Node, error) {
	if n, ok := m.state.Node(raftcore.NodeID(id)); ok {
		return n, nil
	}
	if _, removed := m.state.Removed(raftcore.NodeID(id)); removed {
		return nil, fmt.Errorf("%w: node %d", ErrNodeRemoved, id)
	}
	return nil, fmt.Errorf("%w: node %d", ErrUnknownNode, id)
}

// removeNode ends a membership for good. What the node had to delete is forgotten with it.
func (m *Machine) removeNode(c *metav1.RemoveNode, b *store.Batch) raftcore.Outcome {
	id := c.GetNodeId()
	if _, removed := m.state.Removed(raftcore.NodeID(id)); removed {
		return raftcore.Outcome{Verdict: raftcore.Duplicate}
	}
	known, err := m.member(id)
	if err == nil {
		err = m.mayRemove(raftcore.NodeID(id), c.GetForce())
	}
	if err != nil {
		return refused(err)
	}
	for _, r := range m.state.Removals(raftcore.NodeID(id)) {
		b.Delete(m.idKey(removalSpace, id, uint64(r.Group), uint64(r.Replica)))
	}
	gone := &metav1.RemovedNode{NodeId: id, StoreId: known.GetStoreId()}
	m.state = m.state.withoutNode(gone)
	m.hosts.drop(id)
	b.Delete(m.idKey(nodeSpace, id))
	set(b, m.idKey(removedSpace, id), gone)
	m.putVoters(without(m.state.voters.GetNodeIds(), id), b)
	return raftcore.Outcome{}
}

func (m *Machine) mayRemove(id raftcore.NodeID, force bool) error {
	votes := m.votes(uint64(id))
	switch {
	case m.state.voters == nil:
		return ErrVotersUnknown
	case len(m.state.removed) == NodesRemovedMax:
		return &LimitError{"removed nodes", NodesRemovedMax}
	case votes && len(m.state.voters.GetNodeIds()) == 1:
		return fmt.Errorf("%w: node %d is the only voter of the metadata group", ErrNodeInUse, id)
	case force:
		return nil
	}
	replicas := 0
	for _, t := range m.state.topics {
		for _, p := range t.GetPartitions() {
			if slices.ContainsFunc(placed(p), func(r *metav1.Replica) bool { return r.GetNodeId() == uint64(id) }) {
				replicas++
			}
		}
	}
	if votes || replicas > 0 {
		return &NodeInUseError{Node: id, Replicas: replicas, Votes: votes}
	}
	return nil
}

func without(ids []uint64, id uint64) []uint64 {
	return slices.DeleteFunc(slices.Clone(ids), func(other uint64) bool { return other == id })
}
