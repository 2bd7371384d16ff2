package raftcore

import (
	"go.etcd.io/raft/v3/raftpb"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
)

// wireTypes and raftTypes are the two numberings of message types. What is missing is never sent between
// nodes, and 0 stands for it in both: etcd/raft's 0 is the local MsgHup.
var (
	wireTypes = [...]raftv1.MessageType{
		raftpb.MsgApp:           raftv1.MessageType_MESSAGE_TYPE_APPEND,
		raftpb.MsgAppResp:       raftv1.MessageType_MESSAGE_TYPE_APPEND_RESPONSE,
		raftpb.MsgVote:          raftv1.MessageType_MESSAGE_TYPE_VOTE,
		raftpb.MsgVoteResp:      raftv1.MessageType_MESSAGE_TYPE_VOTE_RESPONSE,
		raftpb.MsgPreVote:       raftv1.MessageType_MESSAGE_TYPE_PRE_VOTE,
		raftpb.MsgPreVoteResp:   raftv1.MessageType_MESSAGE_TYPE_PRE_VOTE_RESPONSE,
		raftpb.MsgHeartbeat:     raftv1.MessageType_MESSAGE_TYPE_HEARTBEAT,
		raftpb.MsgHeartbeatResp: raftv1.MessageType_MESSAGE_TYPE_HEARTBEAT_RESPONSE,
		raftpb.MsgSnap:          raftv1.MessageType_MESSAGE_TYPE_SNAPSHOT,
		raftpb.MsgTimeoutNow:    raftv1.MessageType_MESSAGE_TYPE_TIMEOUT_NOW,
	}
	raftTypes = func() (inverse [raftv1.MessageType_MESSAGE_TYPE_TIMEOUT_NOW + 1]raftpb.MessageType) {
		for r, w := range wireTypes {
			if w != raftv1.MessageType_MESSAGE_TYPE_UNSPECIFIED {
				inverse[w] = raftpb.MessageType(r)
			}
		}
		return inverse
	}()
)

func wireType(t raftpb.MessageType) raftv1.MessageType {
	if t < 0 || int(t) >= len(wireTypes) {
		return raftv1.MessageType_MESSAGE_TYPE_UNSPECIFIED
	}
	return wireTypes[t]
}

func raftType(t raftv1.MessageType) (raftpb.MessageType, bool) {
	if t <= 0 || int(t) >= len(raftTypes) {
		return raftpb.MsgHup, false
	}
	return raftTypes[t], true
}

// ToEnvelope packs a message for a peer. The data of entries is shared with m, not copied: neither etcd/raft
// nor the transport changes it. Heartbeats are packed as well; the transport folds them.
func ToEnvelope(g GroupID, m *raftpb.Message) *raftv1.Envelope {
	e := &raftv1.Envelope{
		GroupId: uint64(g), FromReplica: m.GetFrom(), ToReplica: m.GetTo(), Type: wireType(m.GetType()),
		Term: m.GetTerm(), LogTerm: m.GetLogTerm(), Index: m.GetIndex(), Commit: m.GetCommit(),
		Reject: m.GetReject(), RejectHint: m.GetRejectHint(), Context: m.GetContext(),
	}
	if isVote(m.GetType()) {
		e.RejectHint, e.CommitTerm = 0, m.GetRejectHint() // see votes.go
	}
	if n := len(m.GetEntries()); n > 0 {
		block := make([]raftv1.LogEntry, n)
		e.Entries = make([]*raftv1.LogEntry, n)
		for i, from := range m.GetEntries() {
			to := &block[i]
			to.Term, to.Index, to.Data = from.GetTerm(), from.GetIndex(), from.GetData()
			to.Type = raftv1.EntryType(from.GetType())
			e.Entries[i] = to
		}
	}
	if meta := m.GetSnapshot().GetMetadata(); meta != nil {
		e.Snapshot = &raftv1.SnapshotMetadata{Index: meta.GetIndex(), Term: meta.GetTerm(), ConfState: ToConfState(meta.GetConfState())}
	}
	return e
}

