package router

import (
	"context"
	"fmt"
	"slices"
	"strings"

	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
)

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
	if len(c.nodes) == 0 { // all else follows from it
		return []*multiraftv1.HealthReason{{
			What: "the cluster has just been founded: no node is registered yet",
			Why:  fmt.Sprintf("they register when the metadata group has a leader, which takes a majority of its first nodes, %v", c.groups[0].members),
			Try:  "wait a moment. If it stays: start those of them that do not run, and look at what they log",
		}}
	}
	var unregistered, failed, leaderless, missing reasonList
	for _, n := range c.groups[0].members {
		if !slices.ContainsFunc(c.nodes, func(m *metav1.Node) bool { return m.GetNodeId() == uint64(n) }) {
			unregistered.add(fmt.Sprintf("node %d is not registered", n),
				"it is a member of the metadata group but has not recorded its addresses yet",
				"start it, or wait a moment if it is starting or has just been removed")
		}
	}
	for _, g := range c.groups {
		for _, st := range g.failed {
			failed.add(fmt.Sprintf("the replica of %s on node %d has failed", g.what, st.GetNodeId()), st.GetFailure(), c.failedTry(&g, raftcore.NodeID(st.GetNodeId())))
		}
		if g.leader == 0 {
			leaderless.add(g.what+" has no leader", fmt.Sprintf("no replica that answered leads it; it needs a majority of nodes %v, and %s", g.members, c.deadOf(g.members)),
				"start the nodes that are not alive; if they are, wait for the election")
		}
		if len(g.missing) > 0 {
			missing.add(g.what+" is under-replicated", fmt.Sprintf("no running replica on nodes %v of %v", g.missing, g.members),
				c.missingTry(&g))
		}
	}
	return slices.Concat(c.nodeReasons(), unregistered.all(), c.diskReasons(), failed.all(), leaderless.all(), missing.all(), c.findings())
}

// nodeReasons names the nodes that are not alive. One whose data are gone looks the same from here: it refuses to
// start.
func (c *census) nodeReasons() []*multiraftv1.HealthReason {
	var nodes reasonList
	for _, n := range c.nodes {
		if c.answers[raftcore.NodeID(n.GetNodeId())] != nil {
			continue
		}
		nodes.add(fmt.Sprintf("node %d is not alive", n.GetNodeId()),
			fmt.Sprintf("it was not heard of lately, or does not answer at %s", n.GetClientAddr()),
			"start it again with its own command line, on its own data directory. If that is lost: "+c.anew(raftcore.NodeID(n.GetNodeId())))
	}
	return nodes.all()
}

// anew is what to type to have another node in the place of one.
func (c *census) anew(n raftcore.NodeID) string {
	return fmt.Sprintf("mrctl node remove %d --force, then multiraftd start --data-dir NEW_DIR --client-addr H:P --peer-addr H:P --http-addr H:P --join %s",
		n, c.someAddr(n))
}

// someAddr is where a node serves clients that answered, and is not one.
func (c *census) someAddr(not raftcore.NodeID) string {
	for _, n := range c.nodes {
		if id := raftcore.NodeID(n.GetNodeId()); id != not && c.answers[id] != nil {
			return n.GetClientAddr()
		}
	}
	return "CLIENT_ADDR"
}

func (c *census) deadOf(members []raftcore.NodeID) string {
	var dead []raftcore.NodeID
	for _, n := range members {
		if c.answers[n] == nil {
			dead = append(dead, n)
		}
	}
	if len(dead) == 0 {
		return "all of them answer"
	}
	return fmt.Sprintf("nodes %v do not answer", dead)
}

// failedTry is what helps a failed replica: another start, or another replica. A new one comes by a move away and
// back, of which a node hears by its replica of the metadata group: where that has failed, another node has to come.
func (c *census) failedTry(g *groupState, n raftcore.NodeID) string {
	restart := fmt.Sprintf("restart node %d, and keep its log for a report", n)
	if c.groups[0].hasFailedOn(n) {
		if len(c.nodes) < 2 {
			return restart
		}
		return fmt.Sprintf("%s. If it fails again, stop it, and replace it: %s", restart, c.anew(n))
	}
	if len(g.members) < 2 {
		return restart
	}
	without := slices.DeleteFunc(slices.Clone(g.members), func(m raftcore.NodeID) bool { return m == n })
	return fmt.Sprintf("%s. If it fails again, replace it: mrctl partition move %s %d --to %s && mrctl partition move %s %d --to %s",
		restart, g.topic, g.partition, commas(without), g.topic, g.partition, commas(g.members))
}

func (g *groupState) hasFailedOn(n raftcore.NodeID) bool {
	return slices.ContainsFunc(g.failed, func(st *multiraftv1.ReplicaStatus) bool { return st.GetNodeId() == uint64(n) })
}

func (c *census) missingTry(g *groupState) string {
	for _, n := range g.missing {
		if c.answers[n] == nil {
			return fmt.Sprintf("start node %d again: the replica catches up by itself", n)
		}
	}
	return "wait: the replicas are being filled, or restart their nodes if they have failed"
}

func commas(nodes []raftcore.NodeID) string {
	var parts []string
	for _, n := range nodes {
		parts = append(parts, fmt.Sprint(n))
	}
	return strings.Join(parts, ",")
}

// findings is what the Controller can't do: that of the node which leads the metadata group.
func (c *census) findings() []*multiraftv1.HealthReason {
	return c.answers[c.groups[0].leader].GetFindings()
}
