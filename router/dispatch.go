package router

import (
	"slices"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/multiraftd/multiraftd/actors"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
)

func (r *Router) dispatch(ctx actor.Context, items []Routed) {
	for _, it := range items {
		h, ok := r.groups[it.Group]
		if !ok {
			actors.End(it.Msg, ErrNotHosted)
			continue
		}
		if s := h.Board.Load(); s != nil && s.Failure != "" {
			actors.End(it.Msg, actors.ErrStopped)
			continue
		}
		if p, ok := it.Msg.(*actors.Propose); ok && p.Wait != nil {
			r.nextWait(p)
		}
		ctx.Send(h.PID, it.Msg)
	}
}

// frame splits a peer's frame into one message per group, in the order in which the groups come up.
func (r *Router) frame(ctx actor.Context, m *Frame) {
	if _, member := r.meta.Node(m.From); member {
		r.hear(ctx, m.From, m.Frame.GetHeader().GetStartNumber())
	}
	for _, h := range m.Frame.GetHeartbeats() {
		if in := r.inboundOf(ctx, m.From, h.GetGroupId()); in != nil {
			in.Heartbeats = append(in.Heartbeats, h)
		}
	}
	for _, e := range m.Frame.GetEnvelopes() {
		if in := r.inboundOf(ctx, m.From, e.GetGroupId()); in != nil {
			in.Envelopes = append(in.Envelopes, e)
		}
	}
	if m.receiving != nil {
		r.received(m.receiving)
	}
	whole := &parts{done: m.Done}
	whole.left.Store(1 + int32(len(r.order)))
	for _, h := range r.order {
		if m.Done != nil {
			r.inbound[h.Group].Done = whole.finish
		}
		ctx.Send(h.PID, r.inbound[h.Group])
	}
	clear(r.inbound)
	clear(r.order)
	r.order = r.order[:0]
	for _, c := range m.Frame.GetControls() {
		r.control(ctx, m.From, c)
	}
	if rep := m.Frame.GetReport(); rep != nil {
		r.reported(ctx, m.From, rep)
	}
	if m.Done != nil {
		whole.finish()
	}
}

// inboundOf returns where this frame's messages for a group are collected. For a group that has no replica
// here it counts, tells the sender, and allocates nothing.
func (r *Router) inboundOf(ctx actor.Context, from raftcore.NodeID, group uint64) *actors.Inbound {
	g := raftcore.GroupID(group)
	if in, ok := r.inbound[g]; ok {
		return in
	}
	h, ok := r.groups[g]
	if !ok {
		r.cfg.Counters.UnknownGroup.Add(1)
		if !r.birth[g] { // about to be here: the sender need not know
			r.cfg.Sender.SendControl(from, &raftv1.Control{Kind: raftv1.Control_KIND_GROUP_UNKNOWN, GroupId: group})
		}
		return nil
	}
	in := &actors.Inbound{From: from}
	r.inbound[g] = in
	r.order = append(r.order, h)
	return in
}

// peerFailed logs that a member's replica has failed: once, however often it is said, and of members only.
func (r *Router) peerFailed(n raftcore.NodeID, g raftcore.GroupID) {
	h, ok := r.groups[g]
	if !ok || slices.Contains(h.peersFailed, n) {
		return
	}
	if s := h.Board.Load(); s == nil || !slices.Contains(s.Voters, n) && !slices.Contains(s.Learners, n) {
		return
	}
	h.peersFailed = append(h.peersFailed, n)
	r.cfg.Replica.Logger.Warn("a peer's replica has failed", "node", n, "group", g)
}

func (r *Router) lost(ctx actor.Context, m *Lost) {
	for _, g := range m.Groups {
		if h, ok := r.groups[raftcore.GroupID(g)]; ok {
			ctx.Send(h.PID, &actors.Unreachable{Node: m.Node})
		}
	}
}

// nodeGone tells the groups that the node led, in ascending order, and all others that are quiet.
func (r *Router) nodeGone(ctx actor.Context, n raftcore.NodeID) {
	for _, g := range r.ids {
		h := r.groups[g]
		if s := h.Board.Load(); s != nil && s.Leader == n {
			ctx.Send(h.PID, &actors.NodeGone{Node: n})
		}
	}
	r.suspect(ctx, n)
}
