package router

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc"

	"github.com/multiraftd/multiraftd/actors"
	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/metadata"
)

// JoinNode makes a node a member and gives it an id.
func (s *Services) JoinNode(ctx context.Context, req *multiraftv1.JoinNodeRequest) (*multiraftv1.JoinNodeResponse, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.exit()
	ctx, cancel := bounded(ctx)
	defer cancel()
	for _, f := range []struct{ name, value string }{
		{"store_id", req.GetStoreId()}, {"client_addr", req.GetClientAddr()}, {"peer_addr", req.GetPeerAddr()},
	} {
		if f.value == "" {
			return nil, badField(f.name, "it is required")
		}
	}
	// The log is kept clean of what the metadata machine would only refuse there.
	if err := metadata.ValidateStore(joining(req)); err != nil {
		return nil, s.refused(err)
	}
	return atLeader(ctx, s, raftcore.MetadataGroup, lostUnknown,
		func(ctx context.Context, h *Hosted) (*multiraftv1.JoinNodeResponse, error) {
			return s.joinHere(ctx, h, req)
		},
		func(ctx context.Context, conn *grpc.ClientConn) (*multiraftv1.JoinNodeResponse, error) {
			return multiraftv1.NewAdminServiceClient(conn).JoinNode(ctx, req)
		})
}

func joining(req *multiraftv1.JoinNodeRequest) *metav1.Node {
	return &metav1.Node{StoreId: req.GetStoreId(), ClientAddr: req.GetClientAddr(), PeerAddr: req.GetPeerAddr(), Rack: req.GetRack()}
}

func (s *Services) joinHere(ctx context.Context, h *Hosted, req *multiraftv1.JoinNodeRequest) (*multiraftv1.JoinNodeResponse, error) {
	if err := s.recordVoters(ctx, h); err != nil {
		return nil, err
	}
	o, err := s.command(ctx, h, &metav1.Command{Command: &metav1.Command_JoinNode{JoinNode: &metav1.JoinNode{Node: joining(req)}}})
	if err != nil {
		return nil, err
	}
	node, ok := o.Value.(*metav1.Node)
	if !ok {
		return nil, fail(replicaFailed, "the metadata machine answered JoinNode with %T", o.Value)
	}
	resp := &multiraftv1.JoinNodeResponse{ClusterId: s.cfg.Cluster, NodeId: node.GetNodeId()}
	for _, n := range s.core.Table().Meta.Nodes() {
		resp.Nodes = append(resp.Nodes, &multiraftv1.NodeInfo{NodeId: n.GetNodeId(), ClientAddr: n.GetClientAddr(), PeerAddr: n.GetPeerAddr(), Rack: n.GetRack()})
	}
	return resp, nil
}

// recordVoters records who votes in the metadata group, when nobody has yet. The Controller does it too.
func (s *Services) recordVoters(ctx context.Context, h *Hosted) error {
	if _, ok := s.core.Table().Meta.Target(raftcore.MetadataGroup); ok {
		return nil
	}
	st := h.Board.Load()
	if st == nil || st.Joint || len(st.Voters) == 0 {
		return fail(noLeader, "the members of the metadata group are not known yet")
	}
	_, err := s.command(ctx, h, &metav1.Command{Command: &metav1.Command_SetTarget{SetTarget: &metav1.SetTarget{
		GroupId: uint64(raftcore.MetadataGroup), Voters: numbers(st.Voters)}}})
	return err
}

// DrainNode begins or ends a drain, and says what is left.
func (s *Services) DrainNode(ctx context.Context, req *multiraftv1.DrainNodeRequest) (*multiraftv1.DrainNodeResponse, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.exit()
	ctx, cancel := bounded(ctx)
	defer cancel()
	if req.GetNodeId() == 0 {
		return nil, badField("node_id", "it is required")
	}
	return atLeader(ctx, s, raftcore.MetadataGroup, lostUnknown,
		func(ctx context.Context, h *Hosted) (*multiraftv1.DrainNodeResponse, error) {
			return s.drainHere(ctx, h, req)
		},
		func(ctx context.Context, conn *grpc.ClientConn) (*multiraftv1.DrainNodeResponse, error) {
			return multiraftv1.NewAdminServiceClient(conn).DrainNode(ctx, req)
		})
}

