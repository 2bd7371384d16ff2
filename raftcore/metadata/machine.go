package metadata

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"google.golang.org/protobuf/proto"

	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// The key spaces under the machine's prefix. Values are a version byte and a message of metav1.
const (
	allocatorSpace = 0
	nodeSpace      = 1
	topicSpace     = 2
	partitionSpace = 3 // of a partition that is not as it was created; takes the place of the one in its topic
	votersSpace    = 4
	removedSpace   = 5
	removalSpace   = 6

	version = 1
)

// Machine is the state of the metadata group, with what only Apply needs.
//
// Invariant: topic ids ascend in the order of creation, and the groups of each topic are consecutive and
// larger than those of all topics before. Made by createTopic, checked by Open.
type Machine struct {
	prefix   []byte
	state    *State
	hosts    hosts
	requests map[string]uint64 // request id -> topic id
}

// ProducerRange is the result of AllocateProducers: ids First to First+Count-1.
type ProducerRange struct{ First, Count int64 }

// State returns the present state.
func (m *Machine) State() *State { return m.state }

// Bounds returns 0, 0: there are no records.
func (m *Machine) Bounds() (logStart, highWatermark raftcore.Offset) { return 0, 0 }

// Apply executes the commands of a committed entry in order and adds to b what must be stored.
func (m *Machine) Apply(_ raftcore.Position, e *raftcore.Entry, b *store.Batch) []raftcore.Outcome {
	before := m.state.allocators
	outcomes := make([]raftcore.Outcome, len(e.Payloads))
	for i, payload := range e.Payloads {
		outcomes[i] = m.execute(payload, b)
	}
	if a := m.state.allocators; a != before {
		set(b, m.key(allocatorSpace, nil), &metav1.Allocators{TopicId: a.Topic, GroupId: uint64(a.Group), ProducerId: a.Producer, NodeId: uint64(a.Node)})
	}
	return outcomes
}

func (m *Machine) execute(payload []byte, b *store.Batch) raftcore.Outcome {
	var c metav1.Command
	if err := proto.Unmarshal(payload, &c); err != nil {
		return raftcore.Outcome{Verdict: raftcore.Invalid} // not with err: its text differs from run to run
	}
	switch c := c.GetCommand().(type) {
	case *metav1.Command_RegisterNode:
		return m.registerNode(c.RegisterNode, b)
	case *metav1.Command_CreateTopic:
		return m.createTopic(c.CreateTopic, b)
	case *metav1.Command_AllocateProducers:
		return m.allocateProducers(c.AllocateProducers.GetCount())
	case *metav1.Command_JoinNode:
		return m.joinNode(c.JoinNode.GetNode(), b)
	case *metav1.Command_SetNodeState:
		return m.setNodeState(c.SetNodeState, b)
	case *metav1.Command_RemoveNode:
		return m.removeNode(c.RemoveNode, b)
	case *metav1.Command_SetTarget:
		return m.setTarget(c.SetTarget, b)
	case *metav1.Command_GroupSettled:
		return m.groupSettled(c.GroupSettled, b)
	case *metav1.Command_ReplicaGone:
		return m.replicaGone(c.ReplicaGone, b)
	case *metav1.Command_AlterTopic:
		return m.alterTopic(c.AlterTopic, b)
	case *metav1.Command_DeleteTopic:
		return m.deleteTopic(c.DeleteTopic.GetTopicId(), b)
	default:
		return raftcore.Outcome{Verdict: raftcore.Invalid}
	}
}

func refused(err error) raftcore.Outcome {
	return raftcore.Outcome{Verdict: raftcore.Refused, Value: err}
}

func (m *Machine) allocateProducers(count uint32) raftcore.Outcome {
	if count < 1 || count > ProducersMax {
		return refused(invalid("count", "%d, must be 1 to %d", count, ProducersMax))
	}
	a := m.state.allocators
	if a.Producer > math.MaxInt64-int64(count) {
		return refused(&LimitError{"producer ids", math.MaxInt64})
	}
	granted := &ProducerRange{a.Producer, int64(count)}
	a.Producer += int64(count)
	m.state = m.state.withAllocators(a)
	return raftcore.Outcome{Value: granted}
}

func (m *Machine) key(space byte, id []byte) []byte {
	return append(append(bytes.Clone(m.prefix), space), id...)
}

func (m *Machine) idKey(space byte, ids ...uint64) []byte {
	var key []byte
	for _, id := range ids {
		key = binary.BigEndian.AppendUint64(key, id)
	}
	return m.key(space, key)
}

// set stores a message of the state. Marshalling fails only for strings that are not UTF-8, and all of them
// came out of a command that was unmarshalled, which checks that.
func set(b *store.Batch, key []byte, msg proto.Message) {
	value, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend([]byte{version}, msg)
	if err != nil {
		panic(fmt.Sprintf("metadata: state cannot be encoded: %v", err))
	}
	b.Set(key, value)
}
