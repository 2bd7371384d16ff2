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
	requests map[string]*metav1.Topic // by request id
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
		set(b, m.key(allocatorSpace, nil), &metav1.Allocators{TopicId: a.Topic, GroupId: uint64(a.Group), ProducerId: a.Producer})
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
		return m.registerNode(c.RegisterNode.GetNode(), b)
	case *metav1.Command_CreateTopic:
		return m.createTopic(c.CreateTopic, b)
	case *metav1.Command_AllocateProducers:
		return m.allocateProducers(c.AllocateProducers.GetCount())
	default:
		return raftcore.Outcome{Verdict: raftcore.Invalid}
	}
}

func refused(err error) raftcore.Outcome {
	return raftcore.Outcome{Verdict: raftcore.Refused, Value: err}
}

func (m *Machine) registerNode(n *metav1.Node, b *store.Batch) raftcore.Outcome {
	if err := validateNode(n); err != nil {
		return refused(err)
	}
	known, ok := m.state.Node(raftcore.NodeID(n.GetNodeId()))
	switch {
	case !ok && len(m.state.nodes) == NodesMax:
		return refused(&LimitError{"nodes", NodesMax})
	case ok && known.GetStoreId() != n.GetStoreId():
		return refused(fmt.Errorf("%w: node %d came with %s, it had %s", ErrStoreChanged, n.GetNodeId(), n.GetStoreId(), known.GetStoreId()))
	case ok && known.GetStartNumber() > n.GetStartNumber():
		return refused(fmt.Errorf("%w: node %d came with %d, it had %d", ErrStaleStart, n.GetNodeId(), n.GetStartNumber(), known.GetStartNumber()))
	case ok && proto.Equal(known, n):
		return raftcore.Outcome{Value: known}
	}
	m.state = m.state.withNode(n)
	m.hosts.put(n)
	set(b, m.idKey(nodeSpace, n.GetNodeId()), n)
	return raftcore.Outcome{Value: n}
}

func (m *Machine) createTopic(c *metav1.CreateTopic, b *store.Batch) raftcore.Outcome {
	if len(c.GetRequestId()) != RequestIDBytes {
		return refused(invalid("request_id", "%d bytes, must be %d", len(c.GetRequestId()), RequestIDBytes))
	}
	if t, ok := m.requests[string(c.GetRequestId())]; ok {
		return raftcore.Outcome{Verdict: raftcore.Duplicate, Value: t}
	}
	if err := m.mayCreate(c); err != nil {
		return refused(err)
	}
	a := m.state.allocators
	t := &metav1.Topic{TopicId: a.Topic, Name: c.GetName(), Replicas: c.GetReplicas(), RequestId: c.GetRequestId(),
		Partitions: m.hosts.place(a.Group, int(c.GetPartitions()), int(c.GetReplicas()))}
	a.Topic++
	a.Group += raftcore.GroupID(c.GetPartitions())
	m.state = m.state.withTopic(t).withAllocators(a)
	m.requests[string(t.GetRequestId())] = t
	set(b, m.idKey(topicSpace, t.GetTopicId()), t)
	return raftcore.Outcome{Value: t}
}

func (m *Machine) mayCreate(c *metav1.CreateTopic) error {
	if err := ValidateTopic(c.GetName(), c.GetPartitions(), c.GetReplicas()); err != nil {
		return err
	}
	if _, ok := m.state.TopicByName(c.GetName()); ok {
		return fmt.Errorf("%w: %s", ErrTopicExists, c.GetName())
	}
	if have, want := len(m.state.nodes), int(c.GetReplicas()); have < want {
		return &NotEnoughNodesError{have, want}
	}
	if m.state.allocators.Group-firstIDs.Group+raftcore.GroupID(c.GetPartitions()) > GroupsMax {
		return &LimitError{"partitions in all topics", GroupsMax}
	}
	return nil
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

func (m *Machine) idKey(space byte, id uint64) []byte {
	return m.key(space, binary.BigEndian.AppendUint64(nil, id))
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