func (s *Services) drainHere(ctx context.Context, h *Hosted, req *multiraftv1.DrainNodeRequest) (*multiraftv1.DrainNodeResponse, error) {
	want := metav1.NodeState_NODE_STATE_DRAINING
	if req.GetCancel() {
		want = metav1.NodeState_NODE_STATE_UNSPECIFIED
	}
	// Asked again, to see how far it is, it writes nothing.
	n, known := s.core.Table().Meta.Node(raftcore.NodeID(req.GetNodeId()))
	if !known || n.GetState() != want {
		if _, err := s.command(ctx, h, &metav1.Command{Command: &metav1.Command_SetNodeState{SetNodeState: &metav1.SetNodeState{
			NodeId: req.GetNodeId(), State: want}}}); err != nil {
			return nil, err
		}
	}
	return s.drainState(ctx, raftcore.NodeID(req.GetNodeId())), nil
}

func (s *Services) drainState(ctx context.Context, n raftcore.NodeID) *multiraftv1.DrainNodeResponse {
	meta := s.core.Table().Meta
	resp := &multiraftv1.DrainNodeResponse{}
	meta.Groups(func(g metadata.Group) bool {
		if slices.ContainsFunc(g.Placed(), func(m metadata.Member) bool { return m.Node == n }) {
			resp.ReplicasLeft++
		}
		return true
	})
	t, _ := meta.Target(raftcore.MetadataGroup)
	h, hosted := s.core.Table().Hosted(raftcore.MetadataGroup)
	resp.Votes = slices.Contains(t.Nodes(), n)
	if hosted && h.Board.Load() != nil { // the members as they are count, not only as they should be
		resp.Votes = resp.Votes || slices.Contains(h.Board.Load().Voters, n) || h.Board.Load().Joint
	}
	if s.core.Liveness().Alive(n) {
		for _, st := range s.askNodes(ctx, []raftcore.NodeID{n}, nil)[n].GetReplicas() {
			if st.GetRole() == multiraftv1.ReplicaRole_REPLICA_ROLE_LEADER {
				resp.LeadersLeft++
			}
		}
	}
	resp.Done = resp.ReplicasLeft == 0 && resp.LeadersLeft == 0 && !resp.Votes
	for _, f := range s.core.Findings() {
		if f.Node == n && !resp.Done {
			resp.Stuck, resp.Try = f.What+": "+f.Why, f.Try
		}
	}
	return resp
}

// RemoveNode ends a node's membership for good.
func (s *Services) RemoveNode(ctx context.Context, req *multiraftv1.RemoveNodeRequest) (*multiraftv1.RemoveNodeResponse, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.exit()
	ctx, cancel := bounded(ctx)
	defer cancel()
	if req.GetNodeId() == 0 {
		return nil, badField("node_id", "it is required")
	}
	return atLeader(ctx, s, raftcore.MetadataGroup, lostUnknown,
		func(ctx context.Context, h *Hosted) (*multiraftv1.RemoveNodeResponse, error) {
			if err := s.recordVoters(ctx, h); err != nil {
				return nil, err
			}
			_, err := s.command(ctx, h, &metav1.Command{Command: &metav1.Command_RemoveNode{RemoveNode: &metav1.RemoveNode{
				NodeId: req.GetNodeId(), Force: req.GetForce()}}})
			return &multiraftv1.RemoveNodeResponse{}, err
		},
		func(ctx context.Context, conn *grpc.ClientConn) (*multiraftv1.RemoveNodeResponse, error) {
			return multiraftv1.NewAdminServiceClient(conn).RemoveNode(ctx, req)
		})
}

