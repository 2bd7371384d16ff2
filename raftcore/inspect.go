package raftcore

import (
	"cmp"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
)

// MemberState is how a leader sends entries to a member.
type MemberState uint8

// The states; a replica that does not lead knows none.
const (
	MemberUnknown   MemberState = iota
	MemberProbe                 // one message at a time, to find out where the member's log ends
	MemberReplicate             // as fast as they come
	MemberSnapshot              // after a snapshot, which is on its way
)

// Member is all that a leader knows about one member. Of another replica's view only Progress's first fields and
// Voter are set.
type Member struct {
	Progress
	State           MemberState
	Next            Index // entry to send
	Paused          bool  // nothing is sent until it answers
	Inflight        int   // messages with entries on their way
	PendingSnapshot Index // on its way; 0 = none
}

// Inspect returns the members by ascending id, for people: it allocates, and nothing may decide by it.
func (c *Core) Inspect() []Member {
	progress := map[uint64]tracker.Progress{}
	if c.needLeader() == nil {
		progress = c.rn.Status().Progress
	}
	var all []Member
	for _, ids := range [][]uint64{c.conf.GetVoters(), c.conf.GetVotersOutgoing(), c.conf.GetLearners()} {
		for _, id := range ids {
			if r := ReplicaID(id); !slices.ContainsFunc(all, func(m Member) bool { return m.Replica == r }) {
				all = append(all, c.member(id, progress))
			}
		}
	}
	slices.SortFunc(all, func(a, b Member) int { return cmp.Compare(a.Replica, b.Replica) })
	return all
}

func (c *Core) member(id uint64, progress map[uint64]tracker.Progress) Member {
	r := ReplicaID(id)
	m := Member{Progress: Progress{Replica: r, Node: c.members[r], Voter: !slices.Contains(c.conf.GetLearners(), id)}}
	if p, ok := progress[id]; ok {
		m.Match, m.Active = Index(p.Match), p.RecentActive
		m.State, m.Next, m.Paused = memberStates[p.State], Index(p.Next), p.IsPaused()
		m.Inflight, m.PendingSnapshot = p.Inflights.Count(), Index(p.PendingSnapshot)
	}
	return m
}

var memberStates = map[tracker.StateType]MemberState{
	tracker.StateProbe: MemberProbe, tracker.StateReplicate: MemberReplicate, tracker.StateSnapshot: MemberSnapshot,
}

// EntrySummary is one entry of a log, without what is in it.
type EntrySummary struct {
	At      Position
	Kind    string
	Appends int
	Bytes   int
	Time    int64 // the leader's clock, ms since 1970; 0 = it does not say
}

// Summarize returns what there is to say about an entry.
func Summarize(e *raftpb.Entry) EntrySummary {
	s := EntrySummary{At: Position{Index(e.GetIndex()), e.GetTerm()}, Bytes: len(e.GetData())}
	switch decoded, err := DecodeEntry(e.GetData()); {
	case e.GetType() != raftpb.EntryNormal:
		s.Kind = "membership change"
	case len(e.GetData()) == 0:
		s.Kind = "empty"
	case err != nil:
		s.Kind = "undecodable"
	default:
		s.Kind, s.Appends, s.Time = "appends", len(decoded.Payloads), decoded.Time
	}
	return s
}
