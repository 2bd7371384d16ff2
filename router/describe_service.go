package router

import (
	"context"
	"slices"
	"sync"

	"google.golang.org/grpc"

	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/metadata"
)

// Describe resolves a topic and says where its partitions are led.
func (s *Services) Describe(ctx context.Context, req *multiraftv1.DescribeRequest) (*multiraftv1.DescribeResponse, error) {
	if err := s.enterRead(); err != nil {
		return nil, err
	}
	defer s.exitRead()
	ctx, cancel := bounded(ctx)
	defer cancel()
	resp, err := s.describe(ctx, req)
	return resp, s.refused(err)
}

func (s *Services) describe(ctx context.Context, req *multiraftv1.DescribeRequest) (*multiraftv1.DescribeResponse, error) {
	table := s.core.Table()
	m := table.Meta
	topic, err := topicNamed(table, req)
	if err != nil {
		if resp := s.describedByLeader(ctx, req, err); resp != nil {
			return resp, nil
		}
		return nil, err
	}
	partitions, err := partitionsOf(topic, req.GetPartitions())
	if err != nil {
		return nil, err
	}
	resp := &multiraftv1.DescribeResponse{Name: topic.GetName(), TopicId: topic.GetTopicId(), RecordBytesMax: uint32(s.cfg.RecordBytesMax),
		RetentionMs: topic.GetConfig().GetRetentionMs(), RetentionBytes: topic.GetConfig().GetRetentionBytes()}
	for _, n := range m.Nodes() {
		resp.Nodes = append(resp.Nodes, &multiraftv1.NodeAddress{NodeId: n.GetNodeId(), ClientAddr: n.GetClientAddr()})
	}
	resp.Partitions = s.partitionInfos(ctx, topic, partitions)
	if req.GetLinearizable() {
		err = s.unconfirmed(s.confirm(ctx, topic, resp.Partitions))
	}
	return resp, err
}

// unconfirmed says NO_LEADER for whatever kept a leader from confirming: Describe has no one leader to point at.
func (s *Services) unconfirmed(err error) error {
	if err == nil {
		return nil
	}
	f := s.explain(err)
	if f.reason == notLeader || f.reason == replicaFailed {
		return fail(noLeader, "no leader confirms the end of a partition: %s", f.message)
	}
	return f
}

func topicNamed(table *Table, req *multiraftv1.DescribeRequest) (*metav1.Topic, error) {
	switch by := req.GetTopic().(type) {
	case *multiraftv1.DescribeRequest_Name:
		if t, ok := table.Meta.TopicByName(by.Name); ok {
			return t, nil
		}
		return nil, table.noTopic("no topic named %.80q", by.Name)
	case *multiraftv1.DescribeRequest_TopicId:
		if t, ok := table.Meta.Topic(by.TopicId); ok {
			return t, nil
		}
		return nil, table.noTopic("no topic with id %d", by.TopicId)
	default:
		return nil, badField("topic", "neither name nor topic_id is set")
	}
}

// describedByLeader asks the metadata leader about a topic that this node does not know: it may have been
// created a moment ago. nil when that does not help.
func (s *Services) describedByLeader(ctx context.Context, req *multiraftv1.DescribeRequest, missing error) *multiraftv1.DescribeResponse {
	if r := fromStatus(missing).reason; r != unknownTopic && r != noLeader {
		return nil
	}
	resp, _ := askMetadataLeader(ctx, s, func(ctx context.Context, conn *grpc.ClientConn) (*multiraftv1.DescribeResponse, error) {
		return multiraftv1.NewLogServiceClient(conn).Describe(ctx, req)
	})
	return resp
}

