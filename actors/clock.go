package actors

import (
	"slices"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"
)

// TickCount counts the ticks that a replica has not taken yet. The Clock adds, the replica takes.
type TickCount struct {
	n      atomic.Int32
	napFor atomic.Int32 // 0 = the replica is told of each tick
}

// add counts one tick and reports whether the replica must be told: it knows of none yet, or has napped for as long
// as it wanted.
func (t *TickCount) add() bool { return t.n.Add(1) == max(1, t.napFor.Load()) }

func (t *TickCount) take() int { return int(t.n.Swap(0)) }

// nap lets so many ticks pass before the replica is told of them again; 0 = it is told of each.
func (t *TickCount) nap(ticks int32) {
	t.napFor.Store(ticks)
	t.n.Store(0) // after: a tick that was counted in between has told nobody, and would be the last to be noticed
}

// clockActor passes the node's ticks on to its replicas. Ticks are a count, not a message each: a busy
// replica finds at most one message and takes the count in its turn.
type clockActor struct{ tracked []*Track }

// ClockProps returns the Props with which the Clock is spawned. Something outside sends it ClockTick.
func ClockProps(opts ...actor.PropsOption) *actor.Props {
	return actor.PropsFromProducer(func() actor.Actor { return &clockActor{} }, opts...)
}

// Receive is part of actor.Actor.
func (c *clockActor) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *ClockTick:
		for _, t := range c.tracked {
			if t.Ticks.add() {
				ctx.Send(t.PID, tick{})
			}
		}
	case *Track:
		c.tracked = append(c.tracked, m)
	case *Untrack:
		c.tracked = slices.DeleteFunc(c.tracked, func(t *Track) bool { return t.PID.Equal(m.PID) })
	}
}
