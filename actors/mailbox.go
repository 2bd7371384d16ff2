package actors

import (
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"
)

// drained is delivered to the actor, in its own turn, when its mailbox has run dry or after turnMessagesMax
// messages: the moment to flush what they asked for.
type drained struct{}

// turnMessagesMax bounds how many messages are handled before a flush. It must be finite: under open-loop
// load the mailbox never runs dry.
const turnMessagesMax = 1024

// drainMailbox is a protoactor Mailbox for the "step many, flush once" loop: a double-buffered queue that
// tells its actor when it has drained. It is unbounded: the router admits by bytes in front of it, and a
// storage response must never be refused.
//
// Producers append to user under mu; the single consumer swaps user for cur when cur is used up, so that
// the lock is taken once per batch on its side. Order is FIFO per producer. System messages go first.
type drainMailbox struct {
	mu      sync.Mutex
	user    []any
	sys     []any
	waiting atomic.Int64 // user messages not yet taken, in user and cur
	system  atomic.Int64
	running atomic.Bool // Invariant: at most one process() runs; set by whoever schedules it

	// Consumer only.
	cur       []any
	pos       int
	since     int // messages handled since the last drained
	suspended atomic.Bool
	stopped   atomic.Bool // the actor has been told to stop: what still comes ends here

	posted     func(any) // is shown each user message before the actor can see it; nil = nobody counts them
	invoker    actor.MessageInvoker
	dispatcher actor.Dispatcher
}

func newDrainMailbox() *drainMailbox { return &drainMailbox{} }

// RegisterHandlers is part of actor.Mailbox.
func (b *drainMailbox) RegisterHandlers(i actor.MessageInvoker, d actor.Dispatcher) {
	b.invoker, b.dispatcher = i, d
}

// Start is part of actor.Mailbox.
func (b *drainMailbox) Start() {}

// UserMessageCount is part of actor.Mailbox.
func (b *drainMailbox) UserMessageCount() int { return int(b.waiting.Load()) }

// PostUserMessage is part of actor.Mailbox.
func (b *drainMailbox) PostUserMessage(m any) {
	if b.stopped.Load() {
		End(m, ErrStopped)
		return
	}
	if b.posted != nil {
		b.posted(m)
	}
	b.mu.Lock()
	b.user = append(b.user, m)
	b.mu.Unlock()
	b.waiting.Add(1)
	b.schedule()
}

// PostSystemMessage is part of actor.Mailbox.
func (b *drainMailbox) PostSystemMessage(m any) {
	b.mu.Lock()
	b.sys = append(b.sys, m)
	b.mu.Unlock()
	b.system.Add(1)
	b.schedule()
}

func (b *drainMailbox) schedule() {
	if b.running.CompareAndSwap(false, true) {
		b.dispatcher.Schedule(b.process)
	}
}

// process runs the actor until there is nothing to do, then looks once more: a message posted between the
// last look and running = false did not schedule.
func (b *drainMailbox) process() {
	for {
		b.run()
		b.running.Store(false)
		more := b.system.Load() > 0 || (b.stopped.Load() || !b.suspended.Load()) && b.waiting.Load() > 0
		if !more || !b.running.CompareAndSwap(false, true) {
			return
		}
	}
}

func (b *drainMailbox) run() {
	var msg any
	defer func() {
		if reason := recover(); reason != nil {
			b.invoker.EscalateFailure(reason, msg)
		}
	}()
	for i := 0; ; i++ {
		if i > b.dispatcher.Throughput() {
			i = 0
			runtime.Gosched()
		}
		if msg = b.popSystem(); msg != nil {
			b.handleSystem(msg)
			continue
		}
		if b.stopped.Load() { // also what was posted by somebody who had looked before
			b.endQueued()
			return
		}
		if b.suspended.Load() {
			return
		}
		if msg = b.next(); msg == nil {
			return
		}
		b.invoker.InvokeUserMessage(msg)
	}
}

func (b *drainMailbox) handleSystem(msg any) {
	switch msg.(type) {
	case *actor.SuspendMailbox:
		b.suspended.Store(true)
	case *actor.ResumeMailbox:
		b.suspended.Store(false)
	case *actor.Stop:
		b.invoker.InvokeSystemMessage(msg)
		b.stopped.Store(true)
		b.endQueued()
	default:
		b.invoker.InvokeSystemMessage(msg)
	}
}

// next returns the next message for the actor: a queued one, or drained after the last of a turn.
func (b *drainMailbox) next() any {
	if b.since < turnMessagesMax {
		if m := b.popUser(); m != nil {
			b.since++
			return m
		}
	}
	if b.since == 0 {
		return nil
	}
	b.since = 0
	return drained{}
}

// endQueued ends the requests that the actor did not live to see. protoactor drops them without a word.
func (b *drainMailbox) endQueued() {
	for m := b.popUser(); m != nil; m = b.popUser() {
		End(m, ErrStopped)
	}
}

func (b *drainMailbox) popSystem() any {
	if b.system.Load() == 0 {
		return nil
	}
	b.mu.Lock()
	m := b.sys[0]
	b.sys[0] = nil
	b.sys = b.sys[1:]
	b.mu.Unlock()
	b.system.Add(-1)
	return m
}

func (b *drainMailbox) popUser() any {
	if b.pos == len(b.cur) {
		if b.waiting.Load() == 0 {
			return nil
		}
		b.swap()
	}
	if b.pos == len(b.cur) {
		return nil
	}
	m := b.cur[b.pos]
	b.cur[b.pos] = nil
	b.pos++
	b.waiting.Add(-1)
	return m
}

func (b *drainMailbox) swap() {
	b.mu.Lock()
	b.cur, b.user = b.user, b.cur[:0]
	b.mu.Unlock()
	b.pos = 0
}
