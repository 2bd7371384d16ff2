package metadata

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	"github.com/multiraftd/multiraftd/raftcore"
)

// withGroup is five nodes and a topic whose partition is group 2, on nodes 1, 2 and 3.
func withGroup(t failer) *world {
	w := withNodes(t, "", "", "", "", "")
	w.accepted(create(1, "t", 1, 3))
	return w
}

func (w *world) group() Group {
	w.t.Helper()
	g, ok := w.m.State().Group(2)
	if !ok {
		w.t.Fatalf("group 2 is gone")
	}
	return g
}

func births(s *State, n raftcore.NodeID) (all []string) {
	s.Births(n, func(g raftcore.GroupID, r raftcore.ReplicaID) { all = append(all, fmt.Sprintf("%d/%d", g, r)) })
	return all
}

func TestAMoveKeepsWhatStaysPlacesNewReplicasAndOrdersTheOthersDeleted(t *testing.T) {
	w := withGroup(t)
	got := w.accepted(target(2, 4, 2, 3)).(*Target)
	if want := []Member{{4, 4}, {2, 2}, {3, 3}}; got.ID != 1 || !slices.Equal(got.Voters, want) {
		t.Fatalf("%+v", got)
	}
	w.reopen()
	s := w.m.State()
	if open, ok := s.Target(2); !ok || open.ID != 1 || !slices.Equal(open.Nodes(), []raftcore.NodeID{4, 2, 3}) {
		t.Fatalf("%+v", open)
	}
	if got := births(s, 4); !slices.Equal(got, []string{"2/4"}) || births(s, 2) != nil {
		t.Fatalf("born on node 4: %v, on node 2: %v", got, births(s, 2))
	}
	if s.Removals(1) != nil {
		t.Fatal("ordered deleted before the move is over")
	}
	w.accepted(settled(2, 1))
	w.reopen()
	s = w.m.State()
	if _, open := s.Target(2); open || !slices.Equal(s.Removals(1), []Removal{{2, 1}}) || s.Removals(2) != nil {
		t.Fatalf("open %v, removals %v %v", open, s.Removals(1), s.Removals(2))
	}
	if g := w.group(); !slices.Equal(nodesOf(g.Current), []raftcore.NodeID{4, 2, 3}) || !slices.Equal(nodesOf(g.Replicas), []raftcore.NodeID{1, 2, 3}) {
		t.Fatalf("%+v", g)
	}
	if !s.Vouches(2, 4, 4) || s.Vouches(2, 1, 1) || s.Vouches(2, 4, 1) {
		t.Fatal("vouches for the wrong ones")
	}
	// Until node 1 has confirmed, it gets no other replica; then one under a new id.
	if err := isRefused(t, w.one(target(2, 1, 2, 3))); !errors.Is(err, ErrRemovalPending) {
		t.Fatalf("%v", err)
	}
	w.accepted(gone(1, 2, 1))
	if o := w.one(gone(1, 2, 1)); o.Verdict != raftcore.Duplicate {
		t.Fatalf("the second confirmation: %v", o.Verdict)
	}
	w.reopen()
	if got := w.accepted(target(2, 1, 2, 3)).(*Target); got.ID != 2 || got.Voters[0] != (Member{5, 1}) {
		t.Fatalf("%+v", got)
	}
}

func TestATargetIsRefusedWhileAnotherIsOpenAndSupersededOnPurpose(t *testing.T) {
	w := withGroup(t)
	w.accepted(target(2, 2, 3, 4))
	var open *TargetOpenError
	if err := isRefused(t, w.one(target(2, 2, 3, 5))); !errors.As(err, &open) || open.Target.ID != 1 {
		t.Fatalf("%v", err)
	}
	if o := w.one(target(2, 4, 3, 2)); o.Verdict != raftcore.Duplicate || o.Value.(*Target).ID != 1 {
		t.Fatalf("the same nodes again: %v %v", o.Verdict, o.Value)
	}
	// Back to where it was: node 4's replica may be a learner by now.
	if got := w.accepted(retargeted(2, true, 1, 2, 3)).(*Target); got.ID != 2 {
		t.Fatalf("%+v", got)
	}
	if g := w.group(); !slices.Equal(g.Leaving, []Member{{4, 4}}) || !w.m.State().Vouches(2, 4, 4) {
		t.Fatalf("%+v", g)
	}
	if o := w.one(settled(2, 1)); o.Verdict != raftcore.Duplicate {
		t.Fatalf("a superseded target settles: %v", o.Verdict)
	}
	w.reopen()
	w.accepted(settled(2, 2))
	if o := w.one(settled(2, 2)); o.Verdict != raftcore.Duplicate {
		t.Fatalf("settled again: %v", o.Verdict)
	}
	if got := w.m.State().Removals(4); !slices.Equal(got, []Removal{{2, 4}}) || w.m.State().Removals(1) != nil {
		t.Fatalf("node 4 has to delete %v, node 1 %v", got, w.m.State().Removals(1))
	}
	if o := w.one(target(2, 3, 2, 1)); o.Verdict != raftcore.Duplicate {
		t.Fatalf("the nodes where it is: %v", o.Verdict)
	}
}

