package raftcore

import (
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
)

// The Raft paper's RPCs as etcd/raft messages. The caller steps the message in the same turn, before any
// other, waits until the response that IsAnswer recognises among the next Effects is durable, and answers with
// it; when those Effects hold none, it answers with nil at once: etcd/raft is silent to stale candidates and
// during a leader's lease.

// FromAppendEntries makes the message for req. The error is a *Refusal.
//
// What is committed here already is compared and cut off: for an append that starts before its commit index
// etcd/raft answers with that index and looks no further, which must not pass for an acknowledgement of
// entries that differ.
func (c *Core) FromAppendEntries(req *raftv1.AppendEntriesRequest) (*raftpb.Message, error) {
	from, to := req.GetHeader().GetFromReplica(), req.GetHeader().GetToReplica()
	if req.GetLeaderId() != from {
		return nil, refuse(ReasonLeaderID)
	}
	m := newMessage(scalars{
		kind: raftpb.MsgApp, from: from, to: to, term: req.GetTerm(),
		logTerm: req.GetPrevLogTerm(), index: req.GetPrevLogIndex(), commit: req.GetLeaderCommit(),
	})
	for i, e := range req.GetEntries() {
		index := req.GetPrevLogIndex() + 1 + uint64(i)
		if e == nil {
			return nil, refuse(ReasonNil)
		}
		if e.GetIndex() != 0 && e.GetIndex() != index {
			return nil, refuse(ReasonEntryIndex)
		}
		m.Entries = append(m.Entries, newEntry(index, e))
	}
	// The whole request obeys the rules, not only what is left of it.
	st := c.rn.BasicStatus()
	if r := admitShape(m, st.GetTerm()); r != admitted {
		return nil, refuse(r)
	}
	if r := admitEntries(m, max(c.cfg.EntryBytesMax, appendBytesMax)); r != admitted {
		return nil, refuse(r)
	}
	if m.GetTerm() < st.GetTerm() {
		return m, nil // answered with this replica's term, whatever it holds
	}
	return c.cutCommitted(m, st)
}

// cutCommitted removes from m what this replica has committed, or turns m into one that etcd/raft rejects when
// the two differ.
func (c *Core) cutCommitted(m *raftpb.Message, st raft.BasicStatus) (*raftpb.Message, error) {
	commit := uint64(c.handedCommit)
	commitTerm, err := c.cfg.Storage.Term(commit)
	if err != nil {
		return nil, refuse(ReasonUnsettled)
	}
	differs := m.GetIndex() >= commit && m.GetLogTerm() < commitTerm || !c.holds(m.GetIndex(), m.GetLogTerm(), commit)
	for len(m.Entries) > 0 && m.GetIndex() < commit && !differs {
		first := m.Entries[0]
		differs = !c.holds(first.GetIndex(), first.GetTerm(), commit)
		m.Index, m.LogTerm, m.Entries = first.Index, first.Term, m.Entries[1:]
	}
	if differs {
		return rejected(m, commit, commitTerm)
	}
	if m.GetIndex() < st.GetCommit() && (len(m.Entries) > 0 || m.GetIndex() > commit) {
		return nil, refuse(ReasonUnsettled) // committed in this turn: not comparable yet
	}
	return m, nil
}

// holds says whether the entry at index, when it is committed and still stored, has this term. A log may have
// been cut off at its start: what is gone cannot be compared, and was compared when it was appended.
func (c *Core) holds(index, term, commit uint64) bool {
	if index > commit {
		return true
	}
	own, err := c.cfg.Storage.Term(index)
	return err != nil || own == term
}

// rejected makes an append that cannot match at the commit index, so that etcd/raft moves to the term and
// answers false, durably, as the paper has it. A leader of the very term of that entry cannot differ from it.
func rejected(m *raftpb.Message, commit, commitTerm uint64) (*raftpb.Message, error) {
	if m.GetTerm() <= commitTerm {
		return nil, refuse(ReasonCommitted)
	}
	return newMessage(scalars{
		kind: raftpb.MsgApp, from: m.GetFrom(), to: m.GetTo(), term: m.GetTerm(), index: commit, logTerm: commitTerm + 1,
	}), nil
}

