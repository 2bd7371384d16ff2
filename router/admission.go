package router

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/multiraftd/multiraftd/actors"
)

// Limits of what is admitted and not yet ended. Mailboxes never refuse, so this is where an open loop of
// clients is stopped. One forwarded item counts on its way through a node as well.
const (
	partitionBytesMax   = 64 << 20
	partitionAppendsMax = 65_536
	nodeBytesMax        = 256 << 20
	nodeAppendsMax      = 1 << 20
)

// gauge counts what is admitted. Invariant: never below zero, and zero when nothing is on its way; checked in
// put and by the tests of everything that can end a proposal.
type gauge struct{ bytes, items atomic.Int64 }

// take admits one item, unless that would go over a limit.
func (g *gauge) take(bytes, bytesMax, itemsMax int64) bool {
	if g.bytes.Add(bytes) > bytesMax {
		g.bytes.Add(-bytes)
		return false
	}
	if g.items.Add(1) > itemsMax {
		g.bytes.Add(-bytes)
		g.items.Add(-1)
		return false
	}
	return true
}

func (g *gauge) put(bytes int64) {
	if g.bytes.Add(-bytes) < 0 || g.items.Add(-1) < 0 {
		panic("admission went below zero")
	}
}

// load is what is admitted to one replica: how much, and the proposals themselves, so that they can be ended
// when the replica will not do it any more.
type load struct {
	gauge
	mu    sync.Mutex
	first *proposal
}

func (l *load) add(p *proposal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.next = l.first; p.next != nil {
		p.next.prev = p
	}
	l.first = p
}

func (l *load) remove(p *proposal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.next != nil {
		p.next.prev = p.prev
	}
	if p.prev != nil {
		p.prev.next = p.next
	} else {
		l.first = p.next
	}
	p.prev, p.next = nil, nil
}

// admittedBefore returns the proposals that wait since before a time.
func (l *load) admittedBefore(t time.Time) []*proposal {
	l.mu.Lock()
	defer l.mu.Unlock()
	var old []*proposal
	for p := l.first; p != nil; p = p.next {
		if p.since.Before(t) {
			old = append(old, p)
		}
	}
	return old
}

// proposal is one Propose from its admission to its end. Whoever asked may hear the end earlier than the
// admission is given back: a proposal that its client has given up on still is in memory.
type proposal struct {
	msg    actors.Propose
	to     proposalEnd
	hosted *Hosted // nil for one that is forwarded
	node   *gauge
	bytes  int64
	since  time.Time

	answered, released atomic.Bool
	prev, next         *proposal // in hosted.load, under its lock
}

// proposalEnd hears the end of a proposal, once. It must not block.
type proposalEnd interface{ ended(actors.ProposeResult) }

// admit reserves room for p, or says which limit is reached. An admitted proposal must end: through
// Proposed, or through answer and release.
func (p *proposal) admit(now time.Time) error {
	if !p.node.take(p.bytes, nodeBytesMax, nodeAppendsMax) {
		return fail(overloaded, "the node has %d bytes in %d appends in flight", p.node.bytes.Load(), p.node.items.Load())
	}
	p.since = now
	if p.hosted == nil {
		return nil
	}
	l := &p.hosted.load
	if !l.take(p.bytes, partitionBytesMax, partitionAppendsMax) {
		p.node.put(p.bytes)
		return fail(overloaded, "the partition has %d bytes in %d appends in flight", l.bytes.Load(), l.items.Load())
	}
	l.add(p)
	return nil
}

// Proposed is part of actors.ProposeReply.
func (p *proposal) Proposed(res actors.ProposeResult) {
	p.msg.Payload = nil // copied into its entry, or refused
	p.release()
	p.answer(res)
}

func (p *proposal) answer(res actors.ProposeResult) {
	if p.answered.CompareAndSwap(false, true) {
		p.to.ended(res)
	}
}

func (p *proposal) release() {
	if !p.released.CompareAndSwap(false, true) {
		return
	}
	if p.hosted != nil {
		p.hosted.load.remove(p)
		p.hosted.load.put(p.bytes)
	}
	p.node.put(p.bytes)
}
