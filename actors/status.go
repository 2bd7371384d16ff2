package actors

import (
	"slices"
	"sync/atomic"

	"github.com/multiraftd/multiraftd/raftcore"
)

// Status is what a replica shows of itself. Values are never changed once published.
type Status struct {
	Group         raftcore.GroupID
	Node          raftcore.NodeID
	Replica       raftcore.ReplicaID
	Role          raftcore.Role
	Term          uint64
	Leader        raftcore.NodeID // 0 = none known
	Last          raftcore.Index
	Commit        raftcore.Index
	Applied       raftcore.Index
	AppliedTerm   uint64 // of the entry at Applied
	Hash          uint64
	LogStart      raftcore.Offset
	HighWatermark raftcore.Offset
	Bytes         int64             // of records stored, where the machine has such
	FirstIndex    raftcore.Index    // of the Raft log
	Stalled       bool              // a write has not been synced for an election timeout
	Quiet         bool              // no ticks and no heartbeats, until something happens
	Voters        []raftcore.NodeID // ascending
	Learners      []raftcore.NodeID // ascending
	Failure       string

	// The membership by replica ids, ascending. While Joint, VoterIDs are those to be, OutgoingIDs those until then.
	Joint                             bool
	VoterIDs, LearnerIDs, OutgoingIDs []raftcore.ReplicaID
	// FollowedTarget is the id of the latest target that a membership change was applied for. A target is settled
	// when it is followed and the members are its own.
	FollowedTarget uint64
	// Told says that a majority of the members know that they are, as far as this replica, the leader, knows.
	Told bool
	// Progress is what the leader knew about the members at its last tick, itself included; nil elsewhere.
	Progress []raftcore.Progress
	// Transfer is the node to which leadership is being handed; 0 = none.
	Transfer raftcore.NodeID
	// Target is the id of the latest target that the replica was told.
	Target uint64
	// Waits says what the leader waits for on the way to its group's target; WaitsFor a replica it waits for.
	Waits    raftcore.Wait
	WaitsFor raftcore.ReplicaID
}

// Board is where a replica publishes its Status for others to read at any time.
type Board struct {
	p       atomic.Pointer[Status]
	mailbox atomic.Pointer[drainMailbox]
}

// Waiting returns how many messages wait in the replica's mailbox.
func (b *Board) Waiting() int {
	if m := b.mailbox.Load(); m != nil {
		return m.UserMessageCount()
	}
	return 0
}

// Load returns the latest Status, or nil before the replica has opened.
func (b *Board) Load() *Status { return b.p.Load() }

// Fail publishes that the replica has stopped with this reason; what it showed last stays readable.
func (b *Board) Fail(g raftcore.GroupID, n raftcore.NodeID, reason string) {
	s := Status{Group: g, Node: n}
	if last := b.p.Load(); last != nil {
		s = *last
	}
	s.Leader, s.Failure = 0, reason
	b.p.Store(&s)
}

// publish puts the replica's state on its board, at the end of a turn.
func (r *Replica) publish() {
	st := r.core.Status()
	last := r.cfg.Board.Load()
	s := Status{
		Group: r.cfg.Group, Node: r.cfg.Node, Replica: r.log.Replica(),
		Role: st.Role, Term: st.Term, Leader: r.nodeOf(st.Leader),
		Last: st.Last, Commit: st.Commit, Applied: r.state.Applied, AppliedTerm: r.state.AppliedTerm, Hash: r.state.Hash,
	}
	s.LogStart, s.HighWatermark = r.machine.Bounds()
	s.FirstIndex, s.Stalled = r.state.Truncated.Index+1, r.stalled >= r.cfg.ElectionTicks
	if records, ok := r.machine.(Records); ok {
		s.Bytes = records.Bytes()
	}
	if r.failure != nil {
		s.Failure, s.Leader = r.failure.Error(), 0
	}
	s.FollowedTarget, s.Told, s.Quiet = r.state.FollowedTarget, r.core.Told(), r.quiet
	r.showMembers(&s, last)
	s.Target = r.target.ID
	s.Progress, s.Waits, s.WaitsFor = r.progress, r.steered.Wait, r.steered.For
	if r.transfer.underWay() {
		s.Transfer = r.nodeOf(r.transfer.to)
	}
	r.noteLeader(last, &s)
	if last == nil || !s.same(last) {
		r.cfg.Board.p.Store(&s)
	}
}

