package main

import (
	"slices"
	"time"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// staleMille is how often two leaders of a group are led into temptation.
const staleMille = 500

// strikeStale is for when a group has a new leader and the old one has not heard of it: in a while the old one sees all
// the others again, which know better, but not the new one; and readers ask it for the end just then.
func (w *world) strikeStale(n *node, g raftcore.GroupID) {
	old := w.staleLeader(n, g)
	if old == nil || !w.faulty || !w.chance(staleMille) {
		return
	}
	w.fire(staleMet, "node %d, which led group %d, is to meet all but node %d", old.id, g, n.id)
	meet := w.between(0, electionTimeout/2)
	w.cut(old.id, n.id, meet+electionTimeout)
	w.cut(n.id, old.id, meet+electionTimeout)
	w.after(meet, func() {
		for _, m := range w.nodes {
			if m != old && m != n {
				w.reconnect(old.id, m.id)
				w.reconnect(m.id, old.id)
			}
		}
	})
	w.askForEnds(old, g, meet+50*time.Millisecond, 1)
}

// leaveInTheDark lets a leader that hands over hear nothing of its successor, nor be heard by others who would answer
// it. What they sent before still arrives, late.
func (w *world) leaveInTheDark(old *node, successor uint64, g raftcore.GroupID) {
	d := w.between(electionTimeout/2, 2*electionTimeout)
	w.fire(staleLeft, "node %d, which hands group %d over to node %d, hears nothing of it for %v", old.id, g, successor, d)
	for _, m := range w.nodes {
		switch m.id {
		case old.id:
		case successor:
			w.cut(successor, old.id, d)
		default:
			w.cut(old.id, m.id, d)
		}
	}
	w.askForEnds(old, g, d, 5)
}

// askForEnds lets each reader ask one node for the end of a partition several times within a while.
func (w *world) askForEnds(n *node, g raftcore.GroupID, within time.Duration, times int) {
	for _, r := range w.readers {
		i := slices.IndexFunc(r.logs, func(l *ledger) bool { return l.group == g })
		for range times {
			if i >= 0 && !r.stopped {
				w.after(w.between(0, within), func() { r.endAt(n, r.logs[i]) })
			}
		}
	}
}

// stalledMax is for how long a leader with a stalled disk may speak as one: an election timeout by the slowest clock,
// and some ticks.
const stalledMax = 3 * electionTimeout / 2

// watchStall: a leader falls silent when its disk does not take its entries, so that others can be elected.
func (n *node) watchStall(env *raftv1.Envelope) {
	if t := env.GetType(); t != raftv1.MessageType_MESSAGE_TYPE_HEARTBEAT && t != raftv1.MessageType_MESSAGE_TYPE_APPEND || n.disk.stalled <= n.w.now {
		return
	}
	if n.w.now-n.quiet < stalledMax { // a pause is no time that passes: its ticks are not caught up on
		clear(n.disk.waiting)
	}
	g := raftcore.GroupID(env.GetGroupId())
	s := n.status(g)
	if synced, err := store.Inspect(n.mem.Synced(), g); s == nil || s.Role != raftcore.Leader || err != nil || synced.Last >= s.Last {
		delete(n.disk.waiting, g) // a commit that was under way when the disk stalled has been its last
		return
	}
	since, known := n.disk.waiting[g]
	switch {
	case !known && n.disk.waiting == nil:
		n.disk.waiting = map[raftcore.GroupID]time.Duration{g: n.w.now}
	case !known:
		n.disk.waiting[g] = n.w.now
	case n.w.now-since > stalledMax:
		n.w.violate("a leader whose disk has stalled goes on", "node %d, group %d, term %d: %v after its disk took its last entry, it sends %v",
			n.id, g, s.Term, n.w.now-since, env.GetType())
	}
}

// staleLeader returns a node that leads a group in an earlier term than n, as far as it knows.
func (w *world) staleLeader(n *node, g raftcore.GroupID) *node {
	for _, m := range w.nodes {
		if s := m.status(g); m != n && s != nil && s.Role == raftcore.Leader && s.Term < n.status(g).Term {
			return m
		}
	}
	return nil
}

// reconnect ends whatever holds a direction closed.
func (w *world) reconnect(from, to uint64) {
	at := [2]uint64{from, to}
	if w.cuts[at] > 0 {
		w.net.Heal(from, to)
		w.connected = w.now
	}
	w.cuts[at] = 0
	w.cutEras[at]++
}