// CanStop says whether every group goes on without a node.
func (s *Services) CanStop(ctx context.Context, req *multiraftv1.CanStopRequest) (*multiraftv1.CanStopResponse, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.exit()
	ctx, cancel := bounded(ctx)
	defer cancel()
	n, meta := raftcore.NodeID(req.GetNodeId()), s.core.Table().Meta
	if _, known := meta.Node(n); !known {
		if _, removed := meta.Removed(n); removed {
			return nil, fail(nodeRemoved, "node %d was removed", n)
		}
		return nil, fail(unknownNode, "no node with id %d", n)
	}
	reasons := s.census(ctx).needs(n)
	return &multiraftv1.CanStopResponse{CanStop: len(reasons) == 0, Reasons: reasons}, nil
}

// needs lists the groups that do not go on without a node.
func (c *census) needs(n raftcore.NodeID) []*multiraftv1.HealthReason {
	var needs reasonList
	for _, g := range c.groups {
		if !slices.Contains(g.members, n) || g.learner(n) {
			continue
		}
		try := fmt.Sprintf("mrctl node drain %d, or wait until mrctl cluster health says that the cluster is healthy", n)
		switch left, needed := g.without(n); {
		case g.leader == 0:
			needs.add(g.what+" has no leader", "whether it goes on without the node is not known", "mrctl cluster health")
		case g.joint:
			needs.add(g.what+" is between two memberships", "both need a majority until it is through", "wait a moment, and ask again")
		case len(left) < needed:
			needs.add(fmt.Sprintf("%s needs node %d", g.what, n),
				fmt.Sprintf("without it nodes %v are left that run and are caught up, and %d of %d voters are needed", left, needed, len(g.voters)), try)
		}
	}
	return needs.all()
}

func (g *groupState) learner(n raftcore.NodeID) bool {
	return len(g.voters) > 0 && !slices.Contains(g.voters, n)
}

// without returns the voters that would be left to go on, and how many are needed.
func (g *groupState) without(n raftcore.NodeID) (left []raftcore.NodeID, needed int) {
	for _, v := range g.voters {
		if v != n && !slices.Contains(g.missing, v) && !slices.Contains(g.lagging, v) {
			left = append(left, v)
		}
	}
	return left, len(g.voters)/2 + 1
}

// MovePartition moves a partition to other nodes, or says how far that is.
func (s *Services) MovePartition(ctx context.Context, req *multiraftv1.MovePartitionRequest) (*multiraftv1.MovePartitionResponse, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.exit()
	ctx, cancel := bounded(ctx)
	defer cancel()
	if len(req.GetNodes()) == 0 && req.GetTargetId() == 0 {
		return nil, badField("nodes", "at least one is required")
	}
	if n := len(req.GetNodes()); n > metadata.ReplicasMax {
		return nil, badField("nodes", "%d of them, at most %d", n, metadata.ReplicasMax)
	}
	return atLeader(ctx, s, raftcore.MetadataGroup, lostUnknown,
		func(ctx context.Context, h *Hosted) (*multiraftv1.MovePartitionResponse, error) {
			return s.moveHere(ctx, h, req)
		},
		func(ctx context.Context, conn *grpc.ClientConn) (*multiraftv1.MovePartitionResponse, error) {
			return multiraftv1.NewAdminServiceClient(conn).MovePartition(ctx, req)
		})
}

func (s *Services) moveHere(ctx context.Context, h *Hosted, req *multiraftv1.MovePartitionRequest) (*multiraftv1.MovePartitionResponse, error) {
	g, err := s.partitionNamed(req.GetTopic(), req.GetPartition())
	if err != nil {
		return nil, err
	}
	id := req.GetTargetId()
	if id == 0 {
		o, err := s.command(ctx, h, &metav1.Command{Command: &metav1.Command_SetTarget{SetTarget: &metav1.SetTarget{
			GroupId: uint64(g), Voters: req.GetNodes(), Supersede: req.GetSupersede()}}})
		if err != nil {
			return nil, err
		}
		target, ok := o.Value.(*metadata.Target)
		if !ok {
			return nil, fail(replicaFailed, "the metadata machine answered SetTarget with %T", o.Value)
		}
		id = target.ID
		if !s.awaitTarget(ctx, g, id) {
			return &multiraftv1.MovePartitionResponse{TargetId: id}, nil
		}
	}
	return s.moveState(ctx, g, id), nil
}

