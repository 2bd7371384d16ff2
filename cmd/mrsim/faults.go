package main

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/multiraftd/multiraftd/actors"
	"github.com/multiraftd/multiraftd/raftcore/store"
	"github.com/multiraftd/multiraftd/transport"
)

// faultKind names what can go wrong. Each is counted when it takes effect, not when it is drawn.
type faultKind int

const (
	lost faultKind = iota
	doubled
	delayed
	late
	overtaken
	cutOneWay
	cutOff
	muted
	split
	crash
	crashAll
	crashInCommit
	unsyncedLost
	writeError
	readError
	slowDisk
	stalledDisk
	clockJump
	clockDrift
	pause
	goneTrue
	goneFalse
	requestLost
	answerLost
	retry
	rebirth
	moved
	handedOver
	deletedReplica
	chunkLost
	chunkSpoilt
	logReplaced
	joined
	drained
	fullDisk
	refusedFull
	topicDeleted
	topicAgain
	balanced
	staleMet
	staleLeft
	parted
	faultKinds
)

var faultNames = [faultKinds]string{
	"frames lost", "frames doubled", "frames delayed", "frames very late", "frames overtaken", "one-way cuts", "nodes cut off", "nodes that are not heard", "splits",
	"crashes", "crashes of all", "crashes in a commit", "crashes that lost unsynced writes", "write errors", "read errors",
	"slow disks", "stalled disks", "clock jumps", "drifting clocks", "pauses", "news of a process's end", "false news of it",
	"requests lost", "answers lost", "batches sent again", "producers reborn",
	"partitions moved", "leaders handed over", "replicas deleted",
	"snapshot streams broken", "snapshot chunks spoilt", "logs replaced by snapshots",
	"nodes joined", "nodes drained",
	"full disks", "appends refused by full disks", "topics deleted", "topics created again", "leaders moved for balance", "old leaders that met others than the new one", "leaders that handed over and do not hear of it", "changes of members that those who stay do not hear of",
}

func (k faultKind) String() string { return faultNames[k] }

// shape is what a world is like, drawn at its beginning.
type shape struct {
	nodes, partitions, replicas int
	producers, plain, readers   int
	duration                    time.Duration // of the faults
	pace                        time.Duration // the longest pause between two faults
	lossPerMille, dupPerMille   uint64
	delayMax                    time.Duration
	latePerMille                uint64
	lateCopyPerMille            uint64 // of the second copies of doubled frames
	reorder                     bool
	drift                       []float64
	skew                        []time.Duration
	disk                        []time.Duration // the longest that a commit takes, while nothing is wrong
	cacheBytes, entryBytesMax   int             // 0 = what every node has
	snapshots                   snapshots
	weights                     [faultKinds]int // how often each is drawn; 0 = never in this world
}

func (s shape) String() string {
	return fmt.Sprintf("%d nodes, %d partitions of %d replicas, %d+%d producers, %d readers, faults for %v", s.nodes, s.partitions, s.replicas, s.producers, s.plain, s.readers, s.duration)
}

// lateMax is long enough for others to have elected a leader before a frame of the old one arrives.
const lateMax = 4 * electionTimeout

// driftMax is how far a clock's speed may be off, in per cent; skewMax how far its time.
const (
	driftMax = 10
	skewMax  = time.Hour
)

