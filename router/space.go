package router

import (
	"cmp"
	"maps"
	"slices"

	"github.com/multiraftd/multiraftd/actors"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
)

// fullTicks is for how many ticks a peer that said that its disk is full counts as that: an election timeout.
func (r *Router) fullTicks() int { return cmp.Or(r.cfg.Replica.ElectionTicks, 10) }

// tellSpace says to all peers, at each tick, that this disk has no room for appends, and forgets peers that
// have not said so for a while.
func (r *Router) tellSpace() {
	if r.cfg.Replica.Space.Level() != actors.SpaceEnough {
		for _, n := range r.meta.Nodes() {
			if id := raftcore.NodeID(n.GetNodeId()); id != r.cfg.Replica.Node {
				r.cfg.Sender.SendControl(id, &raftv1.Control{Kind: raftv1.Control_KIND_DISK_FULL})
			}
		}
	}
	before := len(r.full)
	maps.DeleteFunc(r.full, func(n raftcore.NodeID, ticks int) bool {
		r.full[n] = ticks - 1
		return ticks <= 1
	})
	if len(r.full) != before {
		r.publish()
	}
}

// peerFull takes note that a peer's disk has no room.
func (r *Router) peerFull(n raftcore.NodeID) {
	_, known := r.full[n]
	if r.full[n] = r.fullTicks(); !known {
		r.publish()
	}
}

// QuorumHasRoom says whether a majority of voters is on nodes that have not said that their disk is full.
// A minority may be full: it falls behind and catches up, while the others keep every promise.
func (t *Table) QuorumHasRoom(voters []raftcore.NodeID) bool {
	if len(t.full) == 0 {
		return true
	}
	room := 0
	for _, n := range voters {
		if !slices.Contains(t.full, n) {
			room++
		}
	}
	return room > len(voters)/2
}
