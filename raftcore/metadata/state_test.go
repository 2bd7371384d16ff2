package metadata

import (
	"fmt"
	"maps"
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
	for _, n := range s.removed {
		add(n)
	}
	t, ok := s.Target(raftcore.MetadataGroup)
	fmt.Fprintln(&b, t, ok, s.moved, s.groups)
	for _, n := range slices.Sorted(maps.Keys(s.removals)) {
		fmt.Fprintln(&b, n, s.removals[n])
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
	groups, last := 0, raftcore.MetadataGroup
	s.Groups(func(g Group) bool {
		got, ok := s.Group(g.ID)
		if !ok || g.ID <= last || got.Topic != g.Topic || got.Partition != g.Partition || !slices.Equal(got.Replicas, g.Replicas) {
			t.Fatalf("group %d: %+v, want %+v", g.ID, got, g)
		}
		checkGroup(t, s, g)
		groups, last = groups+1, g.ID
		return true
	})
	next := s.Allocators().Group
	if groups != s.groups || last >= next || len(s.TopicsByName()) != len(s.Topics()) || len(s.TopicsAfter(0)) != len(s.Topics()) {
		t.Fatalf("%d groups, the last is %d, allocators %+v", groups, last, s.Allocators())
	}
	for _, unknown := range []raftcore.GroupID{0, raftcore.MetadataGroup, next, next + 1<<40} {
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

// checkGroup: at most one replica per node, none of them ordered deleted, each of them vouched for, and born
// beyond the initial ones if it is wanted.
func checkGroup(t failer, s *State, g Group) {
	nodes, ids := map[raftcore.NodeID]bool{}, map[raftcore.ReplicaID]bool{}
	for _, m := range g.Placed() {
		if nodes[m.Node] || ids[m.ID] {
			t.Fatalf("group %d: %v has two replicas of a node", g.ID, g.Placed())
		}
		nodes[m.Node], ids[m.ID] = true, true
		for _, r := range s.Removals(m.Node) {
			if r.Group == g.ID && r.Replica == m.ID {
				t.Fatalf("group %d: replica %d is placed and ordered deleted", g.ID, m.ID)
			}
		}
		_, removed := s.Removed(m.Node)
		if s.Vouches(g.ID, m.ID, m.Node) == removed || s.Vouches(g.ID, m.ID, m.Node+100) {
			t.Fatalf("group %d: wrong about replica %d of node %d", g.ID, m.ID, m.Node)
		}
		born := false
		s.Births(m.Node, func(id raftcore.GroupID, r raftcore.ReplicaID) { born = born || id == g.ID && r == m.ID })
		if want := !slices.Contains(g.Replicas, m) && !slices.Contains(g.Leaving, m); born != want {
			t.Fatalf("group %d: replica %d of node %d is born beyond the initial ones: %v", g.ID, m.ID, m.Node, born)
		}
	}
	if open, ok := s.Target(g.ID); ok != g.Moving || ok && !slices.Equal(open.Voters, g.Open.Voters) {
		t.Fatalf("group %d: target %v, %v", g.ID, open, g.Open)
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
	if s.Allocators() != (Allocators{1, 2, 1, 1}) {
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