func drawShape(rnd *rand.Rand) shape {
	s := shape{
		nodes: []int{3, 3, 4, 4, 5}[rnd.IntN(5)], partitions: 1 + rnd.IntN(3), replicas: 3,
		producers: 1 + rnd.IntN(3), plain: rnd.IntN(2), readers: 1 + rnd.IntN(3),
		duration: time.Duration(4+rnd.IntN(7)) * time.Second, pace: time.Duration(200+rnd.IntN(1800)) * time.Millisecond,
		reorder: rnd.IntN(2) == 0, delayMax: time.Duration(2+rnd.IntN(60)) * time.Millisecond,
	}
	if rnd.IntN(3) > 0 {
		s.lossPerMille = rnd.Uint64N(150)
	}
	if rnd.IntN(2) > 0 {
		s.dupPerMille = rnd.Uint64N(100)
	}
	if s.nodes == 5 && rnd.IntN(2) == 0 {
		s.replicas = 5
	}
	if rnd.IntN(3) == 0 {
		s.latePerMille = 1 + rnd.Uint64N(10)
	}
	if s.reorder && rnd.IntN(2) == 0 {
		s.lateCopyPerMille = 500 + rnd.Uint64N(500)
		s.dupPerMille = max(s.dupPerMille, 50+rnd.Uint64N(100))
	}
	for range s.nodes {
		s.disk = append(s.disk, []time.Duration{2 * time.Millisecond, 2 * time.Millisecond, 20 * time.Millisecond, 60 * time.Millisecond}[rnd.IntN(4)])
		s.drift = append(s.drift, 1+float64(rnd.IntN(2*driftMax+1)-driftMax)/100)
		s.skew = append(s.skew, time.Duration(rnd.Int64N(int64(2*skewMax)))-skewMax)
	}
	if rnd.IntN(2) == 0 {
		s.cacheBytes = 1 + rnd.IntN(2000)
	}
	if rnd.IntN(3) == 0 {
		s.entryBytesMax = 300 + rnd.IntN(1000)
	}
	// Swarm testing: a world without some kinds of faults reaches what those would hide.
	for _, k := range []faultKind{cutOneWay, cutOff, muted, split, crash, crash, crashAll, crashInCommit, writeError, readError, slowDisk, stalledDisk, clockJump, pause, goneFalse, rebirth, moved, handedOver, fullDisk} {
		if rnd.IntN(3) > 0 {
			s.weights[k] += 1 + rnd.IntN(4)
		}
	}
	if s.lateCopyPerMille > 0 {
		s.weights[handedOver] += 3 // what old leaders are told late matters when there are new ones
	}
	if s.nodes > s.replicas && rnd.IntN(3) > 0 {
		s.weights[moved] += 4 // elsewhere there is nothing to move
	}
	return s
}

// strike does one thing now, and the next one later, while faults are on.
func (w *world) strike() {
	if !w.faulty {
		return
	}
	w.inject(w.draw())
	w.after(w.between(20*time.Millisecond, w.shape.pace), w.strike)
}

func (w *world) draw() faultKind {
	total := 0
	for _, n := range w.shape.weights {
		total += n
	}
	if total == 0 {
		return faultKinds
	}
	left := w.rnd.IntN(total)
	for k, n := range w.shape.weights {
		if left < n {
			return faultKind(k)
		}
		left -= n
	}
	return faultKinds
}

func (w *world) inject(k faultKind) {
	n := w.nodes[w.rnd.IntN(len(w.nodes))]
	if w.chance(300) { // leaders are where it hurts
		if l := w.someLeader(); l != nil {
			n = l
		}
	}
	switch k {
	case cutOneWay, cutOff, muted, split:
		w.partition(k, n)
	case crash, crashAll, crashInCommit:
		w.powerLoss(k, n)
	case writeError, readError, slowDisk, stalledDisk:
		w.diskFault(k, n)
	case fullDisk:
		w.fill(n)
	case clockJump:
		n.skew += w.between(-skewMax, skewMax)
		w.fire(k, "node %d's clock jumps to %d", n.id, n.NowMillis())
	case pause:
		w.pauseProcess(n)
	case goneFalse:
		if m := w.other(n); n.up && m.up {
			w.fire(k, "node %d hears, wrongly, that node %d has ended", n.id, m.id)
			n.core.Gone(m.id)
		}
	case rebirth:
		if p := w.producers[w.rnd.IntN(len(w.producers))]; p.idempotent() && !p.stopped {
			w.fire(k, "")
			p.rebirth()
		}
	case moved:
		w.move()
	case handedOver:
		w.handOver()
	}
}

func (w *world) someLeader() *node {
	for _, g := range w.groups() {
		if l := w.leaderOf(g); l != nil && w.chance(500) {
			return l
		}
	}
	return nil
}

func (w *world) other(n *node) *node {
	i := w.rnd.IntN(len(w.nodes) - 1)
	if i >= int(n.id)-1 {
		i++
	}
	return w.nodes[i]
}

