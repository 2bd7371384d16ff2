package raftcore

import (
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
)

var hostileTypes = []raftpb.MessageType{
	raftpb.MsgApp, raftpb.MsgApp, raftpb.MsgApp, raftpb.MsgAppResp, raftpb.MsgAppResp, raftpb.MsgHeartbeat, raftpb.MsgHeartbeatResp,
	raftpb.MsgVote, raftpb.MsgVoteResp, raftpb.MsgVoteResp, raftpb.MsgPreVote, raftpb.MsgPreVoteResp, raftpb.MsgPreVoteResp,
	raftpb.MsgSnap, raftpb.MsgTimeoutNow,
}

// hugeData is more than one message may carry. Shared by all that pretend to.
var hugeData = make([]byte, appendBytesMax+1)

func (h *hostility) message() *raftpb.Message {
	st := h.core().Status()
	s := scalars{kind: hostileTypes[int(h.byte())%len(hostileTypes)], from: 2 + uint64(h.byte()%3), to: 1, term: st.Term + uint64(h.byte()%8)/6}
	if h.rarely() {
		s.kind = raftpb.MessageType(h.byte() % 25)
	}
	if h.rarely() {
		s.from, s.to = h.number(st), h.number(st)
	}
	if h.rarely() {
		s.term = h.number(st)
	}
	s.index, s.commit, s.rejectHint = h.number(st), h.number(st), h.number(st)
	s.reject = h.byte()%3 == 1
	if s.logTerm = h.number(st); h.byte()%4 != 1 {
		if own, err := h.net.nodes[1].log.Term(s.index); err == nil {
			s.logTerm = own
		}
	}
	if s.kind == raftpb.MsgHeartbeat && h.byte()%32 != 1 {
		s.commit = min(s.commit, uint64(st.Last)) // else every program ends in quarantine
	}
	if isVote(s.kind) && h.byte()%4 != 1 {
		h.sayCommitted(&s, st)
	}
	m := newMessage(s)
	h.fill(m, st)
	return m
}

// sayCommitted says that an entry of the replica's log is committed, or nothing.
func (h *hostility) sayCommitted(s *scalars, st Status) {
	s.commit, s.rejectHint = 0, 0
	if n := h.byte() % 8; n > 1 {
		s.commit = uint64(st.Commit) + uint64(n)/2
		if own, err := h.net.nodes[1].log.Term(s.commit); err == nil {
			s.rejectHint = own
		}
	}
}

// fill adds what is not a number, mostly to the messages that may have it.
func (h *hostility) fill(m *raftpb.Message, st Status) {
	odd := h.byte()
	if m.GetType() == raftpb.MsgApp || odd == 1 {
		h.entries(m)
	}
	if m.GetType() == raftpb.MsgSnap || odd == 2 {
		m.Snapshot = h.snapshot(st)
	}
	switch m.GetType() {
	case raftpb.MsgHeartbeat, raftpb.MsgHeartbeatResp:
		switch n := h.byte(); n % 4 {
		case 0, 1:
			m.Context = []byte{n / 4 % 4, 0, 0, 0, 0, 0, 0, 0}
		case 2:
			m.Context = make([]byte, n/4%20)
		}
	case raftpb.MsgVote:
		if h.byte()%2 == 0 {
			m.Context = []byte(transferMark)
		}
	}
	switch odd {
	case 3:
		m.Context = []byte(transferMark)
	case 4:
		m.Context = []byte(transferMark + "12345678")[:h.byte()%25]
	case 5:
		m.Vote = new(h.number(st))
	case 6:
		m.Responses = []*raftpb.Message{newMessage(scalars{kind: raftpb.MsgAppResp, from: 2, to: 1, term: st.Term})}
	}
}

// number is one that matters to the replica, or any.
func (h *hostility) number(st Status) uint64 {
	last := uint64(st.Last)
	near := [...]uint64{0, 1, last, last, last - 1, last + 1, last + 2, uint64(st.Commit), uint64(st.Commit) + 1, uint64(st.Applied), st.Term}
	far := [...]uint64{top, top - 1, 1 << 63, indexMax, indexMax + 1, termMax, termMax + 1, st.Term + termJumpMax, st.Term + termJumpMax + 1}
	switch pick := int(h.byte()); {
	case pick < 160:
		return near[pick%len(near)]
	case pick < 192:
		return far[pick%len(far)]
	default:
		return uint64(pick % 16)
	}
}

