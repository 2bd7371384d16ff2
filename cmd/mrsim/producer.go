package main

import (
	"errors"
	"time"

	"github.com/multiraftd/multiraftd/actors"
	"github.com/multiraftd/multiraftd/cmd/mrsim/history"
	"github.com/multiraftd/multiraftd/proto/recordbatch"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/router"
)

// Limits of a simulated client.
const (
	inFlightMax     = 5 // as the real client: what a partition remembers of a producer
	recordsMax      = 4
	requestTimeout  = 2 * time.Second
	clientDelayMax  = 15 * time.Millisecond
	clientLossMille = 20
	clientSlowMille = 20
	clientSlowMax   = time.Second
)

// producer appends to one partition. An idempotent one follows the rules of the real client (client/lane.go):
// batches are frozen with their sequence, at most inFlightMax are out, and after anything but an
// acknowledgement nothing goes out until all that is out is answered or given up; then it goes again, in order.
type producer struct {
	w   *world
	id  int
	log *ledger

	pid   int64 // 0 = a plain producer
	epoch int16
	seq   int32

	queue   []*batch // unacknowledged, oldest first
	stalled bool
	leader  raftcore.NodeID // as far as it knows; 0 = not
	tried   int
	line    line
	stopped bool // makes no new batches
	next    uint64
}

// batch is a batch of an idempotent producer until it is acknowledged, or of a plain one until it has ended.
type batch struct {
	values   []uint64
	payload  []byte
	seq      int32
	epoch    int16
	attempt  int  // counts attempts; an answer to an earlier one is late
	out      bool // the latest attempt is not answered yet
	followed bool // sent while an older one was open: a gap may come of that one
	ref      history.Ref
}

// line is the connection to a node: what is sent on it arrives in order, or not at all.
type line struct{ last time.Duration }

// arrival returns when something sent now arrives.
func (l *line) arrival(w *world) time.Duration {
	delay := w.between(time.Millisecond/10, clientDelayMax)
	if w.faulty && w.chance(clientSlowMille) {
		delay = w.between(clientDelayMax, clientSlowMax)
	}
	l.last = max(l.last, w.now+delay)
	return l.last
}

func (p *producer) idempotent() bool { return p.pid != 0 }

// work makes a batch now and then, and goes on.
func (p *producer) work() {
	if p.stopped {
		return
	}
	if len(p.queue) < inFlightMax {
		p.add()
	}
	p.w.busy(p.w.between(time.Millisecond, 30*time.Millisecond), p.work)
}

func (p *producer) add() {
	b := &batch{seq: p.seq, epoch: p.epoch}
	for range 1 + p.w.rnd.IntN(recordsMax) {
		p.next++
		b.values = append(b.values, uint64(p.id)<<32|p.next)
	}
	session := recordbatch.None
	if p.idempotent() {
		session = recordbatch.Producer{ID: p.pid, Epoch: p.epoch, Sequence: p.seq}
		p.seq += int32(len(b.values))
	}
	var records []recordbatch.Record
	for _, v := range b.values {
		records = append(records, recordbatch.Record{Value: valueOf(v), TimestampMillis: 1})
	}
	payload, err := recordbatch.Encode(nil, session, records)
	if err != nil {
		panic("mrsim: a batch that can't be encoded: " + err.Error())
	}
	b.payload = payload
	p.queue = append(p.queue, b)
	p.pump()
}

// pump sends what may go out.
func (p *producer) pump() {
	if p.stalled {
		return
	}
	for i, b := range p.queue {
		if !b.out && b.attempt == 0 {
			p.send(b, i > 0)
		}
	}
}

func (p *producer) send(b *batch, followed bool) {
	w := p.w
	b.attempt++
	if b.attempt > 1 {
		w.fire(retry, "")
	}
	b.out, b.followed = true, followed
	b.ref = p.log.past.Append(int64(w.now), p.id, p.session(b), b.values)
	call := &appendCall{p: p, b: b, attempt: b.attempt, ref: b.ref}
	w.after(requestTimeout, func() { call.end(nil) })
	to := p.target()
	life := to.life
	if w.chance(p.lossMille()) {
		w.fire(requestLost, "")
		return
	}
	w.after(p.line.arrival(w)-w.now, func() {
		if !to.alive(life) { // connection refused, or reset
			call.end(nil)
			return
		}
		if w.refuses(to, p.log.group) {
			w.after(w.between(time.Millisecond/10, clientDelayMax), func() { call.end(&actors.ProposeResult{Err: errFull}) })
			return
		}
		call.node, call.life = to, life
		to.open[call] = true
		to.core.Dispatch(router.Routed{Group: p.log.group, Msg: &actors.Propose{Payload: b.payload, Reply: call}})
	})
}

func (p *producer) session(b *batch) history.Producer {
	if !p.idempotent() {
		return history.Producer{}
	}
	return history.Producer{ID: p.pid, Sequence: int64(b.seq), Epoch: b.epoch}
}

func (p *producer) lossMille() int {
	if !p.w.faulty {
		return 0
	}
	return clientLossMille
}

// target is the node that it believes to lead. When it knows none it tries one after the other, and stays with
// each until an answer tells more.
func (p *producer) target() *node {
	if p.leader == 0 {
		p.tried = p.tried%len(p.w.nodes) + 1
		p.leader = raftcore.NodeID(p.tried)
	}
	return p.w.node(p.leader)
}

func (w *world) anyNode() *node {
	n := w.nodes[w.rnd.IntN(len(w.nodes))]
	if !n.up {
		return nil
	}
	return n
}

// appendCall is one attempt on its way.
type appendCall struct {
	p       *producer
	b       *batch
	attempt int
	ref     history.Ref
	node    *node
	life    int
	ended   bool
}