func (w *world) partition(k faultKind, n *node) {
	heal := w.between(50*time.Millisecond, 4*time.Second)
	switch k {
	case cutOneWay:
		m := w.other(n)
		w.fire(k, "nothing goes from node %d to node %d for %v", n.id, m.id, heal)
		w.cut(n.id, m.id, heal)
	case cutOff:
		w.fire(k, "node %d is cut off for %v", n.id, heal)
		for _, m := range w.nodes {
			if m != n {
				w.cut(n.id, m.id, heal)
				w.cut(m.id, n.id, heal)
			}
		}
	case muted:
		w.fire(k, "nobody hears node %d for %v", n.id, heal)
		for _, m := range w.nodes {
			if m == n {
				continue
			}
			w.cut(n.id, m.id, heal)
			if w.chance(500) { // it hears some of them
				w.cut(m.id, n.id, heal)
			}
		}
	case split:
		side := w.rnd.IntN(1 << len(w.nodes))
		w.fire(k, "the network splits for %v, sides %0*b", heal, len(w.nodes), side)
		for i, a := range w.nodes {
			for j, b := range w.nodes {
				if side>>i&1 != side>>j&1 {
					w.cut(a.id, b.id, heal)
				}
			}
		}
	}
}

// cut closes one direction for a while. Several faults may hold it closed.
func (w *world) cut(from, to uint64, d time.Duration) {
	at := [2]uint64{from, to}
	if w.cuts[at]++; w.cuts[at] == 1 {
		w.net.Cut(from, to)
	}
	era, cutEra := w.era, w.cutEras[at]
	w.after(d, func() {
		if era != w.era || cutEra != w.cutEras[at] { // all were healed at once
			return
		}
		if w.cuts[at]--; w.cuts[at] == 0 {
			w.net.Heal(from, to)
		}
		w.connected = w.now
	})
}

// Elections are where it hurts: some candidates' disks stall, and some leaders lose power when they have just been
// elected, most of those that would forget it.
const (
	stallCandidateMille = 100
	crashElectedMille   = 100
	crashUnsyncedMille  = 700
)

func (w *world) strikeCandidate(n *node) {
	if !w.faulty || w.shape.weights[stalledDisk] == 0 || !w.chance(stallCandidateMille) {
		return
	}
	d := w.between(20*time.Millisecond, 300*time.Millisecond)
	w.fire(stalledDisk, "node %d's disk stalls for %v while it campaigns", n.id, d)
	n.disk.stall(d)
}

func (w *world) strikeElected(n *node, s *actors.Status) {
	if !w.faulty || w.shape.weights[crash] == 0 {
		return
	}
	mille := crashElectedMille
	if synced, err := store.Inspect(n.mem.Synced(), s.Group); err == nil && synced.Term < s.Term {
		mille = crashUnsyncedMille
	}
	if !w.chance(mille) {
		return
	}
	life := n.life
	w.after(w.between(0, 20*time.Millisecond), func() {
		if n.alive(life) {
			kept, unsynced := n.crash()
			w.fire(crash, "node %d loses power after its election, %d of %d unsynced commits stay", n.id, kept, unsynced)
			n.restartLater(w.between(10*time.Millisecond, electionTimeout))
		}
	})
}

func (w *world) powerLoss(k faultKind, n *node) {
	switch k {
	case crash:
		if !n.up {
			return
		}
		kept, unsynced := n.crash()
		w.fire(k, "node %d loses power, %d of %d unsynced commits stay", n.id, kept, unsynced)
		n.restartLater(3 * time.Second)
		w.spreadNews(n)
	case crashAll:
		w.fire(k, "all nodes lose power")
		for _, n := range w.nodes {
			if n.up {
				n.crash()
				n.restartLater(500 * time.Millisecond)
			}
		}
	case crashInCommit:
		if n.up && n.disk.crashLeft == 0 {
			n.disk.crashLeft = 1 + w.rnd.IntN(20)
		}
	}
}

// spreadNews lets the others hear that a process has ended: its connections broke.
func (w *world) spreadNews(n *node) {
	for _, m := range w.nodes {
		if m == n || !w.chance(500) {
			continue
		}
		life := m.life
		w.after(w.between(0, 50*time.Millisecond), func() {
			if m.alive(life) {
				w.fire(goneTrue, "")
				m.core.Gone(n.id)
			}
		})
	}
}

