package actors

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/metadata"
)

// balance moves leaders from the node with the most to nodes with at least two fewer. It waits until it has
// heard of everybody for a minute, and while replicas move: no group's leader moves twice in a minute.
func (p *plan) balance() {
	c := p.c
	if p.open > 0 || len(p.commands) > 0 || len(p.asks) > 0 || c.now-c.since < c.cfg.MinuteTicks {
		return
	}
	leaders := map[raftcore.NodeID]int{}
	for _, n := range p.meta.Nodes() {
		id := raftcore.NodeID(n.GetNodeId())
		if !c.alive(id) {
			continue
		}
		if c.fresh(id) == nil {
			return
		}
		if !p.draining(id) {
			leaders[id] = 0
		}
	}
	for _, g := range slices.Sorted(maps.Keys(c.led)) {
		if news := c.leader(g); news != nil {
			if _, counts := leaders[news.node]; counts {
				leaders[news.node]++
			}
		}
	}
	for range balancePerPlanMax {
		if !p.moveOne(leaders) {
			return
		}
	}
}

// moveOne asks for one move that makes leaders more even, and notes it there.
func (p *plan) moveOne(leaders map[raftcore.NodeID]int) bool {
	nodes := slices.SortedFunc(maps.Keys(leaders), func(a, b raftcore.NodeID) int {
		return cmp.Or(cmp.Compare(leaders[b], leaders[a]), cmp.Compare(a, b))
	})
	for _, from := range nodes {
		for _, to := range slices.Backward(nodes) {
			if leaders[from]-leaders[to] < 2 {
				break
			}
			if news, replica := p.movable(from, to); news != nil {
				p.ask(news, replica)
				p.c.moved[raftcore.GroupID(news.GetGroupId())] = p.c.now
				leaders[from]--
				leaders[to]++
				return true
			}
		}
	}
	return false
}

// movable returns a group that from leads and to could: it has a voter there that is not behind. One that should be
// led there is preferred.
func (p *plan) movable(from, to raftcore.NodeID) (found *groupNews, replica raftcore.ReplicaID) {
	c := p.c
	for _, id := range slices.Sorted(maps.Keys(c.led)) {
		news := c.leader(id)
		last, moved := c.moved[id]
		if news == nil || news.node != from || id == raftcore.MetadataGroup || moved && c.now-last < c.cfg.MinuteTicks || len(news.GetConfState().GetVotersOutgoing()) > 0 {
			continue
		}
		g, ok := p.meta.Group(id)
		if !ok || g.Moving {
			continue
		}
		i := slices.IndexFunc(g.Current, func(m metadata.Member) bool { return m.Node == to })
		if i < 0 || !slices.Contains(news.GetConfState().GetVoters(), uint64(g.Current[i].ID)) || slices.Contains(news.GetLagging(), uint64(g.Current[i].ID)) {
			continue
		}
		if found == nil || i == 0 {
			found, replica = news, g.Current[i].ID
		}
		if i == 0 {
			break
		}
	}
	return found, replica
}

// explain says what could not be done.
func (p *plan) explain() {
	for _, n := range slices.Sorted(maps.Keys(p.stuck)) {
		s := p.stuck[n]
		f := Finding{
			Node: n,
			What: fmt.Sprintf("%d replicas cannot leave node %d, among them %s", s.replicas, n, s.example),
			Why:  fmt.Sprintf("node %d %s, and no other node that is alive, not draining and has disk space is without a replica of the same group", n, s.reason),
			Try:  "multiraftd start --data-dir NEW_DIR --client-addr H:P --peer-addr H:P --http-addr H:P --join " + p.someAddr(n),
		}
		if p.draining(n) {
			f.Try += fmt.Sprintf(", or mrctl node drain %d --cancel", n)
		}
		p.find(f)
	}
	for _, g := range slices.Sorted(maps.Keys(p.c.led)) {
		p.explainLag(p.c.leader(g))
	}
}

func (p *plan) find(f Finding) {
	if len(p.findings) < findingsMax {
		p.findings = append(p.findings, f)
	}
}

// someAddr is a client address that answers, other than n's.
func (p *plan) someAddr(n raftcore.NodeID) string {
	for _, node := range p.meta.Nodes() {
		if id := raftcore.NodeID(node.GetNodeId()); id != n && p.c.alive(id) {
			return node.GetClientAddr()
		}
	}
	return "CLIENT_ADDR"
}

// explainLag names members that have been behind for a while though their nodes are there and they have not failed.
func (p *plan) explainLag(news *groupNews) {
	if news == nil {
		return
	}
	id := raftcore.GroupID(news.GetGroupId())
	for _, r := range news.GetLagging() {
		n := p.c.nodeOf(replicaKey{id, raftcore.ReplicaID(r)})
		if id == raftcore.MetadataGroup {
			n = raftcore.NodeID(r)
		}
		if _, failed := p.c.failed[replicaKey{id, raftcore.ReplicaID(r)}]; failed {
			continue
		}
		if n == 0 || !p.c.alive(n) || p.c.now-news.laggingSince[r] < lagPatience*p.c.cfg.ElectionTicks {
			continue
		}
		why := "the leader on node %d has waited for it for more than %d election timeouts"
		p.find(Finding{
			What: fmt.Sprintf("the replica of group %d on node %d lags behind", id, n),
			Why:  fmt.Sprintf(why, news.node, lagPatience),
			Try:  fmt.Sprintf("mrctl group describe %d, and look at node %d's disk and load; it catches up by itself when they allow", id, n),
		})
	}
}
