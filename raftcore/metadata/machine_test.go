package metadata

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/multiraftd/multiraftd/proto/lineage"
	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

func TestATopicIsCreatedOncePerRequestAndOnlyOnceByName(t *testing.T) {
	w := withNodes(t, "", "", "")
	first := w.accepted(create(1, "orders", 3, 3)).(*metav1.Topic)
	if first.GetTopicId() != 1 || first.GetReplicas() != 3 || first.GetPartitions()[0].GetGroupId() != 2 || first.GetPartitions()[2].GetGroupId() != 4 {
		t.Fatalf("%v", first)
	}
	w.reopen()
	again := w.one(create(1, "orders", 3, 3))
	if topic, ok := again.Value.(*metav1.Topic); again.Verdict != raftcore.Duplicate || !ok || !proto.Equal(topic, first) {
		t.Fatalf("the retry: %v %v", again.Verdict, again.Value)
	}
	if err := isRefused(t, w.one(create(2, "orders", 3, 3))); !errors.Is(err, ErrTopicExists) {
		t.Fatalf("another request: %v", err)
	}
	second := w.accepted(create(3, "invoices", 1, 1)).(*metav1.Topic)
	if second.GetTopicId() != 2 || second.GetPartitions()[0].GetGroupId() != 5 {
		t.Fatalf("%v", second)
	}
}

func TestARefusedTopicLeavesNothingBehind(t *testing.T) {
	w := withNodes(t, "", "")
	before := w.m.State()
	var e *NotEnoughNodesError
	if err := isRefused(t, w.one(create(1, "orders", 1, 3))); !errors.Is(err, ErrNotEnoughNodes) || !errors.As(err, &e) || e.Have != 2 || e.Want != 3 {
		t.Fatalf("%v", err)
	}
	if w.m.State() != before {
		t.Fatal("the state changed")
	}
	w.accepted(create(1, "orders", 1, 2)) // the request id was not used up either
}

func TestAPartitionLimitOfTheClusterHolds(t *testing.T) {
	w := withNodes(t, "")
	for i := range GroupsMax / PartitionsMax {
		w.accepted(create(i, "t"+strings.Repeat("x", i), PartitionsMax, 1))
	}
	if err := isRefused(t, w.one(create(9999, "last", 1, 1))); !errors.Is(err, ErrLimit) {
		t.Fatalf("%v", err)
	}
}

func TestFieldsThatCannotBeAcceptedAreNamed(t *testing.T) {
	node := func(change func(*metav1.Node)) []byte {
		n := &metav1.Node{NodeId: 1, StoreId: "s", StartNumber: 1}
		change(n)
		return register(n)
	}
	long := strings.Repeat("x", NodeFieldBytesMax+1)
	for _, c := range []struct {
		field   string
		command []byte
	}{
		{"name", create(1, "", 1, 1)},
		{"name", create(1, ".", 1, 1)},
		{"name", create(1, "..", 1, 1)},
		{"name", create(1, "a/b", 1, 1)},
		{"name", create(1, "ü", 1, 1)},
		{"name", create(1, strings.Repeat("a", TopicNameBytesMax+1), 1, 1)},
		{"partitions", create(1, "a", 0, 1)},
		{"partitions", create(1, "a", PartitionsMax+1, 1)},
		{"replicas", create(1, "a", 1, 0)},
		{"replicas", create(1, "a", 1, ReplicasMax+1)},
		{"request_id", encode(&metav1.Command{Command: &metav1.Command_CreateTopic{CreateTopic: &metav1.CreateTopic{Name: "a", Partitions: 1, Replicas: 1}}})},
		{"count", allocate(0)},
		{"count", allocate(ProducersMax + 1)},
		{"node_id", register(nil)},
		{"node_id", node(func(n *metav1.Node) { n.NodeId = 0 })},
		{"store_id", node(func(n *metav1.Node) { n.StoreId = "" })},
		{"start_number", node(func(n *metav1.Node) { n.StartNumber = 0 })},
		{"store_id", node(func(n *metav1.Node) { n.StoreId = long })},
		{"client_addr", node(func(n *metav1.Node) { n.ClientAddr = long })},
		{"peer_addr", node(func(n *metav1.Node) { n.PeerAddr = long })},
		{"rack", node(func(n *metav1.Node) { n.Rack = long })},
	} {
		var e *InvalidError
		if err := isRefused(t, newWorld(t).one(c.command)); !errors.Is(err, ErrInvalid) || !errors.As(err, &e) || e.Field != c.field {
			t.Errorf("got %v, want %s", err, c.field)
		}
	}
	if err := ValidateTopic(strings.Repeat("a", TopicNameBytesMax), PartitionsMax, ReplicasMax); err != nil {
		t.Error(err)
	}
	if err := ValidateTopic("A-Za.z_0-9", 1, 1); err != nil {
		t.Error(err)
	}
}

