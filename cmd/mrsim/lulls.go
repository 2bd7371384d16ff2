package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/multiraftd/multiraftd/raftcore"
)

// Lulls are times in which clients do nothing, so that groups go quiet among the faults. A world has them or not.

// quietMax is after which time without clients every group is quiet when all is well: what leaders wait for, the
// slowest clock, and a controller that still moves leaders.
const quietMax = 12 * electionTimeout

// lullSpan is how long lulls last: from hardly long enough to go quiet.
const (
	lullMin = 2 * electionTimeout
	lullMax = 6 * electionTimeout
)

// slumberMille is in how many worlds groups are watched that go quiet when all is well, and lose a node then.
const slumberMille = 400

// hasLulls draws from a sequence of its own.
func hasLulls(seed uint64) bool { return rand.New(rand.NewPCG(seed, 4)).IntN(2) == 0 }

// lull begins one, and the next one some time after it.
func (w *world) lull() {
	if !w.faulty {
		return
	}
	d := w.between(lullMin, lullMax)
	w.lullUntil = w.now + d
	w.tell("clients do nothing for %v", d)
	w.after(d+w.between(electionTimeout/2, 2*electionTimeout), w.lull)
}

// busy calls f after a while in which a client thinks, and not before the lull that there may be is over.
func (w *world) busy(think time.Duration, f func()) {
	w.after(max(think, w.lullUntil-w.now), f)
}

// slumber lets all partitions go quiet, then takes a node away or frightens one, and wants every group to have a leader
// within the time that the calm is given; and records to be stored.
func (w *world) slumber() {
	if w.broken != nil || !w.chance(slumberMille) {
		return
	}
	if w.chance(500) { // going quiet, what they tell each other is lost
		w.unsettle()
		w.until(w.now + w.between(lullMin, lullMax))
		w.appease()
	}
	if !w.await(quietMax, func() bool { return w.awake() == "" }) {
		w.violate("liveness", "not quiet %v after clients have stopped: %s", quietMax, w.awake())
		return
	}
	w.startle()
	for _, p := range w.producers {
		if slices.Contains(w.groups(), p.log.group) { // its topic is there
			p.stopped = false
			p.work()
		}
	}
	w.until(w.now + electionTimeout)
	for _, p := range w.producers {
		p.stopped = true
	}
	if w.away == nil {
		w.appease()
	}
	if !w.await(calmMax, w.idle) {
		w.violate("liveness", "not over %v after quiet groups were startled: %s", calmMax, w.pending())
	}
	w.heal()
}

// unsettle makes the network lose a third of what is sent.
func (w *world) unsettle() {
	f := w.networkShape()
	f.LossPerMille = 333
	w.net.SetFaults(f)
}

// startle does something to one node, mostly to a leader.
func (w *world) startle() {
	n := w.nodes[w.rnd.IntN(len(w.nodes))]
	if l := w.someLeader(); l != nil && w.chance(700) {
		n = l
	}
	if !w.canSpare(n) {
		return
	}
	for _, m := range w.nodes {
		m.quiet = w.now
	}
	switch w.rnd.IntN(6) {
	case 0:
		n.crash()
		w.fire(crash, "node %d loses power while groups are quiet, and stays down", n.id)
		n.down, w.away = true, n
		if w.chance(500) {
			w.spreadNews(n)
		}
	case 1:
		w.isolate(n)
		w.fire(cutOff, "node %d is cut off while groups are quiet", n.id)
		w.away = n
	case 2:
		n.paused, w.away = true, n
		w.fire(pause, "node %d is paused while groups are quiet", n.id)
	case 3: // back before anybody has missed it
		n.crash()
		w.fire(crash, "node %d loses power while groups are quiet", n.id)
		n.restartLater(electionTimeout / 4)
	case 4:
		m := w.other(n)
		w.fire(goneFalse, "node %d hears, wrongly, that node %d has ended", m.id, n.id)
		m.core.Gone(n.id)
	default: // the first that wakes them is lost
		w.unsettle()
	}
	w.until(w.now + w.between(0, 3*electionTimeout))
}

// awake says which replica of a partition is not quiet.
func (w *world) awake() string {
	for _, g := range w.groups() {
		if g == raftcore.MetadataGroup {
			continue
		}
		l := w.leaderOf(g)
		if l == nil {
			return w.leaderless(g)
		}
		for _, id := range l.status(g).Voters {
			if s := w.node(id).status(g); s == nil || !s.Quiet {
				return fmt.Sprintf("group %d, led by node %d: node %d shows %+v", g, l.id, id, s)
			}
		}
		if s := l.status(g); s.UnderReplicated() { // what it shows stays, for as long as it is quiet
			return fmt.Sprintf("group %d is quiet, and node %d, which leads it, shows a member as away: %+v", g, l.id, s.Progress)
		}
	}
	return ""
}
