package actors

import (
	"errors"
	"slices"
	"sync"

	"github.com/asynkron/protoactor-go/actor"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// turn flushes what the messages since the last turn asked for. Inbound messages have been stepped already,
// so that ticks come after them: a heartbeat that waited in the mailbox must count before the timeout that
// it prevents.
func (r *Replica) turn(ctx actor.Context) {
	if r.failure != nil {
		r.end()
		return
	}
	r.tick(ctx)
	r.pursueTransfer()
	r.propose()
	r.askReadIndex()
	r.flush(ctx, nil)
	r.installSnapshots(ctx)
	r.stepUnaries(ctx)
	r.discardLate(ctx)
	r.hurryTransfer(ctx)
	r.heedQuiesce()
	r.traces.endTurn()
	r.publish()
}

// tick passes on the ticks since the last turn, at most ElectionTicks-1: a backlog would fire CheckQuorum
// twice and depose a healthy leader.
func (r *Replica) tick(ctx actor.Context) {
	n := r.cfg.Ticks.take()
	if r.quiet {
		r.nap(n)
		return
	}
	if n > 0 && r.rest() {
		return
	}
	n = min(n, r.cfg.ElectionTicks-1)
	if r.unsynced > 0 { // before the ticks: one of them lets Raft forget who was heard of lately
		r.stalled += n
		r.leaveStalledDisk()
	}
	for range n {
		r.core.Tick()
	}
	r.ageRounds(n)
	r.ageTransfer(n)
	r.steer(n)
	r.ageSending(n)
	r.ageIncoming(ctx, n)
	r.ageTraces(n)
	if r.campaigns > 0 {
		r.campaignEarly(n)
	}
	r.retain(n)
	r.noteIdle(n)
}

// leaveStalledDisk hands leadership over when the disk has not synced for an election timeout, and again after
// each further one. It helps where a follower has stored all that this replica has sent; for others the silence
// of a leader without heartbeats has to do.
func (r *Replica) leaveStalledDisk() {
	if r.leading == 0 || r.stalled < r.leaveAt || r.transfer.underWay() {
		return
	}
	to := r.core.Successor()
	if to == 0 { // nobody was heard of lately: the next tick tries again
		return
	}
	r.leaveAt = r.stalled + r.cfg.ElectionTicks
	r.cfg.Counters.StallHandovers.Add(1)
	r.cfg.Logger.Warn("the disk has stalled: hands leadership over", "group", r.cfg.Group, "ticks", r.stalled, "to", r.state.Members[to])
	r.beginTransfer(&Transfer{Replica: to})
	r.transfer.left = 0 // what is in the log waits for this disk: not worth waiting for
	r.pursueTransfer()
}

// propose merges what is waiting into as few entries as EntryBytesMax allows and proposes them at once. Until
// they have an end or a waiter they stay in proposals: a panic on the way loses none.
func (r *Replica) propose() {
	if len(r.proposals) == 0 || r.transfer.underWay() { // they wait for the one who leads then
		return
	}
	if r.leading == 0 {
		r.refuseAll(r.notLeader())
		return
	}
	if r.diskStalled() {
		r.refuseAll(ErrDiskStalled)
		return
	}
	if r.dropTooLarge(); len(r.proposals) == 0 {
		return
	}
	buf := mergeBuffers.Get().(*[]byte)
	entries := r.merge(r.proposals, buf)
	err := r.core.Propose(entries)
	if cap(*buf) <= mergeRetainedBytes {
		mergeBuffers.Put(buf)
	}
	if err != nil {
		r.refuseAll(r.proposeError(err))
		return
	}
	now := r.cfg.Counters.now()
	for _, p := range r.proposals {
		if p.proposing != nil {
			r.traces.proposed(r.nextSeq, p.proposing)
		}
		r.waiters.push(r.nextSeq, waiter{p.Reply, now})
		r.nextSeq++
	}
	r.noteProposed(now)
	r.cfg.Counters.Proposals.Add(uint64(len(r.proposals)))
	r.cfg.Counters.Entries.Add(uint64(len(entries)))
	clear(r.proposals)
	r.proposals = r.proposals[:0]
}

func (r *Replica) dropTooLarge() {
	r.proposals = slices.DeleteFunc(r.proposals, func(p *Propose) bool {
		if len(p.Payload) <= r.cfg.EntryBytesMax {
			return false
		}
		p.refuse(ErrTooLarge)
		return true
	})
}

// mergeBuffers are what entries are encoded in: etcd/raft copies what it is given to propose.
var mergeBuffers = sync.Pool{New: func() any { return new([]byte) }}

// mergeRetainedBytes bounds a buffer that is kept.
const mergeRetainedBytes = 4 << 20

// merge encodes the waiting payloads into entries of at most EntryBytesMax each, in buf. Sequences follow on
// from nextSeq, which moves only when the proposal has been taken.
func (r *Replica) merge(waiting []*Propose, buf *[]byte) [][]byte {
	var entries [][]byte
	total := 0
	for _, p := range waiting {
		total += len(p.Payload)
	}
	rest := slices.Grow((*buf)[:0], total+(total/r.cfg.EntryBytesMax+2)*raftcore.EntryOverheadMax(len(waiting)))
	*buf = rest
	e := raftcore.Entry{Origin: r.origin, FirstSeq: r.nextSeq, Time: r.cfg.Clock.NowMillis()}
	size := 0
	cut := func() {
		encoded := e.AppendTo(rest)
		entries, rest = append(entries, encoded), encoded[len(encoded):]
		r.cfg.Counters.EntryAppends.Observe(len(e.Payloads))
		e.FirstSeq += uint64(len(e.Payloads))
		e.Payloads, size = e.Payloads[:0], 0
	}
	for _, p := range waiting {
		if size > 0 && size+len(p.Payload) > r.cfg.EntryBytesMax {
			cut()
		}
		e.Payloads = append(e.Payloads, p.Payload)
		size += len(p.Payload)
	}
	cut()
	return entries
}

func (r *Replica) refuseAll(err error) {
	for i, p := range r.proposals {
		r.proposals[i] = nil
		p.refuse(err)
	}
	r.proposals = r.proposals[:0]
}

func (r *Replica) proposeError(err error) error {
	if errors.Is(err, raftcore.ErrNotLeader) {
		return r.notLeader()
	}
	return ErrOverloaded
}

func (r *Replica) notLeader() error {
	st := r.core.Status()
	leader := r.nodeOf(st.Leader)
	if st.Leader == r.log.Replica() { // elected, but the turn has not seen it: nobody to send a client to
		leader = 0
	}
	return &NotLeaderError{Leader: leader, Term: st.Term}
}

func (r *Replica) stepOne(from raftcore.NodeID, m *raftpb.Message) {
	if r.failure != nil {
		return
	}
	if r.shortOfSpace(m) {
		r.cfg.Counters.AppendsShort.Add(1)
		return
	}
	err := r.core.Step(from, m)
	if r.debug {
		r.logRPC(from, m, err)
	}
	switch {
	case errors.Is(err, raftcore.ErrQuarantine):
		r.fail(ErrQuarantined)
	case err == nil:
		r.noteSpeaker(raftcore.ReplicaID(m.GetFrom()), from)
		r.noteStored(m)
		r.outdo(m)
		if r.traces.active() {
			r.noteAnswer(m)
		}
	}
}

// fail takes the replica out of its group without touching its durable state.
func (r *Replica) fail(err error) {
	r.failure = err
	r.cfg.Logger.Error("replica failed", "group", r.cfg.Group, "err", err)
	r.publish()
}

func (r *Replica) unreachable(n raftcore.NodeID) {
	for id, node := range r.state.Members { // at most one member of a group per node: the order does not matter
		if node == n {
			r.core.ReportUnreachable(id)
		}
	}
}

// persisted steps the responses of a write. Those of another incarnation never reach this Core.
func (r *Replica) persisted(m *Persisted) {
	if m.Incarnation != r.cfg.Incarnation || r.failure != nil {
		return
	}
	if m.Activated {
		r.reload()
	}
	for _, resp := range m.Responses {
		if err := r.core.StepLocal(resp); err != nil {
			panic(err)
		}
		if r.traces.entries != nil {
			r.noteAck(resp)
		}
	}
	if m.Applied {
		r.becomeReadable(m.Readable)
		return
	}
	r.unsynced--
	r.stalled, r.leaveAt = 0, r.cfg.ElectionTicks
	r.noteWritten(m)
}

// flush takes Readys until there is none. Answers that Raft has for u go to u instead of to its peer.
func (r *Replica) flush(ctx actor.Context, u *Unary) (answered bool) {
	for {
		eff, ok := r.core.Effects()
		if !ok {
			return answered
		}
		r.cfg.Counters.Readies.Add(1)
		if eff.LeaderChanged && r.cfg.Tracing.Tracer != nil {
			r.traceElection(&eff)
		}
		if r.traces.pending != nil || r.traces.change != nil {
			r.placeTraces(eff.Append)
		}
		for _, m := range eff.Messages {
			if u.matches(m) {
				u.Reply.Answered(r.answerTo(u, m))
				u, answered = nil, true
				continue
			}
			r.send(m)
		}
		if eff.Append != nil {
			if r.write(ctx, &eff, u) {
				u, answered = nil, true
			}
		}
		r.traces.handedOut()
		if eff.Apply != nil {
			r.apply(ctx, eff.Apply)
		}
		r.confirmRounds(eff.ReadStates)
		r.noteLeadership()
	}
}

// diskStalled says that the disk has not synced a pending write for an election timeout.
func (r *Replica) diskStalled() bool { return r.stalled >= r.cfg.ElectionTicks }

// send holds back all that a leader whose disk has stalled says as a leader: heartbeats would hide from its
// followers that it can store nothing any more, and so would appends, each of which resets their timeouts. The
// followers elect another one. Raft finds out what was held back by itself, should the disk come back first.
func (r *Replica) send(m *raftpb.Message) {
	if t := m.GetType(); (t == raftpb.MsgHeartbeat || t == raftpb.MsgApp) && r.diskStalled() {
		r.cfg.Counters.LeaderMessagesHeld.Add(1)
		return
	}
	if m.GetType() == raftpb.MsgSnap {
		r.sendSnapshot(m)
		return
	}
	node := r.nodeOf(raftcore.ReplicaID(m.GetTo()))
	if node == 0 {
		r.cfg.Counters.UnknownMember.Add(1)
		return
	}
	r.noteSent(m)
	if r.traces.active() {
		if beside := r.beside(m); beside != nil {
			r.cfg.Tracing.Carrier.Carry(node, raftcore.ToEnvelope(r.cfg.Group, m), beside)
			return
		}
	}
	r.cfg.Sender.Send(node, raftcore.ToEnvelope(r.cfg.Group, m))
}

// write hands one append to the LogWriter with everything that its durability releases. It reports whether
// u's answer is among that.
func (r *Replica) write(ctx actor.Context, eff *raftcore.Effects, u *Unary) (answered bool) {
	m := eff.Append
	w := &Write{Batch: new(store.Batch), Sync: eff.Sync, To: ctx.Self()}
	r.log.Append(w.Batch, m)
	done := &Persisted{Incarnation: r.cfg.Incarnation, Activated: m.GetSnapshot() != nil}
	w.entries, done.handed = len(m.GetEntries()), r.cfg.Counters.now()
	if r.traces.entries != nil || r.traces.arrived != nil || r.traces.election != nil {
		w.traced = r.tracedWrite(m)
	}
	if done.Activated {
		r.activated(m)
	}
	for _, resp := range m.GetResponses() {
		switch {
		case raftcore.ReplicaID(resp.GetTo()) == r.log.Replica():
			done.Responses = append(done.Responses, resp)
		case u.matches(resp):
			w.unary = append(w.unary, withheld{u.Reply, r.answerTo(u, resp)})
			u, answered = nil, true
		default:
			if node := r.nodeOf(raftcore.ReplicaID(resp.GetTo())); node != 0 {
				w.Remote = append(w.Remote, Outbound{Node: node, Env: raftcore.ToEnvelope(r.cfg.Group, resp), beside: r.asked(resp)})
			} else {
				r.cfg.Counters.UnknownMember.Add(1)
			}
		}
	}
	if len(done.Responses) > 0 {
		w.Done = done
		r.unsynced++
		done.appends, r.proposed = r.proposed, 0
	}
	ctx.Send(r.cfg.Writer, w)
	return answered
}

// noteLeadership ends what belonged to a term of ours that is over. Everything of it that the same Ready
// committed has been answered before.
func (r *Replica) noteLeadership() {
	leading, st := uint64(0), r.core.Status()
	if st.Role == raftcore.Leader {
		leading = st.Term
	}
	r.noteRole(st)
	if leading == r.leading {
		return
	}
	r.waiters.endAll(ErrOutcomeUnknown)
	if r.leading != 0 {
		r.traces.lost(ErrOutcomeUnknown)
	}
	r.endRounds(r.notLeader())
	r.dropSending(leading)
	r.timed, r.proposed = r.timed[:0], 0
	r.leading = leading
	if leading != 0 {
		r.campaigns = 0
		r.cfg.Counters.LeaderStarts.Add(1)
		r.cfg.Logger.Info("leads", r.traces.asWinner("group", r.cfg.Group, "term", leading)...)
	}
}
