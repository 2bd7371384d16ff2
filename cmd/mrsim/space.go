package main

import (
	"errors"
	"time"

	"github.com/multiraftd/multiraftd/actors"
	"github.com/multiraftd/multiraftd/raftcore"
)

// errFull is the service's refusal: nothing was proposed.
var errFull = errors.New("the disk is nearly full")

// fillManyMille is how often most disks fill up at once, as they do where all nodes have the same load.
const fillManyMille = 500

// fill leaves a disk with little room for a while, or those of all others: too little for clients, or also for peers.
func (w *world) fill(n *node) {
	level, heal := actors.SpaceLow, w.between(100*time.Millisecond, 5*time.Second)
	if w.chance(400) {
		level = actors.SpaceShort
	}
	if !w.chance(fillManyMille) {
		w.fillOne(n, level, heal)
		return
	}
	heal += tellingMax          // long enough for the one that is left to hear of all the others
	for _, m := range w.nodes { // all but this one, which may lead
		if m != n {
			w.fillOne(m, level, heal)
		}
	}
}

func (w *world) fillOne(n *node, level actors.SpaceLevel, heal time.Duration) {
	if n.space.Level() == actors.SpaceEnough {
		n.full = w.now
	}
	n.space.Set(level)
	w.fire(fullDisk, "node %d's disk has little room, %v, for %v", n.id, level, heal)
	era := w.era
	w.after(heal, func() {
		if era == w.era {
			n.empty()
		}
	})
}

// empty makes room.
func (n *node) empty() { n.space.Set(actors.SpaceEnough) }

// refuses does what a node's services do before they propose: whoever leads refuses appends that its own disk, or
// those of a majority, have no room for. Forwarding is the client's matter here, so that others answer for themselves.
func (w *world) refuses(n *node, g raftcore.GroupID) bool {
	s := n.status(g)
	if s == nil || s.Role != raftcore.Leader {
		return false
	}
	if n.space.Level() != actors.SpaceEnough || !n.core.Table().QuorumHasRoom(s.Voters) {
		w.fire(refusedFull, "")
		return true
	}
	w.watchRoom(n, s)
	return false
}

// tellingMax is how long it takes at most until all who are connected have heard of a full disk: it is told with
// each tick, and the network never loses so many frames in a row.
const tellingMax = 2 * electionTimeout

// attentive says that a node has been running for long enough to hear and tell.
func (n *node) attentive() bool { return n.up && !n.paused && n.w.now-n.quiet >= tellingMax }

// watchRoom: an append is let in only as long as its leader has not had the time to hear that the disks of a
// majority are nearly full.
func (w *world) watchRoom(n *node, s *actors.Status) {
	if w.cutNow() || w.now-w.connected < tellingMax || !n.attentive() {
		return
	}
	full := 0
	for _, id := range s.Voters {
		if m := w.node(id); m != nil && m.attentive() && m.space.Level() != actors.SpaceEnough && w.now-m.full >= tellingMax {
			full++
		}
	}
	if full > len(s.Voters)/2 {
		w.violate("an append is let in though a majority of disks is full", "node %d, group %d: %d of %d voters", n.id, s.Group, full, len(s.Voters))
	}
}

// cutNow says whether any direction is cut.
func (w *world) cutNow() bool {
	for _, count := range w.cuts { // any of them, in any order
		if count > 0 {
			return true
		}
	}
	return false
}
