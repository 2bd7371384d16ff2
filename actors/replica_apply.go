package actors

import (
	"github.com/asynkron/protoactor-go/actor"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// apply gives committed entries to the machine, answers their requests, and sends what the machine stored
// to the LogWriter as one unsynced batch: the Raft log replays it after a crash. MsgStorageApplyResp is
// stepped when that batch is visible, so that raft's bound on unapplied bytes bounds what waits there.
func (r *Replica) apply(ctx actor.Context, m *raftpb.Message) {
	w := &Write{Batch: new(store.Batch), To: ctx.Self()}
	began := r.cfg.Counters.now()
	for _, e := range m.GetEntries() {
		r.applyEntry(e, w.Batch, began)
	}
	r.cfg.Counters.since(&r.cfg.Counters.Apply, began)
	r.tail.note(r.cfg.Keep, m.GetEntries())
	r.discard()
	r.log.PutState(w.Batch, r.state)
	_, high := r.machine.Bounds()
	w.Done = &Persisted{Incarnation: r.cfg.Incarnation, Responses: m.GetResponses(), Applied: true, Readable: high}
	ctx.Send(r.cfg.Writer, w)
	r.answerRounds()
	if r.cfg.OnApplied != nil {
		r.cfg.OnApplied(r.machine)
	}
}

func (r *Replica) applyEntry(e *raftpb.Entry, b *store.Batch, began int64) {
	at := raftcore.Position{Index: raftcore.Index(e.GetIndex()), Term: e.GetTerm()}
	if at.Index != r.state.Applied+1 {
		panic("applied entries are not contiguous")
	}
	r.state.Hash = raftcore.Chain(r.state.Hash, at, int32(e.GetType()), e.GetData())
	r.state.Applied, r.state.AppliedTerm = at.Index, at.Term
	r.cfg.Counters.Applied.Add(1)
	if r.traces.entries != nil {
		defer endAll(r.traceApply(at))
	}
	if e.GetType() != raftpb.EntryNormal {
		r.applyConfChange(e)
		return
	}
	if len(e.GetData()) == 0 { // a leader opens its term with it
		return
	}
	entry, err := raftcore.DecodeEntry(e.GetData())
	if err != nil { // every replica refuses it alike: the content is in the log and can't be wished away
		r.cfg.Counters.Undecodable.Add(1)
		return
	}
	outcomes := r.machine.Apply(at, &entry, b)
	if entry.Origin == r.origin && r.waiters.len() > 0 {
		r.settle(&entry, at, outcomes, began)
	}
}

// settle answers those who wait for an entry of a batch that was committed when began says.
func (r *Replica) settle(e *raftcore.Entry, at raftcore.Position, outcomes []raftcore.Outcome, began int64) {
	// A replica that has lost leadership in the turn that committed the entry knows no more than that a
	// majority has it.
	fsynced := max(r.core.FsyncedReplicas(at.Index), len(r.state.ConfState.GetVoters())/2+1)
	now, settled, proposed := r.cfg.Counters.now(), 0, int64(0)
	for i := range outcomes {
		if w, ok := r.waiters.take(e.FirstSeq + uint64(i)); ok {
			w.Proposed(ProposeResult{Outcome: outcomes[i], At: at, Fsynced: fsynced, Settled: now})
			settled, proposed = settled+1, w.proposed
		}
	}
	if r.cfg.Counters.Nanos != nil && settled > 0 { // all of an entry were proposed at once
		r.cfg.Counters.StageCommit.ObserveN(began-proposed, settled)
		r.cfg.Counters.StageApply.ObserveN(now-began, settled)
	}
}

func (r *Replica) applyConfChange(e *raftpb.Entry) {
	cs, members, err := r.core.ApplyConfChange(e)
	if err != nil {
		r.cfg.Counters.Undecodable.Add(1)
		return
	}
	r.state.ConfState, r.state.Members, r.membersChanged = cs, members, true
	r.traceChanged(cs)
	r.state.FollowedTarget = r.core.FollowedTarget()
	clear(r.speakers)
}
