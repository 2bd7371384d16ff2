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
	m := &Machine{prefix: bytes.Clone(prefix), state: Empty(), requests: map[string]*metav1.Topic{}}
	if err := m.loadAllocators(v); err != nil {
		return nil, err
	}
	if err := m.load(v, nodeSpace, m.loadNode); err != nil {
		return nil, err
	}
	if err := m.load(v, topicSpace, m.loadTopic); err != nil {
		return nil, err
	}
	m.state.byName = slices.SortedFunc(slices.Values(m.state.topics), func(a, b *metav1.Topic) int {
		return compareName(a, b.GetName())
	})
	for i := 1; i < len(m.state.byName); i++ {
		if name := m.state.byName[i].GetName(); name == m.state.byName[i-1].GetName() {
			return nil, corrupt("two topics are called %s", name)
		}
	}
	return m, nil
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
	next := Allocators{a.GetTopicId(), raftcore.GroupID(a.GetGroupId()), a.GetProducerId()}
	// Each topic has a group at least.
	groups := next.Group - firstIDs.Group
	if next.Group < firstIDs.Group || groups > GroupsMax || next.Topic < firstIDs.Topic || next.Topic-firstIDs.Topic > uint64(groups) || next.Producer < firstIDs.Producer {
		return corrupt("allocators %+v", next)
	}
	m.state.allocators = next
	return nil
}

// load calls add for each value of a space, by id.
func (m *Machine) load(v store.View, space byte, add func(id uint64, value []byte) error) error {
	var bad error
	err := v.Scan(m.key(space, nil), m.key(space+1, nil), false, func(key, value []byte) bool {
		if len(key) != len(m.prefix)+1+8 {
			bad = corrupt("it has %d bytes", len(key))
		} else {
			bad = add(binary.BigEndian.Uint64(key[len(m.prefix)+1:]), value)
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

func (m *Machine) loadNode(id uint64, value []byte) error {
	n := new(metav1.Node)
	if err := decode(value, n); err != nil {
		return err
	}
	if err := validateNode(n); err != nil || n.GetNodeId() != id {
		return corrupt("node %d under the key of node %d: %v", n.GetNodeId(), id, err)
	}
	m.state.nodes = append(m.state.nodes, n)
	m.hosts.put(n)
	return nil
}

func (m *Machine) loadTopic(id uint64, value []byte) error {
	t := new(metav1.Topic)
	if err := decode(value, t); err != nil {
		return err
	}
	if err := ValidateTopic(t.GetName(), uint32(len(t.GetPartitions())), t.GetReplicas()); err != nil || t.GetTopicId() != id {
		return corrupt("topic %d under the key of topic %d: %v", t.GetTopicId(), id, err)
	}
	if _, twice := m.requests[string(t.GetRequestId())]; twice || len(t.GetRequestId()) != RequestIDBytes {
		return corrupt("topic %d was created by request %x", id, t.GetRequestId())
	}
	if err := m.checkTopic(t); err != nil {
		return err
	}
	m.state.topics = append(m.state.topics, t)
	m.requests[string(t.GetRequestId())] = t
	return m.hosts.count(t.GetPartitions())
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
