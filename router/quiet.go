package router

import (
	"github.com/asynkron/protoactor-go/actor"

	"github.com/multiraftd/multiraftd/actors"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
)

// Quiet groups do not watch their members: the Router watches the nodes for them (rule 31). A node is suspected when
// nothing was heard of it for an election timeout, when it has started anew, and when its connections broke and its
// port refuses new ones (nodeGone). Leaders do not wait for members on nodes that are silent, and are told when such a node
// is heard again. Of a replica that has failed its node keeps telling, because nobody asks.

// suspect tells every replica.
func (r *Router) suspect(ctx actor.Context, n raftcore.NodeID) {
	r.tellAll(ctx, n, &actors.Suspect{Node: n})
}

// hear takes note of a frame of a node of the cluster.
func (r *Router) hear(ctx actor.Context, from raftcore.NodeID, start uint64) {
	anew, silence := r.hearing.from(from, start)
	if anew {
		r.suspect(ctx, from)
	}
	if silence >= r.electionTicks() {
		r.tellAll(ctx, from, &actors.NodeBack{Node: from})
	}
}

// gone says, to replicas, that nothing was heard of a node for an election timeout, as of the latest tick.
func (r *Router) gone(n raftcore.NodeID) bool {
	silence, known := r.cfg.Tables.Liveness().Silence(n)
	return known && silence >= r.electionTicks()
}

// wake wakes a replica because a node of the cluster says so.
func (r *Router) wake(ctx actor.Context, from raftcore.NodeID, g raftcore.GroupID) {
	h, ok := r.groups[g]
	if _, member := r.meta.Node(from); ok && member {
		ctx.Send(h.PID, &actors.Wake{})
	}
}

// tellFailed says again, once per election timeout, which replicas here have failed.
func (r *Router) tellFailed() {
	if r.hearing.now%r.electionTicks() != 0 {
		return
	}
	for _, g := range r.ids {
		if s := r.groups[g].Board.Load(); s != nil && s.Failure != "" {
			r.sayFailed(s)
		}
	}
}

func (r *Router) sayFailed(s *actors.Status) {
	for _, n := range s.Voters {
		if n != r.cfg.Replica.Node {
			r.cfg.Sender.SendControl(n, &raftv1.Control{Kind: raftv1.Control_KIND_REPLICA_FAILED, GroupId: uint64(s.Group), ReplicaId: uint64(s.Replica)})
		}
	}
}
