package actors

import (
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/multiraftd/multiraftd/raftcore"
)

// telemetry is what a replica remembers only to count and time by. Nothing decides by it.
type telemetry struct {
	proposed int // appends proposed, whose entries have not been handed to the LogWriter
	timed    []timedSend
	role     raftcore.Role // as it was last counted
	term     uint64
	// leaderless is since when no leader is known, by Counters.Nanos.
	leaderless int64
	idle       int // ticks without anything under way
	idleAt     raftcore.Status
}

// timedSend is the one message with entries per member that is being timed.
type timedSend struct {
	to   raftcore.ReplicaID
	last uint64 // index of its last entry
	sent int64
}

// noteProposed times how long this turn's proposals have waited. What came in one message has waited as long.
func (r *Replica) noteProposed(now int64) {
	r.proposed += len(r.proposals)
	since, same := int64(0), 0
	for _, p := range r.proposals {
		if p.Since != since {
			r.queued(now-since, since, same)
			since, same = p.Since, 0
		}
		same++
	}
	r.queued(now-since, since, same)
}

func (r *Replica) queued(waited, since int64, n int) {
	if since != 0 && n > 0 {
		r.cfg.Counters.StageQueue.ObserveN(waited, n)
	}
}

// noteSent begins to time a message with entries, unless one to the same member is on its way.
func (r *Replica) noteSent(m *raftpb.Message) {
	n, c := len(m.GetEntries()), r.cfg.Counters
	if n == 0 || c.Nanos == nil || m.GetType() != raftpb.MsgApp || r.timedTo(m.GetTo()) >= 0 {
		return
	}
	r.timed = append(r.timed, timedSend{raftcore.ReplicaID(m.GetTo()), m.GetEntries()[n-1].GetIndex(), c.now()})
}

// noteStored ends it when the member has all of them durably.
func (r *Replica) noteStored(m *raftpb.Message) {
	if m.GetType() != raftpb.MsgAppResp || m.GetReject() || len(r.timed) == 0 {
		return
	}
	if i := r.timedTo(m.GetFrom()); i >= 0 && m.GetIndex() >= r.timed[i].last {
		r.cfg.Counters.since(&r.cfg.Counters.Replication, r.timed[i].sent)
		r.timed = slices.Delete(r.timed, i, i+1)
	}
}

func (r *Replica) timedTo(id uint64) int {
	return slices.IndexFunc(r.timed, func(t timedSend) bool { return t.to == raftcore.ReplicaID(id) })
}

// noteWritten counts an append that has become durable here.
func (r *Replica) noteWritten(m *Persisted) {
	c := r.cfg.Counters
	if c.Nanos == nil {
		return
	}
	took := c.now() - m.handed
	c.LogWrite.Observe(took)
	if m.appends > 0 {
		c.StageFsync.ObserveN(took, m.appends)
	}
}

// noteRole counts elections and terms.
func (r *Replica) noteRole(st raftcore.Status) {
	if st.Role != raftcore.Follower && r.role == raftcore.Follower {
		r.cfg.Counters.Elections.Add(1)
	}
	if st.Term > r.term {
		r.cfg.Counters.TermChanges.Add(1)
	}
	r.role, r.term = st.Role, st.Term
}

// noteLeader times how long the replica knows no leader.
func (r *Replica) noteLeader(last, now *Status) {
	c := r.cfg.Counters
	switch {
	case c.Nanos == nil:
	case last == nil || last.Leader != 0 && now.Leader == 0:
		r.leaderless = c.now()
	case last.Leader == 0 && now.Leader != 0:
		c.since(&c.Leaderless, r.leaderless)
	}
}

// noteIdle counts the ticks in which nothing was under way.
func (r *Replica) noteIdle(ticks int) {
	st := r.core.Status()
	busy := st != r.idleAt || st.Leader == 0 || r.state.Applied != st.Last || r.waiters.len() > 0 || len(r.rounds) > 0 ||
		len(r.sending) > 0 || r.incoming != nil || r.transfer.underWay() || r.behind(st.Last)
	r.idleAt = st
	if r.idle += ticks; busy {
		r.idle = 0
	}
}

// behind says that this leader has a member which lacks entries, and is not gone.
func (r *Replica) behind(last raftcore.Index) bool {
	return slices.ContainsFunc(r.progress, func(p raftcore.Progress) bool { return p.Match < last && !r.gone(&p) })
}
