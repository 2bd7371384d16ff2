package metadata

import (
	"maps"
	"slices"

	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	"github.com/multiraftd/multiraftd/raftcore"
)

// What follows makes the next State of one. There is one writer, so that no two states extend the same
// array differently.

func (s *State) withAllocators(a Allocators) *State {
	next := *s
	next.allocators = a
	return &next
}

// withNode returns a state with n, new or in place of the one with its id.
func (s *State) withNode(n *metav1.Node) *State {
	next := *s
	i, ok := slices.BinarySearchFunc(s.nodes, n.GetNodeId(), compareNode)
	if next.nodes = slices.Clone(s.nodes); ok {
		next.nodes[i] = n
	} else {
		next.nodes = slices.Insert(next.nodes, i, n)
	}
	return &next
}

// withoutNode returns a state in which a node is no member but a removed one, and has nothing to delete.
func (s *State) withoutNode(n *metav1.RemovedNode) *State {
	next := *s
	next.nodes = slices.DeleteFunc(slices.Clone(s.nodes), func(m *metav1.Node) bool { return m.GetNodeId() == n.GetNodeId() })
	i, _ := slices.BinarySearchFunc(s.removed, n.GetNodeId(), compareRemoved)
	next.removed = slices.Insert(slices.Clone(s.removed), i, n)
	next.removals = maps.Clone(s.removals)
	delete(next.removals, raftcore.NodeID(n.GetNodeId()))
	return &next
}

func (s *State) withVoters(v *metav1.MetadataVoters) *State {
	next := *s
	next.voters = v
	return &next
}

// withTopic returns a state with t, whose id is larger than all others.
func (s *State) withTopic(t *metav1.Topic) *State {
	next := *s
	next.topics = append(s.topics, t)
	next.groups += len(t.GetPartitions())
	i, _ := slices.BinarySearchFunc(s.byName, t.GetName(), compareName)
	next.byName = slices.Insert(slices.Clone(s.byName), i, t)
	return &next
}

// withTopicReplaced returns a state with t in place of the one with its id, of the same name.
func (s *State) withTopicReplaced(t *metav1.Topic) *State {
	next := *s
	next.topics, next.byName = slices.Clone(s.topics), slices.Clone(s.byName)
	i, _ := slices.BinarySearchFunc(s.topics, t.GetTopicId(), compareTopic)
	next.topics[i] = t
	i, _ = slices.BinarySearchFunc(s.byName, t.GetName(), compareName)
	next.byName[i] = t
	return &next
}

// withoutTopic returns a state without t.
func (s *State) withoutTopic(t *metav1.Topic) *State {
	next := *s
	isIt := func(o *metav1.Topic) bool { return o.GetTopicId() == t.GetTopicId() }
	next.topics = slices.DeleteFunc(slices.Clone(s.topics), isIt)
	next.byName = slices.DeleteFunc(slices.Clone(s.byName), isIt)
	next.groups -= len(t.GetPartitions())
	first := firstGroup(t)
	next.moved = slices.DeleteFunc(slices.Clone(s.moved), func(g raftcore.GroupID) bool {
		return g >= first && g < first+raftcore.GroupID(len(t.GetPartitions()))
	})
	return &next
}

// withPartition returns a state with p, which has had a target, in place of the one of its group.
func (s *State) withPartition(p *metav1.Partition) *State {
	t, n, _ := s.Partition(raftcore.GroupID(p.GetGroupId()))
	changed := &metav1.Topic{
		TopicId: t.GetTopicId(), Name: t.GetName(), Partitions: slices.Clone(t.GetPartitions()),
		Replicas: t.GetReplicas(), RequestId: t.GetRequestId(), Config: t.GetConfig(),
	}
	changed.Partitions[n] = p
	next := s.withTopicReplaced(changed)
	if i, ok := slices.BinarySearch(s.moved, raftcore.GroupID(p.GetGroupId())); !ok {
		next.moved = slices.Insert(slices.Clone(s.moved), i, raftcore.GroupID(p.GetGroupId()))
	}
	return next
}

// withRemovals returns a state in which these replicas are ordered deleted too.
func (s *State) withRemovals(replicas []ordered) *State {
	next := *s
	next.removals = maps.Clone(s.removals)
	if next.removals == nil {
		next.removals = map[raftcore.NodeID][]Removal{}
	}
	cloned := map[raftcore.NodeID]bool{}
	for _, o := range replicas {
		if !cloned[o.node] {
			next.removals[o.node], cloned[o.node] = slices.Clone(next.removals[o.node]), true
		}
		if i, ok := slices.BinarySearchFunc(next.removals[o.node], o.Removal, compareRemoval); !ok {
			next.removals[o.node] = slices.Insert(next.removals[o.node], i, o.Removal)
		}
	}
	return &next
}

// withoutRemoval returns a state in which the node has confirmed the removal.
func (s *State) withoutRemoval(o ordered) *State {
	next := *s
	next.removals = maps.Clone(s.removals)
	left := slices.DeleteFunc(slices.Clone(s.removals[o.node]), func(r Removal) bool { return r == o.Removal })
	if next.removals[o.node] = left; len(left) == 0 {
		delete(next.removals, o.node)
	}
	return &next
}
