package transport

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"google.golang.org/protobuf/proto"
)

// Faults of an Inproc network, per frame. The zero value is a perfect network.
type Faults struct {
	// LossPerMille and DuplicatePerMille are chances in 1000. A lost frame is lost silently.
	LossPerMille, DuplicatePerMille uint64
	// A frame takes DelayMin to DelayMax, evenly spread.
	DelayMin, DelayMax time.Duration
	// ChunkLossPerMille breaks the stream of a snapshot with a chunk or its answer; ChunkSpoilPerMille flips a bit of
	// a chunk's data. Both are chances in 1000 for each.
	ChunkLossPerMille, ChunkSpoilPerMille uint64
	// LatePerMille is the chance in 1000 that a frame takes up to LateMax instead.
	LatePerMille uint64
	// LateCopyPerMille is the same for the second copy of a doubled frame.
	LateCopyPerMille uint64
	LateMax          time.Duration
	// Reorder lets a frame with a shorter delay overtake; without it a pair's frames keep their order.
	Reorder bool
}

// Inproc is a network inside one process, with faults. It starts no goroutine and knows no clock: schedule
// runs f after a delay, never during the call, and rand returns a number in [0, n). With a single-threaded
// schedule and a seeded rand all that happens is determined; with time.AfterFunc it serves real nodes.
//
// Every frame is marshalled and unmarshalled on the way, so that nodes share no memory.
type Inproc struct {
	schedule func(delay time.Duration, f func())
	rand     func(n uint64) uint64
	counters Counters

	mu     sync.Mutex
	faults Faults
	links  map[uint64]*InprocLink
	pipes  map[pair]*pipe
	cuts   map[pair]bool
	// snapshots are those under way, in the order in which they were begun.
	snapshots []*inprocSnapshot
}

type pair struct{ from, to uint64 }

// InprocLink is one node's end of an Inproc network: what Transport is to a real one.
type InprocLink struct {
	net      *Inproc
	identity Identity
	receiver Receiver
	chunks   ChunkReceiver // nil = none
}

// pipe is what one incarnation of a node sends to another node. It outlives connections, to remember whom
// it has told of a loss.
// Invariant: flushing says that a flush is scheduled; there is never more than one.
type pipe struct {
	pair     pair
	from     *InprocLink
	out      *Outbox
	conn     *inprocConn // nil while there is none
	flushing bool
}

// inprocConn carries a pipe's frames to one incarnation of the other node.
type inprocConn struct {
	to   *InprocLink
	dead bool
	// ordered holds frames that keep their order: each has one arrival scheduled, and whichever comes first
	// takes the first.
	ordered  fifo[[]byte]
	onTheWay int
	// sent numbers the frames; latest is the highest number that has arrived.
	sent, latest uint64
	// arrived waits for the receiver. Invariant: one goroutine at a time hands over, and delivering says so.
	arrived    fifo[[]byte]
	delivering bool
}

// NewInproc returns a perfect network without nodes.
func NewInproc(schedule func(delay time.Duration, f func()), rand func(n uint64) uint64) *Inproc {
	return &Inproc{schedule: schedule, rand: rand, links: make(map[uint64]*InprocLink), pipes: make(map[pair]*pipe), cuts: make(map[pair]bool)}
}

// SetFaults replaces the faults, for frames sent from now on.
func (n *Inproc) SetFaults(f Faults) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.faults = f
}

// Counters returns the network's counters.
func (n *Inproc) Counters() *Counters { return &n.counters }

// Attach adds a node. An older incarnation of it is detached, and what it had on the way is lost.
func (n *Inproc) Attach(id Identity, r Receiver) *InprocLink {
	l := &InprocLink{net: n, identity: id, receiver: r}
	n.mu.Lock()
	n.links[id.Node] = l
	broken := n.breakPipes(func(p *pipe) bool { return p.pair.from == id.Node || p.pair.to == id.Node })
	streams := n.breakSnapshots()
	n.mu.Unlock()
	n.scheduleFlushes(broken)
	n.scheduleSnapshots(streams)
	return l
}

// Cut ends the connection from one node to the other, in this direction only: what is on the way is lost,
// and what is sent is dropped and reported, until Heal.
func (n *Inproc) Cut(from, to uint64) {
	n.mu.Lock()
	n.cuts[pair{from, to}] = true
	broken := n.breakPipes(func(p *pipe) bool { return p.pair == pair{from, to} })
	streams := n.breakSnapshots()
	n.mu.Unlock()
	n.scheduleFlushes(broken)
	n.scheduleSnapshots(streams)
}

