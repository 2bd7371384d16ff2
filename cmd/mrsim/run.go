package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/multiraftd/multiraftd/cmd/mrsim/history"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// Bounds of a run's phases, in simulated time.
const (
	foundingMax = 30 * time.Second
	calmMax     = 10 * electionTimeout // a quorum has healed: everything pending ends
	healingMax  = 60 * electionTimeout // all have: all are alike
)

// result is what a run tells.
type result struct {
	Seed      uint64
	Trace     uint64
	Simulated time.Duration
	Acked     uint64
	Fired     [faultKinds]uint64
	Calm      time.Duration // until everything pending had ended
	Windows   int           // searched by porcupine
	Truncated uint64        // log starts that moved
	Quiet     uint64        // times that a replica went quiet
	Violation string        `json:",omitempty"`
}

// run is one seed from beginning to end.
func run(seed uint64, say func(string)) result {
	w := newWorld(seed, say)
	w.found()
	w.work()
	calm := w.calm()
	w.heal()
	if w.broken == nil && w.now < w.planned { // a parting came before what was to happen among the faults
		w.until(w.planned)
		w.heal()
	}
	w.tidy()
	w.emptied()
	w.minutes()
	w.slumber()
	w.drill()
	if w.broken == nil && !w.await(healingMax, func() bool { return w.idle() && w.unlike() == "" }) {
		w.violate("liveness", "not alike in the end: %s%s", w.pending(), w.unlike())
	}
	windows := w.judge()
	w.networkFaults()
	r := result{Seed: seed, Trace: w.trace, Simulated: w.now, Acked: w.acked, Fired: w.fired, Calm: calm, Windows: windows, Truncated: w.truncated, Quiet: w.counters.QuietStarts.Load()}
	if w.broken != nil {
		r.Violation = w.broken.String()
	}
	return r
}

// found brings the cluster up, without faults.
func (w *world) found() {
	if !w.await(foundingMax, func() bool { return w.leaderOf(raftcore.MetadataGroup) != nil && w.registered() }) {
		w.violate("liveness", "the cluster does not come up")
		return
	}
	topic := w.requestTopic(w.shape.partitions, w.shape.replicas)
	if !w.await(foundingMax, func() bool { return len(topic.ledgers) > 0 && w.led(topic) }) {
		w.violate("liveness", "the topic does not come up")
		return
	}
	for i := range w.shape.producers + w.shape.plain {
		p := &producer{w: w, id: i + 1, log: topic.ledgers[i%len(topic.ledgers)]}
		w.producers = append(w.producers, p)
		if i >= w.shape.producers {
			p.work()
			continue
		}
		w.allocate(func(id int64) {
			p.pid = id
			p.work()
		})
	}
	for i := range w.shape.readers {
		r := &reader{w: w, id: 100 + i, logs: topic.ledgers}
		w.readers = append(w.readers, r)
		r.work()
	}
}

func (w *world) registered() bool {
	for _, n := range w.nodes {
		for id := range w.nodes {
			if _, ok := n.core.Table().Meta.Node(raftcore.NodeID(id + 1)); !ok {
				return false
			}
		}
	}
	return true
}

func (w *world) led(r *topicRequest) bool {
	for _, l := range r.ledgers {
		if w.leaderOf(l.group) == nil {
			return false
		}
	}
	return true
}

// work is the time of the faults. Somewhere in it another topic is wanted. A parting ends it.
func (w *world) work() {
	if w.broken != nil {
		return
	}
	w.unleash()
	w.changeNodes()
	w.alterTopics()
	w.deleteTopics()
	w.after(w.between(0, w.shape.duration), func() { w.requestTopic(1+w.rnd.IntN(3), 3) })
	length := w.shape.duration
	if w.lulls {
		w.after(w.between(0, electionTimeout), w.lull)
		length += 2 * lullMax
	}
	w.planned = w.now + length
	w.await(length, func() bool { return w.parting.over })
	w.lullUntil = 0
}

// calm heals a quorum and waits for the end of everything that is pending. Up to a minority of the nodes, so
// few that every group keeps a majority, stays down.
func (w *world) calm() time.Duration {
	if w.broken != nil {
		return 0
	}
	w.appease()
	w.still = true
	for _, n := range w.nodes {
		n.quiet = w.now
	}
	w.away = w.sendAway()
	for _, n := range w.nodes {
		if n != w.away || n.up {
			n.start()
		}
	}
	for _, p := range w.producers {
		p.stopped = true
	}
	for _, r := range w.readers {
		r.stopped = true
	}
	began := w.now
	if !w.await(calmMax, w.idle) {
		w.violate("liveness", "not over %v after a quorum has healed: %s", calmMax, w.pending())
	}
	return w.now - began
}