// FromRequestVote makes the message for req. The error is a *Refusal.
func (c *Core) FromRequestVote(req *raftv1.RequestVoteRequest) (*raftpb.Message, error) {
	from, to := req.GetHeader().GetFromReplica(), req.GetHeader().GetToReplica()
	if req.GetCandidateId() != from {
		return nil, refuse(ReasonLeaderID)
	}
	kind := raftpb.MsgVote
	if req.GetPreVote() {
		kind = raftpb.MsgPreVote
	}
	m := newMessage(scalars{
		kind: kind, from: from, to: to, term: req.GetTerm(), logTerm: req.GetLastLogTerm(), index: req.GetLastLogIndex(),
		commit: req.GetCommitIndex(), rejectHint: req.GetCommitTerm(),
	})
	if req.GetLeadershipTransfer() {
		m.Context = []byte(transferMark)
	}
	if r := admitShape(m, c.rn.BasicStatus().GetTerm()); r != admitted {
		return nil, refuse(r)
	}
	return m, nil
}

// IsAnswer says whether resp is what etcd/raft answers to m.
func IsAnswer(m, resp *raftpb.Message) bool {
	if resp.GetTo() != m.GetFrom() {
		return false
	}
	switch m.GetType() {
	case raftpb.MsgApp, raftpb.MsgSnap:
		return resp.GetType() == raftpb.MsgAppResp
	case raftpb.MsgVote:
		return resp.GetType() == raftpb.MsgVoteResp
	case raftpb.MsgPreVote:
		return resp.GetType() == raftpb.MsgPreVoteResp
	default:
		return false
	}
}

// AppendEntriesAnswer makes the answer to req from the message m that stood for it and etcd/raft's response,
// taken with the Effects that hold it; resp may be nil. The header is the caller's to fill.
func (c *Core) AppendEntriesAnswer(req *raftv1.AppendEntriesRequest, m, resp *raftpb.Message) *raftv1.AppendEntriesResponse {
	if resp == nil {
		return &raftv1.AppendEntriesResponse{Term: c.rn.BasicStatus().GetTerm()}
	}
	a := &raftv1.AppendEntriesResponse{Term: resp.GetTerm()}
	if resp.GetTerm() != m.GetTerm() {
		return a // to a stale leader etcd/raft says "index 0, no reject" with its own term
	}
	prev := req.GetPrevLogIndex()
	if !resp.GetReject() {
		a.Success = resp.GetIndex() >= prev+uint64(len(req.GetEntries()))
		if !a.Success {
			a.ConflictIndex = min(resp.GetIndex()+1, prev)
		}
		return a
	}
	a.ConflictIndex, a.ConflictTerm = c.conflict(prev, req.GetPrevLogTerm())
	return a
}

// conflict is the hint of the paper's section 5.3: the term of the entry at prev and the first index that this
// log has of it; in a log that ends before, the index after its end. etcd/raft's own hint is for a leader that
// searches its log for a term at or below: a textbook leader would walk with it entry by entry.
func (c *Core) conflict(prev, prevTerm uint64) (index, term uint64) {
	last := uint64(c.handedLast)
	if prev > last {
		return last + 1, 0
	}
	own, errOwn := c.cfg.Storage.Term(prev)
	first, errFirst := c.cfg.Storage.FirstIndex()
	if errOwn != nil || errFirst != nil || own == prevTerm {
		return max(1, prev), 0 // not stored any more; or there is none, and the new entries contradict committed ones
	}
	lo, hi := max(1, first-1), prev // terms never fall, and that of hi is own
	for lo < hi {
		mid := lo + (hi-lo)/2
		t, err := c.cfg.Storage.Term(mid)
		if err != nil {
			return prev, 0
		}
		if t < own {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return hi, own
}

// RequestVoteAnswer makes the answer to a vote or pre-vote; resp may be nil. term is this replica's term, for
// that case and for a granted pre-vote, where resp has the prospective one. The header is the caller's to fill.
func RequestVoteAnswer(m, resp *raftpb.Message, term uint64) *raftv1.RequestVoteResponse {
	if resp == nil {
		return &raftv1.RequestVoteResponse{Term: term}
	}
	granted := !resp.GetReject() && resp.GetTerm() == m.GetTerm()
	if granted && m.GetType() == raftpb.MsgPreVote {
		return &raftv1.RequestVoteResponse{Term: term, VoteGranted: true}
	}
	at := committedIn(resp)
	return &raftv1.RequestVoteResponse{Term: resp.GetTerm(), VoteGranted: granted, CommitIndex: uint64(at.Index), CommitTerm: at.Term}
}
