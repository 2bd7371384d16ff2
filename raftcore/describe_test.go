package raftcore

import (
	"encoding/binary"
	"fmt"
	"strings"

	"go.etcd.io/raft/v3/raftpb"
)

// describe says a message as one node would say it to another. Positions are index/term.
func describe(m *raftpb.Message) string {
	head := fmt.Sprintf("%d -> %d: %s term %d", m.GetFrom(), m.GetTo(), strings.TrimPrefix(m.GetType().String(), "Msg"), m.GetTerm())
	at := fmt.Sprintf("%d/%d", m.GetIndex(), m.GetLogTerm())
	switch m.GetType() {
	case raftpb.MsgVote, raftpb.MsgPreVote:
		head += ", my log ends at " + at
		if len(m.GetContext()) > 0 {
			head += ", by transfer"
		}
		head += describeCommitted(m)
	case raftpb.MsgApp:
		head += fmt.Sprintf(", after %s %s, commit %d", at, describeEntries(m.GetEntries()), m.GetCommit())
	case raftpb.MsgHeartbeat:
		head += fmt.Sprintf(", commit %d", m.GetCommit()) + describeRound(m)
	case raftpb.MsgHeartbeatResp:
		head += describeRound(m)
	case raftpb.MsgAppResp:
		if m.GetReject() {
			return head + fmt.Sprintf(", no: not after %d, try %d/%d", m.GetIndex(), m.GetRejectHint(), m.GetLogTerm())
		}
		return head + fmt.Sprintf(", have %d", m.GetIndex())
	case raftpb.MsgVoteResp, raftpb.MsgPreVoteResp:
		if m.GetReject() {
			return head + ", no" + describeCommitted(m)
		}
		return head + ", yes"
	}
	return head
}

func describeCommitted(m *raftpb.Message) string {
	at := committedIn(m)
	if at == (Position{}) {
		return ""
	}
	return fmt.Sprintf(", committed is %d/%d", at.Index, at.Term)
}

func describeRound(m *raftpb.Message) string {
	if len(m.GetContext()) == 0 {
		return ""
	}
	return fmt.Sprintf(", read round %d", binary.LittleEndian.Uint64(m.GetContext()))
}

func describeEntry(e *raftpb.Entry) string {
	kind := ""
	if e.GetType() != raftpb.EntryNormal {
		kind = ":membership"
	} else if len(e.GetData()) > 0 {
		kind = ":" + string(e.GetData())
	}
	return fmt.Sprintf("%d/%d%s", e.GetIndex(), e.GetTerm(), kind)
}

func describeEntries(entries []*raftpb.Entry) string {
	var parts []string
	for _, e := range entries {
		parts = append(parts, describeEntry(e))
	}
	return "[" + strings.Join(parts, " ") + "]"
}

func describeAppend(m *raftpb.Message) string {
	var parts []string
	if m.Term != nil {
		parts = append(parts, fmt.Sprintf("term %d vote %d commit %d", m.GetTerm(), m.GetVote(), m.GetCommit()))
	}
	if len(m.GetEntries()) > 0 {
		parts = append(parts, describeEntries(m.GetEntries()))
	}
	if len(parts) == 0 {
		return "(nothing new)"
	}
	return strings.Join(parts, " ")
}
