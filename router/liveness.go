package router

import (
	"github.com/asynkron/protoactor-go/actor"

	"github.com/multiraftd/multiraftd/actors"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
)

// Every node says at each tick to every other one that it is there, on the connection that they have. Whatever
// comes from a node says so too. It is what health, the Controller, a node's drain and quiet groups go by; groups that
// are awake have Raft's own means and do not look at it.

// silenceMax is how long, in halves of an election timeout, a node may be silent and still count as alive: what
// shows it must do so within two election timeouts.
const silenceMaxHalves = 3

// Liveness says how long ago the nodes of the cluster were heard. It never changes once published.
type Liveness struct {
	tick    int
	silence map[raftcore.NodeID]int
	max     int
}

// Tick counts those of the Router's clock; 0 before the first.
func (l *Liveness) Tick() int {
	if l == nil {
		return 0
	}
	return l.tick
}

// Silence returns for how many ticks nothing was heard of a node; since this one started, if nothing ever was.
// known is false for a node that is not in the metadata, or is this one.
func (l *Liveness) Silence(n raftcore.NodeID) (ticks int, known bool) {
	if l == nil {
		return 0, false
	}
	ticks, known = l.silence[n]
	return ticks, known
}

// Alive says whether a node was heard of lately, or nothing is known against it.
func (l *Liveness) Alive(n raftcore.NodeID) bool {
	ticks, known := l.Silence(n)
	return !known || ticks < l.max
}

// hearing is the Router's own account of it, in ticks of its clock.
type hearing struct {
	now    int
	heard  map[raftcore.NodeID]int
	starts map[raftcore.NodeID]uint64 // start numbers in the latest frames
}

func newHearing() hearing {
	return hearing{heard: map[raftcore.NodeID]int{}, starts: map[raftcore.NodeID]uint64{}}
}

// from takes note of a frame, and reports whether its sender has started anew since the one before, and for how many
// ticks nothing had been heard of it.
func (h *hearing) from(n raftcore.NodeID, start uint64) (anew bool, silence int) {
	before, known := h.starts[n]
	if last, ok := h.heard[n]; ok {
		silence = h.now - last
	}
	h.heard[n], h.starts[n] = h.now, start
	return known && start != before, silence
}

func (r *Router) tick(ctx actor.Context, m *actors.ClockTick) {
	r.hearing.now++
	live := &Liveness{tick: r.hearing.now, silence: make(map[raftcore.NodeID]int, len(r.meta.Nodes())), max: r.electionTicks() * silenceMaxHalves / 2}
	for _, n := range r.meta.Nodes() {
		id := raftcore.NodeID(n.GetNodeId())
		if id == r.cfg.Replica.Node {
			continue
		}
		last, ok := r.hearing.heard[id]
		if !ok { // its time begins now
			last = r.hearing.now
			r.hearing.heard[id] = last
		}
		if live.silence[id] = r.hearing.now - last; live.silence[id] == r.electionTicks() {
			r.suspect(ctx, id)
		}
		r.cfg.Sender.SendControl(id, &raftv1.Control{Kind: raftv1.Control_KIND_ALIVE})
	}
	r.cfg.Tables.live.Store(live)
	ctx.Send(r.clock, m)
	r.startSome(ctx)
	r.tellSome(ctx)
	r.tellSpace()
	r.tellFailed()
	r.report(ctx)
	r.watch(ctx, live)
}

func (r *Router) electionTicks() int {
	if n := r.cfg.Replica.ElectionTicks; n > 0 {
		return n
	}
	return electionTicksDefault
}

// electionTicksDefault is the replicas' own.
const electionTicksDefault = 10
