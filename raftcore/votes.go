package raftcore

import (
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// Requests for votes, and refusals of them, say up to where the log of their sender is known to be committed. Why,
// and why that is safe, is said in the package's comment.
//
// In a raftpb.Message the position is in Commit and RejectHint, neither of which etcd/raft looks at in a vote. It is
// the sender's applied position: the term of an entry that is committed but not stored yet could be read wrongly from
// the storage, where the entry that it replaces still stands.

func isVoteRequest(t raftpb.MessageType) bool { return t == raftpb.MsgVote || t == raftpb.MsgPreVote }

func isVoteAnswer(t raftpb.MessageType) bool {
	return t == raftpb.MsgVoteResp || t == raftpb.MsgPreVoteResp
}

func isVote(t raftpb.MessageType) bool { return isVoteRequest(t) || isVoteAnswer(t) }

// committedIn is the position that a vote says is committed; zero = it says nothing.
func committedIn(m *raftpb.Message) Position {
	return Position{Index(m.GetCommit()), m.GetRejectHint()}
}

// admitCommitted checks the form of the position in a vote. Its sender has reached the message's term, so nothing that
// it knows to be committed is of a later one.
func admitCommitted(m *raftpb.Message) Reason {
	at := committedIn(m)
	switch {
	case at == Position{}:
		return admitted
	case isVoteAnswer(m.GetType()) && !m.GetReject():
		return ReasonField
	case at.Index == 0 || at.Term == 0 || at.Index > indexMax:
		return ReasonIndex
	case at.Term > m.GetTerm():
		return ReasonLogTerm
	}
	return admitted
}

// contradicts says that an entry cannot be committed, because of what is committed here.
func (c *Core) contradicts(at Position) bool {
	if at.Index > c.applied.Index {
		return at.Term < c.applied.Term
	}
	own, err := c.cfg.Storage.Term(uint64(at.Index))
	return err == nil && own != at.Term // what the log does not have any more cannot be compared
}

// noteVote takes note of a vote that has been stepped; was is the role before. Requests count when they turn out to be
// refused, see sayCommitted; refusals when this replica has asked for them. Those of pre-votes may be of any term: a
// voter of an earlier term refuses in that one, and a commit does not depend on terms.
func (c *Core) noteVote(m *raftpb.Message, was raft.StateType) {
	from := ReplicaID(m.GetFrom())
	switch m.GetType() {
	case raftpb.MsgVote, raftpb.MsgPreVote:
		if c.requests == nil {
			c.requests = make(map[ReplicaID]Position)
		}
		c.requests[from] = committedIn(m)
	case raftpb.MsgPreVoteResp:
		if was == raft.StatePreCandidate && m.GetReject() && c.votes(from) {
			c.learnCommitted(committedIn(m))
		}
	case raftpb.MsgVoteResp:
		if was == raft.StateCandidate && m.GetReject() && c.votes(from) && m.GetTerm() == c.rn.BasicStatus().GetTerm() {
			c.learnCommitted(committedIn(m))
		}
	}
}

// votes says whether r is a voter, of the outgoing ones perhaps: whom a candidate asks.
func (c *Core) votes(r ReplicaID) bool {
	return slices.Contains(c.conf.GetVoters(), uint64(r)) || slices.Contains(c.conf.GetVotersOutgoing(), uint64(r))
}

// sayCommitted writes the position into the votes among the effects, and returns what the members whose requests are
// refused in them have said.
func (c *Core) sayCommitted(e *Effects) (refused []Position) {
	for _, all := range [][]*raftpb.Message{e.Messages, e.Append.GetResponses()} {
		for _, m := range all {
			refuses := isVoteAnswer(m.GetType()) && m.GetReject()
			if !refuses && !isVoteRequest(m.GetType()) {
				continue
			}
			m.Commit, m.RejectHint = new(uint64(c.applied.Index)), new(c.applied.Term)
			if _, member := c.members[ReplicaID(m.GetTo())]; refuses && member {
				refused = append(refused, c.requests[ReplicaID(m.GetTo())])
			}
		}
	}
	clear(c.requests)
	return refused
}

// learnCommitted commits up to a position that another replica knows to be committed, if this log has that very entry
// and there is a membership change below it that is not known to be committed here. Without one nothing is gained by
// it: a campaign would be given up for nothing.
//
// An append of this replica to itself does it, without entries, in its own term: etcd/raft compares the entry, commits
// if it is the same, and changes neither term, vote nor log. It takes the sender for its leader, and is made to forget
// it before anybody sees that. A candidate is a follower after it, as it has to be: its votes were counted in a
// membership that is over.
func (c *Core) learnCommitted(at Position) {
	st := c.rn.BasicStatus()
	if st.RaftState == raft.StateLeader || uint64(at.Index) <= st.GetCommit() || at.Index > c.lastSure {
		return
	}
	own, err := c.cfg.Storage.Term(uint64(at.Index))
	if err != nil || own != at.Term || !c.changesMembers(Index(st.GetCommit()), at.Index) {
		return
	}
	self := uint64(c.cfg.Self)
	err = c.rn.Step(newMessage(scalars{
		kind: raftpb.MsgApp, from: self, to: self, term: st.GetTerm(), index: uint64(at.Index), logTerm: at.Term, commit: uint64(at.Index),
	}))
	if err == nil {
		err = c.rn.ForgetLeader()
	}
	if err != nil {
		panic("raftcore: a commit that a vote has told: " + err.Error()) // etcd/raft refuses neither
	}
	if c.rn.BasicStatus().GetCommit() > st.GetCommit() {
		c.cfg.Counters.CommitsLearned.Add(1)
	}
}

// changesMembers says whether there is a membership change among the entries (after, last].
func (c *Core) changesMembers(after, last Index) bool {
	for after = max(after, c.plain); after < last; after = c.plain {
		entries, err := c.cfg.Storage.Entries(uint64(after)+1, uint64(last)+1, appendBytesMax)
		if err != nil || len(entries) == 0 {
			return false // not read: the next campaign asks again
		}
		for _, e := range entries {
			if e.GetType() != raftpb.EntryNormal {
				return true
			}
		}
		c.plain = after + Index(len(entries))
	}
	return false
}
