package main

import (
	"time"

	"github.com/multiraftd/multiraftd/raftcore"
)

// minutesMille is in how many worlds some minutes, as the Controller counts them, are watched in which nothing happens.
const minutesMille = 200

// minutes watches who leads when all is well: only the Controller moves leaders then, and no group's twice in a
// minute. It may have done so once just before.
func (w *world) minutes() {
	if w.broken != nil || !w.chance(minutesMille) {
		return
	}
	minute := time.Duration(w.keeping.minute) * tickInterval
	slowest := time.Duration(float64(minute) * 100 / (100 + driftMax)) // by the clock that runs fastest
	led, moved := map[raftcore.GroupID]leader{}, map[raftcore.GroupID]time.Duration{}
	for end := w.now + 3*minute + 2*electionTimeout; w.now < end && w.broken == nil; {
		for _, g := range w.groups() {
			n := w.leaderOf(g)
			if n == nil {
				continue
			}
			now, before := (leader{node: n.id, life: n.life}), led[g]
			led[g] = now
			if before == now || before == (leader{}) {
				continue
			}
			if last, again := moved[g]; again && w.now-last < slowest-minuteSlack {
				w.violate("a leader moves twice in a minute", "group %d: after %v, a minute is %v", g, w.now-last, minute)
			}
			moved[g] = w.now
			w.fire(balanced, "")
		}
		w.until(w.now + awaitStep)
	}
}

// minuteSlack is what lies between the order to move and what is seen of it.
const minuteSlack = electionTimeout / 2
