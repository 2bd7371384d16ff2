package actors

import (
	"errors"
	"slices"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/multiraftd/multiraftd/raftcore"
)

// steer takes a step towards the group's target, at most once per turn in which time has passed, while this
// replica leads and leadership is not on its way elsewhere. A joint configuration is left without a target too.
func (r *Replica) steer(ticks int) {
	if ticks == 0 {
		return
	}
	r.noteProgress()
	if r.leading == 0 || r.transfer.underWay() {
		r.steered = raftcore.Step{}
		return
	}
	if len(r.target.Voters) == 0 && len(r.state.ConfState.GetVotersOutgoing()) == 0 {
		r.steered = raftcore.Step{}
		return
	}
	var err error
	r.steered, err = r.core.Steer(r.target)
	if r.traces.move != nil {
		r.traceSettled()
	}
	switch {
	case errors.Is(err, raftcore.ErrNotLeader), errors.Is(err, raftcore.ErrDropped): // another turn, another try
	case err != nil:
		r.cfg.Logger.Error("membership change impossible", "group", r.cfg.Group, "target", r.target.ID, "err", err)
	case r.steered.Change != nil:
		r.cfg.Counters.Changes.Add(1)
		r.traceChange(r.steered.Change)
		r.cfg.Logger.Debug("membership change proposed", withTrace(r.traces.change, "group", r.cfg.Group, "target", r.target.ID, "change", r.steered.Change.String())...)
	case r.steered.Handover != 0:
		r.beginTransfer(&Transfer{Replica: r.steered.Handover})
	}
}

// noteProgress keeps what the board shows of the members; a new list only when something is another.
func (r *Replica) noteProgress() {
	if r.leading == 0 {
		r.progress = nil
		return
	}
	now := r.core.AppendProgress(r.scratch[:0])
	r.scratch = now
	if !slices.Equal(now, r.progress) {
		r.progress = slices.Clone(now)
	}
}

// nodeOf returns where a replica lives, as its group's membership says, or as it said itself when metadata
// vouched for it; 0 = unknown.
func (r *Replica) nodeOf(id raftcore.ReplicaID) raftcore.NodeID {
	if node, ok := r.state.Members[id]; ok {
		return node
	}
	return r.speakers[id]
}

// noteSpeaker remembers who was admitted without being a member.
func (r *Replica) noteSpeaker(id raftcore.ReplicaID, node raftcore.NodeID) {
	if _, member := r.state.Members[id]; member {
		return
	}
	if r.speakers == nil {
		r.speakers = map[raftcore.ReplicaID]raftcore.NodeID{}
	}
	r.speakers[id] = node
}

// transfer is leadership on its way to another replica:
//
//	beginTransfer --> what is in the log is committed and answered --> TransferLeader --> another leads
//	                  (half an election timeout at most)               (an election timeout at most)
//
// Proposals wait meanwhile: they go into this leader's log again if nobody takes over, or are refused with the
// new leader's name. So that an orderly handover leaves no append with an unknown outcome.
type transfer struct {
	to      raftcore.ReplicaID // 0 = none is under way
	term    uint64             // in which this replica leads
	asked   bool               // TransferLeader was called
	left    int                // ticks until this part of it has taken too long
	replies []TransferReply
}

func (t *transfer) underWay() bool { return t.to != 0 }

func (r *Replica) beginTransfer(m *Transfer) {
	to, err := r.transferee(m)
	if err != nil {
		End(m, err)
		return
	}
	if m.Reply != nil {
		r.transfer.replies = append(r.transfer.replies, m.Reply)
	}
	if r.transfer.underWay() {
		return
	}
	r.transfer.to, r.transfer.term, r.transfer.left = to, r.leading, r.cfg.ElectionTicks/2
	r.cfg.Counters.Transfers.Add(1)
	if r.cfg.Tracing.Tracer != nil {
		r.traceTransfer(to)
	}
}

// transferee checks what is asked for, and says whom it means.
func (r *Replica) transferee(m *Transfer) (raftcore.ReplicaID, error) {
	if r.failure != nil {
		return 0, ErrStopped
	}
	if r.leading == 0 || m.Term != 0 && m.Term != r.leading {
		return 0, r.notLeader()
	}
	to := m.Replica
	if to == 0 && m.To != 0 {
		for _, id := range r.state.ConfState.GetVoters() {
			if r.state.Members[raftcore.ReplicaID(id)] == m.To {
				to = raftcore.ReplicaID(id)
			}
		}
	} else if to == 0 {
		if to = r.transfer.to; to == 0 {
			to = r.core.Successor()
		}
	}
	if to == 0 {
		return 0, ErrNoSuccessor
	}
	if r.transfer.underWay() && r.transfer.to != to {
		return 0, ErrTransferUnderWay
	}
	return to, nil
}

// ageTransfer lets time pass for it.
func (r *Replica) ageTransfer(ticks int) {
	if r.transfer.underWay() {
		r.transfer.left -= ticks
	}
}

// pursueTransfer takes the transfer further, or ends it.
func (r *Replica) pursueTransfer() {
	t := &r.transfer
	if !t.underWay() {
		return
	}
	st := r.core.Status()
	switch {
	case st.Role == raftcore.Leader && st.Term == t.term:
		if !t.asked && (r.waiters.len() == 0 || t.left <= 0) {
			if err := r.core.TransferLeader(t.to); err != nil {
				r.endTransfer(0, ErrNoSuccessor)
				return
			}
			t.asked, t.left = true, r.cfg.ElectionTicks
		}
	case st.Leader == t.to:
		r.endTransfer(r.nodeOf(t.to), nil)
		return
	case st.Leader != 0 || !t.asked:
		r.endTransfer(0, r.notLeader())
		return
	}
	if t.asked && t.left <= 0 {
		r.endTransfer(0, ErrTransferTimeout)
	}
}

// hurryTransfer asks for another turn when the log has drained in this one.
func (r *Replica) hurryTransfer(ctx actor.Context) {
	if r.transfer.underWay() && !r.transfer.asked && r.waiters.len() == 0 {
		ctx.Send(ctx.Self(), flush{})
	}
}

// endTransfer tells those who wait for it how it has ended.
func (r *Replica) endTransfer(to raftcore.NodeID, err error) {
	t := r.transfer
	r.transfer = transfer{}
	r.traces.transferred(err)
	if t.underWay() && err != nil {
		r.cfg.Counters.TransfersLost.Add(1)
	}
	for _, reply := range t.replies {
		reply.Transferred(to, err)
	}
}