// Heal undoes Cut. The next send connects.
func (n *Inproc) Heal(from, to uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.cuts, pair{from, to})
}

// Send does what Transport.Send does.
func (l *InprocLink) Send(to uint64, e *raftv1.Envelope) {
	l.net.counters.envelope(l.net.send(l, to, func(o *Outbox) Fate { return o.Add(e) }))
}

// SendControl does what Transport.SendControl does.
func (l *InprocLink) SendControl(to uint64, c *raftv1.Control) {
	l.net.counters.control(l.net.send(l, to, func(o *Outbox) Fate { return o.AddControl(c) }))
}

// SendReport does what Transport.SendReport does.
func (l *InprocLink) SendReport(to uint64, r *raftv1.NodeReport) {
	l.net.counters.report(l.net.send(l, to, func(o *Outbox) Fate { return o.SetReport(r) }))
}

// Connected says that the node is attached and the way to it is not cut.
func (l *InprocLink) Connected(node uint64) bool {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	return l.net.reachable(l, node)
}

// Detach removes the node: what waited here is lost, what is on the way from it still arrives, what is on
// the way to it does not. Its Receiver is not called any more, but for a call under way.
func (l *InprocLink) Detach() {
	n := l.net
	n.mu.Lock()
	if n.links[l.identity.Node] == l {
		delete(n.links, l.identity.Node)
	}
	broken := n.breakPipes(func(p *pipe) bool { return p.conn != nil && p.conn.to == l })
	for _, p := range n.pipes { // counts only: the order does not matter
		if p.from == l {
			n.counters.failed(p.out.Fail())
		}
	}
	streams := n.breakSnapshots()
	n.mu.Unlock()
	n.scheduleFlushes(broken)
	n.scheduleSnapshots(streams)
}

func (n *Inproc) send(l *InprocLink, to uint64, add func(*Outbox) Fate) Fate {
	n.mu.Lock()
	if n.links[l.identity.Node] != l {
		n.mu.Unlock()
		return NotConnected
	}
	p := n.pipe(l, to)
	fate := add(p.out)
	flush := !p.flushing && (p.out.Waiting() || p.out.HasLost())
	p.flushing = p.flushing || flush
	n.mu.Unlock()
	if flush {
		n.schedule(0, func() { n.flush(p) })
	}
	return fate
}

// pipe returns the way from l to the node, connected if it can be. n.mu is held.
func (n *Inproc) pipe(l *InprocLink, to uint64) *pipe {
	at := pair{l.identity.Node, to}
	p := n.pipes[at]
	if p == nil || p.from != l {
		p = &pipe{pair: at, from: l, out: NewOutbox(Limits{})}
		n.pipes[at] = p
	}
	if p.conn == nil && n.reachable(l, to) {
		p.conn = &inprocConn{to: n.links[to]}
		p.out.Open()
		p.out.Up()
		n.counters.Connects.Add(1)
	}
	return p
}

func (n *Inproc) reachable(l *InprocLink, to uint64) bool {
	return n.links[l.identity.Node] == l && n.links[to] != nil && n.links[to] != l && !n.cuts[pair{l.identity.Node, to}]
}

// breakPipes ends the connections of the pipes that match, and returns those that have a loss to report, in
// a fixed order. n.mu is held; scheduleFlushes follows when it is not.
func (n *Inproc) breakPipes(match func(*pipe) bool) []*pipe {
	var broken []*pipe
	for _, p := range n.pipes { // each by itself; what follows is sorted below, in a fixed order
		if p.conn == nil || !match(p) {
			continue
		}
		p.conn.dead = true
		n.counters.FramesCut.Add(uint64(p.conn.onTheWay))
		n.counters.ConnectionsLost.Add(1)
		n.counters.failed(p.out.Fail())
		p.conn = nil
		if !p.flushing && p.out.HasLost() {
			p.flushing = true
			broken = append(broken, p)
		}
	}
	slices.SortFunc(broken, func(a, b *pipe) int {
		return cmp.Or(cmp.Compare(a.pair.from, b.pair.from), cmp.Compare(a.pair.to, b.pair.to))
	})
	return broken
}

func (n *Inproc) scheduleFlushes(pipes []*pipe) {
	for _, p := range pipes {
		n.schedule(0, func() { n.flush(p) })
	}
}

