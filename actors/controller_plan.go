package actors

import (
	"cmp"
	"fmt"
	"slices"

	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/metadata"
)

// plan is what the Controller wants done at one moment: a function of what it knows.
type plan struct {
	c        *controller
	meta     *metadata.State
	load     map[raftcore.NodeID]int // replicas that a node has or should soon have
	open     int                     // targets
	stuck    map[raftcore.NodeID]*stuckNode
	commands []*metav1.Command
	asks     []AskTransfer
	findings []Finding
}

// stuckNode counts the replicas that no other node can take over from a node.
type stuckNode struct {
	reason, example string
	replicas        int
}

func newPlan(c *controller) *plan {
	p := &plan{c: c, meta: c.w.Meta, load: map[raftcore.NodeID]int{}, stuck: map[raftcore.NodeID]*stuckNode{}}
	p.meta.Groups(func(g metadata.Group) bool {
		voters := g.Current
		if g.Moving {
			p.open++
			voters = g.Open.Voters
		}
		for _, m := range voters {
			p.load[m.Node]++
		}
		return true
	})
	return p
}

func (p *plan) make() {
	p.metadataVoters()
	p.confirmDeleted()
	p.meta.Groups(func(g metadata.Group) bool {
		if g.Moving {
			p.moving(g)
		} else {
			p.atRest(g)
		}
		return len(p.commands) < commandsPerPlanMax
	})
	p.balance()
	p.explain()
}

// confirmDeleted takes the orders back whose replicas their nodes have deleted.
func (p *plan) confirmDeleted() {
	for _, n := range p.meta.Nodes() {
		id := raftcore.NodeID(n.GetNodeId())
		rep, orders := p.c.fresh(id), p.meta.Removals(id)
		for _, d := range rep.GetDeleted() {
			order := metadata.Removal{Group: raftcore.GroupID(d.GetGroupId()), Replica: raftcore.ReplicaID(d.GetReplicaId())}
			if slices.Contains(orders, order) && len(p.commands) < commandsPerPlanMax {
				p.commands = append(p.commands, &metav1.Command{Command: &metav1.Command_ReplicaGone{ReplicaGone: &metav1.ReplicaGone{
					NodeId: n.GetNodeId(), GroupId: d.GetGroupId(), ReplicaId: d.GetReplicaId()}}})
			}
		}
	}
}

func (p *plan) setTarget(g raftcore.GroupID, nodes []raftcore.NodeID, supersede bool) {
	t := &metav1.SetTarget{GroupId: uint64(g), Supersede: supersede}
	for _, n := range nodes {
		t.Voters = append(t.Voters, uint64(n))
	}
	p.commands = append(p.commands, &metav1.Command{Command: &metav1.Command_SetTarget{SetTarget: t}})
}

// moving looks after a group that is on the way to a target: it has arrived, or the target is not what it should
// be any more.
func (p *plan) moving(g metadata.Group) {
	if news := p.c.leader(g.ID); news != nil && news.GetTargetId() == g.Open.ID && reached(news, g.Open) {
		p.commands = append(p.commands, &metav1.Command{Command: &metav1.Command_GroupSettled{
			GroupSettled: &metav1.GroupSettled{GroupId: uint64(g.ID), TargetId: g.Open.ID}}})
		return
	}
	if next, changed := p.replace(g, g.Open.Voters); changed {
		p.setTarget(g.ID, next, true)
	}
}

// reached says whether the members are exactly those of the target.
func reached(news *groupNews, t metadata.Target) bool {
	cs := news.GetConfState()
	if len(cs.GetVotersOutgoing()) > 0 || len(cs.GetLearners()) != len(t.Learners) || len(cs.GetVoters()) != len(t.Voters) {
		return false
	}
	return !slices.ContainsFunc(t.Voters, func(m metadata.Member) bool { return !slices.Contains(cs.GetVoters(), uint64(m.ID)) })
}

// atRest moves a group away from nodes where it should not be: leadership first, then the replica.
func (p *plan) atRest(g metadata.Group) {
	if p.open >= targetsOpenMax || !slices.ContainsFunc(g.Current, func(m metadata.Member) bool { return p.c.unwanted(g.ID, m) != "" }) {
		return
	}
	next, changed := p.replace(g, g.Current)
	if p.leaderFirst(g) || !changed {
		return
	}
	p.open++
	p.setTarget(g.ID, next, false)
}