func TestACopyOfANodesStoreIsNotRegistered(t *testing.T) {
	w := newWorld(t)
	id := func(b byte) []byte { return bytes.Repeat([]byte{b}, lineage.IDBytes) }
	start := func(number uint64, boot byte, earlier ...byte) []byte {
		c := &metav1.RegisterNode{Node: &metav1.Node{NodeId: 2, StoreId: "a", StartNumber: number}}
		if boot != 0 {
			c.Node.BootId = id(boot)
		}
		for _, b := range earlier {
			c.EarlierBootIds = append(c.EarlierBootIds, id(b))
		}
		return encode(&metav1.Command{Command: &metav1.Command_RegisterNode{RegisterNode: c}})
	}
	w.accepted(start(3, 0)) // of a version that knows of no boot ids
	w.accepted(start(4, 4, 3))
	w.accepted(start(4, 4, 3)) // told again
	w.accepted(start(6, 6, 5, 4, 3))
	for what, c := range map[string][]byte{
		"the same number": start(6, 9, 8, 4), "a later one": start(8, 9, 9, 9, 5, 4), "without an id": start(6, 0), "without earlier ids": start(7, 7),
	} {
		if err := isRefused(t, w.one(c)); !errors.Is(err, ErrStoreCopied) {
			t.Errorf("%s: %v", what, err)
		}
	}
	var invalid *InvalidError
	short := &metav1.RegisterNode{Node: &metav1.Node{NodeId: 2, StoreId: "a", StartNumber: 7, BootId: id(7)}, EarlierBootIds: [][]byte{{1}}}
	if err := isRefused(t, w.one(encode(&metav1.Command{Command: &metav1.Command_RegisterNode{RegisterNode: short}}))); !errors.As(err, &invalid) || invalid.Field != "earlier_boot_ids" {
		t.Errorf("a short id: %v", err)
	}
	w.accepted(start(7, 7, 6))
	w.reopen()
	if n, _ := w.m.State().Node(2); n.GetStartNumber() != 7 || !bytes.Equal(n.GetBootId(), id(7)) {
		t.Errorf("%v", n)
	}
}

func TestANodeKeepsItsStoreAndItsStartNumberNeverGoesBack(t *testing.T) {
	w := newWorld(t)
	w.accepted(register(&metav1.Node{NodeId: 2, StoreId: "a", StartNumber: 3, PeerAddr: "old:1"}))
	if err := isRefused(t, w.one(register(&metav1.Node{NodeId: 2, StoreId: "b", StartNumber: 4}))); !errors.Is(err, ErrStoreChanged) {
		t.Fatalf("%v", err)
	}
	if err := isRefused(t, w.one(register(&metav1.Node{NodeId: 2, StoreId: "a", StartNumber: 2}))); !errors.Is(err, ErrStaleStart) {
		t.Fatalf("%v", err)
	}
	w.accepted(register(&metav1.Node{NodeId: 2, StoreId: "a", StartNumber: 4, PeerAddr: "new:1"}))
	w.accepted(register(&metav1.Node{NodeId: 1, StoreId: "c", StartNumber: 1}))
	w.reopen()
	nodes := w.m.State().Nodes()
	if len(nodes) != 2 || nodes[0].GetNodeId() != 1 || nodes[1].GetPeerAddr() != "new:1" || nodes[1].GetStartNumber() != 4 {
		t.Fatalf("%v", nodes)
	}
	before := w.m.State()
	w.accepted(register(&metav1.Node{NodeId: 1, StoreId: "c", StartNumber: 1}))
	if w.m.State() != before {
		t.Fatal("registering the same again changed the state")
	}
}

