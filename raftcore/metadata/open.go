package metadata

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// Open loads the machine from what its Apply calls have stored under prefix.
func Open(v store.View, prefix []byte) (*Machine, error) {
	m := &Machine{prefix: bytes.Clone(prefix), state: Empty(), requests: map[string]uint64{}}
	if err := m.loadAllocators(v); err != nil {
		return nil, err
	}
	for _, part := range []struct {
		space byte
		add   func(ids []uint64, value []byte) error
	}{
		{nodeSpace, m.loadNode}, {removedSpace, m.loadRemoved}, {votersSpace, m.loadVoters},
		{topicSpace, m.loadTopic}, {partitionSpace, m.loadPartition}, {removalSpace, m.loadRemoval},
	} {
		if err := m.load(v, part.space, part.add); err != nil {
			return nil, err
		}
	}
	m.state.byName = slices.SortedFunc(slices.Values(m.state.topics), func(a, b *metav1.Topic) int {
		return compareName(a, b.GetName())
	})
	for i := 1; i < len(m.state.byName); i++ {
		if name := m.state.byName[i].GetName(); name == m.state.byName[i-1].GetName() {
			return nil, corrupt("two topics are called %s", name)
		}
	}
	return m, m.countReplicas()
}

func (m *Machine) loadAllocators(v store.View) error {
	value, err := v.Get(m.key(allocatorSpace, nil))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("metadata: allocators: %w", err)
	}
	var a metav1.Allocators
	if err := decode(value, &a); err != nil {
		return fmt.Errorf("allocators: %w", err)
	}
	node := max(raftcore.NodeID(a.GetNodeId()), firstIDs.Node) // absent in what an older version stored
	next := Allocators{a.GetTopicId(), raftcore.GroupID(a.GetGroupId()), a.GetProducerId(), node}
	// Each topic has a group at least.
	groups := next.Group - firstIDs.Group
	if next.Group < firstIDs.Group || next.Topic < firstIDs.Topic || next.Topic-firstIDs.Topic > uint64(groups) || next.Producer < firstIDs.Producer {
		return corrupt("allocators %+v", next)
	}
	m.state.allocators = next
	return nil
}

// load calls add for each value of a space, with the ids in its key, in their order.
func (m *Machine) load(v store.View, space byte, add func(ids []uint64, value []byte) error) error {
	var bad error
	err := v.Scan(m.key(space, nil), m.key(space+1, nil), false, func(key, value []byte) bool {
		rest := key[len(m.prefix)+1:]
		var ids []uint64
		for ; len(rest) >= 8; rest = rest[8:] {
			ids = append(ids, binary.BigEndian.Uint64(rest))
		}
		if bad = add(ids, value); len(rest) > 0 {
			bad = corrupt("it has %d bytes", len(key))
		}
		if bad != nil {
			bad = fmt.Errorf("key %x: %w", key, bad)
		}
		return bad == nil
	})
	if err != nil {
		return fmt.Errorf("metadata: space %d: %w", space, err)
	}
	return bad
}

func decode(value []byte, msg proto.Message) error {
	if len(value) == 0 || value[0] != version {
		return corrupt("value of an unknown version")
	}
	if err := proto.Unmarshal(value[1:], msg); err != nil {
		return corrupt("%v", err)
	}
	return nil
}

func (m *Machine) loadNode(ids []uint64, value []byte) error {
	n := new(metav1.Node)
	if err := decode(value, n); err != nil {
		return err
	}
	if err := ValidateStore(n); err != nil || n.GetNodeId() == 0 || !slices.Equal(ids, []uint64{n.GetNodeId()}) {
		return corrupt("node %d under the key of node %d: %v", n.GetNodeId(), ids, err)
	} // start number 0: joined, and not started since
	m.state.nodes = append(m.state.nodes, n)
	m.hosts.put(n)
	m.giveOut(n.GetNodeId())
	return nil
}

func (m *Machine) loadRemoved(ids []uint64, value []byte) error {
	n := new(metav1.RemovedNode)
	if err := decode(value, n); err != nil {
		return err
	}
	if !slices.Equal(ids, []uint64{n.GetNodeId()}) {
		return corrupt("removed node %d under the key of node %d", n.GetNodeId(), ids)
	}
	if _, member := m.state.Node(raftcore.NodeID(n.GetNodeId())); member {
		return corrupt("node %d is a member and removed", n.GetNodeId())
	}
	m.state.removed = append(m.state.removed, n)
	m.giveOut(n.GetNodeId())
	return nil
}

func (m *Machine) loadVoters(ids []uint64, value []byte) error {
	m.state.voters = new(metav1.MetadataVoters)
	if err := decode(value, m.state.voters); err != nil {
		return err
	}
	if len(ids) > 0 {
		return corrupt("voters under the key %d", ids)
	}
	if len(m.state.voters.GetNodeIds()) == 0 {
		return corrupt("nobody votes in the metadata group")
	}
	for _, n := range m.state.voters.GetNodeIds() {
		m.giveOut(n)
	}
	return nil
}

