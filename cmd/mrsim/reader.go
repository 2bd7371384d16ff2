package main

import (
	"errors"
	"time"

	"github.com/multiraftd/multiraftd/actors"
	"github.com/multiraftd/multiraftd/cmd/mrsim/history"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/partition"
	"github.com/multiraftd/multiraftd/router"
)

// reader reads from any replica, asks leaders for the end, and waits for what is to come.
type reader struct {
	w       *world
	id      int
	logs    []*ledger
	stopped bool
	waits   uint64
}

func (r *reader) work() {
	if r.stopped {
		return
	}
	l := r.logs[r.w.rnd.IntN(len(r.logs))]
	switch r.w.rnd.IntN(4) {
	case 0:
		r.end(l)
	case 1:
		r.follow(l)
	default:
		r.read(l)
	}
	r.w.busy(r.w.between(5*time.Millisecond, 60*time.Millisecond), r.work)
}

// read looks at a replica as router's Read call does.
func (r *reader) read(l *ledger) {
	n := r.w.anyNode()
	if n == nil || n.paused {
		return
	}
	from := raftcore.Offset(0)
	if len(l.values) > 0 {
		from = raftcore.Offset(r.w.rnd.IntN(len(l.values) + 1))
	}
	r.readAt(n, l, from, false)
}

// readAt reads at a node now. Something must be there if due says so.
func (r *reader) readAt(n *node, l *ledger, from raftcore.Offset, due bool) {
	v, err := n.core.View()
	if err != nil {
		return // an injected fault, or down
	}
	defer v.Close()
	ref := l.past.Read(int64(r.w.now), r.id, int64(from))
	p, err := readPiece(v, l.group, from, 1+r.w.rnd.IntN(2000))
	var outside *partition.OutOfRangeError
	switch {
	case errors.As(err, &outside) && outside.Offset > outside.HighWatermark && !due:
		return // behind
	case errors.As(err, &outside) && outside.Offset < outside.LogStart:
		return // truncated
	case err != nil && n.doomed:
		return
	case errors.Is(err, errIO), r.w.unborn(n, l.group):
		return
	case err != nil:
		r.w.violate("a read fails", "node %d, group %d, from offset %d: %v", n.id, l.group, from, err)
		return
	case due && len(p.values) == 0:
		r.w.violate("readable, and not there", "node %d, group %d: nothing at offset %d, watermark %d", n.id, l.group, from, p.high)
		return
	}
	l.past.Records(ref, int64(r.w.now), p.values)
	r.w.served(n, l, from, p)
}

// unborn says that a node has no replica of a group yet.
func (w *world) unborn(n *node, g raftcore.GroupID) bool {
	_, ok := n.core.Table().Hosted(g)
	return !ok
}

// served checks what a replica gave out: known to everybody alike, and durable on a majority.
func (w *world) served(n *node, l *ledger, from raftcore.Offset, p piece) {
	if len(p.values) == 0 {
		return
	}
	w.mix(n.id, uint64(from), uint64(len(p.values)))
	w.told(l, "a read", from, p.values)
	h, ok := n.core.Table().Hosted(l.group)
	if !ok || h.Board.Load() == nil {
		return
	}
	if have, need := w.durable(l.group, p.last, h.Board.Load().Voters); have < need {
		w.violate("served before it is committed", "node %d, group %d, offset %d at index %d: on the disks of %d nodes, need %d",
			n.id, l.group, p.next-1, p.last.Index, have, need)
	}
}

// end asks for the linearizable bounds.
func (r *reader) end(l *ledger) {
	if n := r.w.anyLeader(l.group); n != nil {
		r.endAt(n, l)
	}
}

func (r *reader) endAt(n *node, l *ledger) {
	call := &endCall{r: r, l: l, ref: l.past.End(int64(r.w.now), r.id), node: n, life: n.life}
	r.w.after(r.w.between(time.Millisecond/10, clientDelayMax), func() {
		if n.alive(call.life) {
			n.open[call] = true
			n.core.Dispatch(router.Routed{Group: l.group, Msg: &actors.ReadEnd{Reply: call}})
		}
	})
}

// anyLeader returns one of those that say they lead a group: somebody may not know yet that it leads no more.
func (w *world) anyLeader(g raftcore.GroupID) (found *node) {
	n := 0
	for _, m := range w.nodes {
		if s := m.status(g); s != nil && s.Role == raftcore.Leader {
			if n++; w.rnd.IntN(n) == 0 {
				found = m
			}
		}
	}
	return found
}

type endCall struct {
	r    *reader
	l    *ledger
	ref  history.Ref
	node *node
	life int
}

// ReadEnd is part of actors.ReadEndReply.
func (c *endCall) ReadEnd(start, high raftcore.Offset, term uint64, err error) {
	w := c.r.w
	if c.node.alive(c.life) {
		delete(c.node.open, c)
	}
	if err != nil || !c.node.alive(c.life) {
		return
	}
	w.mix(uint64(start), uint64(high), term)
	w.after(w.between(time.Millisecond/10, clientDelayMax), func() {
		c.l.past.Bounds(c.ref, int64(w.now), int64(start), int64(high))
	})
}

// follow waits for the next record at a replica, then reads it there.
func (r *reader) follow(l *ledger) {
	n := r.w.anyNode()
	if n == nil || r.w.unborn(n, l.group) {
		return
	}
	r.waits++
	next, life, reply := raftcore.Offset(len(l.values)), n.life, make(chan error, 1)
	n.core.Dispatch(router.Routed{Group: l.group, Msg: &actors.WaitReadable{ID: uint64(r.id)<<32 | r.waits, Offset: next, Reply: reply}})
	r.poll(n, life, l, next, reply)
}

func (r *reader) poll(n *node, life int, l *ledger, next raftcore.Offset, reply chan error) {
	if r.stopped || !n.alive(life) {
		return
	}
	select {
	case err := <-reply:
		if err == nil && !n.paused {
			r.readAt(n, l, next, true)
		}
	default:
		r.w.after(10*time.Millisecond, func() { r.poll(n, life, l, next, reply) })
	}
}