func (w *world) diskFault(k faultKind, n *node) {
	if !n.up || n.doomed {
		return
	}
	d, heal := n.disk, w.between(100*time.Millisecond, 4*time.Second)
	switch k {
	case writeError:
		d.writesLeft = 1 + w.rnd.IntN(40)
	case readError:
		d.readsLeft = 1 + w.rnd.IntN(60)
		w.after(2*time.Second, func() { // somebody looks at the failed replica and restarts the node
			if n.alive(d.life) && n.doomed {
				n.exit(errIO)
			}
			d.readsLeft = 0
		})
	case slowDisk:
		d.slowness = w.between(5*time.Millisecond, 80*time.Millisecond)
		w.fire(k, "node %d's disk takes up to %v for %v", n.id, d.slowness, heal)
		w.after(heal, func() { d.slowness, d.quiet = 0, w.now })
	case stalledDisk:
		w.fire(k, "node %d's disk stalls for %v", n.id, heal)
		d.stall(heal)
	}
}

func (w *world) pauseProcess(n *node) {
	if !n.up || n.paused {
		return
	}
	life, d := n.life, w.between(50*time.Millisecond, 3*time.Second)
	n.paused = true
	w.fire(pause, "node %d is paused for %v", n.id, d)
	w.after(d, func() {
		if n.alive(life) {
			n.resume()
		}
	})
}

// unleash turns the faults on.
func (w *world) unleash() {
	w.faulty = true
	w.net.SetFaults(w.networkShape())
	w.churn()
	for _, n := range w.nodes {
		if n.drift != 1 {
			w.fire(clockDrift, "node %d's clock runs at %.2f", n.id, n.drift)
		}
	}
	w.after(w.between(0, w.shape.pace), w.strike)
}

func (w *world) networkShape() transport.Faults {
	return transport.Faults{
		LossPerMille: w.shape.lossPerMille, DuplicatePerMille: w.shape.dupPerMille, Reorder: w.shape.reorder,
		DelayMin: time.Millisecond, DelayMax: w.shape.delayMax, LatePerMille: w.shape.latePerMille, LateCopyPerMille: w.shape.lateCopyPerMille, LateMax: lateMax,
		ChunkLossPerMille: max(w.shape.lossPerMille, w.shape.snapshots.lossPerMille), ChunkSpoilPerMille: w.shape.snapshots.spoilPerMille,
	}
}

// isolate closes both directions between a node and all others, for good.
func (w *world) isolate(n *node) {
	for _, m := range w.nodes {
		if m != n {
			w.cut(n.id, m.id, forever)
			w.cut(m.id, n.id, forever)
		}
	}
}

const forever = 1000 * time.Hour

// appease ends the faults of the network and the disks. Nodes that are down stay so.
func (w *world) appease() {
	w.faulty = false
	w.era++
	w.net.SetFaults(transport.Faults{DelayMin: time.Millisecond, DelayMax: 2 * time.Millisecond})
	for at, n := range w.cuts { // healing does nothing by itself: the order does not matter
		if n > 0 {
			w.net.Heal(at[0], at[1])
		}
	}
	w.cuts, w.connected = map[[2]uint64]int{}, w.now
	for _, n := range w.nodes {
		n.empty()
		if n.disk != nil {
			n.disk.writesLeft, n.disk.readsLeft, n.disk.crashLeft = min(n.disk.writesLeft, 0), 0, 0
			n.disk.slowness, n.disk.stalled = 0, w.now
			n.disk.unstall()
		}
		if n.paused {
			n.resume()
		}
	}
}

// networkFaults takes over what the network has counted.
func (w *world) networkFaults() {
	c := w.net.Counters()
	w.fired[lost], w.fired[doubled], w.fired[overtaken], w.fired[late] = c.FramesLost.Load(), c.FramesDoubled.Load(), c.FramesOvertaken.Load(), c.FramesLate.Load()
	w.fired[chunkLost], w.fired[chunkSpoilt] = c.SnapshotChunksLost.Load(), c.SnapshotChunksSpoilt.Load()
	w.fired[logReplaced] = w.counters.SnapshotsInstalled.Load()
	if w.shape.delayMax > 2*time.Millisecond {
		w.fired[delayed] = c.FramesSent.Load()
	}
}