// leaderFirst asks a draining node that leads the group to hand over, and says whether to wait for that.
func (p *plan) leaderFirst(g metadata.Group) bool {
	c, news := p.c, p.c.leader(g.ID)
	if news == nil || !p.draining(news.node) {
		delete(c.asked, g.ID)
		return false
	}
	if !slices.ContainsFunc(g.Current, func(m metadata.Member) bool { return m.Node != news.node && c.alive(m.Node) }) {
		return false
	}
	first, ok := c.asked[g.ID]
	if !ok {
		first = c.now
		c.asked[g.ID] = first
	}
	if c.now-first >= drainPatience*c.cfg.ElectionTicks {
		return false
	}
	if last, ok := c.moved[g.ID]; !ok || c.now-last >= c.cfg.ElectionTicks || first == c.now {
		p.ask(news, 0)
	}
	return true
}

func (p *plan) draining(n raftcore.NodeID) bool {
	node, ok := p.meta.Node(n)
	return ok && node.GetState() == metav1.NodeState_NODE_STATE_DRAINING
}

func (p *plan) ask(news *groupNews, to raftcore.ReplicaID) {
	if len(p.asks) < transfersPerPlanMax {
		p.asks = append(p.asks, AskTransfer{Node: news.node, Group: raftcore.GroupID(news.GetGroupId()), Term: news.GetTerm(), To: to})
	}
}

// replace returns the nodes of members, others in the place of those that are unwanted. Where there is no other
// one, the old one stays and is noted as stuck; a removed one can't stay, so that then nothing changes.
func (p *plan) replace(g metadata.Group, members []metadata.Member) (next []raftcore.NodeID, changed bool) {
	taken, racks := map[raftcore.NodeID]bool{}, map[string]int{}
	for _, m := range members {
		taken[m.Node] = true
		if p.c.unwanted(g.ID, m) == "" {
			racks[p.rack(m.Node)]++
		}
	}
	impossible := false
	for _, m := range members {
		reason := p.c.unwanted(g.ID, m)
		if reason == "" {
			next = append(next, m.Node)
			continue
		}
		n := p.best(g, taken, racks)
		if n == 0 {
			_, member := p.meta.Node(m.Node)
			impossible = impossible || !member
			p.noteStuck(g, m.Node, reason)
			next = append(next, m.Node)
			continue
		}
		taken[n], changed = true, true
		racks[p.rack(n)]++
		p.load[n]++
		p.load[m.Node]--
		next = append(next, n)
	}
	return next, changed && !impossible
}

func (p *plan) rack(n raftcore.NodeID) string {
	node, _ := p.meta.Node(n)
	return node.GetRack()
}

// best returns the node that should take a replica of g: in the rack with the fewest of them, then with the least
// load, then with the lowest id. 0 = none can.
func (p *plan) best(g metadata.Group, taken map[raftcore.NodeID]bool, racks map[string]int) raftcore.NodeID {
	var best raftcore.NodeID
	for _, n := range p.meta.Nodes() {
		id := raftcore.NodeID(n.GetNodeId())
		if taken[id] || !p.takes(n) || p.deletes(id, g.ID) {
			continue
		}
		if best == 0 || cmp.Or(cmp.Compare(racks[n.GetRack()], racks[p.rack(best)]), cmp.Compare(p.load[id], p.load[best])) < 0 {
			best = id
		}
	}
	return best
}

// takes says whether a node may get replicas: it was heard of lately, is not being drained, and its disk works.
func (p *plan) takes(n *metav1.Node) bool {
	id := raftcore.NodeID(n.GetNodeId())
	rep := p.c.fresh(id)
	return rep != nil && p.c.alive(id) && n.GetState() != metav1.NodeState_NODE_STATE_DRAINING && !rep.GetDiskStalled() && !rep.GetDiskFull()
}

// deletes says whether a node still has to delete an older replica of the group.
func (p *plan) deletes(n raftcore.NodeID, g raftcore.GroupID) bool {
	return slices.ContainsFunc(p.meta.Removals(n), func(r metadata.Removal) bool { return r.Group == g })
}

func (p *plan) noteStuck(g metadata.Group, n raftcore.NodeID, reason string) {
	s := p.stuck[n]
	if s == nil {
		s = &stuckNode{reason: reason, example: fmt.Sprintf("topic %s partition %d (group %d)", g.Topic.GetName(), g.Partition, g.ID)}
		p.stuck[n] = s
	}
	s.replicas++
}
