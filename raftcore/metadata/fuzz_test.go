package metadata

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/multiraftd/multiraftd/proto/decodetest"
	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// executing is a program of commands for two replicas, one of which restarts.
type executing struct {
	t                  *testing.T
	program, raw       []byte
	steady, restarting *world
}

func (x *executing) byte() byte {
	if len(x.program) == 0 {
		return 0
	}
	b := x.program[0]
	x.program = x.program[1:]
	return b
}

func (x *executing) run() {
	var commands [][]byte
	for len(x.program) > 0 {
		switch x.byte() % 14 {
		case 0:
			x.restarting.reopen()
		case 1:
			commands = append(commands, x.raw)
		case 2:
			commands = append(commands, allocate(uint32(x.byte())<<(x.byte()%32)))
		case 3, 4:
			x.entry(commands)
			commands = nil
		case 5, 6:
			rack := []string{"", "a", "b", strings.Repeat("c", NodeFieldBytesMax), strings.Repeat("c", NodeFieldBytesMax+1)}[x.byte()%5]
			commands = append(commands, register(&metav1.Node{NodeId: uint64(x.byte() % 7), StoreId: "st"[:x.byte()%3], StartNumber: uint64(x.byte() % 4), Rack: rack}))
		case 7, 8, 9:
			name := []string{"a", "b", "c", "d", "e", "", ".", "a/b"}[x.byte()%8]
			commands = append(commands, create(int(x.byte()%9), name, uint32(x.byte()%7), uint32(x.byte()%5)))
		case 10, 11, 12, 13:
			commands = append(commands, x.change())
		}
	}
	x.entry(commands)
}

// change is a command about the cluster's life.
func (x *executing) change() []byte {
	node, group := uint64(x.byte()%9), uint64(x.byte()%12)
	switch x.byte() % 8 {
	case 0:
		return join("store"[:x.byte()%6])
	case 1:
		return drain(node, x.byte()%2 == 0)
	case 2:
		return remove(node, x.byte()%2 == 0)
	case 3, 4:
		voters := make([]uint64, x.byte()%6)
		for i := range voters {
			voters[i] = uint64(x.byte() % 9)
		}
		return retargeted(group, x.byte()%2 == 0, voters...)
	case 5:
		return settled(group, uint64(x.byte()%8))
	case 6:
		return gone(node, group, uint64(x.byte()%8))
	default:
		return deleteTopic(uint64(x.byte() % 5))
	}
}

// entry applies the commands on both replicas and compares them.
func (x *executing) entry(commands [][]byte) {
	before := x.steady.m.State()
	outcomes, others := x.steady.apply(commands...), x.restarting.apply(commands...)
	if !slices.EqualFunc(outcomes, others, sameOutcome) {
		x.t.Fatalf("replicas differ: %v and %v", outcomes, others)
	}
	if a, b := dump(x.steady.m.State()), dump(x.restarting.m.State()); a != b || !slices.Equal(x.steady.m.hosts, x.restarting.m.hosts) {
		x.t.Fatalf("states differ:\n%s%v\n%s%v", a, x.steady.m.hosts, b, x.restarting.m.hosts)
	}
	accepted := false
	for _, o := range outcomes {
		accepted = accepted || o.Verdict == raftcore.Accepted
		checkOutcome(x.t, o)
	}
	if !accepted && x.steady.m.State() != before {
		x.t.Fatalf("nothing was accepted, and the state changed: %v", outcomes)
	}
	checkLookups(x.t, x.steady.m.State())
}

var reasons = []error{
	ErrInvalid, ErrTopicExists, ErrNotEnoughNodes, ErrLimit, ErrStoreChanged, ErrStaleStart, ErrStoreCopied, ErrUnknownNode, ErrNodeRemoved, ErrNodeDraining,
	ErrNodeInUse, ErrVotersUnknown, ErrUnknownGroup, ErrUnknownTopic, ErrTargetOpen, ErrRemovalPending,
}

