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
	Hash          uint64
	LogStart      raftcore.Offset
	HighWatermark raftcore.Offset
	Bytes         int64             // of records stored, where the machine has such
	FirstIndex    raftcore.Index    // of the Raft log
	Stalled       bool              // a write has not been synced for an election timeout
	Voters        []raftcore.NodeID // ascending
	Learners      []raftcore.NodeID // ascending
	Failure       string
}

// Board is where a replica publishes its Status for others to read at any time.
type Board struct{ p atomic.Pointer[Status] }

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
		Role: st.Role, Term: st.Term, Leader: r.state.Members[st.Leader],
		Last: st.Last, Commit: st.Commit, Applied: r.state.Applied, Hash: r.state.Hash,
	}
	s.LogStart, s.HighWatermark = r.machine.Bounds()
	s.FirstIndex, s.Stalled = r.state.Truncated.Index+1, r.stalled >= r.cfg.ElectionTicks
	if records, ok := r.machine.(Records); ok {
		s.Bytes = records.Bytes()
	}
	if r.failure != nil {
		s.Failure, s.Leader = r.failure.Error(), 0
	}
	if last != nil && !r.membersChanged {
		s.Voters, s.Learners = last.Voters, last.Learners
	} else {
		s.Voters = r.nodesOf(r.state.ConfState.GetVoters())
		s.Learners = r.nodesOf(r.state.ConfState.GetLearners())
		r.membersChanged = false
	}
	if last == nil || !s.same(last) {
		r.cfg.Board.p.Store(&s)
	}
}

func (s *Status) same(o *Status) bool {
	return s.Role == o.Role && s.Term == o.Term && s.Leader == o.Leader && s.Last == o.Last && s.Commit == o.Commit &&
		s.Applied == o.Applied && s.Hash == o.Hash && s.LogStart == o.LogStart && s.HighWatermark == o.HighWatermark &&
		s.FirstIndex == o.FirstIndex && s.Stalled == o.Stalled && s.Failure == o.Failure && slices.Equal(s.Voters, o.Voters) && slices.Equal(s.Learners, o.Learners)
}

func (r *Replica) nodesOf(ids []uint64) []raftcore.NodeID {
	nodes := make([]raftcore.NodeID, 0, len(ids))
	for _, id := range ids {
		nodes = append(nodes, r.state.Members[raftcore.ReplicaID(id)])
	}
	slices.Sort(nodes)
	return nodes
}
