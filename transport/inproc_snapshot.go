package transport

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
)

// ChunkReceiver takes the requests of InstallSnapshot in a network without calls that wait. reply is called once,
// from anywhere, with what RPC.InstallSnapshot returns: nothing at all lets the next request come.
type ChunkReceiver interface {
	SnapshotChunk(from uint64, req *raftv1.InstallSnapshotRequest, reply func(*raftv1.InstallSnapshotResponse, error))
}

// inprocSnapshotPause lies between two streams of a snapshot.
const inprocSnapshotPause = 50 * time.Millisecond

// inprocSnapshot is one snapshot on its way in an Inproc network. One step is one request there and its answer back.
// Invariant: exactly one of these is outstanding: a scheduled step, a request or answer on its way, the receiver's
// answer. attempt tells a late one of a stream that has broken.
type inprocSnapshot struct {
	net     *Inproc
	from    *InprocLink
	to      uint64
	peer    *InprocLink // the incarnation that the present stream goes to; nil between two
	attempt int
	asked   int // requests handed over
	ended   bool

	mu     sync.Mutex // held while the course decides; net.mu guards the rest
	course *course
}

// ServeSnapshots names who takes the snapshots that are sent to this node. Without, they are refused.
func (l *InprocLink) ServeSnapshots(r ChunkReceiver) {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	l.chunks = r
}

// SendSnapshot does what Transport.SendSnapshot does. Each chunk takes as long as a frame.
func (l *InprocLink) SendSnapshot(to uint64, s SnapshotSource) {
	n := l.net
	o := &inprocSnapshot{net: n, from: l, to: to, course: newCourse(s, l.identity.header())}
	n.mu.Lock()
	busy := 0
	for _, other := range n.snapshots {
		if other.from == l {
			busy++
		}
	}
	refused := busy >= snapshotsMax || n.links[l.identity.Node] != l
	if !refused {
		n.snapshots = append(n.snapshots, o)
	}
	n.mu.Unlock()
	n.schedule(0, func() {
		if refused {
			n.counters.SnapshotsRefused.Add(1)
			s.Ended(nil, fmt.Errorf("%w: %d are being sent", ErrTooManySnapshots, busy))
			return
		}
		n.counters.SnapshotsSent.Add(1)
		if err := o.course.open(); err != nil {
			o.end(nil, err)
			return
		}
		o.step()
	})
}

// step sends the next request, on a new stream when there is none.
func (o *inprocSnapshot) step() {
	n := o.net
	n.mu.Lock()
	if o.ended {
		n.mu.Unlock()
		return
	}
	if n.links[o.from.identity.Node] != o.from {
		n.mu.Unlock()
		o.end(nil, ErrClosed)
		return
	}
	if o.peer == nil && n.reachable(o.from, o.to) {
		o.peer = n.links[o.to]
	}
	reached := o.peer != nil
	n.mu.Unlock()
	if !reached {
		o.broke(ErrPeerEnded)
		return
	}
	o.mu.Lock()
	req, _, err := o.course.request()
	o.mu.Unlock()
	if err != nil {
		o.broke(err)
		return
	}
	n.counters.SnapshotChunksSent.Add(1)
	n.mu.Lock()
	b := n.spoil(req)
	lost, delay, attempt := n.happens(n.faults.ChunkLossPerMille), n.delay(n.faults.LatePerMille), o.attempt
	n.mu.Unlock()
	n.schedule(delay, func() { o.arrive(b, lost, attempt) })
}

// spoil returns req as it arrives. n.mu is held.
func (n *Inproc) spoil(req *raftv1.InstallSnapshotRequest) []byte {
	if len(req.GetData()) > 0 && n.happens(n.faults.ChunkSpoilPerMille) {
		n.counters.SnapshotChunksSpoilt.Add(1)
		req.Data = slices.Clone(req.GetData())
		req.Data[n.rand(uint64(len(req.GetData())))] ^= 1 << n.rand(8)
	}
	b, err := proto.Marshal(req)
	if err != nil {
		panic(fmt.Sprintf("transport: a chunk cannot be marshalled: %v", err))
	}
	return b
}

