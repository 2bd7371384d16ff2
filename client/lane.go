package client

import (
	"time"

	"github.com/multiraftd/multiraftd/proto/recordbatch"
)

// lane is a producer's side of one partition. It has no clock, lock or goroutine: Producer calls it under
// its lock, tells it the time, and carries out what follows.
//
//	          add            close              next, sent            acked
//	records ------> open ------------> queue ----------------> in flight ------> settled
//	                                     ^                         |
//	                                     +---- stalled, drained <--+ refused, lost
//
// Order and exactly-once rest on three rules. At most `window` batches from the oldest unacknowledged one on
// are out, so the partition still remembers each of them when it comes again. After a refusal nothing is
// sent until all that is in flight has been answered: then the unacknowledged ones go again, in order, as
// the same bytes. And only the oldest batch's refusal can be final: a later one's may follow from it (a gap).
type lane struct {
	partition uint32
	leader    uint64 // node; 0 = not known
	term      uint64 // newest in which a leader was known

	producer recordbatch.Producer // Sequence is the next one
	needsID  bool                 // producer cannot be used any more: freeze nothing until renew

	open     *batch
	queue    []*batch // closed; the first is the oldest that is not settled
	inFlight int
	via      courier // what is in flight went through it
	flushing bool    // close open without waiting for company

	stalled   bool
	broken    bool // while stalled: the frozen batches must change their producer id
	safe      bool // while broken: what is frozen cannot have been stored
	elsewhere bool // while stalled: the node stops, another one can be asked without a pause
	failures  int  // in a row
	notBefore time.Time
	headSince time.Time // when the oldest batch became the oldest
	lastErr   error
}

func (l *lane) idle() bool { return l.open == nil && len(l.queue) == 0 }

// close moves the open batch to the queue.
func (l *lane) close(now time.Time) {
	if l.open == nil {
		return
	}
	b := l.open
	l.open, l.flushing = nil, false
	l.enqueue(b, now)
}

// enqueue adds a closed batch behind all that came before it.
func (l *lane) enqueue(b *batch, now time.Time) {
	l.close(now)
	if len(l.queue) == 0 {
		l.headSince = now
	}
	l.queue = append(l.queue, b)
}

// due says whether the open batch should go now. It waits on while the window is full: it can only grow.
func (l *lane) due(now time.Time, linger time.Duration, window int) bool {
	return l.open != nil && len(l.queue) < window && (l.flushing || !now.Before(l.open.ack.Queued.Add(linger)))
}

// next is the batch to send now, or nil.
func (l *lane) next(now time.Time, window int) *batch {
	if l.stalled || now.Before(l.notBefore) {
		return nil
	}
	for _, b := range l.queue[:min(len(l.queue), window)] {
		if !b.waiting() {
			continue
		}
		if b.encoded == nil && l.needsID {
			return nil
		}
		return b
	}
	return nil
}

// freeze gives b its sequence, the first time that it is sent.
func (l *lane) freeze(b *batch) error {
	if b.encoded != nil {
		return nil
	}
	if err := b.freeze(l.producer); err != nil {
		return err
	}
	l.producer.Sequence = recordbatch.NextSequence(l.producer.Sequence, b.ack.Records)
	return nil
}

func (l *lane) sent(b *batch, via courier, request uint64, now time.Time) {
	b.via, b.request, b.sentAt, b.followed = via, request, now, b != l.oldest()
	l.via = via
	l.inFlight++
}

func (l *lane) landed(b *batch) {
	b.via = nil
	l.inFlight--
}

func (l *lane) acked(b *batch, r Receipt) {
	l.landed(b)
	b.settle(r, nil)
	l.failures, l.lastErr = 0, nil
}

// refused takes a node's error for b.
func (l *lane) refused(b *batch, e *Error, now time.Time) {
	l.landed(b)
	b.maybeStored = b.maybeStored || e.maybeStored()
	follows := e.Reason == SequenceGap || e.Reason == UnknownProducer
	switch head := b == l.oldest() && !l.broken; {
	case follows && (!head || b.followed):
		l.stalled = true
	case !head || l.passes(e):
		l.stall(e, now)
	case e.Reason == UnknownProducer && !b.maybeStored:
		// The partition has forgotten an idle producer. Nothing of what is frozen is in it.
		l.breakOff(true)
	default:
		b.settle(Receipt{}, finalError(b, e))
		l.breakOff(!b.maybeStored)
	}
}

// oldest is the first batch whose fate is open.
func (l *lane) oldest() *batch {
	for _, b := range l.queue {
		if !b.settled {
			return b
		}
	}
	return nil
}

