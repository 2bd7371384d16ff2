package router

import (
	"context"

	"github.com/multiraftd/multiraftd/actors"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
)

// Replicas returns what the boards of this node's replicas show, by group.
func (s *Services) Replicas(ctx context.Context) []*multiraftv1.ReplicaStatus {
	return s.nodeStatus(ctx, &multiraftv1.NodeStatusRequest{}).GetReplicas()
}

// Replica returns this node's replica of a group with its own account of itself; nil when there is none here.
func (s *Services) Replica(ctx context.Context, g raftcore.GroupID) *multiraftv1.ReplicaStatus {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	if all := s.nodeStatus(ctx, &multiraftv1.NodeStatusRequest{GroupIds: []uint64{uint64(g)}, Detail: true}).GetReplicas(); len(all) > 0 {
		return all[0]
	}
	return nil
}

// detailed asks a replica here for its own account. One that has failed, or does not come to it in time, leaves what
// its board says.
func (s *Services) detailed(ctx context.Context, st *multiraftv1.ReplicaStatus) *multiraftv1.ReplicaStatus {
	reply := make(chan *actors.Inspection, 1)
	s.core.Dispatch(Routed{raftcore.GroupID(st.GetGroupId()), &actors.Inspect{Reply: reply}})
	select {
	case in := <-reply:
		if in == nil {
			return st
		}
		st = statusProto(&in.Status, in.Waiting)
		st.Detail = detailProto(in)
	case <-ctx.Done():
	}
	return st
}

func detailProto(in *actors.Inspection) *multiraftv1.ReplicaDetail {
	d := &multiraftv1.ReplicaDetail{
		Vote: uint64(in.Vote), ProposalsWaiting: uint32(in.Proposals), ReadsWaiting: uint32(in.Reads), ReadersWaiting: uint32(in.Readers),
		WritesUnsynced: uint32(in.Unsynced), SnapshotsSending: uint32(in.Sending), SnapshotReceiving: in.Receiving, Generation: in.Generation,
	}
	for _, m := range in.Members {
		d.Members = append(d.Members, &multiraftv1.MemberProgress{
			ReplicaId: uint64(m.Replica), NodeId: uint64(m.Node), Voter: m.Voter, State: memberStates[m.State], Match: uint64(m.Match), Next: uint64(m.Next),
			Active: m.Active, Paused: m.Paused, Inflight: uint32(m.Inflight), PendingSnapshot: uint64(m.PendingSnapshot),
		})
	}
	for _, e := range in.Entries {
		d.Entries = append(d.Entries, &multiraftv1.EntrySummary{
			Index: uint64(e.At.Index), Term: e.At.Term, Kind: e.Kind, Appends: uint32(e.Appends), Bytes: uint32(e.Bytes), TimeMs: e.Time,
		})
	}
	return d
}

var memberStates = map[raftcore.MemberState]multiraftv1.MemberState{
	raftcore.MemberProbe:     multiraftv1.MemberState_MEMBER_STATE_PROBE,
	raftcore.MemberReplicate: multiraftv1.MemberState_MEMBER_STATE_REPLICATE,
	raftcore.MemberSnapshot:  multiraftv1.MemberState_MEMBER_STATE_SNAPSHOT,
}
