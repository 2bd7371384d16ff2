package router

import (
	"context"
	"errors"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/multiraftd/multiraftd/actors"
	"github.com/multiraftd/multiraftd/raftcore"
)

// Forwarding: a request goes from the node that took it to the leader's node, or, from a node without a
// replica, to one with, and from there to the leader's. Never further.
const (
	hopsMax      = 2
	hopsKey      = "multiraft-hops"
	noForwardKey = "multiraft-no-forward"
)

// origin says where a call comes from.
type origin struct {
	hops      int
	noForward bool
}

// originOf reads a call's metadata. What can't be read counts as forwarded to the end.
func originOf(ctx context.Context) origin {
	md, ok := metadata.FromIncomingContext(ctx)
	if !ok {
		return origin{}
	}
	var o origin
	if v := md.Get(hopsKey); len(v) > 0 {
		n, err := strconv.ParseUint(v[0], 10, 8)
		if err != nil {
			n = hopsMax
		}
		o.hops = int(n)
	}
	if v := md.Get(noForwardKey); len(v) > 0 {
		o.noForward = v[0] == "1"
	}
	return o
}

func (o origin) mayForward() bool { return !o.noForward && o.hops < hopsMax }

// forwarded returns the context of a call to another node on behalf of this one.
func (o origin) forwarded(ctx context.Context) context.Context {
	md := metadata.Pairs(hopsKey, strconv.Itoa(o.hops+1))
	if span := spanOf(ctx); span != nil {
		md.Set(traceparentKey, span.At().Traceparent())
	}
	return metadata.NewOutgoingContext(ctx, md)
}

// route is where a request for a group's leader goes: to a replica here, or to another node.
type route struct {
	here *Hosted
	node raftcore.NodeID
}

// leaderOf finds the way to the leader of g as far as this node knows.
func (s *Services) leaderOf(t *Table, g raftcore.GroupID, o origin) (route, error) {
	self := s.core.Node()
	h, ok := t.Hosted(g)
	if !ok {
		return s.aside(t, g, o, fail(notLeader, "group %d has no replica on node %d", g, self))
	}
	st := h.Board.Load()
	switch {
	case st == nil:
		return route{}, fail(noLeader, "the replica of group %d is starting", g)
	case st.Failure != "":
		return s.aside(t, g, o, fail(replicaFailed, "the replica of group %d on node %d has failed: %s", g, self, st.Failure))
	case st.Leader == self:
		return route{here: h}, nil
	case st.Leader == 0:
		return route{}, leaderElsewhere(0, st.Term, t.Meta)
	case !o.mayForward():
		return route{}, leaderElsewhere(st.Leader, st.Term, t.Meta)
	default:
		return route{node: st.Leader}, nil
	}
}

// aside finds another node with a replica of g, which knows more; otherwise says whatever is wrong here.
func (s *Services) aside(t *Table, g raftcore.GroupID, o origin, otherwise *failure) (route, error) {
	if !o.mayForward() {
		return route{}, otherwise
	}
	nodes := s.nodesOf(t, g)
	for _, n := range nodes {
		if n != s.core.Node() && !s.conns.failing(n) {
			return route{node: n}, nil
		}
	}
	for _, n := range nodes {
		if n != s.core.Node() {
			return route{node: n}, nil
		}
	}
	return route{}, otherwise
}

// nodesOf returns the nodes with a replica of g: its members where they are known, else as it was placed.
func (s *Services) nodesOf(t *Table, g raftcore.GroupID) []raftcore.NodeID {
	if h, ok := t.Hosted(g); ok {
		if st := h.Board.Load(); st != nil && len(st.Voters) > 0 {
			return append(append([]raftcore.NodeID{}, st.Voters...), st.Learners...)
		}
	}
	var nodes []raftcore.NodeID
	if g == raftcore.MetadataGroup { // every node is one
		for _, n := range t.Meta.Nodes() {
			nodes = append(nodes, raftcore.NodeID(n.GetNodeId()))
		}
		return nodes
	}
	group, _ := t.Meta.Group(g)
	for _, m := range group.Placed() {
		nodes = append(nodes, m.Node)
	}
	return nodes
}

// lost says what a call to another node that was cut short means.
type lost reason

const (
	lostUnknown  = lost(outcomeUnknown) // it may have had its effect
	lostHarmless = lost(noLeader)       // it only asked
)

// atLeader runs here when this node leads g, else there at the node that does. A leader that moves is
// followed a few times; everything else is up to the client.
func atLeader[T any](ctx context.Context, s *Services, g raftcore.GroupID, cut lost,
	here func(context.Context, *Hosted) (T, error), there func(context.Context, *grpc.ClientConn) (T, error)) (T, error) {
	o := originOf(ctx)
	for attempt := 1; ; attempt++ {
		var v T
		r, err := s.leaderOf(s.core.Table(), g, o)
		switch {
		case err != nil:
		case r.here != nil:
			v, err = here(ctx, r.here)
		default:
			v, err = at(ctx, s, o, r.node, cut, there)
		}
		var moved *actors.NotLeaderError
		if err == nil || attempt == leaderAttemptsMax || !errors.As(err, &moved) || moved.Leader == 0 {
			return v, s.refused(err)
		}
	}
}

// at makes a call to another node. Its error is a *failure.
func at[T any](ctx context.Context, s *Services, o origin, n raftcore.NodeID, cut lost, call func(context.Context, *grpc.ClientConn) (T, error)) (T, error) {
	var none T
	conn, err := s.connect(ctx, n)
	if err != nil {
		return none, err
	}
	s.cfg.Counters.Forwarded.Add(1)
	v, err := call(o.forwarded(ctx), conn)
	if err != nil {
		return none, broken(ctx, n, err, cut)
	}
	return v, nil
}

// broken explains the error of a call to node n: what its services said, the caller's own end, or a
// connection that was lost.
func broken(ctx context.Context, n raftcore.NodeID, err error, cut lost) *failure {
	f := fromStatus(err)
	if f.reason != plain || ctx.Err() != nil || f.code == codes.DeadlineExceeded {
		return secondHand(n, f)
	}
	switch f.code {
	case codes.Unavailable, codes.Canceled, codes.Unknown, codes.Internal, codes.Aborted:
		return fail(reason(cut), "node %d, to which this was forwarded, was lost: %s", n, f.message)
	default:
		return f
	}
}

// secondHand is what another node's failure means to a client of this one: that the other is stopping is no
// reason to leave this one.
func secondHand(n raftcore.NodeID, f *failure) *failure {
	if f.reason == stopping {
		return fail(noLeader, "node %d, which leads, is stopping", n)
	}
	return f
}
