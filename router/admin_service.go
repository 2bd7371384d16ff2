package router

import (
	"cmp"
	"context"
	"slices"
	"time"

	"google.golang.org/grpc"

	"github.com/multiraftd/multiraftd/actors"
	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/metadata"
)

// How CreateTopic waits for leaders.
const (
	readyPollMin = 10 * time.Millisecond
	readyPollMax = 200 * time.Millisecond
	readyMargin  = 250 * time.Millisecond // before the deadline, so that the answer arrives
)

// CreateTopic creates a topic, and waits until its partitions have leaders.
func (s *Services) CreateTopic(ctx context.Context, req *multiraftv1.CreateTopicRequest) (*multiraftv1.CreateTopicResponse, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.exit()
	ctx, cancel := bounded(ctx)
	defer cancel()
	if err := metadata.ValidateTopic(req.GetName(), req.GetPartitions(), req.GetReplicas()); err != nil {
		return nil, s.refused(err)
	}
	if n := len(req.GetRequestId()); n != metadata.RequestIDBytes {
		return nil, badField("request_id", "%d bytes, want %d", n, metadata.RequestIDBytes)
	}
	return atLeader(ctx, s, raftcore.MetadataGroup, lostUnknown,
		func(ctx context.Context, h *Hosted) (*multiraftv1.CreateTopicResponse, error) {
			return s.createHere(ctx, h, req)
		},
		func(ctx context.Context, conn *grpc.ClientConn) (*multiraftv1.CreateTopicResponse, error) {
			return multiraftv1.NewAdminServiceClient(conn).CreateTopic(ctx, req)
		})
}

func (s *Services) createHere(ctx context.Context, h *Hosted, req *multiraftv1.CreateTopicRequest) (*multiraftv1.CreateTopicResponse, error) {
	o, err := s.command(ctx, h, &metav1.Command{Command: &metav1.Command_CreateTopic{CreateTopic: &metav1.CreateTopic{
		Name: req.GetName(), Partitions: req.GetPartitions(), Replicas: req.GetReplicas(), RequestId: req.GetRequestId(),
		Config: topicConfig(req.GetRetention())}}})
	if err != nil {
		return nil, err
	}
	topic, ok := o.Value.(*metav1.Topic)
	if !ok {
		return nil, fail(replicaFailed, "the metadata machine answered CreateTopic with %T", o.Value)
	}
	return &multiraftv1.CreateTopicResponse{TopicId: topic.GetTopicId(), Ready: s.awaitLeaders(ctx, topic)}, nil
}

// awaitLeaders waits until every partition has a leader and this node's table has the topic, so that ListTopics
// has it too, or until shortly before ctx ends.
func (s *Services) awaitLeaders(ctx context.Context, topic *metav1.Topic) bool {
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, left-min(readyMargin, left/4))
		defer cancel()
	}
	leaderless := map[uint64]*metav1.Partition{}
	for _, p := range topic.GetPartitions() {
		leaderless[p.GetGroupId()] = p
	}
	return s.poll(ctx, func() bool {
		s.dropLed(ctx, leaderless)
		_, listed := s.core.Table().Meta.Topic(topic.GetTopicId())
		return listed && len(leaderless) == 0
	})
}

// poll asks until the answer is yes, ctx ends or the services stop.
func (s *Services) poll(ctx context.Context, yes func() bool) bool {
	for pause := readyPollMin; ; pause = min(2*pause, readyPollMax) {
		if yes() {
			return true
		}
		again := time.NewTimer(pause)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return false
		case <-s.draining.Done():
			again.Stop()
			return false
		}
	}
}

// dropLed removes the groups of which some replica knows a leader.
func (s *Services) dropLed(ctx context.Context, leaderless map[uint64]*metav1.Partition) {
	t := s.core.Table()
	unknown := map[uint64]*multiraftv1.PartitionInfo{}
	for g, p := range leaderless {
		if st := s.statusOf(t, raftcore.GroupID(g)); st.GetLeader() != 0 {
			delete(leaderless, g)
			continue
		}
		unknown[g] = &multiraftv1.PartitionInfo{GroupId: g}
		group := metadata.GroupOf(p)
		for _, m := range group.Current {
			unknown[g].Replicas = append(unknown[g].Replicas, uint64(m.Node))
		}
	}
	if len(unknown) == 0 {
		return
	}
	s.learnLeaders(ctx, t, unknown)
	for g, info := range unknown {
		if info.GetLeader() != 0 {
			delete(leaderless, g)
		}
	}
}