func TestANumberOfNodesIsEnough(t *testing.T) {
	w := withNodes(t, make([]string, NodesMax)...)
	if err := isRefused(t, w.one(register(&metav1.Node{NodeId: NodesMax + 1, StoreId: "s", StartNumber: 1}))); !errors.Is(err, ErrLimit) {
		t.Fatalf("%v", err)
	}
	w.accepted(register(&metav1.Node{NodeId: NodesMax, StoreId: "s", StartNumber: 2}))
}

func TestProducerIdsAreGivenOutOnce(t *testing.T) {
	w := newWorld(t)
	if got := *w.accepted(allocate(10)).(*ProducerRange); got != (ProducerRange{1, 10}) {
		t.Fatalf("%+v", got)
	}
	w.reopen()
	if got := *w.accepted(allocate(ProducersMax)).(*ProducerRange); got != (ProducerRange{11, ProducersMax}) {
		t.Fatalf("%+v", got)
	}
	w.m.state = w.m.state.withAllocators(Allocators{1, 2, math.MaxInt64 - 1, 1})
	if err := isRefused(t, w.one(allocate(2))); !errors.Is(err, ErrLimit) {
		t.Fatalf("%v", err)
	}
}

func TestWhatIsNotACommandIsInvalidAndTheRestOfTheEntryGoesOn(t *testing.T) {
	w := newWorld(t)
	outcomes := w.apply(nil, []byte{0xff}, allocate(1), []byte{0x7a, 0})
	for i, want := range []raftcore.Verdict{raftcore.Invalid, raftcore.Invalid, raftcore.Accepted, raftcore.Invalid} {
		if outcomes[i].Verdict != want {
			t.Errorf("payload %d: %v, want %v", i, outcomes[i].Verdict, want)
		}
	}
}

// damage is what may have happened to a stored state.
type damage map[string]func(*world) func(*store.Batch)

func damagedRecords() damage {
	return damage{
		"a version to come": func(w *world) func(*store.Batch) {
			return func(b *store.Batch) { b.Set(w.m.key(allocatorSpace, nil), []byte{2}) }
		},
		"not a node": func(w *world) func(*store.Batch) {
			return func(b *store.Batch) { b.Set(w.m.idKey(nodeSpace, 1), []byte{1, 0xff}) }
		},
		"nothing for a topic": func(w *world) func(*store.Batch) {
			return func(b *store.Batch) { b.Set(w.m.idKey(topicSpace, 1), nil) }
		},
		"allocators gone": func(w *world) func(*store.Batch) {
			return func(b *store.Batch) { b.Delete(w.m.key(allocatorSpace, nil)) }
		},
		"a removal for nobody": func(w *world) func(*store.Batch) {
			return func(b *store.Batch) {
				set(b, w.m.idKey(removalSpace, 9, 2, 1), &metav1.Removal{NodeId: 9, GroupId: 2, ReplicaId: 1})
			}
		},
		"a change of nothing": func(w *world) func(*store.Batch) {
			return func(b *store.Batch) { set(b, w.m.idKey(partitionSpace, 9), &metav1.Partition{GroupId: 9, TargetId: 1}) }
		},
		"a replica not given out": func(w *world) func(*store.Batch) {
			return func(b *store.Batch) {
				set(b, w.m.idKey(partitionSpace, 2), &metav1.Partition{GroupId: 2, TargetId: 1, NextReplicaId: 4,
					Members: []*metav1.Replica{{ReplicaId: 4, NodeId: 1}}})
			}
		},
		"a member that was removed": func(w *world) func(*store.Batch) {
			return func(b *store.Batch) { set(b, w.m.idKey(removedSpace, 1), &metav1.RemovedNode{NodeId: 1}) }
		},
		"no voters": func(w *world) func(*store.Batch) {
			return func(b *store.Batch) { set(b, w.m.key(votersSpace, nil), &metav1.MetadataVoters{}) }
		},
		"a node gone": func(w *world) func(*store.Batch) { return func(b *store.Batch) { b.Delete(w.m.idKey(nodeSpace, 1)) } },
		"a node under another's key": func(w *world) func(*store.Batch) {
			return func(b *store.Batch) { b.Set(w.m.idKey(nodeSpace, 9), encodeValue(w.m.State().Nodes()[0])) }
		},
		"a node of no store": func(w *world) func(*store.Batch) {
			return func(b *store.Batch) {
				b.Set(w.m.idKey(nodeSpace, 1), encodeValue(&metav1.Node{NodeId: 1, StartNumber: 1}))
			}
		},
		"a node under a long key": func(w *world) func(*store.Batch) {
			return func(b *store.Batch) { b.Set(append(w.m.idKey(nodeSpace, 1), 1), encodeValue(w.m.State().Nodes()[0])) }
		},
		"a group id that was used": func(w *world) func(*store.Batch) {
			return func(b *store.Batch) {
				set(b, w.m.key(allocatorSpace, nil), &metav1.Allocators{TopicId: 1, GroupId: 1, ProducerId: 1})
			}
		},
		"a producer id below all": func(w *world) func(*store.Batch) {
			return func(b *store.Batch) {
				set(b, w.m.key(allocatorSpace, nil), &metav1.Allocators{TopicId: 3, GroupId: 6, ProducerId: -5})
			}
		},
	}
}

