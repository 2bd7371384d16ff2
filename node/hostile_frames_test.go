package node

import (
	"math"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
)

const (
	kindAppend            = raftv1.MessageType_MESSAGE_TYPE_APPEND
	kindAppendResponse    = raftv1.MessageType_MESSAGE_TYPE_APPEND_RESPONSE
	kindVote              = raftv1.MessageType_MESSAGE_TYPE_VOTE
	kindVoteResponse      = raftv1.MessageType_MESSAGE_TYPE_VOTE_RESPONSE
	kindPreVote           = raftv1.MessageType_MESSAGE_TYPE_PRE_VOTE
	kindHeartbeat         = raftv1.MessageType_MESSAGE_TYPE_HEARTBEAT
	kindHeartbeatResponse = raftv1.MessageType_MESSAGE_TYPE_HEARTBEAT_RESPONSE
	kindSnapshot          = raftv1.MessageType_MESSAGE_TYPE_SNAPSHOT
	kindTimeoutNow        = raftv1.MessageType_MESSAGE_TYPE_TIMEOUT_NOW
)

func snapshotOf(e *raftv1.Envelope, c *raftv1.ConfState) {
	e.Type, e.Snapshot = kindSnapshot, &raftv1.SnapshotMetadata{Index: 1 << 20, Term: 1, ConfState: c} // far beyond the log: it would be put in force
}

// entriesAt makes e an append of entries behind the follower's log.
func (s *stranger) entriesAt(e *raftv1.Envelope, es ...*raftv1.LogEntry) {
	b := s.board(s.follower, hostileGroup)
	e.Type, e.Index, e.LogTerm, e.Entries = kindAppend, uint64(b.Last), b.Term, es
}

// framesOfReliability are the table of what etcd/raft takes by itself in research/reliability.md, section 3.
func (s *stranger) framesOfReliability() (all []hostileCase) {
	f := framer{s, &all}
	f.heartbeat("a heartbeat of a replica that nobody knows, commit 1000", s.toLeader, s.toFollower, func(h *raftv1.GroupHeartbeat) {
		h.FromReplica, h.Commit = 99, 1000
	})
	f.heartbeat("a heartbeat for another replica", s.toLeader, s.toFollower, func(h *raftv1.GroupHeartbeat) { h.ToReplica = 7 })
	f.asLeader("a vote in term 2^64-1 of a replica that nobody knows, by transfer", func(e *raftv1.Envelope) {
		e.Type, e.FromReplica, e.Term, e.LogTerm, e.Index, e.Context = kindVote, 99, math.MaxUint64, math.MaxUint64, math.MaxUint64, []byte("CampaignTransfer")
	})
	f.asLeader("a vote in term 2^64-1, by transfer", func(e *raftv1.Envelope) {
		e.Type, e.Term, e.LogTerm, e.Index, e.Context = kindVote, math.MaxUint64, math.MaxUint64, math.MaxUint64, []byte("CampaignTransfer")
	})
	f.asLeader("a vote in a term 2^32+1 ahead", func(e *raftv1.Envelope) { e.Type, e.Term = kindVote, e.GetTerm()+farAhead })
	f.asLeader("an append with a gap", func(e *raftv1.Envelope) {
		s.entriesAt(e, &raftv1.LogEntry{Index: 1_000_007, Term: e.GetTerm()}, &raftv1.LogEntry{Index: 1_000_009, Term: e.GetTerm()})
	})
	f.asLeader("an append at index 2^64-2", func(e *raftv1.Envelope) {
		e.Type, e.Index, e.LogTerm, e.Commit, e.Entries = kindAppend, math.MaxUint64-1, 1, math.MaxUint64, []*raftv1.LogEntry{{Index: 5, Term: 1}}
	})
	f.asLeader("a snapshot whose learner is a voter", func(e *raftv1.Envelope) {
		snapshotOf(e, &raftv1.ConfState{Voters: []uint64{1, 2}, Learners: []uint64{1}})
	})
	f.asLeader("a snapshot without content", func(e *raftv1.Envelope) { e.Type = kindSnapshot })
	f.asFollower("a proposal of a membership change", func(e *raftv1.Envelope) {
		e.Type, e.Entries = 99, []*raftv1.LogEntry{{Type: raftv1.EntryType_ENTRY_TYPE_CONF_CHANGE}}
	})
	f.asLeader("a refused vote that says another entry is committed", func(e *raftv1.Envelope) {
		e.Type, e.Reject, e.Commit, e.CommitTerm = kindVoteResponse, true, uint64(s.board(s.follower, hostileGroup).Applied), e.GetTerm()+1
		e.Term++
	})
	f.asLeader("a granted vote that says an entry is committed", func(e *raftv1.Envelope) {
		e.Type, e.Commit, e.CommitTerm = kindVoteResponse, 1, 1
	})
	f.asLeader("a vote with a reject hint", func(e *raftv1.Envelope) { e.Type, e.RejectHint = kindVote, 1 })
	f.asLeader("an append of term 0", func(e *raftv1.Envelope) { e.Type, e.Term, e.Index, e.LogTerm = kindAppend, 0, 1, 1 })
	f.asLeader("an order of this node to itself", func(e *raftv1.Envelope) { e.Type = raftv1.MessageType_MESSAGE_TYPE_UNSPECIFIED })
	return all
}