// ListTopics lists all topics: as the metadata leader knows them, or, when it can't be asked, as this node does.
func (s *Services) ListTopics(ctx context.Context, req *multiraftv1.ListTopicsRequest) (*multiraftv1.ListTopicsResponse, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.exit()
	ctx, cancel := bounded(ctx)
	defer cancel()
	if resp, ok := askMetadataLeader(ctx, s, func(ctx context.Context, conn *grpc.ClientConn) (*multiraftv1.ListTopicsResponse, error) {
		return multiraftv1.NewAdminServiceClient(conn).ListTopics(ctx, req)
	}); ok {
		return resp, nil
	}
	resp := &multiraftv1.ListTopicsResponse{}
	for _, t := range s.core.Table().Meta.TopicsByName() {
		resp.Topics = append(resp.Topics, &multiraftv1.TopicSummary{
			Name: t.GetName(), TopicId: t.GetTopicId(), Partitions: uint32(len(t.GetPartitions())), Replicas: t.GetReplicas(),
			Retention: retentionProto(t.GetConfig())})
	}
	return resp, nil
}

// RegisterNode records a node in the metadata group.
func (s *Services) RegisterNode(ctx context.Context, req *multiraftv1.RegisterNodeRequest) (*multiraftv1.RegisterNodeResponse, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.exit()
	ctx, cancel := bounded(ctx)
	defer cancel()
	node := &metav1.Node{NodeId: req.GetNodeId(), StoreId: req.GetStoreId(), StartNumber: req.GetStartNumber(),
		ClientAddr: req.GetClientAddr(), PeerAddr: req.GetPeerAddr(), Rack: req.GetRack(), BootId: req.GetBootId()}
	if err := checkRegistration(node, req.GetEarlierBootIds()); err != nil {
		return nil, s.refused(err)
	}
	return atLeader(ctx, s, raftcore.MetadataGroup, lostUnknown,
		func(ctx context.Context, h *Hosted) (*multiraftv1.RegisterNodeResponse, error) {
			_, err := s.command(ctx, h, &metav1.Command{Command: &metav1.Command_RegisterNode{RegisterNode: &metav1.RegisterNode{Node: node, EarlierBootIds: req.GetEarlierBootIds()}}})
			return &multiraftv1.RegisterNodeResponse{}, err
		},
		func(ctx context.Context, conn *grpc.ClientConn) (*multiraftv1.RegisterNodeResponse, error) {
			return multiraftv1.NewAdminServiceClient(conn).RegisterNode(ctx, req)
		})
}

// checkRegistration keeps out of the log what the metadata machine would only refuse there.
func checkRegistration(n *metav1.Node, earlier [][]byte) error {
	for _, f := range []struct {
		name string
		ok   bool
	}{
		{"node_id", n.GetNodeId() > 0}, {"store_id", n.GetStoreId() != ""}, {"start_number", n.GetStartNumber() > 0},
		{"client_addr", n.GetClientAddr() != ""}, {"peer_addr", n.GetPeerAddr() != ""},
	} {
		if !f.ok {
			return badField(f.name, "it is required")
		}
	}
	return cmp.Or(metadata.ValidateNode(n), metadata.ValidateStarts(n, earlier))
}