func (h *hostility) entries(m *raftpb.Message) {
	term := max(m.GetLogTerm(), 1)
	for i := range uint64(h.byte() % 5) {
		if h.byte()%3 == 1 && term < m.GetTerm() {
			term++
		}
		e := &raftpb.Entry{Index: new(m.GetIndex() + 1 + i), Term: new(term), Data: []byte("x")}
		switch h.byte() % 32 {
		case 1:
			e.Index = new(uint64(h.byte()))
		case 2:
			e.Term = new(uint64(h.byte()))
		case 3:
			e = nil
		case 4, 5:
			e.Type, e.Data = raftpb.EntryConfChangeV2.Enum(), h.change()
		case 6:
			e.Type, e.Data = raftpb.EntryConfChange.Enum(), []byte{h.byte(), h.byte(), h.byte(), h.byte()}
		case 7:
			e.Type, e.Data = raftpb.EntryConfChangeV2.Enum(), []byte{h.byte(), h.byte(), h.byte(), h.byte()}
		case 8:
			e.Type = raftpb.EntryType(h.byte() % 5).Enum()
		case 9:
			e.Data = hugeData[:min(len(hugeData), int(h.byte())<<13)]
		}
		m.Entries = append(m.Entries, e)
	}
}

// replica is the id of one that is a member, may become one, or is nobody's.
func (h *hostility) replica() uint64 {
	ids := [...]uint64{1, 2, 3, 4, 5, 6, 0, uint64(reservedAppend), uint64(reservedApply)}
	return ids[int(h.byte()%64)%len(ids)]
}

func (h *hostility) change() []byte {
	change := &raftpb.ConfChangeV2{Transition: raftpb.ConfChangeTransition(h.byte() % 4).Enum()}
	for range h.byte() % 4 {
		change.Changes = append(change.Changes, &raftpb.ConfChangeSingle{
			Type: raftpb.ConfChangeType(h.byte() % 5).Enum(), NodeId: new(h.replica())})
	}
	context, err := EncodeMembership(map[ReplicaID]NodeID{4: 4, 5: 5, 6: 6})
	h.must(err)
	change.Context = context
	data, err := proto.Marshal(change)
	h.must(err)
	return data
}

func (h *hostility) snapshot(st Status) *raftpb.Snapshot {
	ids := func() (ids []uint64) {
		for range h.byte() % 4 {
			ids = append(ids, h.replica())
		}
		return ids
	}
	conf := &raftpb.ConfState{Voters: []uint64{1, 2, 3}, AutoLeave: new(h.rarely())}
	switch h.byte() % 4 {
	case 1:
		conf.Voters = ids()
	case 2:
		conf.Learners = ids()
	case 3:
		conf.VotersOutgoing, conf.LearnersNext = ids(), ids()
	}
	s := &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: new(h.number(st)), Term: new(h.number(st)), ConfState: conf}}
	switch h.byte() {
	case 1:
		s.Data = []byte("x")
	case 2:
		s.Metadata = nil
	case 3:
		s.Metadata.ConfState = nil
	}
	return s
}

// header is mostly that of a member.
func (h *hostility) header(m *raftpb.Message) *raftv1.Header {
	if h.rarely() {
		return nil
	}
	return &raftv1.Header{GroupId: uint64(testGroup), FromReplica: m.GetFrom(), ToReplica: m.GetTo(), FromNode: m.GetFrom()}
}

// appendEntries is an append in the canonical form.
func (h *hostility) appendEntries() *raftv1.AppendEntriesRequest {
	m := h.message()
	m.Entries = nil
	h.entries(m)
	req := &raftv1.AppendEntriesRequest{
		Header: h.header(m), Term: m.GetTerm(), LeaderId: m.GetFrom(), PrevLogIndex: m.GetIndex(), PrevLogTerm: m.GetLogTerm(), LeaderCommit: m.GetCommit(),
	}
	if h.rarely() {
		req.LeaderId = h.replica()
	}
	for _, e := range m.GetEntries() {
		if e == nil {
			req.Entries = append(req.Entries, nil)
			continue
		}
		own := &raftv1.LogEntry{Term: e.GetTerm(), Index: e.GetIndex(), Data: e.GetData(), Type: raftv1.EntryType(e.GetType())}
		if h.byte()%2 == 0 {
			own.Index = 0
		}
		req.Entries = append(req.Entries, own)
	}
	return req
}

// requestVote is a vote or pre-vote in the canonical form.
func (h *hostility) requestVote() *raftv1.RequestVoteRequest {
	m := h.message()
	req := &raftv1.RequestVoteRequest{
		Header: h.header(m), Term: m.GetTerm(), CandidateId: m.GetFrom(), LastLogIndex: m.GetIndex(), LastLogTerm: m.GetLogTerm(),
		PreVote: h.byte()%3 == 1, LeadershipTransfer: h.byte()%3 == 1,
	}
	if s := (scalars{}); h.byte()%2 == 0 {
		h.sayCommitted(&s, h.core().Status())
		req.CommitIndex, req.CommitTerm = s.commit, s.rejectHint
	}
	if h.rarely() {
		req.CandidateId = h.replica()
	}
	return req
}
