package transport

import (
	"sync"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/proto/trace"
)

// queue is an Outbox with a lock and a way to wake the goroutine that empties it. An add takes the lock
// once, and wakes only when that goroutine sleeps: the first message after a flush schedules one flush, and
// what comes until then rides along.
type queue struct {
	wake chan struct{}

	mu  sync.Mutex
	out *Outbox
	// Invariant: asleep is set by the owner when it found nothing, and cleared by whoever sends the wake-up.
	asleep bool
}

func newQueue(l Limits) *queue { return &queue{out: NewOutbox(l), wake: make(chan struct{}, 1)} }

func (q *queue) add(e *raftv1.Envelope, beside []trace.Carried) Fate {
	q.mu.Lock()
	fate := q.out.AddCarrying(e, beside)
	rouse := q.rouse()
	q.mu.Unlock()
	q.signal(rouse)
	return fate
}

func (q *queue) addControl(c *raftv1.Control) Fate {
	q.mu.Lock()
	fate := q.out.AddControl(c)
	rouse := q.rouse()
	q.mu.Unlock()
	q.signal(rouse)
	return fate
}

func (q *queue) setReport(r *raftv1.NodeReport) Fate {
	q.mu.Lock()
	fate := q.out.SetReport(r)
	rouse := q.rouse()
	q.mu.Unlock()
	q.signal(rouse)
	return fate
}

// take returns the groups whose loss is to be reported and the next frame. When it returns neither, the
// next add that changes that will wake the owner.
func (q *queue) take() (lost []uint64, f *raftv1.Frame) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.out.HasLost() {
		lost = q.out.TakeLost()
	}
	f = q.out.TakeFrame(frameFillBytesMax)
	q.asleep = lost == nil && f == nil
	return lost, f
}

// bytes returns how much waits.
func (q *queue) bytes() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.out.bytes
}

func (q *queue) open() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.out.Open()
}

func (q *queue) up() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.out.Up()
}

func (q *queue) fail() (envelopes, controls int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.out.Fail()
}

func (q *queue) rouse() bool {
	if !q.asleep || !q.out.Waiting() && !q.out.HasLost() {
		return false
	}
	q.asleep = false
	return true
}

func (q *queue) signal(rouse bool) {
	if !rouse {
		return
	}
	select {
	case q.wake <- struct{}{}:
	default: // one wake-up is pending already
	}
}