// framesOfActorsRaft are the "panics reachable from a peer's bytes" of research/actors-raft.md, B5, and what is
// taken there without a panic. A heartbeat beyond the log is a test of its own: it takes the replica out.
func (s *stranger) framesOfActorsRaft() (all []hostileCase) {
	f := framer{s, &all}
	f.asLeader("a vote of term 0", func(e *raftv1.Envelope) { e.Type, e.Term, e.Index, e.LogTerm = kindVote, 0, 9, 9 })
	f.asLeader("an append that skips its first entry", func(e *raftv1.Envelope) {
		s.entriesAt(e, &raftv1.LogEntry{Index: 1_000_000, Term: e.GetTerm()})
	})
	f.heartbeat("a read round of 7 bytes at the leader", s.toFollower, s.toLeader, func(h *raftv1.GroupHeartbeat) { h.Response, h.Context = true, make([]byte, 7) })
	f.heartbeat("a read round of 1 byte", s.toLeader, s.toFollower, func(h *raftv1.GroupHeartbeat) { h.Context = make([]byte, 1) })
	f.asFollower("a proposal without entries", func(e *raftv1.Envelope) { e.Type = 98 })
	f.asLeader("a membership change that can't be decoded", func(e *raftv1.Envelope) {
		s.entriesAt(e, &raftv1.LogEntry{Index: uint64(s.board(s.follower, hostileGroup).Last) + 1, Term: e.GetTerm(),
			Type: raftv1.EntryType_ENTRY_TYPE_CONF_CHANGE, Data: []byte{0xff}})
	})
	f.asLeader("an entry that is empty", func(e *raftv1.Envelope) { s.entriesAt(e, &raftv1.LogEntry{}) })
	f.asLeader("an append of the replica itself", func(e *raftv1.Envelope) { e.Type, e.FromReplica = kindAppend, e.GetToReplica() })
	f.asLeader("an append of nobody", func(e *raftv1.Envelope) { e.Type, e.FromReplica = kindAppend, 0 })
	f.asLeader("a response of the replica's own disk", func(e *raftv1.Envelope) { e.Type, e.FromReplica = kindAppendResponse, math.MaxUint64 })
	f.asLeader("a vote of a replica that is no member", func(e *raftv1.Envelope) { e.Type, e.FromReplica = kindVote, 9 })
	return all
}

// framesOfShape are the rest of rules 16 and 17.
func (s *stranger) framesOfShape() (all []hostileCase) {
	f := framer{s, &all}
	f.asOther("a member's message from another node", func(e *raftv1.Envelope) {
		e.Type, e.FromReplica = kindAppend, s.between(s.leader, s.follower).GetFromReplica()
	})
	f.asLeader("a response of a replica that is no member", func(e *raftv1.Envelope) { e.Type, e.FromReplica = kindVoteResponse, 9 })
	f.asLeader("a type that does not exist", func(e *raftv1.Envelope) { e.Type = math.MaxInt32 })
	f.asLeader("a heartbeat with entries", func(e *raftv1.Envelope) { e.Type, e.Entries = kindHeartbeat, []*raftv1.LogEntry{{Index: 1, Term: 1}} })
	f.asLeader("an append with a snapshot", func(e *raftv1.Envelope) {
		snapshotOf(e, nil)
		e.Type = kindAppend
	})
	f.asLeader("a pre-vote by transfer", func(e *raftv1.Envelope) { e.Type, e.Context = kindPreVote, []byte("CampaignTransfer") })
	f.asLeader("an append with a context", func(e *raftv1.Envelope) { e.Type, e.Context = kindAppend, []byte("trace") })
	f.asLeader("an index without a term", func(e *raftv1.Envelope) { e.Type, e.Index = kindAppend, 2 })
	f.asLeader("a log term above the term", func(e *raftv1.Envelope) { e.Type, e.Index, e.LogTerm = kindAppend, 9, e.GetTerm()+1 })
	f.asLeader("entries above the term", func(e *raftv1.Envelope) {
		s.entriesAt(e, &raftv1.LogEntry{Index: uint64(s.board(s.follower, hostileGroup).Last) + 1, Term: e.GetTerm() + 1})
	})
	f.asLeader("an entry of unknown type", func(e *raftv1.Envelope) {
		s.entriesAt(e, &raftv1.LogEntry{Index: uint64(s.board(s.follower, hostileGroup).Last) + 1, Term: e.GetTerm(), Type: 99})
	})
	f.asLeader("a snapshot without voters", func(e *raftv1.Envelope) { snapshotOf(e, &raftv1.ConfState{Learners: []uint64{1}}) })
	f.asLeader("a snapshot with voter 2^64-1", func(e *raftv1.Envelope) { snapshotOf(e, &raftv1.ConfState{Voters: []uint64{1, math.MaxUint64}}) })
	return all
}

