package main

import (
	"slices"

	"github.com/multiraftd/multiraftd/actors"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// electable says whether a group can elect somebody without a node. A majority is not always enough. etcd/raft goes by
// the membership that it knows to be committed, where the paper goes by the last one in the log: a replica that has
// the end of a joint membership in its log, and not yet heard that it is committed, still wants the vote of a leaving
// one; which has heard so, cannot be elected itself, and refuses that vote if its log is the longer one. Seed 1004822
// showed it. When the leader comes back it goes on.
func (w *world) electable(g raftcore.GroupID, without *node) bool {
	hosts := false
	for _, c := range w.nodes {
		s := c.status(g)
		if s == nil {
			continue
		}
		hosts = true
		if c != without && slices.Contains(s.VoterIDs, s.Replica) && w.wins(c, s, without) {
			return true
		}
	}
	return !hosts // then it is whoever is up later
}

// wins says whether those who are left would elect a candidate: a majority of its voters, and of the outgoing ones.
func (w *world) wins(c *node, s *actors.Status, without *node) bool {
	own := c.lastEntry(s.Group)
	for _, half := range [][]raftcore.ReplicaID{s.VoterIDs, s.OutgoingIDs} {
		votes := 0
		for _, r := range half {
			m := w.node(raftcore.NodeID(w.lives[replicaKey{s.Group, r}]))
			if m == nil || m == without {
				continue
			}
			if last := m.lastEntry(s.Group); last.Term < own.Term || last.Term == own.Term && last.Index <= own.Index {
				votes++
			}
		}
		if len(half) > 0 && votes <= len(half)/2 {
			return false
		}
	}
	return true
}

// lastEntry is where the log on a node's disk ends.
func (n *node) lastEntry(g raftcore.GroupID) raftcore.Position {
	v, err := n.mem.View()
	if err != nil {
		return raftcore.Position{}
	}
	defer v.Close()
	s, err := store.Inspect(v, g)
	if err != nil {
		return raftcore.Position{}
	}
	at, _, err := store.EntryData(v, g, s.Generation, s.Last)
	if err != nil { // truncated, or replaced by a snapshot
		return raftcore.Position{Index: s.Last}
	}
	return at
}
