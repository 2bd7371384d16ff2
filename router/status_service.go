package router

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"google.golang.org/grpc"

	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
)

// Limits of asking all nodes.
const (
	nodesAskedAtOnceMax = 16
	reasonsPerKindMax   = 20 // of one kind in one health answer; the rest is counted
)

// askNodes asks nodes for their own view, of some groups or, with none, of all. Those that do not answer in
// time are missing in the result.
func (s *Services) askNodes(ctx context.Context, nodes []raftcore.NodeID, groups []uint64) map[raftcore.NodeID]*multiraftv1.NodeStatusResponse {
	return s.askAll(ctx, nodes, &multiraftv1.NodeStatusRequest{GroupIds: groups})
}

func (s *Services) askAll(ctx context.Context, nodes []raftcore.NodeID, req *multiraftv1.NodeStatusRequest) map[raftcore.NodeID]*multiraftv1.NodeStatusResponse {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	var mu sync.Mutex
	answers := make(map[raftcore.NodeID]*multiraftv1.NodeStatusResponse, len(nodes))
	turns := make(chan struct{}, nodesAskedAtOnceMax)
	var wg sync.WaitGroup
	for _, n := range nodes {
		wg.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			resp, err := s.askNode(ctx, n, req)
			if err != nil || raftcore.NodeID(resp.GetNodeId()) != n { // another node may have its address now
				return
			}
			mu.Lock()
			defer mu.Unlock()
			answers[n] = resp
		})
	}
	wg.Wait()
	return answers
}

func (s *Services) askNode(ctx context.Context, n raftcore.NodeID, req *multiraftv1.NodeStatusRequest) (*multiraftv1.NodeStatusResponse, error) {
	if n == s.core.Node() {
		return s.nodeStatus(ctx, req), nil
	}
	return at(ctx, s, originOf(ctx), n, lostHarmless, func(ctx context.Context, conn *grpc.ClientConn) (*multiraftv1.NodeStatusResponse, error) {
		return multiraftv1.NewAdminServiceClient(conn).NodeStatus(ctx, req)
	})
}

// census is the cluster as its nodes describe it at one moment.
type census struct {
	nodes   []*metav1.Node // as registered
	answers map[raftcore.NodeID]*multiraftv1.NodeStatusResponse
	groups  []groupState // ascending; the metadata group is the first
}

// groupState is what all answers together say about one group.
type groupState struct {
	id   raftcore.GroupID
	what string // for people
	// topic and partition of it; empty for the metadata group.
	topic     string
	partition int
	leader    raftcore.NodeID
	members   []raftcore.NodeID // who should have a replica
	missing   []raftcore.NodeID // of these, who has none that runs
	voters    []raftcore.NodeID // as the leader knows them, like what follows
	lagging   []raftcore.NodeID
	joint     bool
	failed    []*multiraftv1.ReplicaStatus
}

func (s *Services) census(ctx context.Context) *census {
	t := s.core.Table()
	c := &census{nodes: t.Meta.Nodes()}
	asked := []raftcore.NodeID{s.core.Node()}
	for _, n := range c.nodes {
		if id := raftcore.NodeID(n.GetNodeId()); id != s.core.Node() && s.core.Liveness().Alive(id) {
			asked = append(asked, id)
		}
	}
	c.answers = s.askNodes(ctx, asked, nil)
	byGroup := map[raftcore.GroupID][]*multiraftv1.ReplicaStatus{}
	for _, n := range asked {
		for _, st := range c.answers[n].GetReplicas() {
			byGroup[raftcore.GroupID(st.GetGroupId())] = append(byGroup[raftcore.GroupID(st.GetGroupId())], st)
		}
	}
	count := func(g groupState) {
		g.members = s.nodesOf(t, g.id)
		c.groups = append(c.groups, judge(g, byGroup[g.id]))
	}
	count(groupState{id: raftcore.MetadataGroup, what: "the metadata group"})
	for _, topic := range t.Meta.Topics() {
		for i, p := range topic.GetPartitions() {
			count(groupState{id: raftcore.GroupID(p.GetGroupId()), topic: topic.GetName(), partition: i,
				what: fmt.Sprintf("group %d (topic %s, partition %d)", p.GetGroupId(), topic.GetName(), i)})
		}
	}
	return c
}