// checkOutcome: a refusal is for one of the reasons, and nothing else comes with an error.
func checkOutcome(t *testing.T, o raftcore.Outcome) {
	err, failed := o.Value.(error)
	wrapped := 0
	for _, reason := range reasons {
		if errors.Is(err, reason) {
			wrapped++
		}
	}
	switch {
	case o.Verdict == raftcore.Refused && wrapped == 1:
	case o.Verdict == raftcore.Invalid && o.Value == nil:
	case (o.Verdict == raftcore.Accepted || o.Verdict == raftcore.Duplicate) && !failed:
	default:
		t.Fatalf("%v with %v", o.Verdict, o.Value)
	}
}

// programBytesMax keeps the time of one program far from what fuzzing takes for a hang.
const programBytesMax = 4 << 10

// FuzzApply: no command makes apply panic; replicas decide alike, restarted or not; what is refused changes
// nothing.
func FuzzApply(f *testing.F) {
	f.Add([]byte{5, 0, 1, 1, 1, 5, 1, 2, 1, 1, 3, 7, 0, 1, 2, 2, 2, 10, 0, 3, 0, 7, 0, 1, 2, 2, 3}, create(7, "raw", 2, 1))
	f.Add([]byte{5, 0, 1, 1, 1, 1, 3, 1, 0, 1, 3}, register(&metav1.Node{NodeId: 9, StoreId: "s", StartNumber: 1, ClientAddr: "a:1", PeerAddr: "b:1"}))
	f.Add([]byte{1, 3, 1, 1}, allocate(ProducersMax))
	f.Add([]byte{1}, []byte{0xff})
	f.Fuzz(func(t *testing.T, program, raw []byte) {
		x := &executing{t: t, program: program[:min(len(program), programBytesMax)], raw: raw, steady: newWorld(t), restarting: newWorld(t)}
		x.run()
	})
}

// FuzzOpen: a machine opens from whatever is stored, or it is corrupt. One that has opened goes on, and opens
// again from what it then stores, in the same state.
func FuzzOpen(f *testing.F) {
	w := withNodes(f, "a", "b")
	w.apply(create(1, "one", 2, 2), create(2, "two", 1, 1), allocate(5))
	values := func(space byte, ids ...uint64) (all [][]byte) {
		for _, id := range ids {
			v, err := w.kv.View()
			if err != nil {
				f.Fatal(err)
			}
			key := w.m.key(space, nil)
			if id > 0 {
				key = w.m.idKey(space, id)
			}
			value, err := v.Get(key)
			if err := errors.Join(err, v.Close()); err != nil {
				f.Fatal(err)
			}
			all = append(all, value)
		}
		return all
	}
	nodes, topics, allocators := values(nodeSpace, 1, 2), values(topicSpace, 1, 2), values(allocatorSpace, 0)[0]
	f.Add(allocators, uint64(1), nodes[0], uint64(2), nodes[1], uint64(1), topics[0], uint64(2), topics[1])
	f.Add(allocators, uint64(2), nodes[0], uint64(1), nodes[1], uint64(2), topics[0], uint64(1), topics[1])
	f.Add(allocators, uint64(1), nodes[0], uint64(2), nodes[0], uint64(1), topics[1], uint64(2), topics[1])
	f.Add([]byte{version}, uint64(1), nodes[0], uint64(2), nodes[1], uint64(1), []byte{}, uint64(2), []byte{})
	f.Fuzz(func(t *testing.T, allocators []byte, n1 uint64, node1 []byte, n2 uint64, node2 []byte, t1 uint64, topic1 []byte, t2 uint64, topic2 []byte) {
		w := &world{t: t, kv: store.NewMem()}
		prefix := &Machine{prefix: testPrefix}
		var b store.Batch
		for _, kv := range []struct{ key, value []byte }{
			{prefix.key(allocatorSpace, nil), allocators}, {prefix.idKey(nodeSpace, n1), node1}, {prefix.idKey(nodeSpace, n2), node2},
			{prefix.idKey(topicSpace, t1), topic1}, {prefix.idKey(topicSpace, t2), topic2},
		} {
			if len(kv.value) > 0 {
				b.Set(kv.key, kv.value)
			}
		}
		w.commit(&b)
		decodetest.Bounded(t, len(allocators)+len(node1)+len(node2)+len(topic1)+len(topic2), decodetest.PerByte, func() { checkOpened(t, w) })
	})
}