// passes says that the same batch may be accepted later.
func (l *lane) passes(e *Error) bool {
	if e.Reason == UnknownTopic || e.Reason == UnknownPartition {
		return l.failures < unknownTopicTriesMax
	}
	return e.retriable()
}

// finalError is what b's caller hears when e ends it. If an earlier attempt may have been stored, e is about
// the last attempt only.
func finalError(b *batch, e error) error {
	if b.maybeStored {
		return unknownOutcome(e)
	}
	return e
}

// lost takes back what was in flight on via.
func (l *lane) lost(via courier, e *Error, now time.Time) {
	for _, b := range l.queue {
		if b.via != via {
			continue
		}
		l.landed(b)
		b.maybeStored = b.maybeStored || e.maybeStored()
		l.stall(e, now)
	}
}

// led notes a leader for a lane that knows none. A new term is what a pause after a lost leader waits for.
func (l *lane) led(leader, term uint64, now time.Time) {
	if l.leader != 0 || leader == 0 {
		return
	}
	l.leader = leader
	if term > l.term {
		l.term, l.notBefore = term, now
	}
}

// stall stops sending for a pause, and until nothing is in flight. Failures within a pause count once. A node that
// stops asks for a pause on its own behalf: the first time, others are asked at once.
func (l *lane) stall(e *Error, now time.Time) {
	l.stalled, l.lastErr = true, e
	if e.Reason == Stopping && l.failures == 0 {
		l.elsewhere = true
		return
	}
	if !now.Before(l.notBefore) {
		l.notBefore = now.Add(pause(l.failures, e.RetryAfter))
		l.failures++
	}
}

func (l *lane) breakOff(safe bool) {
	l.stalled, l.broken, l.safe, l.needsID = true, true, safe, true
}

// drain ends a stall once nothing is in flight any more.
func (l *lane) drain() {
	if !l.stalled || l.inFlight > 0 {
		return
	}
	if l.broken {
		l.reset()
	}
	if l.elsewhere {
		l.elsewhere = false
		l.failures++
	}
	l.stalled, l.broken, l.safe = false, false, false
}

// reset frees the frozen batches of a producer id that cannot be used any more. A batch cannot have been
// stored without the one before it; where that is in doubt, its fate is too.
func (l *lane) reset() {
	for _, b := range l.queue {
		if b.settled || b.encoded == nil {
			continue
		}
		if b.maybeStored && !l.safe {
			b.settle(Receipt{}, unknownOutcome(l.lastErr))
			continue
		}
		b.maybeStored = false
		if err := b.thaw(); err != nil {
			b.settle(Receipt{}, err)
		}
	}
}

// renewable says that the lane waits for a producer id and that no batch of the old one is left: batches of
// two producers in flight could change places.
func (l *lane) renewable() bool {
	if !l.needsID || l.stalled {
		return false
	}
	for _, b := range l.queue {
		if b.encoded != nil {
			return false
		}
	}
	return true
}

func (l *lane) renew(p recordbatch.Producer) { l.producer, l.needsID = p, false }

// abandon settles everything: unknown where it may have been stored, cause where not. The sequence is
// broken, so the lane needs a new producer id.
func (l *lane) abandon(cause error) {
	if l.open != nil {
		l.queue = append(l.queue, l.open)
	}
	for _, b := range l.queue {
		if b.settled {
			continue
		}
		b.maybeStored = b.maybeStored || b.via != nil
		b.via = nil
		b.settle(Receipt{}, finalError(b, cause))
	}
	l.open, l.inFlight, l.flushing, l.stalled, l.broken, l.elsewhere = nil, 0, false, false, false, false
	l.failures, l.notBefore, l.lastErr, l.needsID = 0, time.Time{}, nil, true
}

// pop takes the settled batches off the front, in order.
func (l *lane) pop(now time.Time) []*batch {
	n := 0
	for n < len(l.queue) && l.queue[n].settled {
		n++
	}
	if n == 0 {
		return nil
	}
	popped := append([]*batch(nil), l.queue[:n]...)
	clear(l.queue[:n])
	l.queue = l.queue[n:]
	l.headSince = now
	return popped
}

// wake is when time alone can move the lane on.
func (l *lane) wake(now time.Time, linger time.Duration, window int) time.Time {
	at := now.Add(idleInterval)
	if l.open != nil && len(l.queue) < window && !l.stalled {
		at = l.open.ack.Queued.Add(linger)
	}
	if now.Before(l.notBefore) {
		return l.notBefore
	}
	return at
}
