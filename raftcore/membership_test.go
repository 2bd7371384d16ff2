package raftcore

import (
	"errors"
	"fmt"
	"maps"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

func changeEntry(t testing.TB, change *raftpb.ConfChangeV2) *raftpb.Entry {
	data, err := proto.Marshal(change)
	if err != nil {
		t.Fatal(err)
	}
	return &raftpb.Entry{Type: raftpb.EntryConfChangeV2.Enum(), Index: new(uint64(3)), Term: new(uint64(2)), Data: data}
}

func changes(t testing.TB, text string, context map[ReplicaID]NodeID) *raftpb.ConfChangeV2 {
	all, err := raftpb.ConfChangesFromString(text)
	if err != nil {
		t.Fatal(err)
	}
	data, err := EncodeMembership(context)
	if err != nil {
		t.Fatal(err)
	}
	return &raftpb.ConfChangeV2{Changes: all, Context: data}
}

func TestAMembershipChangeCarriesTheNodesOfNewReplicas(t *testing.T) {
	c := startedNetwork(t, 3, 1).core(1)
	for _, step := range []struct {
		change  *raftpb.ConfChangeV2
		conf    string
		members string
	}{
		{changes(t, "l4", map[ReplicaID]NodeID{4: 40}), "[1 2 3] learners [4] outgoing []", "map[1:1 2:2 3:3 4:40]"},
		{func() *raftpb.ConfChangeV2 {
			joint := changes(t, "v4 r3", nil)
			joint.Transition = raftpb.ConfChangeTransitionJointExplicit.Enum()
			return joint
		}(), "[1 2 4] learners [] outgoing [1 2 3]", "map[1:1 2:2 3:3 4:40]"},
		{&raftpb.ConfChangeV2{}, "[1 2 4] learners [] outgoing []", "map[1:1 2:2 4:40]"},
	} {
		conf, members, err := c.ApplyConfChange(changeEntry(t, step.change))
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%v learners %v outgoing %v", conf.Voters, conf.Learners, conf.VotersOutgoing); got != step.conf {
			t.Errorf("got %s, want %s", got, step.conf)
		}
		if got := fmt.Sprint(members); got != step.members {
			t.Errorf("got %s, want %s", got, step.members)
		}
	}
	response := msg(raftpb.MsgAppResp, func(m *raftpb.Message) { m.From = new(uint64(3)) })
	if err := c.Step(3, response); !errors.Is(err, refuse(ReasonNotMember)) {
		t.Errorf("a removed replica's response: %v", err)
	}
}

func TestAChangeThatDoesNotFitIsRefusedByAllAlike(t *testing.T) {
	joint := changes(t, "v4 v5", map[ReplicaID]NodeID{4: 4, 5: 5})
	joint.Transition = raftpb.ConfChangeTransitionJointExplicit.Enum()
	spoilt := changes(t, "v4", nil)
	spoilt.Context = []byte{0xff}
	for name, e := range map[string]*raftpb.Entry{
		"a new replica on no node":      changeEntry(t, changes(t, "v4", nil)),
		"a replica on node 0":           changeEntry(t, changes(t, "v4", map[ReplicaID]NodeID{4: 0})),
		"leaving what is not joint":     changeEntry(t, &raftpb.ConfChangeV2{}),
		"removing everybody":            changeEntry(t, func() *raftpb.ConfChangeV2 { c := changes(t, "r1 r2 r3", nil); return c }()),
		"replica 0":                     changeEntry(t, changes(t, "v0", nil)),
		"a context that is none":        changeEntry(t, spoilt),
		"content that is no change":     {Type: raftpb.EntryConfChangeV2.Enum(), Data: []byte{0xff}},
		"old content that is no change": {Type: raftpb.EntryConfChange.Enum(), Data: []byte{0xff}},
		"an entry with records":         {Data: []byte("x")},
	} {
		c := startedNetwork(t, 3, 1).core(1)
		before := proto.CloneOf(c.ConfState())
		conf, members, err := c.ApplyConfChange(e)
		if !errors.Is(err, ErrConfChange) {
			t.Errorf("%s: got %v", name, err)
		}
		if before.Equivalent(conf) != nil || !maps.Equal(members, c.members) || len(members) != 3 {
			t.Errorf("%s changed the membership", name)
		}
	}
	c := startedNetwork(t, 3, 1).core(1)
	if _, _, err := c.ApplyConfChange(changeEntry(t, joint)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.ApplyConfChange(changeEntry(t, changes(t, "r3", nil))); !errors.Is(err, ErrConfChange) {
		t.Errorf("a second change before the first has ended: %v", err)
	}
}

func TestARemovedLeaderStepsDown(t *testing.T) {
	c := startedNetwork(t, 3, 1).core(1)
	e := &raftpb.Entry{Type: raftpb.EntryConfChange.Enum()}
	var err error
	if e.Data, err = proto.Marshal(&raftpb.ConfChange{Type: raftpb.ConfChangeRemoveNode.Enum(), NodeId: new(uint64(1))}); err != nil {
		t.Fatal(err)
	}
	if _, members, err := c.ApplyConfChange(e); err != nil || len(members) != 2 {
		t.Fatal(members, err)
	}
	if st := c.Status(); st.Role != Follower {
		t.Errorf("it is still %s", st.Role)
	}
	own := msg(raftpb.MsgAppResp, func(m *raftpb.Message) { m.From = new(uint64(1)) })
	if err := c.StepLocal(own); err != nil {
		t.Errorf("its disk answers: %v", err)
	}
}

func TestAMembershipSurvivesItsEncoding(t *testing.T) {
	want := map[ReplicaID]NodeID{3: 30, 1: 10, 2: 20}
	data, err := EncodeMembership(want)
	if err != nil {
		t.Fatal(err)
	}
	again, err := EncodeMembership(maps.Clone(want))
	if err != nil || string(again) != string(data) {
		t.Errorf("two encodings differ: %v", err)
	}
	if got, err := DecodeMembership(data); err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
}
