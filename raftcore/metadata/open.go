package metadata

import (
	"bytes"
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
	m.state.allocators = Allocators{a.GetTopicId(), raftcore.GroupID(a.GetGroupId()), a.GetProducerId()}
	return nil
}

// load calls add for each value of a space, by id.
func (m *Machine) load(v store.View, space byte, add func(value []byte) error) error {
	var bad error
	err := v.Scan(m.key(space, nil), m.key(space+1, nil), false, func(key, value []byte) bool {
		if bad = add(value); bad != nil {
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

func (m *Machine) loadNode(value []byte) error {
	n := new(metav1.Node)
	if err := decode(value, n); err != nil {
		return err
	}
	m.state.nodes = append(m.state.nodes, n)
	m.hosts.put(n)
	return nil
}

func (m *Machine) loadTopic(value []byte) error {
	t := new(metav1.Topic)
	if err := decode(value, t); err != nil {
		return err
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
	if len(t.GetPartitions()) == 0 || firstGroup(t) < lowest.Group {
		return corrupt("topic %d does not begin at group %d or after it", t.GetTopicId(), lowest.Group)
	}
	for i, p := range t.GetPartitions() {
		group := raftcore.GroupID(p.GetGroupId())
		if group != firstGroup(t)+raftcore.GroupID(i) || group >= m.state.allocators.Group {
			return corrupt("topic %d: partition %d is group %d", t.GetTopicId(), i, group)
		}
	}
	return nil
}