// sendAway takes one node out of the calm, in half of the worlds: the others are a quorum without it.
func (w *world) sendAway() *node {
	if w.chance(500) && !w.parting.over {
		return nil
	}
	n := w.nodes[w.rnd.IntN(len(w.nodes))]
	if l := w.someLeader(); l != nil && w.chance(700) {
		n = l
	}
	if w.parting.over {
		n = w.parting.leader
	}
	if !w.canSpare(n) {
		return nil
	}
	switch {
	case !n.up:
		n.down = true
		w.tell("node %d stays down", n.id)
	case w.chance(250):
		n.crash()
		n.down = true
		w.tell("node %d goes down for good", n.id)
	case w.chance(333):
		w.isolate(n)
		w.tell("node %d is cut off for good", n.id)
	case w.chance(500):
		n.disk.stall(forever)
		w.tell("node %d's disk stalls for good", n.id)
	default:
		n.paused = true
		w.tell("node %d is paused for good", n.id)
	}
	return n
}

// canSpare says that every group keeps a majority without a node, in each membership that anybody knows of and in
// the one that it is on the way to. A drain may have left a group with two voters.
func (w *world) canSpare(n *node) bool {
	for _, g := range w.groups() {
		for _, m := range w.nodes {
			s := m.status(g)
			if s == nil {
				continue
			}
			target, _ := m.core.Table().Meta.Target(g)
			for _, voters := range [][]raftcore.NodeID{s.Voters, w.nodesOf(g, s.OutgoingIDs), target.Nodes()} {
				if left := len(voters) - 1; slices.Contains(voters, raftcore.NodeID(n.id)) && left < len(voters)/2+1 {
					return false
				}
			}
		}
	}
	return true
}

func (w *world) nodesOf(g raftcore.GroupID, replicas []raftcore.ReplicaID) (nodes []raftcore.NodeID) {
	for _, r := range replicas {
		nodes = append(nodes, raftcore.NodeID(w.lives[replicaKey{g, r}]))
	}
	return nodes
}

func (w *world) idle() bool { return w.pending() == "" }

// pending says what has not ended yet.
func (w *world) pending() string {
	for _, p := range w.producers {
		if len(p.queue) > 0 {
			return fmt.Sprintf("producer %d waits for %d batches in group %d, leader %d", p.id, len(p.queue), p.log.group, p.leader)
		}
	}
	for _, n := range w.nodes {
		if len(n.open) > 0 && n != w.away {
			return fmt.Sprintf("node %d has %d requests that do not end", n.id, len(n.open))
		}
	}
	for _, r := range w.requests {
		if r.topic == 0 {
			return fmt.Sprintf("topic %s is not created", r.create.GetName())
		}
		if r.deleting && !r.deleted {
			return fmt.Sprintf("topic %d, %s, is not deleted", r.topic, r.create.GetName())
		}
	}
	for _, g := range w.groups() {
		if w.leaderOf(g) == nil {
			return w.leaderless(g)
		}
	}
	return ""
}

// leaderless says what each replica of a group without a leader shows.
func (w *world) leaderless(g raftcore.GroupID) string {
	var all []string
	for _, n := range w.nodes {
		if s := n.status(g); s != nil {
			all = append(all, fmt.Sprintf("node %d: %v in term %d, log %d-%d, commit %d, voters %v, outgoing %v", n.id, s.Role, s.Term, s.FirstIndex, s.Last, s.Commit, s.Voters, s.OutgoingIDs))
		}
	}
	return fmt.Sprintf("group %d has no leader: %s", g, strings.Join(all, "; "))
}

// heal starts everybody and waits until all replicas of each group are alike.
func (w *world) heal() {
	if w.broken != nil {
		return
	}
	w.appease()
	w.away = nil
	for _, n := range w.nodes {
		n.down = false
		if n.up && (n.doomed || n.failed()) {
			n.crash() // an operator restarts a node with a failed replica
		}
		n.start()
	}
	if !w.await(healingMax, func() bool { return w.idle() && w.unlike() == "" }) && w.broken == nil {
		w.violate("liveness", "not alike %v after everybody has healed: %s%s", healingMax, w.pending(), w.unlike())
	}
	if !w.await(settleMax, func() bool { return w.unsettled() == "" && w.idle() && w.unlike() == "" }) && w.broken == nil {
		w.violate("liveness", "not settled %v after everybody has healed: %s %s%s", settleMax, w.unsettled(), w.pending(), w.unlike())
	}
}

