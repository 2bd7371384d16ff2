package raftcore

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/multiraftd/multiraftd/proto/decodetest"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
)

// own unmarshals data without what this version does not know.
func own(data []byte, m proto.Message) bool {
	return proto.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(data, m) == nil
}

func marshal(t testing.TB, m proto.Message) []byte {
	data, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// FuzzFromEnvelope: no envelope makes unpacking panic, and packing gives back what unpacking took.
func FuzzFromEnvelope(f *testing.F) {
	for _, m := range sampleMessages() {
		f.Add(marshal(f, ToEnvelope(7, m)))
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		decodetest.Bounded(t, len(data), decodetest.PerByte, func() {
			var e raftv1.Envelope
			if !own(data, &e) {
				return
			}
			m, err := FromEnvelope(&e)
			if err != nil {
				if !errors.Is(err, refuse(ReasonType)) && !errors.Is(err, refuse(ReasonField)) {
					t.Errorf("refused: %v", err)
				}
				return
			}
			if s := e.GetSnapshot(); s != nil && s.ConfState == nil {
				s.ConfState = &raftv1.ConfState{} // raftpb does not tell an absent one
			}
			if again := ToEnvelope(GroupID(e.GetGroupId()), m); !proto.Equal(again, &e) {
				t.Errorf("%v became %v", &e, again)
			}
		})
	})
}

// FuzzToEnvelope: any message of etcd/raft can be packed, and what a peer unpacks says the same; heartbeats
// also folded.
func FuzzToEnvelope(f *testing.F) {
	for _, m := range sampleMessages() {
		f.Add(marshal(f, m))
	}
	f.Add(marshal(f, &raftpb.Message{Type: raftpb.MsgProp.Enum()}))
	f.Fuzz(func(t *testing.T, data []byte) {
		var m raftpb.Message
		if !own(data, &m) {
			return
		}
		e := ToEnvelope(7, &m)
		again, err := FromEnvelope(e)
		if sent := wireType(m.GetType()) != raftv1.MessageType_MESSAGE_TYPE_UNSPECIFIED; !sent {
			if !errors.Is(err, refuse(ReasonType)) {
				t.Errorf("%v is never sent: got %v", m.GetType(), err)
			}
			return
		}
		if err != nil || !proto.Equal(ToEnvelope(7, again), e) {
			t.Fatalf("%v became %v, %v", e, again, err)
		}
		h, folds := ToHeartbeat(7, &m)
		if !folds {
			return
		}
		unfolded := FromHeartbeat(h)
		if back, ok := ToHeartbeat(7, unfolded); !ok || !proto.Equal(back, h) || unfolded.GetType() != m.GetType() {
			t.Errorf("%v became %v", h, unfolded)
		}
	})
}

// FuzzDecodeEntry: no panic, and what decodes is the one encoding of what it says.
func FuzzDecodeEntry(f *testing.F) {
	for _, e := range sampleEntries() {
		f.Add(e.AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		decodetest.Bounded(t, len(data), decodetest.PerByte, func() {
			e, err := DecodeEntry(data)
			if err != nil {
				if !errors.Is(err, ErrUndecodable) {
					t.Error(err)
				}
				return
			}
			if again := e.AppendTo(nil); !bytes.Equal(again, data) {
				t.Errorf("%x became %x", data, again)
			}
			size := 0
			for _, p := range e.Payloads {
				size += len(p)
			}
			if over := len(data) - size; over > EntryOverheadMax(len(e.Payloads)) {
				t.Errorf("%d bytes of overhead", over)
			}
		})
	})
}

