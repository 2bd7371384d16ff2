package actors

import (
	"context"
	"log/slog"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/multiraftd/multiraftd/raftcore"
)

// rpcNames are the canonical RPCs that Raft's messages are; what is missing is none.
var rpcNames = map[raftpb.MessageType]string{
	raftpb.MsgApp: "AppendEntries", raftpb.MsgHeartbeat: "AppendEntries", raftpb.MsgAppResp: "AppendEntriesResponse", raftpb.MsgHeartbeatResp: "AppendEntriesResponse",
	raftpb.MsgVote: "RequestVote", raftpb.MsgPreVote: "RequestVote", raftpb.MsgVoteResp: "RequestVoteResponse", raftpb.MsgPreVoteResp: "RequestVoteResponse",
	raftpb.MsgSnap: "InstallSnapshot",
}

// debugs says whether every RPC is logged; asked once, since a log that is off must cost nothing.
func debugs(l *slog.Logger) bool { return l.Enabled(context.Background(), slog.LevelDebug) }

// logRPC logs a message that has arrived, in the Raft paper's words, and what came of it here.
func (r *Replica) logRPC(from raftcore.NodeID, m *raftpb.Message, err error) {
	name, ok := rpcNames[m.GetType()]
	if !ok {
		return
	}
	args := []any{"group", r.cfg.Group, "from_node", from, "from_replica", m.GetFrom(), "term", m.GetTerm()}
	switch m.GetType() {
	case raftpb.MsgApp, raftpb.MsgHeartbeat:
		args = append(args, "prev_log_index", m.GetIndex(), "prev_log_term", m.GetLogTerm(), "entries", len(m.GetEntries()), "leader_commit", m.GetCommit())
	case raftpb.MsgAppResp, raftpb.MsgHeartbeatResp:
		args = append(args, "success", !m.GetReject(), "match_index", m.GetIndex(), "heartbeat", m.GetType() == raftpb.MsgHeartbeatResp)
	case raftpb.MsgVote, raftpb.MsgPreVote:
		args = append(args, "last_log_index", m.GetIndex(), "last_log_term", m.GetLogTerm(), "pre_vote", m.GetType() == raftpb.MsgPreVote)
	case raftpb.MsgVoteResp, raftpb.MsgPreVoteResp:
		args = append(args, "vote_granted", !m.GetReject(), "pre_vote", m.GetType() == raftpb.MsgPreVoteResp)
	case raftpb.MsgSnap:
		at := m.GetSnapshot().GetMetadata()
		args = append(args, "last_included_index", at.GetIndex(), "last_included_term", at.GetTerm())
	}
	if err != nil {
		args = append(args, "refused", err)
	}
	r.cfg.Logger.Debug(name, append(args, r.traces.ids(m)...)...)
}

// ids are the traces of what a message holds.
func (t *traces) ids(m *raftpb.Message) (args []any) {
	first, last := m.GetIndex()+1, m.GetIndex()+uint64(len(m.GetEntries()))
	for _, a := range t.arrived {
		if i := uint64(a.index); i >= first && i <= last || i == 0 && len(m.GetEntries()) == 0 {
			args = append(args, "trace_id", a.at.ID())
		}
	}
	return args
}
