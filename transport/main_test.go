package transport

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/multiraftd/multiraftd/proto/lineage"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	typeAppend         = raftv1.MessageType_MESSAGE_TYPE_APPEND
	typeAppendResponse = raftv1.MessageType_MESSAGE_TYPE_APPEND_RESPONSE
	typeVote           = raftv1.MessageType_MESSAGE_TYPE_VOTE
	typeHeartbeat      = raftv1.MessageType_MESSAGE_TYPE_HEARTBEAT
	typeHeartbeatResp  = raftv1.MessageType_MESSAGE_TYPE_HEARTBEAT_RESPONSE
)

// message is an envelope of the group whose index tells it from others.
func message(t raftv1.MessageType, group, index uint64, dataBytes int) *raftv1.Envelope {
	e := &raftv1.Envelope{GroupId: group, FromReplica: 1, ToReplica: 2, Type: t, Term: 3, Index: index}
	if dataBytes > 0 {
		e.Entries = []*raftv1.LogEntry{{Term: 3, Index: index + 1, Data: make([]byte, dataBytes)}}
	}
	return e
}

func heartbeat(group, commit uint64, context string) *raftv1.Envelope {
	e := message(typeHeartbeat, group, 0, 0)
	e.Commit, e.Context = commit, []byte(context)
	return e
}

func identity(node, start uint64, boot string) Identity {
	b := make([]byte, bootIDBytes)
	copy(b, boot)
	return Identity{Cluster: "cluster-a", StoreID: "store-" + string(rune('0'+node)), Node: node, Start: lineage.Start{Number: start, ID: b}}
}