// drill pauses a leader for about an election timeout, in some worlds, when all else is well. If nobody else has
// been elected meanwhile it goes on leading (watchDeposed): the ticks that it missed are no silence of others.
func (w *world) drill() {
	if w.broken != nil || !w.chance(drillMille) {
		return
	}
	w.until(w.now + steady + 2*electionTimeout)
	groups := w.groups()
	n := w.leaderOf(groups[w.rnd.IntN(len(groups))])
	if n == nil || w.broken != nil {
		return
	}
	n.paused = true
	w.until(w.now + w.between(electionTimeout, 3*electionTimeout/2))
	n.resume()
	if !w.await(calmMax, w.idle) || !w.await(healingMax, func() bool { return w.unlike() == "" }) {
		w.violate("liveness", "not over %v after a drill: %s%s", calmMax, w.pending(), w.unlike())
	}
}

const drillMille = 200

func (n *node) failed() bool {
	for _, g := range n.core.Table().Groups() {
		if s := n.status(g); s == nil || s.Failure != "" {
			return true
		}
	}
	return false
}

// unlike says which replicas differ, or lag.
func (w *world) unlike() string {
	for _, g := range w.groups() {
		l := w.leaderOf(g)
		if l == nil {
			return w.leaderless(g)
		}
		want := l.status(g)
		for _, id := range slices.Concat(want.Voters, want.Learners) {
			if w.node(id) == nil {
				return fmt.Sprintf("node %d was admitted and has not heard of it", id)
			}
			s := w.node(id).status(g)
			if s == nil || s.Applied != want.Last || want.Applied != want.Last {
				return fmt.Sprintf("group %d: node %d has applied %v of %d", g, id, s, want.Last)
			}
			if stored := w.node(id).stored(g); stored != want.Last {
				return fmt.Sprintf("group %d: node %d has stored what it applied up to %d of %d", g, id, stored, want.Last)
			}
		}
	}
	return ""
}

// stored is how far what a node has applied is in its store.
func (n *node) stored(g raftcore.GroupID) raftcore.Index {
	v, err := n.mem.View()
	if err != nil {
		return 0
	}
	defer v.Close()
	s, err := store.Inspect(v, g)
	if err != nil {
		n.w.violate("the store can't be read", "node %d, group %d: %v", n.id, g, err)
	}
	return s.Applied
}

// judge compares replicas to the last byte, and what clients were told with what is there.
func (w *world) judge() (windows int) {
	for _, g := range w.groups() {
		w.compare(g)
		l := w.logs[g]
		if l == nil || w.broken != nil {
			continue
		}
		start, values, err := w.leaderOf(g).readAll(g)
		if err != nil {
			w.violate("the log can't be read", "group %d: %v", g, err)
			return windows
		}
		w.told(l, "the final log", start, values)
		l.past.SetLog(int64(start), values)
		if err := history.Check(&l.past); err != nil {
			w.violate("history", "group %d: %v", g, err)
			return windows
		}
		s, err := history.Porcupine(&l.past, history.Limits{})
		if err != nil {
			w.violate("linearizability", "group %d: %v", g, err)
		}
		windows += s.Windows
	}
	return windows
}

// compare wants the same bytes under a group's machine on every replica: apply depends on nothing but the log.
func (w *world) compare(g raftcore.GroupID) {
	l := w.leaderOf(g)
	if w.broken != nil || l == nil {
		return
	}
	want, err := machineBytes(l, g)
	for _, id := range l.status(g).Voters {
		got, err2 := machineBytes(w.node(id), g)
		if err != nil || err2 != nil || !slices.Equal(want, got) {
			w.violate("state machines differ", "group %d: nodes %d and %d (%v, %v)", g, l.id, id, err, err2)
		}
	}
}

// machineBytes returns keys and values of the machine of a group.
func machineBytes(n *node, g raftcore.GroupID) ([]string, error) {
	v, err := n.mem.View()
	if err != nil {
		return nil, err
	}
	defer v.Close()
	generation, err := store.CurrentGeneration(v, g)
	if err != nil {
		return nil, err
	}
	prefix := store.MachinePrefix(g, generation)
	var all []string
	err = v.Scan(prefix, append(bytes.Clone(prefix), bytes.Repeat([]byte{0xff}, 32)...), false, func(key, value []byte) bool {
		all = append(all, string(key[len(prefix):]), string(value))
		return true
	})
	return all, err
}