// judge completes g from what its replicas say. The newest leader counts: an older one may not know yet.
func judge(g groupState, replicas []*multiraftv1.ReplicaStatus) groupState {
	var leader *multiraftv1.ReplicaStatus
	runs := map[raftcore.NodeID]bool{}
	for _, st := range replicas {
		if st.GetFailure() != "" {
			g.failed = append(g.failed, st)
			continue
		}
		runs[raftcore.NodeID(st.GetNodeId())] = true
		if st.GetRole() == multiraftv1.ReplicaRole_REPLICA_ROLE_LEADER && st.GetTerm() >= leader.GetTerm() {
			leader = st
		}
	}
	if leader != nil {
		g.leader = raftcore.NodeID(leader.GetNodeId())
		g.voters, g.lagging, g.joint = nodeIDs(leader.GetVoters()), nodeIDs(leader.GetLagging()), leader.GetJoint()
		g.members = append(slices.Clone(g.voters), nodeIDs(leader.GetLearners())...)
	}
	for _, n := range g.members {
		if !runs[n] {
			g.missing = append(g.missing, n)
		}
	}
	return g
}

func nodeIDs(numbers []uint64) []raftcore.NodeID {
	ids := make([]raftcore.NodeID, len(numbers))
	for i, n := range numbers {
		ids[i] = raftcore.NodeID(n)
	}
	return ids
}

// ClusterStatus asks all nodes, and says what it saw.
func (s *Services) ClusterStatus(ctx context.Context, _ *multiraftv1.ClusterStatusRequest) (*multiraftv1.ClusterStatusResponse, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.exit()
	c := s.census(ctx)
	resp := &multiraftv1.ClusterStatusResponse{ClusterId: s.cfg.Cluster, MetadataLeader: uint64(c.groups[0].leader), Groups: uint32(len(c.groups))}
	for _, n := range c.nodes {
		resp.Nodes = append(resp.Nodes, c.node(n))
	}
	for _, g := range c.groups {
		if g.leader == 0 {
			resp.Leaderless = append(resp.Leaderless, uint64(g.id))
		}
		if len(g.missing) > 0 {
			resp.UnderReplicated = append(resp.UnderReplicated, uint64(g.id))
		}
	}
	return resp, nil
}

func (c *census) node(n *metav1.Node) *multiraftv1.NodeInfo {
	answer, alive := c.answers[raftcore.NodeID(n.GetNodeId())]
	info := &multiraftv1.NodeInfo{NodeId: n.GetNodeId(), ClientAddr: n.GetClientAddr(), PeerAddr: n.GetPeerAddr(), Rack: n.GetRack(),
		Alive: alive, Replicas: uint32(len(answer.GetReplicas())), Draining: n.GetState() == metav1.NodeState_NODE_STATE_DRAINING}
	for _, g := range c.groups {
		if uint64(g.leader) == n.GetNodeId() {
			info.Leaders++
		}
	}
	return info
}

// reasonList keeps the first few reasons of a kind and counts the rest.
type reasonList struct {
	kept []*multiraftv1.HealthReason
	more int
}

func (l *reasonList) add(what, why, try string) {
	if len(l.kept) == reasonsPerKindMax {
		l.more++
		return
	}
	l.kept = append(l.kept, &multiraftv1.HealthReason{What: what, Why: why, Try: try})
}

func (l *reasonList) all() []*multiraftv1.HealthReason {
	if l.more == 0 {
		return l.kept
	}
	last := l.kept[len(l.kept)-1]
	return append(l.kept, &multiraftv1.HealthReason{What: fmt.Sprintf("%d more like this", l.more), Why: last.GetWhy(), Try: last.GetTry()})
}