// arrive hands a request over.
func (o *inprocSnapshot) arrive(b []byte, lost bool, attempt int) {
	to := o.receiver(attempt)
	switch {
	case to == nil:
		return
	case lost:
		o.net.counters.SnapshotChunksLost.Add(1)
		o.broke(ErrPeerEnded)
		return
	case to.chunks == nil:
		o.broke(toStatus(ErrNotStarted))
		return
	}
	req := &raftv1.InstallSnapshotRequest{}
	if err := proto.Unmarshal(b, req); err != nil {
		panic(fmt.Sprintf("transport: a chunk that was marshalled cannot be unmarshalled: %v", err))
	}
	o.net.counters.SnapshotChunksReceived.Add(1)
	o.watch(attempt)
	to.chunks.SnapshotChunk(o.from.identity.Node, req, func(resp *raftv1.InstallSnapshotResponse, err error) {
		o.net.mu.Lock()
		lost, delay := o.net.happens(o.net.faults.ChunkLossPerMille), o.net.delay(o.net.faults.LatePerMille)
		o.net.mu.Unlock()
		o.net.schedule(delay, func() { o.answered(resp, err, lost, attempt) })
	})
}

// watch breaks a stream on which the receiver does not answer.
func (o *inprocSnapshot) watch(attempt int) {
	o.net.mu.Lock()
	o.asked++
	asked := o.asked
	o.net.mu.Unlock()
	o.net.schedule(snapshotStall, func() {
		o.net.mu.Lock()
		stalled := o.peer != nil && o.attempt == attempt && o.asked == asked && !o.ended
		o.net.mu.Unlock()
		if stalled {
			o.broke(ErrSnapshotStalled)
		}
	})
}

// receiver returns who is at the other end of an attempt's stream; nil when the stream has broken.
func (o *inprocSnapshot) receiver(attempt int) *InprocLink {
	o.net.mu.Lock()
	defer o.net.mu.Unlock()
	if o.ended || o.attempt != attempt {
		return nil
	}
	return o.peer
}

func (o *inprocSnapshot) answered(resp *raftv1.InstallSnapshotResponse, err error, lost bool, attempt int) {
	switch {
	case o.receiver(attempt) == nil:
	case lost:
		o.net.counters.SnapshotChunksLost.Add(1)
		o.broke(ErrPeerEnded)
	case err != nil:
		o.broke(err)
	case resp == nil:
		o.step()
	default:
		o.mu.Lock()
		over, err := o.course.answered(resp)
		o.mu.Unlock()
		o.goOn(over, resp, err)
	}
}

func (o *inprocSnapshot) broke(cause error) {
	o.mu.Lock()
	over, err := o.course.broke(cause)
	o.mu.Unlock()
	o.goOn(over, nil, err)
}

// goOn ends it, or begins another stream after a while.
func (o *inprocSnapshot) goOn(over bool, resp *raftv1.InstallSnapshotResponse, err error) {
	if over {
		o.end(resp, err)
		return
	}
	o.net.counters.SnapshotStreamsResumed.Add(1)
	o.net.mu.Lock()
	o.peer = nil
	o.attempt++
	o.net.mu.Unlock()
	o.net.schedule(inprocSnapshotPause, o.step)
}

func (o *inprocSnapshot) end(resp *raftv1.InstallSnapshotResponse, err error) {
	n := o.net
	n.mu.Lock()
	first := !o.ended
	o.ended = true
	n.snapshots = slices.DeleteFunc(n.snapshots, func(other *inprocSnapshot) bool { return other == o })
	n.mu.Unlock()
	if !first {
		return
	}
	if err != nil {
		n.counters.SnapshotsBroken.Add(1)
	}
	o.course.source.Ended(resp, err)
}

// breakSnapshots breaks the streams that have no way any more, and returns them. n.mu is held; scheduleSnapshots
// follows when it is not.
func (n *Inproc) breakSnapshots() []*inprocSnapshot {
	var broken []*inprocSnapshot
	for _, o := range n.snapshots {
		if o.peer != nil && (n.links[o.to] != o.peer || !n.reachable(o.from, o.to)) {
			o.peer = nil
			o.attempt++
			broken = append(broken, o)
		}
	}
	return broken
}

func (n *Inproc) scheduleSnapshots(broken []*inprocSnapshot) {
	for _, o := range broken {
		n.schedule(0, func() { o.broke(ErrPeerEnded) })
	}
}