// Proposed is part of actors.ProposeReply. It runs in the replica's turn, in the node's process.
func (c *appendCall) Proposed(res actors.ProposeResult) {
	w := c.p.w
	if !c.node.alive(c.life) {
		return
	}
	delete(c.node.open, c)
	w.mix(uint64(c.p.id), uint64(c.b.seq), uint64(res.Outcome.Verdict), uint64(res.Outcome.Offset))
	if res.Err == nil && res.Outcome.Verdict == raftcore.Accepted {
		w.acknowledges(c.node, c.p.log, res, c.b.values)
	}
	if w.chance(c.p.lossMille()) {
		w.fire(answerLost, "")
		return
	}
	w.after(w.between(time.Millisecond/10, clientDelayMax), func() { c.end(&res) })
}

// acknowledges checks an acknowledgement where it is made: a majority has the entry on its disks.
func (w *world) acknowledges(n *node, l *ledger, res actors.ProposeResult, values []uint64) {
	h, ok := n.core.Table().Hosted(l.group)
	if !ok {
		w.violate("an acknowledgement from nowhere", "node %d has no replica of group %d", n.id, l.group)
		return
	}
	if l.deleting { // others may have deleted what they had acknowledged
		w.told(l, "an acknowledgement", res.Outcome.Offset, values)
		return
	}
	have, need := w.durable(l.group, res.At, h.Board.Load().Voters)
	if have < need || res.Fsynced < need {
		w.violate("acknowledged before it is durable on a majority", "node %d, group %d, index %d: on the disks of %d nodes, said %d, need %d",
			n.id, l.group, res.At.Index, have, res.Fsynced, need)
	}
	w.told(l, "an acknowledgement", res.Outcome.Offset, values)
}

// end is the answer at the client; nil when it has waited for too long. The first one counts.
func (c *appendCall) end(res *actors.ProposeResult) {
	p, b := c.p, c.b
	if c.ended {
		return
	}
	c.ended = true
	now := int64(p.w.now)
	switch {
	case res == nil || errors.Is(res.Err, actors.ErrOutcomeUnknown):
	case res.Err != nil:
		p.log.past.Failed(c.ref, now)
	case res.Outcome.Verdict == raftcore.Accepted, res.Outcome.Verdict == raftcore.Duplicate && res.Outcome.Offset >= 0:
		p.log.past.Acked(c.ref, now, int64(res.Outcome.Offset))
	case res.Outcome.Verdict == raftcore.Duplicate:
		p.log.past.Duplicate(c.ref, now)
	default:
		p.log.past.Failed(c.ref, now)
	}
	if b.attempt != c.attempt || !p.has(b) {
		return // of a producer that has been reborn since
	}
	b.out = false
	if res == nil || res.Err != nil || res.Outcome.Verdict != raftcore.Accepted {
		p.w.tell("producer %d, sequence %d, attempt %d: %v", p.id, b.seq, b.attempt, res)
	}
	p.answered(b, res)
}

func (p *producer) has(b *batch) bool {
	for _, q := range p.queue {
		if q == b {
			return true
		}
	}
	return false
}

func (p *producer) answered(b *batch, res *actors.ProposeResult) {
	stored := res != nil && res.Err == nil && (res.Outcome.Verdict == raftcore.Accepted || res.Outcome.Verdict == raftcore.Duplicate)
	switch {
	case stored:
		p.settle(b)
		p.w.acked += uint64(len(b.values))
	case !p.idempotent():
		p.settle(b) // a retry might store it twice
	default:
		p.stall(b, res)
	}
	p.leaderFrom(res)
	p.resume()
}

func (p *producer) settle(b *batch) {
	for i, q := range p.queue {
		if q == b {
			p.queue = append(p.queue[:i:i], p.queue[i+1:]...)
			return
		}
	}
}

// stall looks at a refusal. A gap that the oldest batch meets, with nothing before it open, means that the
// partition has forgotten what it acknowledged.
func (p *producer) stall(b *batch, res *actors.ProposeResult) {
	p.stalled = true
	if res == nil || res.Err != nil {
		return
	}
	switch v := res.Outcome.Verdict; v {
	case raftcore.SequenceGap, raftcore.UnknownProducer:
		if b == p.queue[0] && !b.followed {
			p.w.violate("a producer's session is lost", "group %d: producer %d, sequence %d: %v", p.log.group, p.pid, b.seq, v)
		}
	default:
		p.w.violate("a good batch is refused", "group %d: producer %d, sequence %d: %v", p.log.group, p.pid, b.seq, v)
	}
}

func (p *producer) leaderFrom(res *actors.ProposeResult) {
	if res == nil {
		p.leader = 0
		return
	}
	var elsewhere *actors.NotLeaderError
	if errors.As(res.Err, &elsewhere) {
		p.leader = elsewhere.Leader
	} else if res.Err != nil {
		p.leader = 0
	}
}

// resume sends everything again once nothing is out any more.
func (p *producer) resume() {
	if !p.stalled {
		p.pump()
		return
	}
	for _, b := range p.queue {
		if b.out {
			return
		}
	}
	p.w.after(p.w.between(time.Millisecond, 50*time.Millisecond), p.again)
}

func (p *producer) again() {
	if !p.stalled {
		return
	}
	for _, b := range p.queue {
		if b.out {
			return
		}
	}
	p.stalled = false
	for i, b := range p.queue {
		p.send(b, i > 0)
	}
}

// rebirth is a client that comes back under its producer id with the next epoch: what was on its way is
// fenced off or stored, and nobody asks any more.
func (p *producer) rebirth() {
	p.epoch++
	p.seq, p.queue, p.stalled, p.line = 0, nil, false, line{}
}
