package raftcore

import (
	"cmp"
	"maps"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
)

// lagEntriesMax is how far a member may be behind the commit index and still count as caught up: more than
// is under way to a healthy follower, little enough to be fetched within a few heartbeats.
const lagEntriesMax = 128

// handoversMax is how often a leader that has to leave tries to hand leadership over first, in one term.
const handoversMax = 3

// Target is the membership that a group should have, as the cluster's metadata say. Without voters it is none.
type Target struct {
	// ID grows with every change of the group's target, so that a leader whose metadata lag cannot undo what
	// a later target did: a membership change carries it, and from then on older targets are ignored.
	ID uint64
	// Voters and Learners are the members and the nodes that host them.
	Voters, Learners map[ReplicaID]NodeID
}

// Wait says what a group waits for before it can take its next step.
type Wait uint8

// What a step may wait for.
const (
	WaitNothing Wait = iota // there is a step, or the target is reached
	WaitApply               // an earlier change, or the start of this leader's term, is not applied yet
	WaitLearner             // a learner has not caught up, or is not heard of
	WaitQuorum              // too few of the voters to be are caught up and heard of
	WaitStale               // the group has followed a later target already
	WaitTold                // too few of the voters know that the target is reached, see Core.Told
)

var waitNames = [...]string{"", "an earlier change", "a learner to catch up", "a majority of the voters to be", "newer metadata", "a majority to know of the change"}

func (w Wait) String() string { return waitNames[w] }

// Step is the next step towards a target. At most one of Change and Handover is set; neither when the target
// is reached or something has to happen first, which Wait tells.
type Step struct {
	Change   *raftpb.ConfChangeV2
	Handover ReplicaID // leadership has to go there first: the leader itself is about to leave
	Wait     Wait
	For      ReplicaID // the learner of WaitLearner
}

// Situation is what a leader knows about its group. Next is a function of it and of the target alone: a new
// leader goes on where an old one was interrupted.
type Situation struct {
	Self     ReplicaID
	Conf     *raftpb.ConfState
	Progress []Progress // ascending
	Commit   Index
	// Target is the id of the latest target that a change in force was made for.
	Target uint64
	// Handovers is how often this leader has tried to hand leadership over because it has to leave.
	Handovers int
}

// Next returns the step that leads towards t, one at a time:
//
//	learners that t does not want leave, missing members come in as learners   one simple change each
//	learners that have caught up become voters, voters that t does not want leave    one joint change
//	the joint configuration is left, by whoever leads, whatever t says
//
// A target that asks for nothing new is stamped as followed. A voter leaves only when its successor has caught up, and nothing is changed that the voters to be could not
// commit. A learner that is not heard of holds up only its own promotion.
func (s *Situation) Next(t Target) Step {
	if joint(s.Conf) {
		return s.leave()
	}
	if len(t.Voters) == 0 {
		return Step{}
	}
	if t.ID < s.Target {
		return Step{Wait: WaitStale}
	}
	for _, id := range s.Conf.GetLearners() {
		if !t.has(ReplicaID(id)) {
			return s.simple(t, raftpb.ConfChangeRemoveNode, ReplicaID(id))
		}
	}
	for _, r := range t.members() {
		if !slices.Contains(s.Conf.GetVoters(), uint64(r)) && !slices.Contains(s.Conf.GetLearners(), uint64(r)) {
			return s.simple(t, raftpb.ConfChangeAddLearnerNode, r)
		}
	}
	return s.exchange(t)
}

// Reached says whether the group has exactly the members of t. It is settled when FollowedTarget is t's as well.
func (t *Target) Reached(conf *raftpb.ConfState) bool {
	return !joint(conf) && sameIDs(conf.GetVoters(), t.Voters) && sameIDs(conf.GetLearners(), t.Learners)
}

func sameIDs(ids []uint64, members map[ReplicaID]NodeID) bool {
	for _, id := range ids {
		if _, ok := members[ReplicaID(id)]; !ok {
			return false
		}
	}
	return len(ids) == len(members)
}

func joint(conf *raftpb.ConfState) bool { return len(conf.GetVotersOutgoing()) > 0 }

func (t *Target) has(r ReplicaID) bool {
	_, voter := t.Voters[r]
	_, learner := t.Learners[r]
	return voter || learner
}

// node returns where t places r.
func (t *Target) node(r ReplicaID) NodeID { return cmp.Or(t.Voters[r], t.Learners[r]) }

// members returns the members of t, voters first, each ascending.
func (t *Target) members() []ReplicaID {
	return append(slices.Sorted(maps.Keys(t.Voters)), slices.Sorted(maps.Keys(t.Learners))...)
}

// leave leaves the joint configuration. A leader that is no voter afterwards hands over first.
func (s *Situation) leave() Step {
	if !slices.Contains(s.Conf.GetVoters(), uint64(s.Self)) && s.Handovers < handoversMax {
		to := s.fittest(s.Conf.GetVoters())
		if to == noReplica { // without any of them the leaving could not be committed either
			return Step{Wait: WaitQuorum}
		}
		return Step{Handover: to}
	}
	return Step{Change: new(raftpb.ConfChangeV2)}
}

// simple changes one learner.
func (s *Situation) simple(t Target, kind raftpb.ConfChangeType, r ReplicaID) Step {
	var added map[ReplicaID]NodeID
	if kind == raftpb.ConfChangeAddLearnerNode {
		added = map[ReplicaID]NodeID{r: t.node(r)}
	}
	return Step{Change: &raftpb.ConfChangeV2{Changes: []*raftpb.ConfChangeSingle{change(kind, r)}, Context: changeContext(t.ID, added)}}
}