func damagedTopics() damage {
	topic := func(w *world, change func(*metav1.Topic)) func(*store.Batch) {
		second, _ := w.m.State().Topic(2)
		changed := proto.Clone(second).(*metav1.Topic)
		change(changed)
		return func(b *store.Batch) { set(b, w.m.idKey(topicSpace, 2), changed) }
	}
	return damage{
		"a topic id used twice": func(w *world) func(*store.Batch) { return topic(w, func(t *metav1.Topic) { t.TopicId = 1 }) },
		"a name used twice":     func(w *world) func(*store.Batch) { return topic(w, func(t *metav1.Topic) { t.Name = "a" }) },
		"a name with a slash":   func(w *world) func(*store.Batch) { return topic(w, func(t *metav1.Topic) { t.Name = "a/b" }) },
		"a request used twice": func(w *world) func(*store.Batch) {
			return topic(w, func(t *metav1.Topic) { t.RequestId = w.m.State().Topics()[0].RequestId })
		},
		"a partition of nobody": func(w *world) func(*store.Batch) {
			return topic(w, func(t *metav1.Topic) { t.Partitions[0].Replicas = nil })
		},
		"two replicas on a node": func(w *world) func(*store.Batch) {
			return topic(w, func(t *metav1.Topic) { t.Partitions[0].Replicas[1].NodeId = t.Partitions[0].Replicas[0].NodeId })
		},
		"no partitions": func(w *world) func(*store.Batch) { return topic(w, func(t *metav1.Topic) { t.Partitions = nil }) },
		"a group used twice": func(w *world) func(*store.Batch) {
			return topic(w, func(t *metav1.Topic) { t.Partitions[0].GroupId = 3 })
		},
		"a group left out": func(w *world) func(*store.Batch) {
			return topic(w, func(t *metav1.Topic) { t.Partitions[1].GroupId = 6 })
		},
		"a group not given out": func(w *world) func(*store.Batch) {
			return topic(w, func(t *metav1.Topic) { t.Partitions = append(t.Partitions, &metav1.Partition{GroupId: 6}) })
		},
	}
}