// FuzzCanonicalRequest: the bytes of a canonical RPC become a message that obeys the rules, or a refusal that
// has changed nothing.
func FuzzCanonicalRequest(f *testing.F) {
	fixedElectionTimeouts(f)
	f.Add(false, marshal(f, &raftv1.AppendEntriesRequest{Header: header(2), Term: 5, LeaderId: 2, PrevLogIndex: 4, PrevLogTerm: 3, LeaderCommit: 3,
		Entries: []*raftv1.LogEntry{{Term: 5, Data: []byte("x")}, {Term: 5, Index: 6}}}))
	f.Add(false, marshal(f, &raftv1.AppendEntriesRequest{Header: header(2), Term: 6, LeaderId: 2, PrevLogIndex: 1, PrevLogTerm: 1,
		Entries: []*raftv1.LogEntry{{Term: 2}, {Term: 2}, {Term: 5}}}))
	f.Add(true, marshal(f, &raftv1.RequestVoteRequest{Header: header(2), CandidateId: 2, Term: 5, LastLogIndex: 4, LastLogTerm: 3}))
	f.Add(true, marshal(f, &raftv1.RequestVoteRequest{Header: header(3), CandidateId: 3, Term: 5, LastLogIndex: 4, LastLogTerm: 3, PreVote: true}))
	f.Fuzz(func(t *testing.T, vote bool, data []byte) {
		h := &hostility{t: t, net: follower(t, 4, 3, 2, 2, 3), votes: map[uint64]uint64{}, checkpoints: []checkpoint{{1, nil}}}
		h.settle()
		before := h.standing()
		decodetest.Bounded(t, len(data), decodetest.PerByte, func() {
			m, err := fromCanonical(h.core(), vote, data)
			if err != nil {
				h.refused(err, before)
			} else if m != nil && h.standing() != before {
				t.Errorf("making the message changed the replica to %+v", h.standing())
			} else if m != nil && h.step(m) {
				h.settle()
			}
		})
	})
}

// fromCanonical returns nil, nil for what is no request.
func fromCanonical(c *Core, vote bool, data []byte) (*raftpb.Message, error) {
	if vote {
		var req raftv1.RequestVoteRequest
		if !own(data, &req) {
			return nil, nil
		}
		return c.FromRequestVote(&req)
	}
	var req raftv1.AppendEntriesRequest
	if !own(data, &req) {
		return nil, nil
	}
	return c.FromAppendEntries(&req)
}

// FuzzApplyConfChange: whatever is committed as a membership change is applied, and then the membership is one
// that etcd/raft can restart with and every member has a node; or it is refused and nothing has changed.
func FuzzApplyConfChange(f *testing.F) {
	fixedElectionTimeouts(f)
	for _, text := range []string{"v4", "l4", "v4 r3", "v4 v5 r1 r2", "r1", "v0"} {
		change := changes(f, text, map[ReplicaID]NodeID{4: 4, 5: 50})
		f.Add(int32(raftpb.EntryConfChangeV2), marshal(f, change))
		change.Transition = raftpb.ConfChangeTransitionJointExplicit.Enum()
		f.Add(int32(raftpb.EntryConfChangeV2), marshal(f, change))
	}
	f.Add(int32(raftpb.EntryConfChangeV2), marshal(f, &raftpb.ConfChangeV2{}))
	f.Add(int32(raftpb.EntryConfChange), marshal(f, &raftpb.ConfChange{Type: raftpb.ConfChangeRemoveNode.Enum(), NodeId: new(uint64(3))}))
	f.Add(int32(raftpb.EntryNormal), []byte("x"))
	f.Fuzz(func(t *testing.T, kind int32, data []byte) {
		c := startedNetwork(t, 3, 1).core(1)
		e := &raftpb.Entry{Type: raftpb.EntryType(kind).Enum(), Index: new(uint64(3)), Term: new(uint64(2)), Data: data}
		decodetest.Bounded(t, len(data), decodetest.PerByte, func() {
			for range 3 { // a change that is joint must fit again, or not
				checkApplied(t, c, e)
			}
		})
	})
}

func checkApplied(t *testing.T, c *Core, e *raftpb.Entry) {
	before, members := proto.CloneOf(c.ConfState()), c.Members()
	conf, after, err := c.ApplyConfChange(e)
	if err != nil {
		if !errors.Is(err, ErrConfChange) || !proto.Equal(conf, before) || !maps.Equal(after, members) || !maps.Equal(after, c.Members()) {
			t.Fatalf("%v: membership %v of %v, was %v of %v", err, conf, after, before, members)
		}
		return
	}
	if n := len(conf.GetVoters()) + len(conf.GetLearners()) + len(conf.GetVotersOutgoing()); n <= replicasMax && !confStateValid(conf) {
		t.Fatalf("membership %v is none", conf)
	}
	for _, id := range slices.Concat(conf.GetVoters(), conf.GetLearners(), conf.GetVotersOutgoing(), conf.GetLearnersNext()) {
		if after[ReplicaID(id)] == 0 {
			t.Fatalf("replica %d of %v has no node in %v", id, conf, after)
		}
	}
	encoded, err := EncodeMembership(after)
	if err != nil {
		t.Fatal(err)
	}
	if decoded, err := DecodeMembership(encoded); err != nil || !maps.Equal(decoded, after) {
		t.Fatalf("%v became %v, %v", after, decoded, err)
	}
}
