package raftcore

import (
	"errors"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
)

func sampleMessages() []*raftpb.Message {
	all := scalars{from: 2, to: 1, term: 3, logTerm: 2, index: 9, commit: 8, rejectHint: 7, reject: true}
	var ms []*raftpb.Message
	for kind, wire := range wireTypes {
		if wire == raftv1.MessageType_MESSAGE_TYPE_UNSPECIFIED {
			continue
		}
		all.kind = raftpb.MessageType(kind)
		m := newMessage(all)
		m.Context = []byte("12345678")
		ms = append(ms, m)
	}
	ms[0].Entries = []*raftpb.Entry{
		{Type: raftpb.EntryNormal.Enum(), Term: new(uint64(2)), Index: new(uint64(10)), Data: []byte("a")},
		{Type: raftpb.EntryConfChangeV2.Enum(), Term: new(uint64(3)), Index: new(uint64(11)), Data: []byte("b")},
	}
	ms[1].Snapshot = &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: new(uint64(5)), Term: new(uint64(2)), ConfState: &raftpb.ConfState{
		Voters: []uint64{1, 2}, Learners: []uint64{3}, VotersOutgoing: []uint64{1, 4}, LearnersNext: []uint64{4}, AutoLeave: new(true)}}}
	return ms
}

func TestAMessageSurvivesItsEnvelope(t *testing.T) {
	ms := sampleMessages()
	if len(ms) != len(raftv1.MessageType_name)-1 {
		t.Errorf("%d types of message have an envelope", len(ms))
	}
	for _, m := range ms {
		e := ToEnvelope(7, m)
		got, err := FromEnvelope(e)
		if err != nil || !proto.Equal(got, m) || e.GetGroupId() != 7 {
			t.Errorf("%s: got %v, %v", m.GetType(), got, err)
		}
	}
}

func TestAnEnvelopeSharesTheDataOfEntries(t *testing.T) {
	m := sampleMessages()[0]
	e := ToEnvelope(7, m)
	if &e.Entries[0].Data[0] != &m.Entries[0].Data[0] {
		t.Error("packing copies")
	}
	back, err := FromEnvelope(e)
	if err != nil || &back.Entries[0].Data[0] != &m.Entries[0].Data[0] {
		t.Errorf("unpacking copies: %v", err)
	}
}

func TestAHeartbeatSurvivesFolding(t *testing.T) {
	for _, kind := range []raftpb.MessageType{raftpb.MsgHeartbeat, raftpb.MsgHeartbeatResp} {
		m := newMessage(scalars{kind: kind, from: 2, to: 1, term: 3, commit: 8})
		m.Context = []byte("12345678")
		h, ok := ToHeartbeat(7, m)
		if !ok || h.GetGroupId() != 7 || !proto.Equal(FromHeartbeat(h), m) {
			t.Errorf("%s became %v", kind, h)
		}
	}
	if _, ok := ToHeartbeat(7, newMessage(scalars{kind: raftpb.MsgApp})); ok {
		t.Error("an append was folded")
	}
}

func TestAnEnvelopeThatIsNoMessageIsRefused(t *testing.T) {
	for want, e := range map[Reason]*raftv1.Envelope{
		ReasonType: {},
		ReasonNil:  {Type: raftv1.MessageType_MESSAGE_TYPE_APPEND, Entries: []*raftv1.LogEntry{nil}},
	} {
		if _, err := FromEnvelope(e); !errors.Is(err, refuse(want)) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	for _, kind := range []raftv1.MessageType{-1, 11, 1 << 30} {
		if _, err := FromEnvelope(&raftv1.Envelope{Type: kind}); !errors.Is(err, refuse(ReasonType)) {
			t.Errorf("type %d: got %v", kind, err)
		}
	}
	if e := ToEnvelope(7, newMessage(scalars{kind: raftpb.MsgProp})); e.GetType() != raftv1.MessageType_MESSAGE_TYPE_UNSPECIFIED {
		t.Error("a proposal has an envelope")
	}
}

func TestAnEnvelopeCostsTwoAllocationsPerEntry(t *testing.T) {
	e := ToEnvelope(7, sampleMessages()[0])
	pack := testing.AllocsPerRun(100, func() { ToEnvelope(7, sampleAppend) })
	unpack := testing.AllocsPerRun(100, func() {
		if _, err := FromEnvelope(e); err != nil {
			t.Fatal(err)
		}
	})
	if pack > 3 || unpack > 4 {
		t.Errorf("packing allocates %.0f times, unpacking %.0f", pack, unpack)
	}
}

var sampleAppend = sampleMessages()[0]
