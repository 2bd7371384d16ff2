package metadata

import (
	"cmp"
	"slices"
	"strings"

	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	"github.com/multiraftd/multiraftd/raftcore"
)

// Allocators are the next free ids.
type Allocators struct {
	Topic    uint64
	Group    raftcore.GroupID
	Producer int64
	Node     raftcore.NodeID
}

var firstIDs = Allocators{Topic: 1, Group: raftcore.MetadataGroup + 1, Producer: 1, Node: 1}

// State is the machine's state at one applied index. It never changes: what it returns is shared and must
// not be written to. A later state is a new State.
type State struct {
	nodes      []*metav1.Node  // by id
	topics     []*metav1.Topic // by id; successive states share the array and see different lengths of it
	byName     []*metav1.Topic
	allocators Allocators
	groups     int                           // of all topics
	moved      []raftcore.GroupID            // that had a target once, ascending
	voters     *metav1.MetadataVoters        // of the metadata group; nil = not recorded
	removed    []*metav1.RemovedNode         // by id
	removals   map[raftcore.NodeID][]Removal // ascending; successive states share what did not change
}

// Empty returns the state before the first command.
func Empty() *State { return &State{allocators: firstIDs} }

// Nodes returns all nodes, by id.
func (s *State) Nodes() []*metav1.Node { return s.nodes }

// Node returns a node.
func (s *State) Node(id raftcore.NodeID) (*metav1.Node, bool) {
	i, ok := slices.BinarySearchFunc(s.nodes, uint64(id), compareNode)
	if !ok {
		return nil, false
	}
	return s.nodes[i], true
}

// Topics returns all topics, by id.
func (s *State) Topics() []*metav1.Topic { return s.topics }

// TopicsByName returns all topics, by name.
func (s *State) TopicsByName() []*metav1.Topic { return s.byName }

// TopicsAfter returns the topics with larger ids, which are those created later, by id.
func (s *State) TopicsAfter(id uint64) []*metav1.Topic {
	i, ok := slices.BinarySearchFunc(s.topics, id, compareTopic)
	if ok {
		i++
	}
	return s.topics[i:]
}

// Topic returns a topic.
func (s *State) Topic(id uint64) (*metav1.Topic, bool) {
	i, ok := slices.BinarySearchFunc(s.topics, id, compareTopic)
	if !ok {
		return nil, false
	}
	return s.topics[i], true
}

// TopicByName returns a topic.
func (s *State) TopicByName(name string) (*metav1.Topic, bool) {
	i, ok := slices.BinarySearchFunc(s.byName, name, compareName)
	if !ok {
		return nil, false
	}
	return s.byName[i], true
}

// Allocators returns the next free ids.
func (s *State) Allocators() Allocators { return s.allocators }

// Group returns a group with its topic; not the metadata group, which is not placed.
func (s *State) Group(id raftcore.GroupID) (Group, bool) {
	t, partition, ok := s.Partition(id)
	if !ok {
		return Group{}, false
	}
	g := GroupOf(t.GetPartitions()[partition])
	g.Topic, g.Partition = t, partition
	return g, true
}

// Partition returns which partition a group is, like Group but without allocating.
func (s *State) Partition(id raftcore.GroupID) (*metav1.Topic, uint32, bool) {
	// Group ids ascend with topic ids: the group is in the last topic that does not begin after it.
	i, ok := slices.BinarySearchFunc(s.topics, id, func(t *metav1.Topic, id raftcore.GroupID) int {
		return cmp.Compare(firstGroup(t), id)
	})
	if !ok {
		i--
	}
	if i < 0 {
		return nil, 0, false
	}
	n := uint64(id - firstGroup(s.topics[i]))
	if n >= uint64(len(s.topics[i].GetPartitions())) {
		return nil, 0, false
	}
	return s.topics[i], uint32(n), true
}

// Groups calls f for the groups of all topics, by id, until f returns false.
func (s *State) Groups(f func(Group) bool) {
	for _, t := range s.topics {
		for i, p := range t.GetPartitions() {
			g := GroupOf(p)
			g.Topic, g.Partition = t, uint32(i)
			if !f(g) {
				return
			}
		}
	}
}

// partition returns a partition by its group; nil for none.
func (s *State) partition(id raftcore.GroupID) *metav1.Partition {
	t, n, ok := s.Partition(id)
	if !ok {
		return nil
	}
	return t.GetPartitions()[n]
}

func firstGroup(t *metav1.Topic) raftcore.GroupID {
	return raftcore.GroupID(t.GetPartitions()[0].GetGroupId())
}

func compareNode(n *metav1.Node, id uint64) int           { return cmp.Compare(n.GetNodeId(), id) }
func compareTopic(t *metav1.Topic, id uint64) int         { return cmp.Compare(t.GetTopicId(), id) }
func compareRemoved(n *metav1.RemovedNode, id uint64) int { return cmp.Compare(n.GetNodeId(), id) }
func compareName(t *metav1.Topic, name string) int        { return strings.Compare(t.GetName(), name) }