func TestAMachineOpensOnlyFromStateThatAgreesWithItself(t *testing.T) {
	all := damagedRecords()
	maps.Copy(all, damagedTopics())
	for name, damage := range all {
		t.Run(name, func(t *testing.T) {
			w := withNodes(t, "", "", "")
			w.apply(create(1, "a", 2, 3), create(2, "b", 2, 3))
			var b store.Batch
			damage(w)(&b)
			w.commit(&b)
			if _, err := w.open(); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

// anyCommands draws one entry.
func anyCommands(t *rapid.T) (commands [][]byte) {
	for range rapid.IntRange(0, 4).Draw(t, "commands") {
		switch rapid.IntRange(0, 14).Draw(t, "kind") {
		default:
			commands = append(commands, anyChange(t))
		case 0, 1:
			commands = append(commands, register(&metav1.Node{NodeId: rapid.Uint64Range(1, 6).Draw(t, "node"), StoreId: "s",
				StartNumber: rapid.Uint64Range(0, 3).Draw(t, "start"), Rack: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "rack")}))
		case 2, 3, 4:
			commands = append(commands, create(rapid.IntRange(1, 9).Draw(t, "request"), rapid.StringMatching("[a-e]?").Draw(t, "name"),
				rapid.Uint32Range(0, 5).Draw(t, "partitions"), rapid.Uint32Range(0, 4).Draw(t, "replicas")))
		case 5:
			commands = append(commands, allocate(rapid.Uint32Range(0, 5).Draw(t, "count")))
		}
	}
	return commands
}

// anyChange draws a command that changes what is there.
func anyChange(t *rapid.T) []byte {
	node, group := rapid.Uint64Range(0, 8), rapid.Uint64Range(1, 9)
	nodes := rapid.SliceOfN(node, 0, 4)
	switch rapid.IntRange(0, 8).Draw(t, "change") {
	case 0:
		return join(rapid.SampledFrom([]string{"s", "a", "b", "c"}).Draw(t, "store"))
	case 1:
		return drain(node.Draw(t, "node"), rapid.Bool().Draw(t, "draining"))
	case 2:
		return remove(node.Draw(t, "node"), rapid.Bool().Draw(t, "force"))
	case 3:
		return settled(group.Draw(t, "group"), rapid.Uint64Range(0, 3).Draw(t, "target"))
	case 4:
		return gone(node.Draw(t, "node"), group.Draw(t, "group"), rapid.Uint64Range(1, 6).Draw(t, "replica"))
	case 5:
		return deleteTopic(rapid.Uint64Range(0, 4).Draw(t, "topic"))
	case 6:
		return encode(&metav1.Command{Command: &metav1.Command_AlterTopic{AlterTopic: &metav1.AlterTopic{
			TopicId: rapid.Uint64Range(0, 4).Draw(t, "topic"), RetentionMs: proto.Int64(rapid.Int64Range(-1, 3).Draw(t, "ms"))}}})
	case 7:
		return target(1, nodes.Draw(t, "voters")...)
	default:
		c := rapid.Bool().Draw(t, "supersede")
		return retargeted(group.Draw(t, "group"), c, nodes.Draw(t, "voters")...)
	}
}

func TestReplicasDecideAlikeWhetherTheyRestartOrNot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		steady, restarting := newWorld(t), newWorld(t)
		for range rapid.IntRange(1, 20).Draw(t, "entries") {
			commands := anyCommands(t)
			if rapid.Bool().Draw(t, "restart") {
				restarting.reopen()
			}
			a, b := steady.apply(commands...), restarting.apply(commands...)
			if !slices.EqualFunc(a, b, sameOutcome) {
				t.Fatalf("%v\n%v", a, b)
			}
			if x, y := dump(steady.m.State()), dump(restarting.m.State()); x != y {
				t.Fatalf("%s\n%s", x, y)
			}
			if !slices.Equal(steady.m.hosts, restarting.m.hosts) {
				t.Fatalf("load is counted differently: %v, %v", steady.m.hosts, restarting.m.hosts)
			}
		}
	})
}

func sameOutcome(a, b raftcore.Outcome) bool {
	if x, ok := a.Value.(error); ok {
		y, ok := b.Value.(error)
		return ok && a.Verdict == b.Verdict && x.Error() == y.Error()
	}
	x, isMessage := a.Value.(proto.Message)
	y, alsoMessage := b.Value.(proto.Message)
	if isMessage && alsoMessage {
		return a.Verdict == b.Verdict && proto.Equal(x, y)
	}
	if x, ok := a.Value.(*Target); ok {
		y, ok := b.Value.(*Target)
		return ok && a.Verdict == b.Verdict && fmt.Sprint(x) == fmt.Sprint(y)
	}
	return a.Verdict == b.Verdict && isMessage == alsoMessage
}