func checkOpened(t *testing.T, w *world) {
	m, err := w.open()
	if err != nil {
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("got %v", err)
		}
		return
	}
	w.m = m
	checkState(t, m)
	for _, o := range w.apply(register(&metav1.Node{NodeId: 3, StoreId: "s", StartNumber: 1}), create(77, "three", 3, 1), create(78, "four", 1, 3), allocate(3)) {
		checkOutcome(t, o)
	}
	want := dump(w.m.State()) + fmt.Sprint(w.m.hosts)
	w.reopen()
	if got := dump(w.m.State()) + fmt.Sprint(w.m.hosts); got != want {
		t.Errorf("reopened as\n%s\nwas\n%s", got, want)
	}
	checkState(t, w.m)
}

// checkState holds what has been opened against what apply keeps up.
func checkState(t *testing.T, m *Machine) {
	s := m.State()
	for i, n := range s.Nodes() {
		if err := ValidateStore(n); err != nil || i > 0 && n.GetNodeId() <= s.Nodes()[i-1].GetNodeId() {
			t.Errorf("node %v: %v", n, err)
		}
	}
	names, requests := map[string]bool{}, map[string]bool{}
	last := raftcore.MetadataGroup
	for _, topic := range s.Topics() {
		if err := ValidateTopic(topic.GetName(), uint32(len(topic.GetPartitions())), topic.GetReplicas()); err != nil {
			t.Errorf("topic %v: %v", topic, err)
		}
		if names[topic.GetName()] || requests[string(topic.GetRequestId())] {
			t.Errorf("topic %v is there twice", topic)
		}
		names[topic.GetName()], requests[string(topic.GetRequestId())] = true, true
		for _, p := range topic.GetPartitions() {
			if g := raftcore.GroupID(p.GetGroupId()); g <= last || len(p.GetReplicas()) == 0 {
				t.Errorf("group %d after %d: %v", g, last, p)
			} else {
				last = g
			}
			if g, ok := s.Group(last); !ok || g.Topic != topic {
				t.Errorf("group %d is not found", last)
			}
		}
	}
	if a := s.Allocators(); a.Group <= last || a.Topic == 0 || a.Producer < firstIDs.Producer {
		t.Errorf("allocators %+v after group %d", a, last)
	}
}

var validName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

// FuzzValidateTopic: a topic is valid exactly if its name is one that Kafka takes and its numbers are within
// their limits, and what is wrong is named in a short sentence.
func FuzzValidateTopic(f *testing.F) {
	for _, name := range []string{"", ".", "..", "...", "orders", "a/b", "a\x00b", "ü", "a b", "A-Za.z_0-9", "orders\n", strings.Repeat("x", 249), strings.Repeat("x", 250)} {
		f.Add(name, uint32(1), uint32(3))
	}
	f.Add("a", uint32(0), uint32(1))
	f.Add("a", uint32(PartitionsMax+1), uint32(math.MaxUint32))
	f.Fuzz(func(t *testing.T, name string, partitions, replicas uint32) {
		err := ValidateTopic(name, partitions, replicas)
		good := validName.MatchString(name) && name != "." && name != ".."
		want := good && partitions >= 1 && partitions <= PartitionsMax && replicas >= 1 && replicas <= ReplicasMax
		var e *InvalidError
		if (err == nil) != want || err != nil && (!errors.As(err, &e) || (e.Field == "name") == good) {
			t.Errorf("%q, %d, %d: %v", name, partitions, replicas, err)
		}
		if err != nil && len(err.Error()) > 6*TopicNameBytesMax {
			t.Errorf("it says %d bytes about %d", len(err.Error()), len(name))
		}
	})
}