// askMetadataLeader makes a call to the node that leads the metadata group; the zero value and false when
// that is this one, or none, or it fails.
func askMetadataLeader[T any](ctx context.Context, s *Services, call func(context.Context, *grpc.ClientConn) (T, error)) (T, bool) {
	var none T
	o := originOf(ctx)
	r, err := s.leaderOf(s.core.Table(), raftcore.MetadataGroup, o)
	if err != nil || r.here != nil {
		return none, false
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	v, err := at(ctx, s, o, r.node, lostHarmless, call)
	return v, err == nil
}

// partitionsOf returns the numbers that a request names, ascending; all when it names none.
func partitionsOf(t *metav1.Topic, named []uint32) ([]uint32, error) {
	if len(named) == 0 {
		all := make([]uint32, len(t.GetPartitions()))
		for i := range all {
			all[i] = uint32(i)
		}
		return all, nil
	}
	named = slices.Clone(named)
	slices.Sort(named)
	named = slices.Compact(named)
	if last := named[len(named)-1]; int64(last) >= int64(len(t.GetPartitions())) {
		return nil, errUnknownPartition(t, last)
	}
	return named, nil
}

// partitionInfos says what this node knows; where it has no replica, and was asked first, what others know.
func (s *Services) partitionInfos(ctx context.Context, topic *metav1.Topic, partitions []uint32) []*multiraftv1.PartitionInfo {
	infos := make([]*multiraftv1.PartitionInfo, len(partitions))
	unknown := map[uint64]*multiraftv1.PartitionInfo{}
	t := s.core.Table()
	for i, p := range partitions {
		placed := topic.GetPartitions()[p]
		infos[i] = &multiraftv1.PartitionInfo{Partition: p, GroupId: placed.GetGroupId(), HighWatermark: -1, LogStart: -1}
		group := metadata.GroupOf(placed)
		for _, m := range group.Current {
			infos[i].Replicas = append(infos[i].Replicas, uint64(m.Node))
		}
		if st := s.statusOf(t, raftcore.GroupID(placed.GetGroupId())); st != nil && st.GetFailure() == "" {
			inform(infos[i], st) // where it knows of no leader, others hardly do
		} else {
			unknown[placed.GetGroupId()] = infos[i]
		}
	}
	if len(unknown) > 0 && originOf(ctx).hops == 0 {
		s.learnLeaders(ctx, t, unknown)
	}
	return infos
}

// inform adds what a replica's status says to info.
func inform(info *multiraftv1.PartitionInfo, st *multiraftv1.ReplicaStatus) {
	if st.GetFailure() != "" || st.GetTerm() < info.GetTerm() {
		return
	}
	info.Leader, info.Term = st.GetLeader(), st.GetTerm()
	info.HighWatermark, info.LogStart = max(info.GetHighWatermark(), st.GetHighWatermark()), st.GetLogStart()
	if len(st.GetVoters()) > 0 {
		info.Replicas, info.Learners = st.GetVoters(), st.GetLearners()
	}
}

// learnLeaders asks the other nodes with replicas of these groups.
func (s *Services) learnLeaders(ctx context.Context, t *Table, unknown map[uint64]*multiraftv1.PartitionInfo) {
	var nodes []raftcore.NodeID
	var groups []uint64
	for g, info := range unknown {
		groups = append(groups, g)
		for _, n := range info.GetReplicas() {
			if raftcore.NodeID(n) != s.core.Node() {
				nodes = append(nodes, raftcore.NodeID(n))
			}
		}
	}
	slices.Sort(groups)
	slices.Sort(nodes)
	for _, answer := range s.askNodes(ctx, slices.Compact(nodes), groups) {
		for _, st := range answer.GetReplicas() {
			if info := unknown[st.GetGroupId()]; info != nil && st.GetLeader() != 0 {
				inform(info, st)
			}
		}
	}
}

// confirm fills in the linearizable bounds: of partitions led here through ReadIndex, of others by asking
// their leaders' nodes, each once. One partition without an answer fails all.
func (s *Services) confirm(ctx context.Context, topic *metav1.Topic, infos []*multiraftv1.PartitionInfo) error {
	var here []*multiraftv1.PartitionInfo
	elsewhere := map[raftcore.NodeID][]*multiraftv1.PartitionInfo{}
	o := originOf(ctx)
	for _, info := range infos {
		switch n := raftcore.NodeID(info.GetLeader()); {
		case n == 0:
			return fail(noLeader, "partition %d of topic %s has no leader", info.GetPartition(), topic.GetName())
		case n == s.core.Node():
			here = append(here, info)
		case !o.mayForward():
			return leaderElsewhere(n, info.GetTerm(), s.core.Table().Meta)
		default:
			elsewhere[n] = append(elsewhere[n], info)
		}
	}
	var wg sync.WaitGroup
	failures := make(chan error, len(elsewhere)+1)
	wg.Go(func() { failures <- s.confirmHere(ctx, here) })
	for n, infos := range elsewhere {
		wg.Go(func() { failures <- s.confirmAt(ctx, o, n, topic.GetTopicId(), infos) })
	}
	wg.Wait()
	close(failures)
	for err := range failures {
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Services) confirmHere(ctx context.Context, infos []*multiraftv1.PartitionInfo) error {
	groups := make([]raftcore.GroupID, len(infos))
	for i, info := range infos {
		groups[i] = raftcore.GroupID(info.GetGroupId())
	}
	ends, err := s.readEnds(ctx, groups...)
	for i, b := range ends {
		infos[i].HighWatermark, infos[i].LogStart, infos[i].Term = int64(b.high), int64(b.start), b.term
	}
	return err
}

func (s *Services) confirmAt(ctx context.Context, o origin, n raftcore.NodeID, topic uint64, infos []*multiraftv1.PartitionInfo) error {
	req := &multiraftv1.DescribeRequest{Topic: &multiraftv1.DescribeRequest_TopicId{TopicId: topic}, Linearizable: true}
	for _, info := range infos {
		req.Partitions = append(req.Partitions, info.GetPartition())
	}
	resp, err := at(ctx, s, o, n, lostHarmless, func(ctx context.Context, conn *grpc.ClientConn) (*multiraftv1.DescribeResponse, error) {
		return multiraftv1.NewLogServiceClient(conn).Describe(ctx, req)
	})
	if err != nil {
		return err
	}
	if len(resp.GetPartitions()) != len(infos) {
		return fail(noLeader, "node %d described %d of %d partitions", n, len(resp.GetPartitions()), len(infos))
	}
	for i, p := range resp.GetPartitions() {
		infos[i].Leader, infos[i].Term = p.GetLeader(), p.GetTerm()
		infos[i].HighWatermark, infos[i].LogStart = p.GetHighWatermark(), p.GetLogStart()
	}
	return nil
}

// linearizable asks the leader of a partition for its bounds, wherever it is.
func (s *Services) linearizable(ctx context.Context, g raftcore.GroupID, topic *metav1.Topic, partition uint32) (bounds, error) {
	return atLeader(ctx, s, g, lostHarmless,
		func(ctx context.Context, _ *Hosted) (bounds, error) {
			all, err := s.readEnds(ctx, g)
			if err != nil {
				return bounds{}, err
			}
			return all[0], nil
		},
		func(ctx context.Context, conn *grpc.ClientConn) (bounds, error) {
			resp, err := multiraftv1.NewLogServiceClient(conn).Describe(ctx, &multiraftv1.DescribeRequest{
				Topic: &multiraftv1.DescribeRequest_TopicId{TopicId: topic.GetTopicId()}, Linearizable: true, Partitions: []uint32{partition}})
			if err != nil {
				return bounds{}, err
			}
			if len(resp.GetPartitions()) != 1 {
				return bounds{}, fail(noLeader, "the leader of group %d described %d partitions", g, len(resp.GetPartitions()))
			}
			p := resp.GetPartitions()[0]
			return bounds{raftcore.Offset(p.GetLogStart()), raftcore.Offset(p.GetHighWatermark()), p.GetTerm(), nil}, nil
		})
}
