package router

import (
	"github.com/asynkron/protoactor-go/actor"

	"github.com/multiraftd/multiraftd/actors"
	"github.com/multiraftd/multiraftd/raftcore"
)

// A replica that is awake takes every tick. When all replicas of a node are awake at once, at its start or at that of a
// peer, they can be more than the processors are for: heartbeats come too late, leaders are deposed, and elections
// make more work, without end. So replicas that need not be awake at once are woken some at a time.

// How fast.
const (
	startingMax           = 500 // stored replicas without a leader that take ticks at the same time
	startPatienceTimeouts = 1   // election timeouts that one waits for a leader before it is its turn
	startTurnTimeouts     = 3   // election timeouts that its turn takes at most
	wakesPerTick          = 100 // of quiet leaders, which only look after a member
)

// starting are the stored replicas at the start of a node that take no ticks yet, or have their turn. All of them answer
// their peers, so that one that campaigns finds voters; but those without a leader campaign some at a time:
//
//	spawned --> waits --> turn, campaigns --> has a leader, is like any other
//	              ^                 | none
//	              +-----------------+
type starting struct {
	waiting []starter
	running []starter
}

// starter is a replica that had no leader when it was looked at.
type starter struct {
	*Hosted
	since int // tick in which it began to wait, or its turn
}

// startSome gives ticks to replicas that have found a leader, and a turn to the next of the others: first to those that
// come first in their group, at once, so that not all of a group campaign.
func (r *Router) startSome(ctx actor.Context) {
	s, now := &r.starting, r.hearing.now
	if len(s.waiting)+len(s.running) == 0 {
		return
	}
	waiting, running := s.waiting, s.running
	s.waiting, s.running = nil, nil
	for _, h := range running {
		switch {
		case h.ended || h.hasStarted():
		case now-h.since < startTurnTimeouts*r.electionTicks():
			s.running = append(s.running, h)
		default:
			ctx.Send(r.clock, &actors.Untrack{PID: h.PID})
			waiting = append(waiting, starter{h.Hosted, now})
		}
	}
	for _, first := range []bool{true, false} {
		s.waiting = nil
		for _, h := range waiting {
			switch {
			case h.ended:
			case h.hasStarted():
				r.track(ctx, h.Hosted)
			case len(s.running) < startingMax && (first && h.first() || !first && now-h.since >= startPatienceTimeouts*r.electionTicks()):
				r.track(ctx, h.Hosted)
				if first {
					ctx.Send(h.PID, &actors.Campaign{})
				}
				s.running = append(s.running, starter{h.Hosted, now})
			default:
				s.waiting = append(s.waiting, h)
			}
		}
		waiting = s.waiting
	}
}

// hasStarted says that the replica knows a leader, or will know none.
func (h *Hosted) hasStarted() bool {
	st := h.Board.Load()
	return st != nil && (st.Leader != 0 || st.Failure != "")
}

// first says that the replica is the first voter of its group.
func (h *Hosted) first() bool {
	st := h.Board.Load()
	return st != nil && len(st.VoterIDs) > 0 && st.VoterIDs[0] == st.Replica
}

func (r *Router) track(ctx actor.Context, h *Hosted) {
	ctx.Send(r.clock, &actors.Track{PID: h.PID, Ticks: h.ticks})
}

// notices are messages for quiet replicas that are in no hurry.
type notices struct {
	groups []raftcore.GroupID
	msg    any
}

// tellAll sends what is known of a node to every replica, in ascending order of groups: what their boards say may be
// older than what waits in their mailboxes. Those who are led from there, or by nobody, as far as their boards say, come
// first; the others, which have a leader that lives, a few per tick.
func (r *Router) tellAll(ctx actor.Context, n raftcore.NodeID, msg any) {
	var later []raftcore.GroupID
	for _, g := range r.ids {
		h := r.groups[g]
		if s := h.Board.Load(); s != nil && s.Leader != 0 && s.Leader != n {
			later = append(later, g)
			continue
		}
		ctx.Send(h.PID, msg)
	}
	r.notices = append(r.notices, notices{later, msg})
	r.tellSome(ctx)
}

// tellSome sends the next of the notices.
func (r *Router) tellSome(ctx actor.Context) {
	for left := wakesPerTick; left > 0 && len(r.notices) > 0; {
		next := &r.notices[0]
		for ; left > 0 && len(next.groups) > 0; next.groups = next.groups[1:] {
			if h := r.groups[next.groups[0]]; h != nil {
				ctx.Send(h.PID, next.msg)
				left--
			}
		}
		if len(next.groups) == 0 {
			r.notices = r.notices[1:]
		}
	}
}