// awaitTarget waits until this node's table shows what the command has made.
func (s *Services) awaitTarget(ctx context.Context, g raftcore.GroupID, id uint64) bool {
	return s.poll(ctx, func() bool {
		latest, ok := s.core.Table().Meta.LatestTarget(g)
		return !ok || latest >= id
	})
}

func (s *Services) partitionNamed(topic string, partition uint32) (raftcore.GroupID, error) {
	table := s.core.Table()
	t, ok := table.Meta.TopicByName(topic)
	if !ok {
		return 0, table.noTopic("no topic named %.80q", topic)
	}
	if int64(partition) >= int64(len(t.GetPartitions())) {
		return 0, errUnknownPartition(t, partition)
	}
	return raftcore.GroupID(t.GetPartitions()[partition].GetGroupId()), nil
}

func (s *Services) moveState(ctx context.Context, g raftcore.GroupID, id uint64) *multiraftv1.MovePartitionResponse {
	resp := &multiraftv1.MovePartitionResponse{TargetId: id}
	group, _ := s.core.Table().Meta.Group(g)
	resp.Done = !group.Moving
	for _, m := range group.Current {
		resp.Voters = append(resp.Voters, uint64(m.Node))
	}
	if resp.GetDone() {
		return resp
	}
	var nodes []raftcore.NodeID
	for _, m := range group.Placed() {
		if s.core.Liveness().Alive(m.Node) {
			nodes = append(nodes, m.Node)
		}
	}
	var leader *multiraftv1.ReplicaStatus
	for _, answer := range s.askNodes(ctx, nodes, []uint64{uint64(g)}) {
		for _, st := range answer.GetReplicas() {
			if st.GetRole() == multiraftv1.ReplicaRole_REPLICA_ROLE_LEADER && st.GetTerm() >= leader.GetTerm() {
				leader = st
			}
		}
	}
	if leader == nil {
		resp.Waits = "a leader"
		return resp
	}
	resp.Voters, resp.Learners = leader.GetVoters(), leader.GetLearners()
	resp.Waits = cmp.Or(leader.GetWaits(), "the controller to see it")
	return resp
}

// TransferLeader hands a partition's leadership over.
func (s *Services) TransferLeader(ctx context.Context, req *multiraftv1.TransferLeaderRequest) (*multiraftv1.TransferLeaderResponse, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.exit()
	ctx, cancel := bounded(ctx)
	defer cancel()
	g, err := s.partitionNamed(req.GetTopic(), req.GetPartition())
	if err != nil {
		return nil, s.refused(err)
	}
	return atLeader(ctx, s, g, lostUnknown,
		func(ctx context.Context, h *Hosted) (*multiraftv1.TransferLeaderResponse, error) {
			to, err := s.transferHere(ctx, h, raftcore.NodeID(req.GetNodeId()))
			return &multiraftv1.TransferLeaderResponse{Leader: uint64(to)}, err
		},
		func(ctx context.Context, conn *grpc.ClientConn) (*multiraftv1.TransferLeaderResponse, error) {
			return multiraftv1.NewAdminServiceClient(conn).TransferLeader(ctx, req)
		})
}

// transferred carries the end of a transfer to the call that waits.
type transferred chan transferEnd

type transferEnd struct {
	to  raftcore.NodeID
	err error
}

// Transferred is part of actors.TransferReply.
func (t transferred) Transferred(to raftcore.NodeID, err error) { t <- transferEnd{to, err} }

func (s *Services) transferHere(ctx context.Context, h *Hosted, to raftcore.NodeID) (raftcore.NodeID, error) {
	if to == s.core.Node() {
		return to, nil // it leads already
	}
	end := make(transferred, 1)
	s.core.Dispatch(Routed{h.Group, &actors.Transfer{To: to, Reply: end}})
	select {
	case e := <-end:
		return e.to, e.err
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-s.closed.Done():
		return 0, errStopping()
	}
}