// flush sends what waits in p, one frame after the other, and reports its losses.
func (n *Inproc) flush(p *pipe) {
	n.mu.Lock()
	p.flushing = false
	lost := p.out.TakeLost()
	if n.links[p.pair.from] != p.from {
		lost = nil // the incarnation is gone, and with it whoever would care
	}
	var arrivals []arrival
	for f := p.out.TakeFrame(frameFillBytesMax); f != nil; f = p.out.TakeFrame(frameFillBytesMax) {
		f.Header = p.from.identity.header()
		n.counters.sent(f)
		arrivals = n.depart(arrivals, p.conn, f)
	}
	n.mu.Unlock()
	for _, a := range arrivals {
		n.schedule(a.delay, func() { n.arrive(a) })
	}
	if len(lost) > 0 {
		n.counters.LossesReported.Add(uint64(len(lost)))
		p.from.receiver.Lost(p.pair.to, lost)
	}
}

// arrival is one delivery to come. frame is nil when it takes the first of the connection's ordered ones.
type arrival struct {
	from  uint64
	conn  *inprocConn
	frame []byte
	seq   uint64
	delay time.Duration
}

// depart applies the faults to f and appends its arrivals: none, one or two. n.mu is held.
func (n *Inproc) depart(to []arrival, c *inprocConn, f *raftv1.Frame) []arrival {
	if n.happens(n.faults.LossPerMille) {
		n.counters.FramesLost.Add(1)
		return to
	}
	copies := 1
	if n.happens(n.faults.DuplicatePerMille) {
		n.counters.FramesDoubled.Add(1)
		copies = 2
	}
	bytes := marshal(f)
	n.counters.BytesSent.Add(uint64(len(bytes) * copies))
	c.sent++
	for i := range copies {
		late := n.faults.LatePerMille
		if i > 0 {
			late = max(late, n.faults.LateCopyPerMille)
		}
		a := arrival{from: f.GetHeader().GetFromNode(), conn: c, seq: c.sent, delay: n.delay(late)}
		if n.faults.Reorder {
			a.frame = bytes
		} else {
			c.ordered.push(bytes)
		}
		c.onTheWay++
		to = append(to, a)
	}
	return to
}

// arrive hands a's frame over, and what arrives meanwhile: with a schedule of many goroutines too, the
// receiver gets one frame at a time.
func (n *Inproc) arrive(a arrival) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := a.conn
	if c.dead {
		return
	}
	if a.frame == nil {
		a.frame = c.ordered.pop()
	} else if a.seq < c.latest {
		n.counters.FramesOvertaken.Add(1)
	}
	c.latest = max(c.latest, a.seq)
	c.onTheWay--
	c.arrived.push(a.frame)
	if c.delivering {
		return
	}
	c.delivering = true
	for c.arrived.len() > 0 && !c.dead {
		b := c.arrived.pop()
		n.mu.Unlock()
		n.deliver(a.from, c.to, b)
		n.mu.Lock()
	}
	c.delivering = false
}

func (n *Inproc) deliver(from uint64, to *InprocLink, b []byte) {
	f := unmarshal(b)
	n.counters.BytesReceived.Add(uint64(len(b)))
	n.counters.received(f)
	to.receiver.Frame(from, f)
}

func (n *Inproc) happens(perMille uint64) bool { return perMille > 0 && n.rand(1000) < perMille }

func (n *Inproc) delay(latePerMille uint64) time.Duration {
	spread := n.faults.DelayMax - n.faults.DelayMin
	if n.happens(latePerMille) {
		n.counters.FramesLate.Add(1)
		spread = n.faults.LateMax - n.faults.DelayMin
	}
	if spread <= 0 {
		return n.faults.DelayMin
	}
	return n.faults.DelayMin + time.Duration(n.rand(uint64(spread)+1))
}

func marshal(f *raftv1.Frame) []byte {
	b, err := proto.Marshal(f)
	if err != nil {
		panic(fmt.Sprintf("transport: a frame cannot be marshalled: %v", err))
	}
	return b
}

func unmarshal(b []byte) *raftv1.Frame {
	f := &raftv1.Frame{}
	if err := proto.Unmarshal(b, f); err != nil {
		panic(fmt.Sprintf("transport: a frame that was marshalled cannot be unmarshalled: %v", err))
	}
	return f
}