// Lag returns how many entries the member furthest behind lacks, as a leader knew at its last tick; 0 elsewhere.
func (s *Status) Lag() (most raftcore.Index) {
	for _, p := range s.Progress {
		if p.Match < s.Last {
			most = max(most, s.Last-p.Match)
		}
	}
	return most
}

// UnderReplicated says that a leader has a member that it has not heard of lately, or that lacks more than what is
// on its way.
func (s *Status) UnderReplicated() bool {
	return slices.ContainsFunc(s.Progress, func(p raftcore.Progress) bool { return !p.CaughtUp(s.Commit) })
}

func (s *Status) same(o *Status) bool {
	return s.Role == o.Role && s.Term == o.Term && s.Leader == o.Leader && s.Last == o.Last && s.Commit == o.Commit &&
		s.Applied == o.Applied && s.Hash == o.Hash && s.LogStart == o.LogStart && s.HighWatermark == o.HighWatermark &&
		s.FirstIndex == o.FirstIndex && s.Quiet == o.Quiet && s.Target == o.Target && s.Stalled == o.Stalled && s.Bytes == o.Bytes &&
		s.Failure == o.Failure && s.Joint == o.Joint && s.FollowedTarget == o.FollowedTarget && s.Told == o.Told && s.Transfer == o.Transfer && s.Waits == o.Waits && s.WaitsFor == o.WaitsFor &&
		slices.Equal(s.VoterIDs, o.VoterIDs) && slices.Equal(s.LearnerIDs, o.LearnerIDs) &&
		slices.Equal(s.OutgoingIDs, o.OutgoingIDs) && slices.Equal(s.Progress, o.Progress)
}

// showMembers works out the lists when the membership has changed, and says what became of this replica.
func (r *Replica) showMembers(s, last *Status) {
	if last != nil && !r.membersChanged {
		s.Voters, s.Learners, s.Joint = last.Voters, last.Learners, last.Joint
		s.VoterIDs, s.LearnerIDs, s.OutgoingIDs = last.VoterIDs, last.LearnerIDs, last.OutgoingIDs
		return
	}
	r.membersChanged = false
	conf := r.state.ConfState
	s.Voters, s.Learners = r.nodesOf(conf.GetVoters()), r.nodesOf(conf.GetLearners())
	s.VoterIDs, s.LearnerIDs, s.OutgoingIDs = replicaIDs(conf.GetVoters()), replicaIDs(conf.GetLearners()), replicaIDs(conf.GetVotersOutgoing())
	s.Joint = len(s.OutgoingIDs) > 0
	if last == nil {
		return
	}
	if before, now := last.standing(), s.standing(); before != now {
		r.cfg.Logger.Info("replica is now "+now, "group", s.Group, "replica", s.Replica, "was", before)
	}
}

// standing says what the replica is in its group.
func (s *Status) standing() string {
	switch {
	case slices.Contains(s.VoterIDs, s.Replica):
		return "voter"
	case slices.Contains(s.OutgoingIDs, s.Replica):
		return "leaving"
	case slices.Contains(s.LearnerIDs, s.Replica):
		return "learner"
	default:
		return "no member"
	}
}

func replicaIDs(ids []uint64) (all []raftcore.ReplicaID) {
	for _, id := range ids {
		all = append(all, raftcore.ReplicaID(id))
	}
	slices.Sort(all)
	return all
}

func (r *Replica) nodesOf(ids []uint64) []raftcore.NodeID {
	nodes := make([]raftcore.NodeID, 0, len(ids))
	for _, id := range ids {
		nodes = append(nodes, r.nodeOf(raftcore.ReplicaID(id)))
	}
	slices.Sort(nodes)
	return nodes
}