// FromEnvelope unpacks an envelope; the error is a *Refusal. It checks only what has no form in raftpb: all
// else is the allow-list's. The data of entries is shared with e.
func FromEnvelope(e *raftv1.Envelope) (*raftpb.Message, error) {
	kind, known := raftType(e.GetType())
	if !known {
		return nil, refuse(ReasonType)
	}
	hint, none := e.GetRejectHint(), e.GetCommitTerm()
	if isVote(kind) {
		hint, none = none, hint // see votes.go
	}
	if none != 0 {
		return nil, refuse(ReasonField)
	}
	m := newMessage(scalars{
		kind: kind, from: e.GetFromReplica(), to: e.GetToReplica(), term: e.GetTerm(), logTerm: e.GetLogTerm(),
		index: e.GetIndex(), commit: e.GetCommit(), reject: e.GetReject(), rejectHint: hint,
	})
	m.Context = e.GetContext()
	if meta := e.GetSnapshot(); meta != nil {
		m.Snapshot = &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
			Index: new(meta.GetIndex()), Term: new(meta.GetTerm()), ConfState: fromConfState(meta.GetConfState()),
		}}
	}
	if len(e.GetEntries()) == 0 {
		return m, nil
	}
	m.Entries = make([]*raftpb.Entry, len(e.GetEntries()))
	for i, from := range e.GetEntries() {
		if from == nil {
			return nil, refuse(ReasonNil)
		}
		m.Entries[i] = newEntry(from.GetIndex(), from)
	}
	return m, nil
}

// FromHeartbeat unpacks a folded heartbeat or an answer to one.
func FromHeartbeat(h *raftv1.GroupHeartbeat) *raftpb.Message {
	kind := raftpb.MsgHeartbeat
	if h.GetResponse() {
		kind = raftpb.MsgHeartbeatResp
	}
	m := newMessage(scalars{kind: kind, from: h.GetFromReplica(), to: h.GetToReplica(), term: h.GetTerm(), commit: h.GetCommit()})
	m.Context = h.GetContext()
	return m
}

// ToHeartbeat folds a heartbeat or an answer to one; false for any other message.
func ToHeartbeat(g GroupID, m *raftpb.Message) (*raftv1.GroupHeartbeat, bool) {
	kind := m.GetType()
	if kind != raftpb.MsgHeartbeat && kind != raftpb.MsgHeartbeatResp {
		return nil, false
	}
	return &raftv1.GroupHeartbeat{
		GroupId: uint64(g), FromReplica: m.GetFrom(), ToReplica: m.GetTo(), Term: m.GetTerm(),
		Commit: m.GetCommit(), Context: m.GetContext(), Response: kind == raftpb.MsgHeartbeatResp,
	}, true
}

// scalars are what the pointers of a raftpb.Message point to.
type scalars struct {
	kind                                               raftpb.MessageType
	from, to, term, logTerm, index, commit, rejectHint uint64
	reject                                             bool
}

// newMessage makes a message and everything it points to in one allocation instead of ten.
func newMessage(s scalars) *raftpb.Message {
	b := &struct {
		m raftpb.Message
		s scalars
	}{s: s}
	b.m.Type, b.m.From, b.m.To, b.m.Term = &b.s.kind, &b.s.from, &b.s.to, &b.s.term
	b.m.LogTerm, b.m.Index, b.m.Commit = &b.s.logTerm, &b.s.index, &b.s.commit
	b.m.Reject, b.m.RejectHint = &b.s.reject, &b.s.rejectHint
	return &b.m
}

// newEntry makes an entry in one allocation. Entries of one message do not share one: the log keeps some for
// long, and would keep all.
func newEntry(index uint64, from *raftv1.LogEntry) *raftpb.Entry {
	b := &struct {
		e           raftpb.Entry
		term, index uint64
		kind        raftpb.EntryType
	}{term: from.GetTerm(), index: index, kind: raftpb.EntryType(from.GetType())}
	b.e.Term, b.e.Index, b.e.Type, b.e.Data = &b.term, &b.index, &b.kind, from.GetData()
	return &b.e
}

// ToConfState packs a membership.
func ToConfState(c *raftpb.ConfState) *raftv1.ConfState {
	return &raftv1.ConfState{
		Voters: c.GetVoters(), Learners: c.GetLearners(), VotersOutgoing: c.GetVotersOutgoing(),
		LearnersNext: c.GetLearnersNext(), AutoLeave: c.GetAutoLeave(),
	}
}

func fromConfState(c *raftv1.ConfState) *raftpb.ConfState {
	return &raftpb.ConfState{
		Voters: c.GetVoters(), Learners: c.GetLearners(), VotersOutgoing: c.GetVotersOutgoing(),
		LearnersNext: c.GetLearnersNext(), AutoLeave: new(c.GetAutoLeave()),
	}
}
