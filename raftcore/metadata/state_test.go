package metadata

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	"github.com/multiraftd/multiraftd/raftcore"
)

// dump writes a state out, bytes of messages and all.
func dump(s *State) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%+v\n", s.allocators)
	add := func(msg proto.Message) {
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(msg)
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(&b, "%x\n", data)
	}
	for _, n := range s.Nodes() {
		add(n)
	}
	for _, t := range s.Topics() {
		add(t)
	}
	for _, t := range s.TopicsByName() {
		fmt.Fprintln(&b, t.GetName())
	}
	return b.String()
}

func TestAStateNeverChangesAndItsLookupsAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		var states []*State
		var dumps []string
		for range rapid.IntRange(1, 20).Draw(t, "entries") {
			states = append(states, w.m.State())
			dumps = append(dumps, dump(w.m.State()))
			w.apply(anyCommands(t)...)
		}
		for i, s := range states {
			if got := dump(s); got != dumps[i] {
				t.Fatalf("state %d became\n%s\nit was\n%s", i, got, dumps[i])
			}
			checkLookups(t, s)
		}
	})
}

func checkLookups(t failer, s *State) {
	for i, topic := range s.Topics() {
		if got, ok := s.Topic(topic.GetTopicId()); !ok || got != topic {
			t.Fatalf("topic %d is not found by id", topic.GetTopicId())
		}
		if got, ok := s.TopicByName(topic.GetName()); !ok || got != topic {
			t.Fatalf("topic %s is not found by name", topic.GetName())
		}
		if after := s.TopicsAfter(topic.GetTopicId()); len(after) != len(s.Topics())-i-1 {
			t.Fatalf("%d topics after %d", len(after), topic.GetTopicId())
		}
	}
	known := raftcore.GroupID(2)
	s.Groups(func(g Group) bool {
		got, ok := s.Group(g.ID)
		if !ok || g.ID != known || got.Topic != g.Topic || got.Partition != g.Partition || !slices.Equal(got.Replicas, g.Replicas) {
			t.Fatalf("group %d: %+v, want %+v", known, got, g)
		}
		known++
		return true
	})
	if known != s.Allocators().Group || len(s.TopicsByName()) != len(s.Topics()) || len(s.TopicsAfter(0)) != len(s.Topics()) {
		t.Fatalf("%d groups, allocators %+v", known, s.Allocators())
	}
	for _, unknown := range []raftcore.GroupID{0, raftcore.MetadataGroup, known, known + 1<<40} {
		if _, ok := s.Group(unknown); ok {
			t.Fatalf("group %d is known", unknown)
		}
	}
	for _, n := range s.Nodes() {
		if got, ok := s.Node(raftcore.NodeID(n.GetNodeId())); !ok || got != n {
			t.Fatalf("node %d is not found", n.GetNodeId())
		}
	}
}

func TestWhatIsNotThereIsNotFound(t *testing.T) {
	s := Empty()
	if _, ok := s.Node(1); ok {
		t.Error("a node")
	}
	if _, ok := s.Topic(1); ok {
		t.Error("a topic")
	}
	if _, ok := s.TopicByName("a"); ok {
		t.Error("a topic by name")
	}
	if _, ok := s.Group(2); ok {
		t.Error("a group")
	}
	if s.Allocators() != (Allocators{1, 2, 1}) {
		t.Errorf("%+v", s.Allocators())
	}
}

func TestAGroupTellsWhereItsReplicasAre(t *testing.T) {
	g := GroupOf(&metav1.Partition{GroupId: 9, Replicas: []*metav1.Replica{{ReplicaId: 1, NodeId: 5}, {ReplicaId: 2, NodeId: 4}}})
	if n, ok := g.Node(2); !ok || n != 4 {
		t.Errorf("replica 2 is on %d", n)
	}
	if _, ok := g.Node(4); ok {
		t.Error("replica 4 exists")
	}
	if m := g.Members(); len(m) != 2 || m[1] != 5 || m[2] != 4 {
		t.Errorf("%v", m)
	}
}
