package clienttest

import (
	"cmp"
	"context"
	"slices"

	"google.golang.org/grpc/codes"

	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
)

type adminService struct {
	multiraftv1.UnimplementedAdminServiceServer
	c    *Cluster
	node uint64
}

func (s *adminService) CreateTopic(_ context.Context, req *multiraftv1.CreateTopicRequest) (*multiraftv1.CreateTopicResponse, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if len(req.GetRequestId()) != 16 || req.GetName() == "" || req.GetPartitions() == 0 {
		return nil, statusOf(refusal(codes.InvalidArgument, "INVALID_ARGUMENT", "bad request id, name or partitions", 0))
	}
	if id, ok := s.c.creates[string(req.GetRequestId())]; ok {
		return &multiraftv1.CreateTopicResponse{TopicId: id, Ready: true}, nil
	}
	if int(req.GetReplicas()) > len(s.c.nodes) {
		return nil, statusOf(refusal(codes.FailedPrecondition, "NOT_ENOUGH_NODES", "more replicas than nodes", 0))
	}
	if s.c.topics[req.GetName()] != nil {
		return nil, statusOf(refusal(codes.AlreadyExists, "TOPIC_EXISTS", "topic "+req.GetName()+" exists", 0))
	}
	t := s.c.create(req.GetName(), int(req.GetPartitions()))
	t.retention = req.GetRetention()
	s.c.creates[string(req.GetRequestId())] = t.id
	if s.c.faultOf(Call{Node: s.node}) == BreakAfter {
		return nil, errBroken
	}
	return &multiraftv1.CreateTopicResponse{TopicId: t.id, Ready: true}, nil
}

func (s *adminService) AlterTopic(_ context.Context, req *multiraftv1.AlterTopicRequest) (*multiraftv1.AlterTopicResponse, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	t := s.c.byID(req.GetTopicId())
	if t == nil {
		return nil, statusOf(refusal(codes.NotFound, "UNKNOWN_TOPIC", "no such topic", 0))
	}
	r := &multiraftv1.Retention{RetentionMs: t.retention.GetRetentionMs(), RetentionBytes: t.retention.GetRetentionBytes()}
	if req.RetentionMs != nil {
		r.RetentionMs = req.GetRetentionMs()
	}
	if req.RetentionBytes != nil {
		r.RetentionBytes = req.GetRetentionBytes()
	}
	t.retention = r
	return &multiraftv1.AlterTopicResponse{TopicId: t.id, Retention: r}, nil
}

func (s *adminService) DeleteTopic(_ context.Context, req *multiraftv1.DeleteTopicRequest) (*multiraftv1.DeleteTopicResponse, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	resp := &multiraftv1.DeleteTopicResponse{TopicId: req.GetTopicId(), WasDeleted: true}
	switch t := s.c.byID(req.GetTopicId()); {
	case t != nil:
		s.c.delete(t.name)
		resp.WasDeleted = false
	case req.GetTopicId() == 0 || req.GetTopicId() > s.c.created:
		return nil, statusOf(refusal(codes.NotFound, "UNKNOWN_TOPIC", "no such topic", 0))
	}
	if s.c.faultOf(Call{Node: s.node}) == BreakAfter {
		return nil, errBroken
	}
	return resp, nil
}

func (s *adminService) ListTopics(context.Context, *multiraftv1.ListTopicsRequest) (*multiraftv1.ListTopicsResponse, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	resp := &multiraftv1.ListTopicsResponse{}
	for _, t := range s.c.topics {
		resp.Topics = append(resp.Topics, &multiraftv1.TopicSummary{Name: t.name, TopicId: t.id, Partitions: uint32(len(t.partitions)), Replicas: uint32(len(s.c.nodes)),
			Retention: t.retention})
	}
	slices.SortFunc(resp.Topics, func(a, b *multiraftv1.TopicSummary) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return resp, nil
}

func (s *adminService) ClusterStatus(context.Context, *multiraftv1.ClusterStatusRequest) (*multiraftv1.ClusterStatusResponse, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	resp := &multiraftv1.ClusterStatusResponse{ClusterId: s.c.id, MetadataLeader: 1, Groups: 1}
	for _, n := range s.c.nodes {
		resp.Nodes = append(resp.Nodes, &multiraftv1.NodeInfo{NodeId: n.id, ClientAddr: n.addr, PeerAddr: n.addr, Alive: n.server != nil, Replicas: 1})
	}
	return resp, nil
}

func (s *adminService) ClusterHealth(context.Context, *multiraftv1.ClusterHealthRequest) (*multiraftv1.ClusterHealthResponse, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	resp := &multiraftv1.ClusterHealthResponse{Healthy: true}
	for _, n := range s.c.nodes {
		if n.server == nil {
			resp.Healthy = false
			resp.Reasons = append(resp.Reasons, &multiraftv1.HealthReason{What: "a node is down", Why: "it does not answer", Try: "start it"})
		}
	}
	return resp, nil
}

func (s *adminService) DescribeGroup(_ context.Context, req *multiraftv1.DescribeGroupRequest) (*multiraftv1.DescribeGroupResponse, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if req.GetGroupId() != 1 {
		return nil, statusOf(refusal(codes.NotFound, "UNKNOWN_GROUP", "no such group", 0))
	}
	resp := &multiraftv1.DescribeGroupResponse{GroupId: 1}
	for _, n := range s.c.nodes {
		resp.Replicas = append(resp.Replicas, &multiraftv1.ReplicaStatus{GroupId: 1, NodeId: n.id, ReplicaId: n.id, Term: 2, Leader: 1,
			Role: multiraftv1.ReplicaRole_REPLICA_ROLE_FOLLOWER, LastIndex: 9, Commit: 9, Applied: 9, Hash: 0xabc, Voters: s.c.ids(),
			Quiet: true, Detail: s.detailOf(n.id)})
		if n.id == 1 {
			resp.Replicas[len(resp.Replicas)-1].Role = multiraftv1.ReplicaRole_REPLICA_ROLE_LEADER
		}
	}
	return resp, nil
}

// detailOf is a replica's own account: it has voted for the leader, which knows how far all are.
func (s *adminService) detailOf(node uint64) *multiraftv1.ReplicaDetail {
	d := &multiraftv1.ReplicaDetail{Vote: 1, Entries: []*multiraftv1.EntrySummary{{Index: 9, Term: 2, Kind: "appends", Appends: 3, Bytes: 120, TimeMs: 1_700_000_000_000}}}
	for _, id := range s.c.ids() {
		m := &multiraftv1.MemberProgress{ReplicaId: id, NodeId: id, Voter: true}
		if node == 1 {
			m.State, m.Match, m.Next, m.Active = multiraftv1.MemberState_MEMBER_STATE_REPLICATE, 9, 10, true
		}
		d.Members = append(d.Members, m)
	}
	return d
}
