package router

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"

	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/transport/guard"
)

// Limits of what has been made for clients and not been taken by them: record batches on their way out, counted
// once (packing them takes as much again), and results of appends.
const (
	outflowBytesMax     = 64 << 20
	outflowHostBytesMax = 32 << 20 // of it, for the clients of one host
	queuedBytesMin      = 32 << 10 // gRPC takes more than this of a stream from us before its client has taken any
	sendBufferBytes     = 1 << 20  // gRPC packs whatever is larger into buffers of at least this size
	resultBytes         = 512      // counted for one result of an append
	outflowWaitingMax   = 256      // calls that wait for room before they take a message: each may have some in its window
	stallMax            = 2 * time.Second
	forwardedStallMax   = 15 * time.Second // of a client that is a node: it ends its own stalled clients sooner
	relayStallMax       = 10 * time.Second // of a client to which this node passes on what another one reads
)

// outflow is what all calls of a node hold for clients that have not taken it.
//
// When it is full, calls wait in line for room. Clients that have taken nothing for a while then make room, the longest
// first: their connections are closed, because what gRPC has queued for a stream can't be taken back otherwise.
// While there is room, a client may take as long as it likes.
//
// Invariant: bytes is the sum of byHost, which is the sum of the shares; 0 when no call is under way.
type outflow struct {
	mu      sync.Mutex
	bytes   int64
	byHost  map[string]int64
	sending map[*share]struct{}
	waiting int              // in await
	lines   map[string]*line // who waits, by host
	turns   []string         // the hosts in lines, in the order of their turns
	look    *time.Timer      // runs shed while somebody waits
}

// share is what one call holds.
type share struct {
	of     *outflow
	ctx    context.Context // the call's, which leads to its connection
	host   string
	stall  time.Duration // how long its client may take nothing while others wait for room
	bytes  int64
	since  time.Time // of the Send that is under way
	closed bool
	// severed: its client's connection is being closed, which ends the Send.
	severed bool
}

func newOutflow() *outflow {
	o := &outflow{byHost: map[string]int64{}, sending: map[*share]struct{}{}, lines: map[string]*line{}}
	o.look = time.AfterFunc(0, o.shed)
	o.look.Stop()
	return o
}

// HeldBytes is how much of what was made for clients they have not taken.
func (s *Services) HeldBytes() int64 {
	s.outflow.mu.Lock()
	defer s.outflow.mu.Unlock()
	return s.outflow.bytes
}

// open begins a call's share.
func (o *outflow) open(ctx context.Context) *share {
	s := &share{of: o, ctx: ctx, host: guard.Host(ctx), stall: stallMax}
	if originOf(ctx).hops > 0 {
		s.stall = forwardedStallMax
	}
	return s
}

// fits says whether there is room for n bytes more. of.mu is held.
func (s *share) fits(n int64) bool {
	return s.of.bytes+n <= outflowBytesMax && s.of.byHost[s.host]+n <= outflowHostBytesMax
}

// tryTake adds n bytes to the share, if there is room.
func (s *share) tryTake(n int64) bool {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	if !s.fits(n) {
		return false
	}
	s.add(n)
	return true
}

// mustTake adds n bytes for a message that is here already, or ends the call: a message that waited for room would
// be held meanwhile. await, before the message was taken, is what makes this rare.
func (s *share) mustTake(n int64) error {
	if s.tryTake(n) {
		return nil
	}
	return fail(overloaded, "what was made for clients of this node waits to be taken by them: there is no room for more")
}

// take waits for room. Who waits must hold nothing that only its own client can release, or all might wait for
// each other.
func (s *share) take(ctx context.Context, n int64) error {
	if s.tryTake(n) {
		return nil
	}
	return s.wait(ctx, n, true)
}

// await waits until there would be room for n bytes. Not everybody may: what has been sent to a call that waits is
// held too.
func (s *share) await(ctx context.Context, n int64) error {
	if s.room(n) {
		return nil
	}
	defer s.of.count(-1)
	if s.of.count(1) > outflowWaitingMax {
		return fail(overloaded, "%d calls wait for clients to take what was made for them", outflowWaitingMax)
	}
	return s.wait(ctx, n, false)
}

// count counts calls that wait in await.
func (o *outflow) count(n int) (waiting int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waiting += n
	return o.waiting
}

