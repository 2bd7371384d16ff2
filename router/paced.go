package router

import (
	"github.com/asynkron/protoactor-go/actor"

	"github.com/multiraftd/multiraftd/raftcore"
)

// A replica that is awake takes every tick. When all replicas of a node are awake at once, at its start or at that of a
// peer, they can be more than the processors are for: heartbeats come too late, leaders are deposed, and elections
// make more work, without end. So replicas that need not be awake at once are woken some at a time.

// wakesPerTick is how many quiet replicas are told per tick that have a leader which lives.
const wakesPerTick = 100

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
