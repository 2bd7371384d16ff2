package router

import (
	"cmp"
	"container/list"
	"context"
	"slices"
	"time"

	"github.com/multiraftd/multiraftd/transport/guard"
)

// waiter is a call that waits for room.
type waiter struct {
	share  *share
	n      int64
	takes  bool          // room becomes the share's
	served chan struct{} // closed when there is room
	place  *list.Element // in its line
}

// line is who waits of one host. Those that only want to know of room go first: they want little, and what they do
// with it ends soon.
type line struct{ asking, taking list.List }

func (l *line) of(w *waiter) *list.List {
	if w.takes {
		return &l.taking
	}
	return &l.asking
}

func (l *line) first() *waiter {
	if e := l.asking.Front(); e != nil {
		return e.Value.(*waiter)
	}
	return l.taking.Front().Value.(*waiter)
}

func (l *line) empty() bool { return l.asking.Len()+l.taking.Len() == 0 }

// wait waits for room for n bytes, and takes it if it is told to. First come, first served within a host; the hosts take
// turns. Only who is served wakes up: thousands of calls may wait, and room comes and goes with every message.
func (s *share) wait(ctx context.Context, n int64, takes bool) error {
	w := &waiter{share: s, n: n, takes: takes, served: make(chan struct{})}
	s.of.enqueue(w)
	select {
	case <-w.served:
		return nil
	case <-ctx.Done():
		if s.of.leave(w) {
			return ctx.Err()
		}
		return nil // served meanwhile
	}
}

func (o *outflow) enqueue(w *waiter) {
	o.mu.Lock()
	defer o.mu.Unlock()
	l := o.lines[w.share.host]
	if l == nil {
		l = new(line)
		o.lines[w.share.host] = l
		o.turns = append(o.turns, w.share.host)
	}
	w.place = l.of(w).PushBack(w)
	if l.first() == w {
		o.serve(true)
	}
}

// leave takes a waiter out of its line, unless it has been served.
func (o *outflow) leave(w *waiter) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case <-w.served:
		return false
	default:
	}
	first := o.lines[w.share.host].first() == w
	o.remove(w)
	if first { // who comes next may want less
		o.serve(true)
	}
	return true
}

// remove takes a waiter out of its line, and its host out of the turns when nobody waits there any more. o.mu is held.
func (o *outflow) remove(w *waiter) {
	host := w.share.host
	l := o.lines[host]
	l.of(w).Remove(w.place)
	if !l.empty() {
		return
	}
	delete(o.lines, host)
	i := slices.Index(o.turns, host)
	o.turns = slices.Delete(o.turns, i, i+1)
}

// serve gives room to those whose turn it is, and sees to it that clients that have stalled make room for the next ones,
// if these are others than before. o.mu is held.
func (o *outflow) serve(others bool) {
	for o.serveOne() {
		others = true
	}
	switch {
	case len(o.turns) == 0:
		o.look.Stop()
	case others:
		o.look.Reset(0)
	}
}

func (o *outflow) serveOne() bool {
	for i, host := range o.turns {
		w := o.lines[host].first()
		switch {
		case w.share.fits(w.n):
			o.turns = append(slices.Delete(o.turns, i, i+1), host)
			o.remove(w)
			if w.takes {
				w.share.add(w.n)
			}
			close(w.served)
			return true
		case o.bytes+w.n > outflowBytesMax:
			return false // nobody may pass who wants less, or who wants much would wait for ever
		}
		// The host has all that it may have: the others go on.
	}
	return false
}

// shed closes connections of clients that have stalled, and looks again when the next one may have.
func (o *outflow) shed() {
	for _, victim := range o.victims(time.Now()) {
		guard.Sever(victim.ctx)
	}
}

// victims are the clients that make room for those whose turn it is.
func (o *outflow) victims(now time.Time) (victims []*share) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.turns) == 0 {
		return nil
	}
	next := stallMax
	for _, host := range o.turns {
		w := o.lines[host].first()
		some, again := o.stalled(w.share, w.n, now)
		victims, next = append(victims, some...), min(next, again)
		if o.bytes+w.n > outflowBytesMax {
			break // as in serveOne
		}
	}
	o.look.Reset(next)
	return victims
}

// stalled finds who makes room for a call that waits for n bytes: clients that have taken nothing for too long, the
// longest first, as many as it takes with those that are on their way out already. It also says when to look again.
// o.mu is held.
func (o *outflow) stalled(waiting *share, n int64, now time.Time) (victims []*share, next time.Duration) {
	own := o.byHost[waiting.host] + n - outflowHostBytesMax // above 0: only clients of the same host can make room
	need := max(own, o.bytes+n-outflowBytesMax)
	next = stallMax
	var late []*share
	for s := range o.sending {
		switch left := s.stall - now.Sub(s.since); {
		case s.bytes == 0 || own > 0 && s.host != waiting.host:
		case s.severed:
			need -= s.bytes
		case left > 0:
			next = min(next, left)
		default:
			late = append(late, s)
		}
	}
	slices.SortFunc(late, func(a, b *share) int { return cmp.Or(a.since.Compare(b.since), cmp.Compare(b.bytes, a.bytes)) })
	for _, s := range late {
		if need <= 0 {
			break
		}
		need -= s.bytes
		s.severed = true
		victims = append(victims, s)
	}
	return victims, next
}