// room says whether there is room for n bytes more, at this moment.
func (s *share) room(n int64) bool {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	return s.fits(n)
}

// give takes n bytes off the share.
func (s *share) give(n int64) {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	s.add(-n)
}

// close gives back the whole share; what comes later counts for nothing.
func (s *share) close() {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	s.add(-s.bytes)
	s.closed = true
}

// during runs a Send, which ends when the client has taken enough of what came before, or has gone.
func (s *share) during(send func() error) error {
	s.mark(time.Now())
	defer s.mark(time.Time{})
	return send()
}

func (s *share) mark(since time.Time) {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	if s.since = since; since.IsZero() {
		delete(s.of.sending, s)
		return
	}
	s.of.sending[s] = struct{}{}
}

// add changes the share. of.mu is held.
func (s *share) add(n int64) {
	if s.closed || n == 0 {
		return
	}
	s.bytes += n
	s.of.bytes += n
	if s.of.byHost[s.host] += n; s.of.byHost[s.host] == 0 {
		delete(s.of.byHost, s.host)
	}
	if s.bytes < 0 || s.of.bytes < 0 {
		panic("outflow went below zero")
	}
	if n < 0 && len(s.of.turns) > 0 {
		s.of.serve(false)
	}
}

// outlet sends what one Read reads, and keeps count of what its client has not taken.
type outlet struct {
	*share
	rpc    readServer
	last   *multiraftv1.ReadResponse // without its batches
	queued int64                     // of the share: the last response, which gRPC may still hold
	// stallEnd ends the client when it takes nothing for so long, whoever waits; 0 = never.
	stallEnd time.Duration
}

// reserve makes room for a response that is not there yet. When there is none, it first waits until the client
// has what was sent.
func (o *outlet) reserve(ctx context.Context, n int64) error {
	if o.tryTake(n) {
		return nil
	}
	if err := o.flush(); err != nil {
		return err
	}
	return o.take(ctx, n)
}

// send sends a response, for which so many bytes were reserved.
func (o *outlet) send(resp *multiraftv1.ReadResponse, reserved int64) error {
	size := sendBytes(resp)
	o.give(reserved - size)
	if err := o.pass(resp); err != nil {
		return err
	}
	o.last = &multiraftv1.ReadResponse{NextOffset: resp.GetNextOffset(), HighWatermark: resp.GetHighWatermark(), LogStart: resp.GetLogStart(), EndOffset: resp.GetEndOffset()}
	// The Send has waited for the response before this one to go out.
	o.give(o.queued)
	if o.queued = size; size < queuedBytesMin {
		o.give(size)
		o.queued = 0
	}
	return nil
}

func (o *outlet) pass(resp *multiraftv1.ReadResponse) error {
	if o.stallEnd > 0 {
		late := time.AfterFunc(o.stallEnd, func() { guard.Sever(o.ctx) })
		defer late.Stop()
	}
	return o.during(func() error { return o.rpc.Send(resp) })
}

// flush waits until the client has taken what counts. A response without batches is sent behind it for that.
func (o *outlet) flush() error {
	if o.queued == 0 {
		return nil
	}
	if err := o.pass(o.last); err != nil {
		return err
	}
	o.give(o.queued)
	o.queued = 0
	return nil
}

// relay passes on what another node reads, to the end.
func (o *outlet) relay(ctx context.Context, from grpc.ServerStreamingClient[multiraftv1.ReadResponse]) error {
	for {
		if !o.room(readBytesDefault) {
			if err := o.flush(); err != nil {
				return err
			}
			if err := o.await(ctx, readBytesDefault); err != nil {
				return err
			}
		}
		resp, err := from.Recv()
		if errors.Is(err, io.EOF) {
			return o.flush()
		}
		if err != nil {
			return err
		}
		size := sendBytes(resp)
		if err := o.mustTake(size); err != nil {
			return err
		}
		if err := o.send(resp, size); err != nil {
			return err
		}
	}
}

// sendBytes is what a response takes on its way.
func sendBytes(resp *multiraftv1.ReadResponse) (n int64) {
	for _, b := range resp.GetBatches() {
		n += int64(len(b))
	}
	if n < queuedBytesMin {
		return n
	}
	return max(n, sendBufferBytes)
}
