package raftcore

import (
	"encoding/binary"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// admit is the allow-list (rules 16-18): etcd/raft trusts what it is given, so nothing from the wire reaches
// it unchecked. Order matters: identity first, then shape, then what the message says about this log; a
// stranger must not be able to quarantine a replica.
func (c *Core) admit(from NodeID, m *raftpb.Message, st raft.BasicStatus) Reason {
	if m == nil {
		return ReasonNil
	}
	if r := c.admitSender(from, m); r != admitted {
		return r
	}
	if r := admitShape(m, st.GetTerm()); r != admitted {
		return r
	}
	if r := c.admitContent(m); r != admitted {
		return r
	}
	return c.admitClaim(m, st)
}

// admitSender checks that the type is one that nodes send, that it is for us, and that the sending replica
// lives on the connection's node. Membership is required of responses only: a replica that was down does
// not know a later leader.
func (c *Core) admitSender(from NodeID, m *raftpb.Message) Reason {
	response := false
	switch m.GetType() {
	case raftpb.MsgApp, raftpb.MsgHeartbeat, raftpb.MsgVote, raftpb.MsgPreVote, raftpb.MsgSnap, raftpb.MsgTimeoutNow:
	case raftpb.MsgAppResp, raftpb.MsgHeartbeatResp, raftpb.MsgVoteResp, raftpb.MsgPreVoteResp:
		response = true
	default:
		return ReasonType
	}
	sender := ReplicaID(m.GetFrom())
	if m.GetTo() != uint64(c.cfg.Self) {
		return ReasonTo
	}
	if reserved(sender) || sender == c.cfg.Self {
		return ReasonFrom
	}
	switch node, member := c.members[sender]; {
	case member && node == from:
		return admitted
	case member:
		return ReasonNode
	case response:
		return ReasonNotMember
	case c.cfg.Vouch != nil && c.cfg.Vouch(sender, from):
		return admitted
	default:
		return ReasonNode
	}
}

// admitShape checks what needs no knowledge of this replica but its term.
func admitShape(m *raftpb.Message, term uint64) Reason {
	if m.GetTerm() == 0 || m.GetTerm() > termMax || m.GetTerm() > term && m.GetTerm()-term > termJumpMax {
		return ReasonTerm
	}
	if m.Vote != nil || len(m.Responses) > 0 {
		return ReasonField
	}
	if len(m.Entries) > 0 && m.GetType() != raftpb.MsgApp || m.Snapshot != nil && m.GetType() != raftpb.MsgSnap {
		return ReasonField
	}
	if !contextAllowed(m) {
		return ReasonContext
	}
	if m.GetIndex() > indexMax {
		return ReasonIndex
	}
	switch m.GetType() {
	case raftpb.MsgApp, raftpb.MsgVote, raftpb.MsgPreVote:
		if (m.GetIndex() == 0) != (m.GetLogTerm() == 0) {
			return ReasonIndex
		}
		if m.GetLogTerm() > m.GetTerm() {
			return ReasonLogTerm
		}
	}
	if isVote(m.GetType()) {
		return admitCommitted(m)
	}
	return admitted
}

func contextAllowed(m *raftpb.Message) bool {
	n := len(m.GetContext())
	switch m.GetType() {
	case raftpb.MsgHeartbeat, raftpb.MsgHeartbeatResp:
		return n == 0 || n == contextBytes
	case raftpb.MsgVote:
		return n == 0 || string(m.GetContext()) == transferMark
	default:
		return n == 0
	}
}

// admitContent checks entries and snapshots.
func (c *Core) admitContent(m *raftpb.Message) Reason {
	switch m.GetType() {
	case raftpb.MsgApp:
		return admitEntries(m, max(c.cfg.EntryBytesMax, appendBytesMax))
	case raftpb.MsgSnap:
		return c.admitSnapshot(m)
	default:
		return admitted
	}
}

// admitEntries checks that the entries of m are a stretch of a log that a leader of m's term can have.
func admitEntries(m *raftpb.Message, bytesMax int) Reason {
	if len(m.Entries) > entriesMax {
		return ReasonEntriesSize
	}
	index, term, bytes := m.GetIndex(), max(m.GetLogTerm(), 1), 0
	for _, e := range m.Entries {
		if e == nil {
			return ReasonNil
		}
		if index++; e.GetIndex() != index {
			return ReasonEntryIndex
		}
		if e.GetTerm() < term || e.GetTerm() > m.GetTerm() {
			return ReasonEntryTerm
		}
		term = e.GetTerm()
		if !entryAllowed(e) {
			return ReasonEntryType
		}
		if bytes += len(e.GetData()); bytes > bytesMax {
			return ReasonEntriesSize
		}
	}
	return admitted
}

// entryAllowed says whether e is of a known type and, for a membership change, decodable: once committed it
// could not be refused any more, and etcd/raft panics on it at the leader.
func entryAllowed(e *raftpb.Entry) bool {
	switch e.GetType() {
	case raftpb.EntryNormal:
		return true
	case raftpb.EntryConfChange:
		return proto.Unmarshal(e.GetData(), new(raftpb.ConfChange)) == nil
	case raftpb.EntryConfChangeV2:
		return proto.Unmarshal(e.GetData(), new(raftpb.ConfChangeV2)) == nil
	default:
		return false
	}
}

// admitSnapshot asks for the data only where etcd/raft would put them in force.
func (c *Core) admitSnapshot(m *raftpb.Message) Reason {
	if r := admitAnnounced(m); r != admitted || !c.NeedsSnapshot(m) {
		return r
	}
	meta := m.GetSnapshot().GetMetadata()
	if c.cfg.Staged == nil || !c.cfg.Staged(Position{Index(meta.GetIndex()), meta.GetTerm()}) {
		return ReasonSnapshotUnstaged
	}
	return admitted
}

// admitAnnounced checks what a snapshot message says without its data.
func admitAnnounced(m *raftpb.Message) Reason {
	meta := m.GetSnapshot().GetMetadata()
	at := Position{Index(meta.GetIndex()), meta.GetTerm()}
	if at.Index == 0 || at.Index > indexMax || at.Term == 0 || at.Term > m.GetTerm() || len(m.GetSnapshot().GetData()) > 0 {
		return ReasonSnapshotData
	}
	if !confStateValid(meta.GetConfState()) {
		return ReasonConfState
	}
	return admitted
}

// admitClaim checks what m says about this replica's term and log. Terms first: what is older than this
// replica's term etcd/raft answers or drops without looking at the rest; what is newer cannot be compared
// with this replica's leader.
func (c *Core) admitClaim(m *raftpb.Message, st raft.BasicStatus) Reason {
	if at := committedIn(m); isVote(m.GetType()) && at.Index > 0 && c.contradicts(at) {
		return ReasonCommitted
	}
	if m.GetTerm() < st.GetTerm() {
		return admitted
	}
	current := m.GetTerm() == st.GetTerm()
	switch m.GetType() {
	case raftpb.MsgApp, raftpb.MsgHeartbeat, raftpb.MsgSnap:
		if current && st.Lead != raft.None && st.Lead != m.GetFrom() {
			return ReasonSecondLeader
		}
		return c.admitLeader(m)
	case raftpb.MsgTimeoutNow:
		if !current || st.Lead != m.GetFrom() {
			return ReasonNotLeader
		}
	case raftpb.MsgAppResp, raftpb.MsgHeartbeatResp:
		if current && st.RaftState == raft.StateLeader {
			return c.admitAnswer(m)
		}
	}
	return admitted
}

// admitLeader checks what a leader of this or a later term says about the log. Its log contains everything
// that is committed here; one that contradicts that is none.
func (c *Core) admitLeader(m *raftpb.Message) Reason {
	switch m.GetType() {
	case raftpb.MsgHeartbeat:
		// A leader sends at most what this replica has acknowledged in the leader's term, which was on disk.
		// Clamping the commit index instead would hide a disk that lost it.
		if Index(m.GetCommit()) > c.handedLast {
			return ReasonQuarantine
		}
		if Index(m.GetCommit()) > c.lastSure {
			return ReasonUnsettled
		}
	case raftpb.MsgApp:
		// Also keeps etcd/raft's search for a common entry from walking the whole log.
		if Index(m.GetIndex()) >= c.applied.Index && m.GetLogTerm() < c.applied.Term {
			return ReasonCommitted
		}
	case raftpb.MsgSnap:
		meta := m.GetSnapshot().GetMetadata()
		if Index(meta.GetIndex()) >= c.applied.Index && meta.GetTerm() < c.applied.Term {
			return ReasonCommitted
		}
	}
	return admitted
}

// admitAnswer checks an answer to this leader: it can be about what the leader has sent, and nothing else.
func (c *Core) admitAnswer(m *raftpb.Message) Reason {
	if m.GetType() == raftpb.MsgHeartbeatResp {
		if len(m.GetContext()) > 0 && binary.LittleEndian.Uint64(m.GetContext()) > c.readRound {
			return ReasonReadRound
		}
		return admitted
	}
	if Index(m.GetIndex()) > c.lastSure || m.GetReject() && m.GetRejectHint() > m.GetIndex() {
		return ReasonBeyondLog
	}
	return admitted
}
