package main

import (
	"container/heap"
	crand "crypto/rand"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/multiraftd/multiraftd/actors"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/transport"
)

// world is one simulated cluster with its clients, from a seed. It runs in one goroutine.
type world struct {
	seed    uint64
	rnd     *rand.Rand
	now     time.Duration
	events  eventHeap
	count   uint64 // of events scheduled: those of one moment keep their order
	ready   []runnable
	net     *transport.Inproc
	nodes   []*node
	cuts    map[[2]uint64]int // how many faults cut a direction now
	cutEras map[[2]uint64]int // how often all of them were healed at once
	era     int               // counts the times that all cuts were healed at once
	// connected is since when nothing has been cut.
	connected time.Duration

	shape  shape
	fired  [faultKinds]uint64
	trace  uint64
	say    func(string) // nil = quiet
	broken *violation

	logs      map[raftcore.GroupID]*ledger
	leaders   map[reign]leader
	votes     map[reign]raftcore.ReplicaID
	hashes    map[applied]hashAt
	starts    map[applied]startAt
	truncated uint64                // log starts seen to move
	lives     map[replicaKey]uint64 // the node of each replica
	buried    map[replicaKey]bool   // reported deleted
	filled    map[replicaKey]bool
	members   map[raftcore.GroupID]*actors.Status // of the one furthest on
	settled   map[raftcore.GroupID]*actors.Status // before the joint membership in force
	producers []*producer
	readers   []*reader
	requests  []*topicRequest
	granted   map[int64]bool // producer ids
	faulty    bool           // faults are drawn
	away      *node          // what the calm does without
	planned   time.Duration  // when the faults end, if a parting does not end them before
	still     bool           // the calm has begun
	lulls     bool           // clients do nothing now and then
	lullUntil time.Duration  // and now until then
	acked     uint64
	counters  actors.Counters // of all nodes
	keeping   keeping
	parting   parting
}

// violation is what a world may never show.
type violation struct {
	At   time.Duration
	Rule string
	Text string
}

func (v *violation) String() string { return fmt.Sprintf("at %v: %s: %s", v.At, v.Rule, v.Text) }

type event struct {
	at  time.Duration
	seq uint64
	f   func()
}

type eventHeap []event

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].seq < h[j].seq
}
func (h eventHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *eventHeap) Push(x any)   { *h = append(*h, x.(event)) }
func (h *eventHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = event{}
	*h = old[:len(old)-1]
	return e
}

// runnable is a mailbox with something in it. Those of an earlier life of their node never run.
type runnable struct {
	n    *node
	life int
	f    func()
}

// entropy feeds etcd/raft's election timeouts, and boot ids, from the seed.
type entropy struct{ *rand.Rand }

// Read is part of io.Reader.
func (e entropy) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(e.Uint32())
	}
	return len(p), nil
}

// newWorld makes the world of a seed. It takes over crypto/rand.Reader: one world per process at a time.
func newWorld(seed uint64, say func(string)) *world {
	crand.Reader = entropy{rand.New(rand.NewPCG(seed, 2))}
	w := &world{
		seed: seed, rnd: rand.New(rand.NewPCG(seed, 1)), say: say, trace: fnvOffset, cuts: map[[2]uint64]int{}, cutEras: map[[2]uint64]int{},
		logs: map[raftcore.GroupID]*ledger{}, leaders: map[reign]leader{}, votes: map[reign]raftcore.ReplicaID{}, hashes: map[applied]hashAt{}, starts: map[applied]startAt{}, granted: map[int64]bool{},
		lives: map[replicaKey]uint64{}, buried: map[replicaKey]bool{}, filled: map[replicaKey]bool{}, members: map[raftcore.GroupID]*actors.Status{}, settled: map[raftcore.GroupID]*actors.Status{},
	}
	w.net = transport.NewInproc(w.after, func(n uint64) uint64 { return w.rnd.Uint64N(n) })
	w.shape = drawShape(w.rnd)
	w.shape.snapshots = drawSnapshots(seed)
	w.keeping, w.lulls = w.drawKeeping(), hasLulls(seed)
	w.parting = drawParting(seed)
	w.tell("%v", w.shape)
	for id := 1; id <= w.shape.nodes; id++ {
		w.nodes = append(w.nodes, newNode(w, uint64(id)))
	}
	for _, n := range w.nodes {
		n.start()
	}
	return w
}

// after schedules f. Nothing runs before the caller returns.
func (w *world) after(d time.Duration, f func()) {
	w.count++
	heap.Push(&w.events, event{w.now + d, w.count, f})
}

const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

// mix makes values part of the trace.
func (w *world) mix(values ...uint64) {
	for _, v := range values {
		w.trace = (w.trace ^ v) * fnvPrime
		w.trace ^= w.trace >> 29
	}
}

// tell says what happens, in a run with -v.
func (w *world) tell(format string, args ...any) {
	if w.say != nil {
		w.say(fmt.Sprintf("%9.4f  ", w.now.Seconds()) + fmt.Sprintf(format, args...))
	}
}

// violate ends the run. The first violation counts.
func (w *world) violate(rule, format string, args ...any) {
	if w.broken != nil {
		return
	}
	w.broken = &violation{w.now, rule, fmt.Sprintf(format, args...)}
	w.tell("VIOLATION %s: %s", rule, w.broken.Text)
}

// fire counts a fault at the moment it takes effect.
func (w *world) fire(k faultKind, format string, args ...any) {
	w.fired[k]++
	w.mix(uint64(k), uint64(w.now))
	if format != "" {
		w.tell("fault: "+format, args...)
	}
}

// until runs the world until a time, or a violation. Mailboxes that are ready run before the next event.
func (w *world) until(end time.Duration) {
	for w.broken == nil {
		if len(w.ready) > 0 {
			w.runOne()
			continue
		}
		if len(w.events) == 0 || w.events[0].at > end {
			break
		}
		e := heap.Pop(&w.events).(event)
		w.now = e.at
		e.f()
	}
	w.now = max(w.now, end)
}

func (w *world) runOne() {
	last := len(w.ready) - 1
	i := w.rnd.IntN(last + 1)
	r := w.ready[i]
	w.ready[i], w.ready[last] = w.ready[last], runnable{}
	w.ready = w.ready[:last]
	if !r.n.alive(r.life) {
		return
	}
	if r.n.paused {
		r.n.parked = append(r.n.parked, r)
		return
	}
	r.f()
	w.watch(r.n)
}

// await runs the world until cond holds, and reports whether it did within limit.
func (w *world) await(limit time.Duration, cond func() bool) bool {
	for end := w.now + limit; w.broken == nil; {
		if cond() {
			return true
		}
		if w.now >= end {
			return false
		}
		w.until(w.now + awaitStep)
	}
	return false
}

const awaitStep = 20 * time.Millisecond

func (w *world) node(id raftcore.NodeID) *node {
	if id == 0 || int(id) > len(w.nodes) {
		return nil
	}
	return w.nodes[id-1]
}

func (w *world) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(w.rnd.Int64N(int64(hi-lo)))
}

// chance is true in so many of 1000 cases.
func (w *world) chance(perMille int) bool { return w.rnd.IntN(1000) < perMille }

// uint64s of a record's value: what clients append and look for.
func valueOf(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

func join[T any](list []T) string {
	var parts []string
	for _, x := range list {
		parts = append(parts, fmt.Sprint(x))
	}
	return strings.Join(parts, ",")
}
