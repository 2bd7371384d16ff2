package raftcore

import (
	"go.etcd.io/raft/v3/raftpb"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
)

// FromInstallSnapshot makes the message that announces the snapshot of which req is a chunk, and judges it as Step
// will, but for the data, which have not all been received. The error is a *Refusal, which has been counted, or
// ErrQuarantine. It may be older than this replica's term, or than its log: Step then answers without the data.
func (c *Core) FromInstallSnapshot(from NodeID, req *raftv1.InstallSnapshotRequest) (*raftpb.Message, error) {
	if c.quarantined {
		c.cfg.Counters.Refuse(ReasonQuarantine)
		return nil, ErrQuarantine
	}
	h := req.GetHeader()
	m := newMessage(scalars{kind: raftpb.MsgSnap, from: h.GetFromReplica(), to: h.GetToReplica(), term: req.GetTerm()})
	m.Snapshot = &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
		Index: new(req.GetLastIncludedIndex()), Term: new(req.GetLastIncludedTerm()), ConfState: fromConfState(req.GetConfState()),
	}}
	if r := c.judgeSnapshot(from, req.GetLeaderId(), m); r != admitted {
		c.cfg.Counters.Refuse(r)
		return nil, refuse(r)
	}
	return m, nil
}

func (c *Core) judgeSnapshot(from NodeID, leader uint64, m *raftpb.Message) Reason {
	if leader != m.GetFrom() {
		return ReasonLeaderID
	}
	st := c.rn.BasicStatus()
	if r := c.admitSender(from, m); r != admitted {
		return r
	}
	if r := admitShape(m, st.GetTerm()); r != admitted {
		return r
	}
	if r := admitAnnounced(m); r != admitted {
		return r
	}
	return c.admitClaim(m, st)
}

// NeedsSnapshot says whether Step would put the snapshot that m announces in the place of the log, as far as this
// is known before: not when m is from an older term, or this replica has committed all of it.
func (c *Core) NeedsSnapshot(m *raftpb.Message) bool {
	st := c.rn.BasicStatus()
	return m.GetTerm() >= st.GetTerm() && m.GetSnapshot().GetMetadata().GetIndex() > st.GetCommit()
}

// InstallSnapshotAnswer makes the answer to the message m that stood for a whole snapshot from etcd/raft's
// response; resp may be nil, and term is this replica's term for that case. The header is the caller's to fill.
func InstallSnapshotAnswer(m, resp *raftpb.Message, term uint64) *raftv1.InstallSnapshotResponse {
	if resp == nil {
		return &raftv1.InstallSnapshotResponse{Term: term}
	}
	// To an older leader etcd/raft says "index 0, no reject" with its own term.
	has := resp.GetTerm() == m.GetTerm() && resp.GetIndex() >= m.GetSnapshot().GetMetadata().GetIndex()
	return &raftv1.InstallSnapshotResponse{Term: resp.GetTerm(), Success: has, MatchIndex: resp.GetIndex()}
}

// FromInstalled makes the acknowledgement of a replica that has answered a snapshot with success: the message that
// etcd/raft waits for.
func FromInstalled(from, to ReplicaID, a *raftv1.InstallSnapshotResponse) *raftpb.Message {
	return newMessage(scalars{kind: raftpb.MsgAppResp, from: uint64(from), to: uint64(to), term: a.GetTerm(), index: a.GetMatchIndex()})
}
