package raftcore

import (
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"
)

// A group in which nothing happens needs no ticks: with all logs equal, committed and applied, there is nothing that
// an election could change. Settled and Agrees say when that is so, and whoever owns the cores stops their ticks
// (rules 30 and 31). Raft itself does not know: to it, no time passes.

// Settled says that this leader may go quiet: all that its log holds is committed, applied and acknowledged by every
// member, each of which has answered since the last tick, and neither a change nor a Ready is under way. An answer from
// before that tick would leave the one to its heartbeat on the way, which would wake the leader again.
//
// Members that have been silent for an election timeout, on a node that is gone, are not waited for, if a majority of the
// voters is there without them: a node that stays away would keep all groups that it is in awake. Whoever says that it
// is gone owes this leader to be woken when it is back. gone may be nil: nobody is.
func (c *Core) Settled(gone func(NodeID) bool) bool {
	if c.needLeader() != nil || c.steer.proposed || len(c.conf.GetVotersOutgoing()) > 0 || c.rn.HasReady() {
		return false
	}
	st := c.Status()
	settled, there := st.Commit == st.Last && st.Applied == st.Last, 0
	c.rn.WithProgress(func(id uint64, _ raft.ProgressType, p tracker.Progress) {
		r := ReplicaID(id)
		if r != c.cfg.Self && gone != nil && !c.heardLately(r) && gone(c.members[r]) {
			return
		}
		at, heard := c.heard[r]
		answered := r == c.cfg.Self || heard && at == c.ticks
		settled = settled && answered && Index(p.Match) == st.Last
		if c.votes(r) {
			there++
		}
	})
	return settled && 2*there > len(c.conf.GetVoters())
}

// Agrees says that this follower may go quiet with a leader that did so in a term, with all of its log up to commit
// committed and applied: this log is the same, and as far.
func (c *Core) Agrees(term uint64, commit Index) bool {
	if c.quarantined || c.rn.HasReady() {
		return false
	}
	st := c.Status()
	return st.Role == Follower && st.Leader != noReplica && st.Term == term &&
		st.Last == commit && st.Commit == commit && st.Applied == commit
}