// NodeStatus is this node's own view.
func (s *Services) NodeStatus(ctx context.Context, req *multiraftv1.NodeStatusRequest) (*multiraftv1.NodeStatusResponse, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.exit()
	if n := len(req.GetGroupIds()); n > metadata.GroupsMax {
		return nil, badField("group_ids", "%d of them, at most %d", n, metadata.GroupsMax)
	} else if req.GetDetail() && (n == 0 || n > detailedGroupsMax) {
		return nil, badField("detail", "it takes 1 to %d group_ids, not %d", detailedGroupsMax, n)
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	slices.Sort(req.GetGroupIds())
	req.GroupIds = slices.Compact(req.GetGroupIds()) // named twice, described once
	return s.nodeStatus(ctx, req), nil
}

func (s *Services) nodeStatus(ctx context.Context, req *multiraftv1.NodeStatusRequest) *multiraftv1.NodeStatusResponse {
	groups := req.GetGroupIds()
	t := s.core.Table()
	free, total := s.cfg.Space.Bytes()
	resp := &multiraftv1.NodeStatusResponse{NodeId: uint64(s.core.Node()), StartNumber: s.cfg.Start,
		DiskSpace: spaces[s.cfg.Space.Level()], DiskFreeBytes: free, DiskBytes: total}
	if meta := s.statusOf(t, raftcore.MetadataGroup); meta != nil {
		resp.MetadataApplied = meta.GetApplied()
	}
	for _, f := range s.core.Findings() {
		resp.Findings = append(resp.Findings, &multiraftv1.HealthReason{What: f.What, Why: f.Why, Try: f.Try})
	}
	if len(groups) == 0 {
		for _, g := range t.Groups() {
			groups = append(groups, uint64(g))
		}
	}
	for _, g := range groups {
		st := s.statusOf(t, raftcore.GroupID(g))
		if st != nil && req.GetDetail() {
			st = s.detailed(ctx, st)
		}
		if st != nil {
			resp.Replicas = append(resp.Replicas, st)
		}
	}
	return resp
}

// DescribeGroup asks all replicas of a group for their state.
func (s *Services) DescribeGroup(ctx context.Context, req *multiraftv1.DescribeGroupRequest) (*multiraftv1.DescribeGroupResponse, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.exit()
	ctx, cancel := bounded(ctx)
	defer cancel()
	t, g := s.core.Table(), raftcore.GroupID(req.GetGroupId())
	if g == 0 {
		return nil, badField("group_id", "it is required")
	}
	resp := &multiraftv1.DescribeGroupResponse{GroupId: uint64(g)}
	if g != raftcore.MetadataGroup {
		topic, partition, ok := t.Meta.Partition(g)
		if !ok {
			return nil, fail(unknownGroup, "no group with id %d", g)
		}
		resp.Topic, resp.Partition = topic.GetName(), partition
	}
	nodes := s.nodesOf(t, g)
	answers := s.askAll(ctx, nodes, &multiraftv1.NodeStatusRequest{GroupIds: []uint64{uint64(g)}, Detail: true})
	for _, n := range nodes {
		resp.Replicas = append(resp.Replicas, answers[n].GetReplicas()...)
	}
	return resp, nil
}

var roles = map[raftcore.Role]multiraftv1.ReplicaRole{
	raftcore.Follower:     multiraftv1.ReplicaRole_REPLICA_ROLE_FOLLOWER,
	raftcore.PreCandidate: multiraftv1.ReplicaRole_REPLICA_ROLE_PRE_CANDIDATE,
	raftcore.Candidate:    multiraftv1.ReplicaRole_REPLICA_ROLE_CANDIDATE,
	raftcore.Leader:       multiraftv1.ReplicaRole_REPLICA_ROLE_LEADER,
}

var spaces = map[actors.SpaceLevel]multiraftv1.DiskSpace{
	actors.SpaceEnough: multiraftv1.DiskSpace_DISK_SPACE_ENOUGH,
	actors.SpaceLow:    multiraftv1.DiskSpace_DISK_SPACE_LOW,
	actors.SpaceShort:  multiraftv1.DiskSpace_DISK_SPACE_SHORT,
}

// statusOf is the state of this node's replica of g; nil when there is none, or it has not opened yet.
func (s *Services) statusOf(t *Table, g raftcore.GroupID) *multiraftv1.ReplicaStatus {
	h, ok := t.Hosted(g)
	if !ok {
		return nil
	}
	st := h.Board.Load()
	if st == nil {
		return nil
	}
	return statusProto(st, h.Board.Waiting())
}

func statusProto(st *actors.Status, waiting int) *multiraftv1.ReplicaStatus {
	return &multiraftv1.ReplicaStatus{
		GroupId: uint64(st.Group), NodeId: uint64(st.Node), ReplicaId: uint64(st.Replica), Role: roleOf(st), Term: st.Term,
		Leader: uint64(st.Leader), LastIndex: uint64(st.Last), Commit: uint64(st.Commit), Applied: uint64(st.Applied),
		HighWatermark: int64(st.HighWatermark), LogStart: int64(st.LogStart), Hash: st.Hash,
		Voters: numbers(st.Voters), Learners: numbers(st.Learners), Failure: st.Failure,
		Joint: st.Joint, Lagging: laggingOf(st), Waits: st.Waits.String(),
		RecordBytes: st.Bytes, FirstIndex: uint64(st.FirstIndex), Stalled: st.Stalled, Quiet: st.Quiet, MailboxMessages: uint32(waiting),
	}
}

// laggingOf returns the nodes of the members that the leader's status shows behind.
func laggingOf(st *actors.Status) (nodes []uint64) {
	for _, p := range st.Progress {
		if p.Replica != st.Replica && !p.CaughtUp(st.Commit) {
			nodes = append(nodes, uint64(p.Node))
		}
	}
	return nodes
}

func roleOf(st *actors.Status) multiraftv1.ReplicaRole {
	if st.Failure != "" {
		return multiraftv1.ReplicaRole_REPLICA_ROLE_FAILED
	}
	for _, n := range st.Learners {
		if n == st.Node {
			return multiraftv1.ReplicaRole_REPLICA_ROLE_LEARNER
		}
	}
	return roles[st.Role]
}

func numbers(ids []raftcore.NodeID) []uint64 {
	all := make([]uint64, len(ids))
	for i, id := range ids {
		all[i] = uint64(id)
	}
	return all
}
