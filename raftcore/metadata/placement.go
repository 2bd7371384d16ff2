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
	replicas  int
	preferred int // partitions of which it is the first replica
}

// hosts is sorted by node.
type hosts []host

func (h hosts) find(node uint64) (int, bool) {
	return slices.BinarySearchFunc(h, node, func(h host, node uint64) int { return cmp.Compare(h.node, node) })
}

// put adds a node, or notes its rack.
func (h *hosts) put(n *metav1.Node) {
	i, ok := h.find(n.GetNodeId())
	if !ok {
		*h = slices.Insert(*h, i, host{node: n.GetNodeId()})
	}
	(*h)[i].rack = n.GetRack()
}

// count notes the replicas of partitions.
func (h hosts) count(partitions []*metav1.Partition) error {
	for _, p := range partitions {
		for k, r := range p.GetReplicas() {
			i, ok := h.find(r.GetNodeId())
			if !ok {
				return corrupt("group %d has a replica on unknown node %d", p.GetGroupId(), r.GetNodeId())
			}
			h[i].replicas++
			if k == 0 {
				h[i].preferred++
			}
		}
	}
	return nil
}

// place chooses the nodes of new partitions and counts them. There are at least as many hosts as replicas.
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

// best returns the host, not chosen yet, whose rack has the fewest replicas of the partition; of those the
// least loaded; of those the one with the lowest id.
func (h hosts) best(chosen []int, racks map[string]int) int {
	best := -1
	for i := range h {
		if slices.Contains(chosen, i) {
			continue
		}
		if best < 0 || cmp.Or(cmp.Compare(racks[h[i].rack], racks[h[best].rack]), cmp.Compare(h[i].replicas, h[best].replicas)) < 0 {
			best = i
		}
	}
	return best
}
