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
			resp, err := s.askNode(ctx, n, groups)
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

func (s *Services) askNode(ctx context.Context, n raftcore.NodeID, groups []uint64) (*multiraftv1.NodeStatusResponse, error) {
	if n == s.core.Node() {
		return s.nodeStatus(groups), nil
	}
	return at(ctx, s, originOf(ctx), n, lostHarmless, func(ctx context.Context, conn *grpc.ClientConn) (*multiraftv1.NodeStatusResponse, error) {
		return multiraftv1.NewAdminServiceClient(conn).NodeStatus(ctx, &multiraftv1.NodeStatusRequest{GroupIds: groups})
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
	id      raftcore.GroupID
	what    string // for people
	leader  raftcore.NodeID
	members []raftcore.NodeID // who should have a replica
	missing []raftcore.NodeID // of these, who has none that runs
	failed  []*multiraftv1.ReplicaStatus
}

func (s *Services) census(ctx context.Context) *census {
	t := s.core.Table()
	c := &census{nodes: t.Meta.Nodes()}
	asked := []raftcore.NodeID{s.core.Node()}
	for _, n := range c.nodes {
		if id := raftcore.NodeID(n.GetNodeId()); id != s.core.Node() {
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
	count := func(g raftcore.GroupID, what string) {
		c.groups = append(c.groups, judge(groupState{id: g, what: what, members: s.nodesOf(t, g)}, byGroup[g]))
	}
	count(raftcore.MetadataGroup, "the metadata group")
	for _, topic := range t.Meta.Topics() {
		for i, p := range topic.GetPartitions() {
			count(raftcore.GroupID(p.GetGroupId()), fmt.Sprintf("group %d (topic %s, partition %d)", p.GetGroupId(), topic.GetName(), i))
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
		g.members = g.members[:0:0]
		for _, n := range append(slices.Clone(leader.GetVoters()), leader.GetLearners()...) {
			g.members = append(g.members, raftcore.NodeID(n))
		}
	}
	for _, n := range g.members {
		if !runs[n] {
			g.missing = append(g.missing, n)
		}
	}
	return g
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
		Alive: alive, Replicas: uint32(len(answer.GetReplicas()))}
	for _, g := range c.groups {
		if uint64(g.leader) == n.GetNodeId() {
			info.Leaders++
		}
	}
	return info
}

// ClusterHealth judges what all nodes say.
func (s *Services) ClusterHealth(ctx context.Context, _ *multiraftv1.ClusterHealthRequest) (*multiraftv1.ClusterHealthResponse, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.exit()
	reasons := s.census(ctx).reasons()
	return &multiraftv1.ClusterHealthResponse{Healthy: len(reasons) == 0, Reasons: reasons}, nil
}

// reasons lists what is wrong, the causes before their effects.
func (c *census) reasons() []*multiraftv1.HealthReason {
	var nodes, unregistered, failed, leaderless, missing reasonList
	for _, n := range c.nodes {
		if c.answers[raftcore.NodeID(n.GetNodeId())] == nil {
			nodes.add(fmt.Sprintf("node %d is not alive", n.GetNodeId()),
				fmt.Sprintf("it does not answer at %s", n.GetClientAddr()),
				"start it again with its own command line, on its own data directory")
		}
	}
	for _, n := range c.groups[0].members {
		if !slices.ContainsFunc(c.nodes, func(m *metav1.Node) bool { return m.GetNodeId() == uint64(n) }) {
			unregistered.add(fmt.Sprintf("node %d is not registered", n),
				"it is a member of the metadata group but has not recorded its addresses yet",
				"start it, or wait a moment if it is starting")
		}
	}
	for _, g := range c.groups {
		for _, st := range g.failed {
			failed.add(fmt.Sprintf("the replica of %s on node %d has failed", g.what, st.GetNodeId()), st.GetFailure(),
				fmt.Sprintf("restart node %d, and keep its log for a report", st.GetNodeId()))
		}
		if g.leader == 0 {
			leaderless.add(g.what+" has no leader", "no replica that answered leads it",
				fmt.Sprintf("wait for the election; if it lasts, bring back a majority of nodes %v", g.members))
		}
		if len(g.missing) > 0 {
			missing.add(g.what+" is under-replicated", fmt.Sprintf("no running replica on nodes %v of %v", g.missing, g.members),
				"bring these nodes back; the replicas catch up by themselves")
		}
	}
	return slices.Concat(nodes.all(), unregistered.all(), c.diskReasons(), failed.all(), leaderless.all(), missing.all())
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