// framesOfClaims are about what a message says of the replica's own log and term, of groups, and controls.
func (s *stranger) framesOfClaims() (all []hostileCase) {
	f := framer{s, &all}
	f.asOther("an append of a second leader of the term", func(e *raftv1.Envelope) { s.entriesAt(e) })
	f.asOther("an order to campaign that is not the leader's", func(e *raftv1.Envelope) { e.Type = kindTimeoutNow })
	f.asLeader("an order to campaign in a later term", func(e *raftv1.Envelope) { e.Type, e.Term = kindTimeoutNow, e.GetTerm()+1 })
	f.asLeader("an append that contradicts what is applied", func(e *raftv1.Envelope) {
		s.entriesAt(e)
		e.LogTerm--
	})
	f.asFollower("an acknowledgement beyond the leader's log", func(e *raftv1.Envelope) { e.Type, e.Index = kindAppendResponse, 1<<40 })
	f.asFollower("an acknowledgement of index 2^64-1", func(e *raftv1.Envelope) { e.Type, e.Index = kindAppendResponse, math.MaxUint64 })
	f.heartbeat("a read round that was never begun", s.toFollower, s.toLeader, func(h *raftv1.GroupHeartbeat) {
		h.Response, h.Context = true, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	})
	f.asLeader("a snapshot whose data nobody has sent", func(e *raftv1.Envelope) { snapshotOf(e, &raftv1.ConfState{Voters: []uint64{1, 2, 3}}) })
	f.asLeader("a group that is not here", func(e *raftv1.Envelope) { e.Type, e.GroupId = kindVote, 4711 })
	f.asLeader("group 0", func(e *raftv1.Envelope) { e.Type, e.GroupId = kindHeartbeatResponse, 0 })
	f.asLeader("group 2^64-1", func(e *raftv1.Envelope) { e.Type, e.GroupId = kindVote, math.MaxUint64 })
	control := func(input string, c *raftv1.Control) {
		all = append(all, hostileCase{"RaftService.Exchange", input, s.toFollower, func() error {
			return s.frame(s.leader, s.follower, &raftv1.Frame{Controls: []*raftv1.Control{c}, Traces: []*raftv1.TraceContext{{GroupId: math.MaxUint64, Traceparent: "x"}}})
		}})
	}
	g := uint64(hostileGroup)
	control("a control that says the group is unknown", &raftv1.Control{Kind: raftv1.Control_KIND_GROUP_UNKNOWN, GroupId: g})
	control("a control that says the leader's replica has failed", &raftv1.Control{Kind: raftv1.Control_KIND_REPLICA_FAILED, GroupId: g, ReplicaId: 1})
	st := s.board(s.follower, hostileGroup)
	control("a control that says the group goes quiet, of another term", &raftv1.Control{Kind: raftv1.Control_KIND_QUIESCE, GroupId: g, Term: st.Term + 1, Commit: uint64(st.Commit)})
	control("a control that says the group goes quiet, of entries that are not here", &raftv1.Control{Kind: raftv1.Control_KIND_QUIESCE, GroupId: g, Term: st.Term, Commit: math.MaxUint64})
	control("a control that says the group may not be quiet", &raftv1.Control{Kind: raftv1.Control_KIND_WAKE, GroupId: g})
	control("a control of unknown kind", &raftv1.Control{Kind: math.MaxInt32, GroupId: math.MaxUint64})
	return all
}