// exchange makes the voters those of t, in one joint change, as far as its learners have caught up.
func (s *Situation) exchange(t Target) Step {
	next, waiting := s.ready(t)
	for _, r := range waiting {
		if s.active(r) { // it is being filled: one change for all is better than two
			return Step{Wait: WaitLearner, For: r}
		}
	}
	next = s.keep(t, next, len(waiting))
	changes := s.changes(t, next)
	if len(changes) == 0 {
		if len(waiting) > 0 {
			return Step{Wait: WaitLearner, For: waiting[0]}
		}
		return s.stamp(t)
	}
	fit := 0
	for _, id := range next {
		if s.fit(ReplicaID(id)) {
			fit++
		}
	}
	if 2*fit <= len(next) {
		return Step{Wait: WaitQuorum}
	}
	if !slices.Contains(next, uint64(s.Self)) && s.Handovers < handoversMax {
		staying := slices.DeleteFunc(slices.Clone(next), func(id uint64) bool { return !slices.Contains(s.Conf.GetVoters(), id) })
		if to := s.fittest(staying); to != noReplica {
			return Step{Handover: to}
		}
	}
	return Step{Change: &raftpb.ConfChangeV2{
		Transition: raftpb.ConfChangeTransitionJointExplicit.Enum(), Changes: changes, Context: changeContext(t.ID, nil),
	}}
}

// stamp marks a target that needed no change as followed, by one that changes nothing: without it a leader with
// an older target could still act on that.
func (s *Situation) stamp(t Target) Step {
	if s.Target == t.ID {
		return Step{}
	}
	return s.simple(t, raftpb.ConfChangeUpdateNode, s.Self)
}

// ready returns the voters of t that are voters or could become ones now, and those that could not.
func (s *Situation) ready(t Target) (next []uint64, waiting []ReplicaID) {
	for _, r := range slices.Sorted(maps.Keys(t.Voters)) {
		if slices.Contains(s.Conf.GetVoters(), uint64(r)) || s.fit(r) {
			next = append(next, uint64(r))
		} else {
			waiting = append(waiting, r)
		}
	}
	return next, waiting
}

// keep adds to next as many of the voters that t does not want as there are missing, so that the group does
// not become smaller than it is and should be. Those that are fit are kept first, and the leader of them.
func (s *Situation) keep(t Target, next []uint64, missing int) []uint64 {
	missing = min(missing, min(len(s.Conf.GetVoters()), len(t.Voters))-len(next))
	if missing <= 0 {
		return next
	}
	unwanted := slices.DeleteFunc(slices.Clone(s.Conf.GetVoters()), func(id uint64) bool { return slices.Contains(next, id) })
	rank := func(id uint64) int {
		switch {
		case ReplicaID(id) == s.Self:
			return 0
		case s.fit(ReplicaID(id)):
			return 1
		default:
			return 2
		}
	}
	slices.SortStableFunc(unwanted, func(a, b uint64) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b)) })
	next = append(next, unwanted[:min(missing, len(unwanted))]...)
	slices.Sort(next)
	return next
}

// changes turns the present voters into next.
func (s *Situation) changes(t Target, next []uint64) (all []*raftpb.ConfChangeSingle) {
	for _, id := range next {
		if !slices.Contains(s.Conf.GetVoters(), id) {
			all = append(all, change(raftpb.ConfChangeAddNode, ReplicaID(id)))
		}
	}
	for _, id := range s.Conf.GetVoters() {
		if slices.Contains(next, id) {
			continue
		}
		if _, learner := t.Learners[ReplicaID(id)]; learner {
			all = append(all, change(raftpb.ConfChangeAddLearnerNode, ReplicaID(id)))
		} else {
			all = append(all, change(raftpb.ConfChangeRemoveNode, ReplicaID(id)))
		}
	}
	return all
}

func change(kind raftpb.ConfChangeType, r ReplicaID) *raftpb.ConfChangeSingle {
	return &raftpb.ConfChangeSingle{Type: kind.Enum(), NodeId: new(uint64(r))}
}

func (s *Situation) progress(r ReplicaID) (Progress, bool) {
	i, ok := slices.BinarySearchFunc(s.Progress, r, func(p Progress, r ReplicaID) int { return cmp.Compare(p.Replica, r) })
	if !ok {
		return Progress{}, false
	}
	return s.Progress[i], true
}

func (s *Situation) active(r ReplicaID) bool {
	p, ok := s.progress(r)
	return ok && p.Active
}

// fit says whether r could do a voter's part now.
func (s *Situation) fit(r ReplicaID) bool {
	p, ok := s.progress(r)
	return ok && (r == s.Self || p.caughtUp(s.Commit))
}

// fittest returns which of ids leadership is best handed to: the fit one furthest ahead, the lowest id among
// equals, never this replica. 0 = none.
func (s *Situation) fittest(ids []uint64) ReplicaID {
	var best Progress
	for _, p := range s.Progress {
		if p.Replica == s.Self || !slices.Contains(ids, uint64(p.Replica)) || !p.caughtUp(s.Commit) {
			continue
		}
		if best.Replica == noReplica || p.Match > best.Match {
			best = p
		}
	}
	return best.Replica
}

// caughtUp is about another member than the leader. One that has confirmed nothing has not been filled, however
// short the log is: etcd/raft counts a member as heard of when it adds it.
func (p *Progress) caughtUp(commit Index) bool {
	return p.Active && p.Match > 0 && p.Match+lagEntriesMax >= commit
}