func TestAReplicaOfASupersededTargetIsTakenUpAgain(t *testing.T) {
	w := withGroup(t)
	w.accepted(target(2, 2, 3, 4))
	w.accepted(retargeted(2, true, 1, 2, 5))
	if got := w.accepted(retargeted(2, true, 1, 2, 4)).(*Target); got.Voters[2] != (Member{4, 4}) {
		t.Fatalf("%+v", got)
	}
	if g := w.group(); !slices.Equal(g.Leaving, []Member{{5, 5}}) {
		t.Fatalf("%+v", g)
	}
}

func TestATargetNamesNodesThatMayHaveTheReplica(t *testing.T) {
	w := withGroup(t)
	w.accepted(target(1, 1, 2, 3))
	w.accepted(remove(5, false))
	w.accepted(drain(4, true))
	w.accepted(drain(1, true))
	for _, c := range []struct {
		what   string
		voters []uint64
		want   error
	}{
		{"nobody", nil, ErrInvalid},
		{"node 0", []uint64{0}, ErrInvalid},
		{"one twice", []uint64{2, 2}, ErrInvalid},
		{"too many", []uint64{1, 2, 3, 4, 5, 6, 7, 8}, ErrInvalid},
		{"an unknown node", []uint64{2, 3, 77}, ErrUnknownNode},
		{"a removed node", []uint64{2, 3, 5}, ErrNodeRemoved},
		{"a draining node", []uint64{2, 3, 4}, ErrNodeDraining},
	} {
		if err := isRefused(t, w.one(target(2, c.voters...))); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	if err := isRefused(t, w.one(target(99, 1))); !errors.Is(err, ErrUnknownGroup) {
		t.Errorf("%v", err)
	}
	for _, id := range []uint64{0, 1} {
		if err := isRefused(t, w.one(settled(2, id))); !errors.Is(err, ErrInvalid) {
			t.Errorf("target %d: %v", id, err)
		}
	}
	w.accepted(target(2, 1, 2)) // a draining node keeps what it has
}

func TestANodeJoinsOnceAndIdsAreNeverUsedAgain(t *testing.T) {
	w := withNodes(t, "", "")
	if err := isRefused(t, w.one(join("x"))); !errors.Is(err, ErrVotersUnknown) {
		t.Fatalf("%v", err)
	}
	w.accepted(target(1, 1, 2, 3)) // node 3 founded the cluster and has not registered yet
	node := w.accepted(join("x")).(*metav1.Node)
	if again := w.one(join("x")); node.GetNodeId() != 4 || again.Verdict != raftcore.Duplicate || again.Value.(*metav1.Node).GetNodeId() != 4 {
		t.Fatalf("%v, then %v %v", node, again.Verdict, again.Value)
	}
	w.reopen()
	if meta, ok := w.m.State().Target(1); !ok || !slices.Equal(meta.Nodes(), []raftcore.NodeID{1, 2, 3}) || !slices.Equal(meta.Learners, []Member{{4, 4}}) {
		t.Fatalf("%+v", meta)
	}
	w.accepted(register(&metav1.Node{NodeId: 3, StoreId: "late", StartNumber: 1}))
	w.accepted(register(&metav1.Node{NodeId: 4, StoreId: "x", StartNumber: 1}))
	if err := isRefused(t, w.one(register(&metav1.Node{NodeId: 7, StoreId: "y", StartNumber: 1}))); !errors.Is(err, ErrUnknownNode) {
		t.Fatalf("%v", err)
	}
	w.accepted(remove(4, false))
	w.reopen()
	for what, c := range map[string][]byte{
		"registers": register(&metav1.Node{NodeId: 4, StoreId: "x", StartNumber: 2}), "joins": join("x"), "is drained": drain(4, true),
	} {
		if err := isRefused(t, w.one(c)); !errors.Is(err, ErrNodeRemoved) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if o := w.one(remove(4, false)); o.Verdict != raftcore.Duplicate {
		t.Fatalf("removed again: %v", o.Verdict)
	}
	if node := w.accepted(join("z")).(*metav1.Node); node.GetNodeId() != 5 {
		t.Fatalf("%v", node)
	}
}

func TestTheTargetOfTheMetadataGroupChangesItsIdWithItsMembers(t *testing.T) {
	w := withNodes(t, "", "", "")
	last := uint64(0)
	for _, c := range []struct {
		command  []byte
		voters   []raftcore.NodeID
		learners []raftcore.NodeID
	}{
		{target(1, 1, 2, 3), []raftcore.NodeID{1, 2, 3}, nil},
		{join("a"), []raftcore.NodeID{1, 2, 3}, []raftcore.NodeID{4}},
		{join("b"), []raftcore.NodeID{1, 2, 3}, []raftcore.NodeID{4, 5}},
		{target(1, 2, 3, 4), []raftcore.NodeID{2, 3, 4}, []raftcore.NodeID{1, 5}},
		{remove(2, true), []raftcore.NodeID{3, 4}, []raftcore.NodeID{1, 5}},
		{remove(5, false), []raftcore.NodeID{3, 4}, []raftcore.NodeID{1}},
	} {
		w.accepted(c.command)
		got, _ := w.m.State().Target(1)
		if got.ID <= last || !slices.Equal(got.Nodes(), c.voters) || !slices.Equal(nodesOf(got.Learners), c.learners) {
			t.Fatalf("%+v, want %v and %v", got, c.voters, c.learners)
		}
		last = got.ID
	}
	if o := w.one(target(1, 4, 3)); o.Verdict != raftcore.Duplicate {
		t.Fatalf("the same voters: %v", o.Verdict)
	}
	w.accepted(drain(1, true))
	for _, c := range []struct {
		voters []uint64
		want   error
	}{
		{[]uint64{3, 4, 5}, ErrNodeRemoved}, {[]uint64{3, 4, 9}, ErrUnknownNode}, {[]uint64{1, 3, 4}, ErrNodeDraining}, {[]uint64{1, 2, 3, 4, 5, 6}, ErrInvalid},
	} {
		if err := isRefused(t, w.one(target(1, c.voters...))); !errors.Is(err, c.want) {
			t.Errorf("%v: %v", c.voters, err)
		}
	}
	w.accepted(remove(3, true))
	if err := isRefused(t, w.one(remove(4, true))); !errors.Is(err, ErrNodeInUse) {
		t.Fatalf("the only voter: %v", err)
	}
}

func TestANodeInUseIsRemovedOnlyByForce(t *testing.T) {
	w := withGroup(t)
	if err := isRefused(t, w.one(remove(4, false))); !errors.Is(err, ErrVotersUnknown) {
		t.Fatalf("%v", err)
	}
	w.accepted(target(1, 2, 4, 5))
	var use *NodeInUseError
	if err := isRefused(t, w.one(remove(1, false))); !errors.As(err, &use) || use.Replicas != 1 || use.Votes {
		t.Fatalf("%v", err)
	}
	if err := isRefused(t, w.one(remove(4, false))); !errors.As(err, &use) || use.Replicas != 0 || !use.Votes {
		t.Fatalf("%v", err)
	}
	if err := isRefused(t, w.one(remove(77, true))); !errors.Is(err, ErrUnknownNode) {
		t.Fatalf("%v", err)
	}
	w.accepted(target(2, 2, 3, 4))
	w.accepted(remove(1, true))
	w.reopen()
	// Nobody waits for a node that is gone for good: its replica leaves without an order.
	w.accepted(settled(2, 1))
	if got := w.m.State().Removals(1); got != nil {
		t.Fatalf("%v", got)
	}
	if w.m.State().Vouches(2, 1, 1) || w.m.State().Vouches(1, 1, 1) {
		t.Fatal("vouches for a removed node")
	}
	w.reopen()
}

func TestADrainingNodeKeepsItsStateAndTakesNoNewPartition(t *testing.T) {
	w := withNodes(t, "", "", "", "")
	w.accepted(drain(1, true))
	if o := w.one(drain(1, true)); o.Verdict != raftcore.Duplicate {
		t.Fatalf("again: %v", o.Verdict)
	}
	w.accepted(register(&metav1.Node{NodeId: 1, StoreId: "s", StartNumber: 2}))
	w.reopen()
	if got := layout(w.accepted(create(1, "a", 1, 3)).(*metav1.Topic)); !slices.Equal(got, []string{"[2 3 4]"}) {
		t.Fatalf("%v", got)
	}
	if err := isRefused(t, w.one(create(2, "b", 1, 4))); !errors.Is(err, ErrNotEnoughNodes) {
		t.Fatalf("%v", err)
	}
	w.accepted(drain(1, false))
	w.accepted(create(2, "b", 1, 4))
}

func TestADeletedTopicFreesItsNameAndOrdersEveryReplicaDeleted(t *testing.T) {
	w := withGroup(t)
	w.accepted(target(2, 2, 3, 4))
	w.accepted(settled(2, 1)) // node 1 has to delete replica 1
	w.accepted(target(2, 2, 3, 5))
	w.accepted(deleteTopic(1))
	w.reopen()
	s := w.m.State()
	for n, want := range map[raftcore.NodeID]raftcore.ReplicaID{1: 1, 2: 2, 3: 3, 4: 4, 5: 5} {
		if got := s.Removals(n); !slices.Equal(got, []Removal{{2, want}}) {
			t.Errorf("node %d has to delete %v", n, got)
		}
		if got := births(s, n); got != nil {
			t.Errorf("born on node %d: %v", n, got)
		}
	}
	if _, ok := s.TopicByName("t"); ok || len(s.Topics()) != 0 {
		t.Fatal("the topic is still there")
	}
	if o := w.one(deleteTopic(1)); o.Verdict != raftcore.Duplicate {
		t.Fatalf("again: %v", o.Verdict)
	}
	for _, unknown := range []uint64{0, 2} {
		if err := isRefused(t, w.one(deleteTopic(unknown))); !errors.Is(err, ErrUnknownTopic) {
			t.Fatalf("%v", err)
		}
	}
	if err := isRefused(t, w.one(target(2, 1))); !errors.Is(err, ErrUnknownGroup) {
		t.Fatalf("%v", err)
	}
	again := w.accepted(create(1, "t", 1, 3)).(*metav1.Topic)
	if again.GetTopicId() != 2 || again.GetPartitions()[0].GetGroupId() != 3 {
		t.Fatalf("%v", again)
	}
	w.accepted(gone(5, 2, 5))
	w.reopen()
	if w.m.State().Removals(5) != nil {
		t.Fatal("still there after the confirmation")
	}
}

func TestATopicsConfigIsStoredAndChanged(t *testing.T) {
	w := withNodes(t, "")
	create := func(ms int64) []byte {
		return encode(&metav1.Command{Command: &metav1.Command_CreateTopic{CreateTopic: &metav1.CreateTopic{
			Name: "t", Partitions: 1, Replicas: 1, RequestId: make([]byte, RequestIDBytes), Config: &metav1.TopicConfig{RetentionMs: ms, RetentionBytes: 7}}}})
	}
	alter := func(id uint64, ms int64) []byte {
		return encode(&metav1.Command{Command: &metav1.Command_AlterTopic{AlterTopic: &metav1.AlterTopic{TopicId: id, RetentionMs: &ms}}})
	}
	if err := isRefused(t, w.one(create(-1))); !errors.Is(err, ErrInvalid) {
		t.Fatalf("%v", err)
	}
	w.accepted(create(5))
	w.accepted(alter(1, 9))
	w.reopen()
	topic, _ := w.m.State().TopicByName("t")
	if c := topic.GetConfig(); c.GetRetentionMs() != 9 || c.GetRetentionBytes() != 7 {
		t.Fatalf("%v", c)
	}
	if err := isRefused(t, w.one(alter(1, -1))); !errors.Is(err, ErrInvalid) {
		t.Fatalf("%v", err)
	}
	if err := isRefused(t, w.one(alter(2, 1))); !errors.Is(err, ErrUnknownTopic) {
		t.Fatalf("%v", err)
	}
}
