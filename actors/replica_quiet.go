package actors

import (
	"math"
	"slices"

	"github.com/asynkron/protoactor-go/actor"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
)

// A group in which nothing happens goes quiet: its replicas take no ticks, so that no heartbeat is sent and no
// election timeout runs (rules 30 and 31; CockroachDB and TiKV do the same, under "quiescence" and "hibernate").
//
//	leader     nothing under way for QuietTicks, all members hold the same --> KIND_QUIESCE to all of them, quiet
//	follower   KIND_QUIESCE of its leader, in its term, with its own commit --> quiet; else KIND_WAKE to the leader
//	either     anything but time and questions                              --> awake; a follower says KIND_WAKE to its leader
//
// Members on a node of which nothing has been heard for an election timeout are not waited for, where rule 30 wants all
// members: a node that stays away would keep every group awake that it is in. When it is heard again the Router says so
// to every leader (NodeBack), who then looks after its member.
//
// What keeps it safe is that nodes watch each other: of one that is silent, or has started anew, the Router tells
// every replica. What makes it live though KIND_QUIESCE or KIND_WAKE be lost: who
// is awake has an election timeout, and its request for votes wakes the others.
//
// The metadata group never is quiet.

// rest lets a leader whose group has nothing to do go quiet, and tells its members. It comes before the tick: what
// is sent after KIND_QUIESCE would wake them.
func (r *Replica) rest() bool {
	if r.cfg.QuietTicks == 0 || r.leading == 0 || r.idle < r.cfg.QuietTicks || r.engaged() || !r.core.Settled(r.cfg.Gone) {
		return false
	}
	st := r.core.Status()
	for _, id := range slices.Concat(r.state.ConfState.GetVoters(), r.state.ConfState.GetLearners()) {
		if raftcore.ReplicaID(id) != r.log.Replica() {
			r.cfg.Sender.SendControl(r.nodeOf(raftcore.ReplicaID(id)), &raftv1.Control{
				Kind: raftv1.Control_KIND_QUIESCE, GroupId: uint64(r.cfg.Group), ReplicaId: id, Term: st.Term, Commit: uint64(st.Commit)})
		}
	}
	r.noteProgress() // of the last tick, which may have been before a member came back: nothing would correct it
	r.goQuiet(int32(r.cfg.RetentionTicks))
	return true
}

// heedQuiesce follows the leader at the end of the turn, when all that came before is stored or under way.
func (r *Replica) heedQuiesce() {
	m := r.quiesce
	r.quiesce = nil
	if m == nil || r.failure != nil || r.quiet || r.nodeOf(r.core.Status().Leader) != m.From {
		return
	}
	if r.engaged() || !r.core.Agrees(m.Term, m.Commit) {
		r.sayWake(m.From)
		return
	}
	r.goQuiet(math.MaxInt32)
}

// engaged says that something is under way here.
func (r *Replica) engaged() bool {
	return len(r.proposals) > 0 || r.waiters.len() > 0 || len(r.ends) > 0 || len(r.rounds) > 0 || len(r.unaries) > 0 || len(r.installs) > 0 ||
		len(r.sending) > 0 || r.incoming != nil || r.reloading || r.transfer.underWay() || r.unsynced > 0 || r.truncating || r.campaigns > 0 ||
		r.steered != raftcore.Step{} || r.traces.active()
}

func (r *Replica) goQuiet(nap int32) {
	r.quiet = true
	r.cfg.Ticks.nap(nap)
	r.log.DropCache()
	r.cfg.Counters.QuietStarts.Add(1)
}

// nap is what a quiet leader does every RetentionTicks: it looks whether records have grown too old, which they do by
// themselves.
func (r *Replica) nap(ticks int) {
	if r.leading == 0 || ticks == 0 {
		return
	}
	if r.retain(ticks); len(r.proposals) > 0 {
		r.wake()
	}
}

// wakes says that a message is a reason to be awake. Time, questions about this replica, and readers who wait for
// what is not there yet, are none.
func wakes(msg any) bool {
	switch msg.(type) {
	case drained, tick, flush, *Inspect, *WaitReadable, *CancelWait, *Retain, *Quiesce, *Suspect, *NodeBack, actor.AutoReceiveMessage, actor.SystemMessage:
		return false
	}
	return true
}

// echo says that a message holds nothing but answers to heartbeats that this leader sent before it went quiet, of a member
// that has all it has. Several ticks in one turn are several heartbeats, and the first answer is enough to go quiet: on a
// busy machine the others would wake the group again, each time.
func (r *Replica) echo(msg any) bool {
	in, ok := msg.(*Inbound)
	if !ok || r.leading == 0 || len(in.Envelopes) > 0 {
		return false
	}
	last := r.core.Status().Last
	if !slices.ContainsFunc(r.progress, func(p raftcore.Progress) bool { return p.Node == in.From && p.Match == last }) {
		return false
	}
	return !slices.ContainsFunc(in.Heartbeats, func(h *raftv1.GroupHeartbeat) bool {
		return !h.GetResponse() || h.GetTerm() != r.leading || len(h.GetContext()) > 0
	})
}

// suspect makes a quiet replica look after a node itself that lives no more, as far as its Router knows. A leader's
// heartbeats tell; a follower lets go of its leader, as if its process had ended: it need not wait for an election
// timeout once more.
func (r *Replica) suspect(n raftcore.NodeID) {
	if !r.quiet {
		return
	}
	switch {
	case r.leading != 0 && r.hasMember(n):
		r.wake()
	case r.leading == 0 && r.nodeOf(r.core.Status().Leader) == n:
		r.wake()
		r.nodeGone(n)
	}
}

// nodeBack makes a quiet leader look after a member that it no longer waited for. One that is awake must not go quiet by
// what was known of the node before.
func (r *Replica) nodeBack(n raftcore.NodeID) {
	r.idle = 0
	if r.quiet && r.leading != 0 && r.hasMember(n) {
		r.wake()
	}
}

// gone says that a member is not waited for.
func (r *Replica) gone(p *raftcore.Progress) bool {
	return !p.Active && r.cfg.Gone != nil && r.cfg.Gone(p.Node)
}

func (r *Replica) hasMember(n raftcore.NodeID) bool {
	for _, node := range r.state.Members { // whether, not which: the order does not matter
		if node == n {
			return true
		}
	}
	return false
}

// wake makes ticks count from now on.
func (r *Replica) wake() {
	r.quiet, r.idle = false, 0
	r.cfg.Ticks.nap(0)
	r.cfg.Counters.QuietEnds.Add(1)
	if r.leading == 0 {
		r.sayWake(r.nodeOf(r.core.Status().Leader))
	}
}

func (r *Replica) sayWake(leader raftcore.NodeID) {
	if leader != 0 {
		r.cfg.Sender.SendControl(leader, &raftv1.Control{Kind: raftv1.Control_KIND_WAKE, GroupId: uint64(r.cfg.Group), ReplicaId: uint64(r.log.Replica())})
	}
}
