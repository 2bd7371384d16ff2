package raftcore

import (
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
)

// Role is what a replica is in its term.
type Role uint8

// The roles.
const (
	Follower Role = iota
	PreCandidate
	Candidate
	Leader
)

var roleNames = [...]string{"follower", "pre-candidate", "candidate", "leader"}

func (r Role) String() string { return roleNames[r] }

// Status is where a replica stands.
type Status struct {
	Term, Vote  uint64
	Leader      ReplicaID // 0 = unknown
	Role        Role
	Commit      Index
	Applied     Index // acknowledged by StepLocal
	Last        Index // end of the log as it was last handed out
	Quarantined bool
}

// Status returns where the replica stands. It allocates nothing.
func (c *Core) Status() Status {
	st := c.rn.BasicStatus()
	return Status{
		Term: st.GetTerm(), Vote: st.GetVote(), Leader: ReplicaID(st.Lead), Role: roleOf(st.RaftState),
		Commit: Index(st.GetCommit()), Applied: Index(st.Applied), Last: c.handedLast, Quarantined: c.quarantined,
	}
}

func roleOf(s raft.StateType) Role {
	switch s {
	case raft.StateLeader:
		return Leader
	case raft.StateCandidate:
		return Candidate
	case raft.StatePreCandidate:
		return PreCandidate
	default:
		return Follower
	}
}

// Progress is what a leader knows about one member.
type Progress struct {
	Replica ReplicaID
	Node    NodeID
	Match   Index // stored durably there
	Voter   bool
	Active  bool // heard from within the last election timeout
}

// CaughtUp says that the member was heard of lately and lacks no more than what is under way to it.
func (p *Progress) CaughtUp(commit Index) bool { return p.caughtUp(commit) }

// Progress returns what this leader knows about the members, itself included, by ascending id.
// Another replica than the leader knows nothing and returns nil.
func (c *Core) Progress() []Progress { return c.AppendProgress(nil) }

// AppendProgress appends to all what Progress returns.
func (c *Core) AppendProgress(all []Progress) []Progress {
	if c.needLeader() != nil {
		return all
	}
	c.rn.WithProgress(func(id uint64, kind raft.ProgressType, p tracker.Progress) {
		r := ReplicaID(id)
		all = append(all, Progress{r, c.members[r], Index(p.Match), kind == raft.ProgressTypePeer, p.RecentActive || c.heardLately(r)})
	})
	return all
}

// hear notes that a leader has had a message of a member. Who does not lead knows nothing of the others, as Progress.
func (c *Core) hear(from ReplicaID) {
	if c.rn.BasicStatus().RaftState != raft.StateLeader {
		clear(c.heard)
		return
	}
	if c.heard == nil {
		c.heard = make(map[ReplicaID]int)
	}
	c.heard[from] = c.ticks
}

// heardLately says that a message of a member came within the last election timeout. etcd/raft's own mark is not
// enough: CheckQuorum takes it away from all members once per election timeout, and until they answer the next
// heartbeat nobody could be handed leadership or be made a voter.
func (c *Core) heardLately(r ReplicaID) bool {
	at, ok := c.heard[r]
	return ok && c.ticks-at < c.cfg.ElectionTicks
}

// FsyncedReplicas returns how many voters this leader knows to hold entry i durably; 0 when it does not lead.
func (c *Core) FsyncedReplicas(i Index) int {
	if c.needLeader() != nil {
		return 0
	}
	n := 0
	c.rn.WithProgress(func(_ uint64, kind raft.ProgressType, p tracker.Progress) {
		if kind == raft.ProgressTypePeer && Index(p.Match) >= i {
			n++
		}
	})
	return n
}

// Successor returns the voter that leadership is best handed to: heard from lately, caught up and furthest
// ahead, the lowest id among equals. 0 = none.
func (c *Core) Successor() ReplicaID {
	if c.needLeader() != nil {
		return noReplica
	}
	now := c.situation()
	return now.fittest(c.conf.GetVoters())
}

// onlyVoter returns r if it is a voter, and remains one when a joint configuration is left.
func onlyVoter(conf *raftpb.ConfState, r ReplicaID) []uint64 {
	if !slices.Contains(conf.GetVoters(), uint64(r)) {
		return nil
	}
	return []uint64{uint64(r)}
}
