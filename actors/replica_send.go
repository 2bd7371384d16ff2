package actors

import (
	"cmp"
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/multiraftd/multiraftd/proto/trace"
	"github.com/multiraftd/multiraftd/raftcore"
)

// Patience with snapshots, in election timeouts.
const (
	snapshotIdleTimeouts = 30 // without a chunk sent or received it is given up
	snapshotRetryTicks   = 5  // after a failure, until Raft may announce the next
)

// sending is a snapshot on its way to a member.
type sending struct {
	source *SnapshotSource
	node   raftcore.NodeID
	began  int64 // by Counters.Nanos
	chunks int64 // read when idle was last 0
	idle   int   // ticks without a chunk
	span   *trace.Span
	retry  int // it has failed: ticks until Raft is told
}

// sendSnapshot gives the snapshot that Raft announces to m's addressee to the node's sender. The announcement itself
// is not sent: the receiver steps one of its own when it has the data.
//
// Invariant: r.sending holds each snapshot of the leader's term until ReportSnapshot has been called for it, once.
// An earlier one for the same member has ended for Raft when it announces another, and is dropped without.
func (r *Replica) sendSnapshot(m *raftpb.Message) {
	to := raftcore.ReplicaID(m.GetTo())
	r.sending = slices.DeleteFunc(r.sending, func(s *sending) bool {
		if s.source.to == to {
			s.source.cancelled.Store(true)
			s.end(ErrSnapshotCancelled)
		}
		return s.source.to == to
	})
	r.snapshotID++
	source := &SnapshotSource{
		log: r.cfg.Log, group: r.cfg.Group, from: r.log.Replica(), to: to, term: m.GetTerm(),
		id: r.cfg.Incarnation<<32 | r.snapshotID, chunkBytes: r.cfg.ChunkBytes, tell: r.tellEnded,
	}
	source.floor.Store(m.GetSnapshot().GetMetadata().GetIndex())
	s := &sending{source: source, node: r.nodeOf(to), began: r.cfg.Counters.now()}
	r.sending = append(r.sending, s)
	if r.cfg.Tracing.Tracer != nil {
		r.traceSending(s, m)
	}
	r.cfg.Counters.SnapshotsAnnounced.Add(1)
	r.cfg.Logger.Debug("snapshot: the leader sends one", withTrace(s.span, "group", r.cfg.Group, "to", to, "node", s.node,
		"index", m.GetSnapshot().GetMetadata().GetIndex(), "term", m.GetTerm(), "snapshot", source.id)...)
	if s.node == 0 || r.cfg.Snapshots == nil {
		source.Ended(nil, ErrNoSnapshots)
		return
	}
	r.cfg.Snapshots.SendSnapshot(s.node, source)
}

// snapshotEnded takes note that a snapshot was answered, or was not. A failure is told to Raft a little later:
// it would announce the next at once.
func (r *Replica) snapshotEnded(m *snapshotEnded) {
	i := slices.IndexFunc(r.sending, func(s *sending) bool { return s.source == m.source })
	if i < 0 || r.failure != nil {
		return // given up before
	}
	s := r.sending[i]
	r.cfg.Logger.Debug("snapshot: answered", "group", r.cfg.Group, "to", s.source.to, "snapshot", s.source.id,
		"success", m.resp.GetSuccess(), "term", m.resp.GetTerm(), "err", m.err)
	s.answered(m)
	if m.resp != nil {
		r.stepOne(s.node, raftcore.FromInstalled(s.source.to, r.log.Replica(), m.resp))
	}
	if !m.resp.GetSuccess() {
		s.retry = snapshotRetryTicks
		return
	}
	r.reportSnapshot(i, true)
}

func (r *Replica) reportSnapshot(i int, done bool) {
	r.core.ReportSnapshot(r.sending[i].source.to, done)
	began := r.sending[i].began
	if !done {
		r.sending[i].end(errNotAcknowledged)
	}
	r.sending = slices.Delete(r.sending, i, i+1)
	if done {
		r.cfg.Counters.since(&r.cfg.Counters.Snapshot, began)
		r.cfg.Counters.SnapshotsSent.Add(1)
	} else {
		r.cfg.Counters.SnapshotsFailed.Add(1)
	}
}

// ageSending gives up what does not go on, and tells Raft of failures.
func (r *Replica) ageSending(ticks int) {
	for i := len(r.sending) - 1; i >= 0 && ticks > 0; i-- {
		s := r.sending[i]
		if s.retry > 0 {
			if s.retry -= ticks; s.retry <= 0 {
				r.reportSnapshot(i, false)
			}
			continue
		}
		if n := s.source.chunks.Load(); n != s.chunks {
			s.chunks, s.idle = n, 0
			continue
		}
		if s.idle += ticks; s.idle >= snapshotIdleTimeouts*r.cfg.ElectionTicks {
			r.cfg.Logger.Warn("snapshot: given up, nothing was sent for too long", "group", r.cfg.Group, "to", s.source.to, "snapshot", s.source.id)
			s.source.cancelled.Store(true)
			r.reportSnapshot(i, false)
		}
	}
}

// dropSending cancels all snapshots but those of one term: Raft has forgotten the others. A leader can have announced
// one in the Ready that tells of its election: a follower that votes for it, and has just had a heartbeat of its
// earlier term, answers that with an acknowledgement of nothing, which etcd/raft takes for a log to begin from.
func (r *Replica) dropSending(but uint64) {
	r.sending = slices.DeleteFunc(r.sending, func(s *sending) bool {
		if s.source.term == but {
			return false
		}
		s.source.cancelled.Store(true)
		s.end(ErrSnapshotCancelled)
		return true
	})
}

// snapshotFloor returns the last index up to which the log may be truncated so that no snapshot on its way becomes
// useless; false = there is none.
func (r *Replica) snapshotFloor() (raftcore.Index, bool) {
	if len(r.sending) == 0 {
		return 0, false
	}
	lowest := slices.MinFunc(r.sending, func(a, b *sending) int {
		return cmp.Compare(a.source.floor.Load(), b.source.floor.Load())
	})
	return raftcore.Index(lowest.source.floor.Load()), true
}
