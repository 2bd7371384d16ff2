package router

import (
	"github.com/asynkron/protoactor-go/actor"

	"github.com/multiraftd/multiraftd/actors"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
)

// startController spawns the Controller. Every node has one; that of the node which leads the metadata group acts.
func (r *Router) startController(ctx actor.Context) {
	cfg := r.cfg.Controller
	cfg.Node, cfg.ElectionTicks, cfg.Logger = r.cfg.Replica.Node, r.electionTicks(), r.cfg.Replica.Logger
	cfg.Board, cfg.Counters = &r.cfg.Tables.Findings, r.cfg.Replica.Counters
	r.controller = ctx.SpawnPrefix(actors.ControllerProps(cfg, r.cfg.Props...), "controller")
}

// watch gives the Controller its tick, with what this node knows.
func (r *Router) watch(ctx actor.Context, live *Liveness) {
	if r.controller == nil {
		return
	}
	w := &actors.Watch{Meta: r.meta, Silence: live.silence, SilenceMax: live.max}
	if h := r.groups[raftcore.MetadataGroup]; h != nil {
		w.Metadata, w.Replica = h.Board.Load(), h.PID
	}
	ctx.Send(r.controller, w)
}

// askTransfer passes on that a group should be led elsewhere, to whoever leads it.
func (r *Router) askTransfer(ctx actor.Context, m *actors.AskTransfer) {
	if m.Node != r.cfg.Replica.Node {
		r.cfg.Sender.SendControl(m.Node, &raftv1.Control{
			Kind: raftv1.Control_KIND_TRANSFER, GroupId: uint64(m.Group), ReplicaId: uint64(m.To), Term: m.Term})
		return
	}
	if h, ok := r.groups[m.Group]; ok {
		ctx.Send(h.PID, &actors.Transfer{Replica: m.To, Term: m.Term})
	}
}

// control takes note of what a peer says about its replicas. A group unknown there, or a failed replica, is
// what Raft already sees as silence, unless it is quiet itself.
func (r *Router) control(ctx actor.Context, from raftcore.NodeID, c *raftv1.Control) {
	switch c.GetKind() {
	case raftv1.Control_KIND_GROUP_UNKNOWN:
		r.cfg.Counters.PeerGroupUnknown.Add(1)
	case raftv1.Control_KIND_DISK_FULL:
		r.peerFull(from)
	case raftv1.Control_KIND_REPLICA_FAILED:
		r.cfg.Counters.PeerReplicaFailed.Add(1)
		r.peerFailed(from, raftcore.GroupID(c.GetGroupId()))
		r.wake(ctx, from, raftcore.GroupID(c.GetGroupId()))
	case raftv1.Control_KIND_QUIESCE:
		if h, ok := r.groups[raftcore.GroupID(c.GetGroupId())]; ok {
			ctx.Send(h.PID, &actors.Quiesce{From: from, Term: c.GetTerm(), Commit: raftcore.Index(c.GetCommit())})
		}
	case raftv1.Control_KIND_WAKE:
		r.wake(ctx, from, raftcore.GroupID(c.GetGroupId()))
	case raftv1.Control_KIND_TRANSFER:
		if _, member := r.meta.Node(from); member {
			r.askTransfer(ctx, &actors.AskTransfer{Node: r.cfg.Replica.Node, Group: raftcore.GroupID(c.GetGroupId()),
				Term: c.GetTerm(), To: raftcore.ReplicaID(c.GetReplicaId())})
		}
	}
}
