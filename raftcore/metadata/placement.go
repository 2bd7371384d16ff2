package metadata

import (
	"cmp"
	"slices"

	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	"github.com/multiraftd/multiraftd/raftcore"
)

// host is what placement looks at in a node.
type host struct {
	node      uint64
	rack      string
	draining  bool // takes no new replicas
	replicas  int
	preferred int // partitions of which it is the first replica
}

// hosts is sorted by node.
type hosts []host

func (h hosts) find(node uint64) (int, bool) {
	return slices.BinarySearchFunc(h, node, func(h host, node uint64) int { return cmp.Compare(h.node, node) })
}

// put adds a node, or notes its rack and state.
func (h *hosts) put(n *metav1.Node) {
	i, ok := h.find(n.GetNodeId())
	if !ok {
		*h = slices.Insert(*h, i, host{node: n.GetNodeId()})
	}
	(*h)[i].rack, (*h)[i].draining = n.GetRack(), n.GetState() == metav1.NodeState_NODE_STATE_DRAINING
}

// drop removes a node, whatever is still counted on it.
func (h *hosts) drop(node uint64) {
	*h = slices.DeleteFunc(*h, func(h host) bool { return h.node == node })
}

// open counts the nodes that take new replicas.
func (h hosts) open() (n int) {
	for i := range h {
		if !h[i].draining {
			n++
		}
	}
	return n
}

// count adds the replicas that a partition has or should soon have; times -1 takes them away. Those on nodes
// that were removed do not count.
func (h hosts) count(p *metav1.Partition, times int) {
	for k, r := range wanted(p) {
		i, ok := h.find(r.GetNodeId())
		if !ok {
			continue
		}
		h[i].replicas += times
		if k == 0 {
			h[i].preferred += times
		}
	}
}

// place chooses the nodes of new partitions and counts them. There are at least as many open hosts as
// replicas.
func (h hosts) place(first raftcore.GroupID, partitions, replicas int) []*metav1.Partition {
	placed := make([]*metav1.Partition, partitions)
	for i := range placed {
		p := &metav1.Partition{GroupId: uint64(first) + uint64(i)}
		for k, chosen := range h.choose(replicas) {
			p.Replicas = append(p.Replicas, &metav1.Replica{ReplicaId: uint64(k + 1), NodeId: h[chosen].node})
		}
		placed[i] = p
	}
	return placed
}

// choose returns and counts the hosts of one partition, the preferred leader first.
func (h hosts) choose(replicas int) []int {
	chosen := make([]int, 0, replicas)
	racks := make(map[string]int, replicas) // looked up, never ranged over
	for range replicas {
		best := h.best(chosen, racks)
		racks[h[best].rack]++
		h[best].replicas++
		chosen = append(chosen, best)
	}
	leader := slices.MinFunc(chosen, func(a, b int) int {
		return cmp.Or(cmp.Compare(h[a].preferred, h[b].preferred), cmp.Compare(a, b))
	})
	h[leader].preferred++
	at := slices.Index(chosen, leader)
	return slices.Insert(slices.Delete(chosen, at, at+1), 0, leader)
}

// best returns the open host, not chosen yet, whose rack has the fewest replicas of the partition; of those the
// least loaded; of those the one with the lowest id.
func (h hosts) best(chosen []int, racks map[string]int) int {
	best := -1
	for i := range h {
		if h[i].draining || slices.Contains(chosen, i) {
			continue
		}
		if best < 0 || cmp.Or(cmp.Compare(racks[h[i].rack], racks[h[best].rack]), cmp.Compare(h[i].replicas, h[best].replicas)) < 0 {
			best = i
		}
	}
	return best
}
