package metadata

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

var testPrefix = store.MachinePrefix(raftcore.MetadataGroup, 1)

// failer is what testing.TB and rapid.T have in common.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// world is a machine and the store under it.
type world struct {
	t  failer
	kv *store.MemKV
	m  *Machine
}

func newWorld(t failer) *world {
	w := &world{t: t, kv: store.NewMem()}
	w.reopen()
	return w
}

func (w *world) reopen() {
	w.t.Helper()
	m, err := w.open()
	if err != nil {
		w.t.Fatalf("Open: %v", err)
	}
	w.m = m
}

func (w *world) open() (*Machine, error) {
	w.t.Helper()
	v, err := w.kv.View()
	if err != nil {
		w.t.Fatalf("View: %v", err)
	}
	m, err := Open(v, testPrefix)
	if err := v.Close(); err != nil {
		w.t.Fatalf("Close: %v", err)
	}
	return m, err
}

func (w *world) commit(b *store.Batch) {
	w.t.Helper()
	if err := w.kv.Commit(b, false); err != nil {
		w.t.Fatalf("Commit: %v", err)
	}
}

// apply applies one entry and stores what it leaves behind.
func (w *world) apply(commands ...[]byte) []raftcore.Outcome {
	w.t.Helper()
	var b store.Batch
	outcomes := w.m.Apply(raftcore.Position{Index: 2, Term: 1}, &raftcore.Entry{Payloads: commands}, &b)
	w.commit(&b)
	return outcomes
}

func (w *world) one(command []byte) raftcore.Outcome {
	w.t.Helper()
	return w.apply(command)[0]
}

func (w *world) accepted(command []byte) any {
	w.t.Helper()
	o := w.one(command)
	if o.Verdict != raftcore.Accepted {
		w.t.Fatalf("%v: %v", o.Verdict, o.Value)
	}
	return o.Value
}

// withNodes registers nodes 1, 2, ... with these racks.
func withNodes(t failer, racks ...string) *world {
	w := newWorld(t)
	for i, rack := range racks {
		w.accepted(register(&metav1.Node{NodeId: uint64(i + 1), StoreId: "s", StartNumber: 1, Rack: rack}))
	}
	return w
}

func encode(c *metav1.Command) []byte {
	b, err := proto.Marshal(c)
	if err != nil {
		panic(err)
	}
	return b
}

// encodeValue is a message as it is stored.
func encodeValue(msg proto.Message) []byte {
	var b store.Batch
	set(&b, nil, msg)
	return b.Ops()[0].Value
}

func register(n *metav1.Node) []byte {
	return encode(&metav1.Command{Command: &metav1.Command_RegisterNode{RegisterNode: &metav1.RegisterNode{Node: n}}})
}

func join(storeID string) []byte {
	return encode(&metav1.Command{Command: &metav1.Command_JoinNode{JoinNode: &metav1.JoinNode{Node: &metav1.Node{StoreId: storeID}}}})
}

func drain(node uint64, draining bool) []byte {
	c := &metav1.SetNodeState{NodeId: node}
	if draining {
		c.State = metav1.NodeState_NODE_STATE_DRAINING
	}
	return encode(&metav1.Command{Command: &metav1.Command_SetNodeState{SetNodeState: c}})
}

func remove(node uint64, force bool) []byte {
	return encode(&metav1.Command{Command: &metav1.Command_RemoveNode{RemoveNode: &metav1.RemoveNode{NodeId: node, Force: force}}})
}

func target(group uint64, voters ...uint64) []byte { return retargeted(group, false, voters...) }

func retargeted(group uint64, supersede bool, voters ...uint64) []byte {
	return encode(&metav1.Command{Command: &metav1.Command_SetTarget{SetTarget: &metav1.SetTarget{GroupId: group, Voters: voters, Supersede: supersede}}})
}

func settled(group, targetID uint64) []byte {
	return encode(&metav1.Command{Command: &metav1.Command_GroupSettled{GroupSettled: &metav1.GroupSettled{GroupId: group, TargetId: targetID}}})
}

func gone(node, group, replica uint64) []byte {
	return encode(&metav1.Command{Command: &metav1.Command_ReplicaGone{ReplicaGone: &metav1.ReplicaGone{NodeId: node, GroupId: group, ReplicaId: replica}}})
}

func deleteTopic(id uint64) []byte {
	return encode(&metav1.Command{Command: &metav1.Command_DeleteTopic{DeleteTopic: &metav1.DeleteTopic{TopicId: id}}})
}

// create's request id is made of the number.
func create(request int, name string, partitions, replicas uint32) []byte {
	id := fmt.Appendf(nil, "%016d", request)
	return encode(&metav1.Command{Command: &metav1.Command_CreateTopic{CreateTopic: &metav1.CreateTopic{
		Name: name, Partitions: partitions, Replicas: replicas, RequestId: id}}})
}

func allocate(count uint32) []byte {
	return encode(&metav1.Command{Command: &metav1.Command_AllocateProducers{AllocateProducers: &metav1.AllocateProducers{Count: count}}})
}

// layout writes the nodes of each partition of a topic.
func layout(t *metav1.Topic) (s []string) {
	for _, p := range t.GetPartitions() {
		var nodes []uint64
		for i, r := range p.GetReplicas() {
			if r.GetReplicaId() != uint64(i+1) {
				panic("replica ids are not 1..n")
			}
			nodes = append(nodes, r.GetNodeId())
		}
		s = append(s, fmt.Sprint(nodes))
	}
	return s
}

func isRefused(t *testing.T, o raftcore.Outcome) error {
	t.Helper()
	err, ok := o.Value.(error)
	if o.Verdict != raftcore.Refused || !ok {
		t.Fatalf("%v with %v", o.Verdict, o.Value)
	}
	return err
}