// loadPartition puts a partition that has changed in the place of the one that was created.
func (m *Machine) loadPartition(ids []uint64, value []byte) error {
	p := new(metav1.Partition)
	if err := decode(value, p); err != nil {
		return err
	}
	if !slices.Equal(ids, []uint64{p.GetGroupId()}) {
		return corrupt("group %d under the key of group %d", p.GetGroupId(), ids)
	}
	created := m.state.partition(raftcore.GroupID(p.GetGroupId()))
	if created == nil || p.GetTargetId() == 0 {
		return corrupt("group %d has changed but does not exist", p.GetGroupId())
	}
	for _, r := range placed(p) {
		if r.GetReplicaId() == 0 || r.GetReplicaId() >= p.GetNextReplicaId() {
			return corrupt("group %d: replica %d was not given out", p.GetGroupId(), r.GetReplicaId())
		}
	}
	t, n, _ := m.state.Partition(raftcore.GroupID(p.GetGroupId()))
	t.Partitions[n] = p // loaded just now: nobody else has it
	m.state.moved = append(m.state.moved, raftcore.GroupID(p.GetGroupId()))
	return nil
}

func (m *Machine) loadRemoval(ids []uint64, value []byte) error {
	var r metav1.Removal
	if err := decode(value, &r); err != nil {
		return err
	}
	if !slices.Equal(ids, []uint64{r.GetNodeId(), r.GetGroupId(), r.GetReplicaId()}) {
		return corrupt("a removal of replica %d of group %d on node %d under the key %d", r.GetReplicaId(), r.GetGroupId(), r.GetNodeId(), ids)
	}
	node := raftcore.NodeID(r.GetNodeId())
	if _, ok := m.state.Node(node); !ok {
		return corrupt("node %d has to delete a replica and is no member", node)
	}
	if m.state.removals == nil {
		m.state.removals = map[raftcore.NodeID][]Removal{}
	}
	m.state.removals[node] = append(m.state.removals[node], Removal{raftcore.GroupID(r.GetGroupId()), raftcore.ReplicaID(r.GetReplicaId())})
	return nil
}

// countReplicas counts what every node has, and checks that all of them were members once.
func (m *Machine) countReplicas() error {
	for _, t := range m.state.topics {
		for _, p := range t.GetPartitions() {
			for _, r := range placed(p) {
				id := raftcore.NodeID(r.GetNodeId())
				_, member := m.state.Node(id)
				if _, removed := m.state.Removed(id); !member && !removed {
					return corrupt("group %d has a replica on unknown node %d", p.GetGroupId(), id)
				}
			}
			m.hosts.count(p, 1)
		}
	}
	return nil
}

func (m *Machine) loadTopic(ids []uint64, value []byte) error {
	t := new(metav1.Topic)
	if err := decode(value, t); err != nil {
		return err
	}
	if err := ValidateTopic(t.GetName(), uint32(len(t.GetPartitions())), t.GetReplicas()); err != nil || !slices.Equal(ids, []uint64{t.GetTopicId()}) {
		return corrupt("topic %d under the key of topic %d: %v", t.GetTopicId(), ids, err)
	}
	if _, twice := m.requests[string(t.GetRequestId())]; twice || len(t.GetRequestId()) != RequestIDBytes {
		return corrupt("topic %d was created by request %x", t.GetTopicId(), t.GetRequestId())
	}
	if err := m.checkTopic(t); err != nil {
		return err
	}
	m.state.topics = append(m.state.topics, t)
	m.state.groups += len(t.GetPartitions())
	m.requests[string(t.GetRequestId())] = t.GetTopicId()
	return nil
}

// checkTopic checks that t may come after the topics loaded so far.
func (m *Machine) checkTopic(t *metav1.Topic) error {
	lowest := firstIDs
	if n := len(m.state.topics); n > 0 {
		last := m.state.topics[n-1]
		lowest = Allocators{Topic: last.GetTopicId() + 1, Group: firstGroup(last) + raftcore.GroupID(len(last.GetPartitions()))}
	}
	if t.GetTopicId() < lowest.Topic || t.GetTopicId() >= m.state.allocators.Topic {
		return corrupt("topic %d where %d to %d are possible", t.GetTopicId(), lowest.Topic, m.state.allocators.Topic-1)
	}
	if firstGroup(t) < lowest.Group {
		return corrupt("topic %d does not begin at group %d or after it", t.GetTopicId(), lowest.Group)
	}
	for i, p := range t.GetPartitions() {
		group := raftcore.GroupID(p.GetGroupId())
		if group != firstGroup(t)+raftcore.GroupID(i) || group >= m.state.allocators.Group {
			return corrupt("topic %d: partition %d is group %d", t.GetTopicId(), i, group)
		}
		if err := checkReplicas(p); err != nil {
			return err
		}
	}
	return nil
}

// checkReplicas checks that p has replicas, each on a node of its own.
func checkReplicas(p *metav1.Partition) error {
	if n := len(p.GetReplicas()); n == 0 || n > ReplicasMax {
		return corrupt("group %d has %d replicas", p.GetGroupId(), n)
	}
	for i, r := range p.GetReplicas() {
		clashes := func(other *metav1.Replica) bool {
			return other.GetNodeId() == r.GetNodeId() || other.GetReplicaId() == r.GetReplicaId()
		}
		if r.GetReplicaId() == 0 || slices.ContainsFunc(p.GetReplicas()[:i], clashes) {
			return corrupt("group %d has replica %d on node %d twice", p.GetGroupId(), r.GetReplicaId(), r.GetNodeId())
		}
	}
	return nil
}
