package router

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
)

// forwardStream carries the items of one Append stream whose partitions are led on one other node, over an
// Append stream of its own to there. Its goroutines end with the handler of the client's stream.
//
// When it breaks, what was sent and has no result ends as OUTCOME_UNKNOWN, and what was not sent yet with
// NO_LEADER: nothing was stored of it. The next item for that node begins a new one.
type forwardStream struct {
	st   *appendStream
	node raftcore.NodeID
	wake chan struct{}

	mu     sync.Mutex
	queue  []*multiraftv1.AppendItem // under ids of this stream's own
	slots  map[uint64]*slot          // queued or sent, by that id
	sent   uint64                    // ids up to here have been given to gRPC
	next   uint64
	broken bool
}

// forward admits an item to this node and hands it to the stream to another.
func (st *appendStream) forward(n raftcore.NodeID, sl *slot, it *multiraftv1.AppendItem, now time.Time) error {
	sl.bytes = int64(proto.Size(it))
	if err := sl.admit(now); err != nil {
		return err
	}
	st.s.cfg.Counters.Forwarded.Add(1)
	if sl.span != nil {
		sl.startForward(n, it)
	}
	for {
		f := st.forwardTo(n)
		if f == nil {
			sl.release()
			return errStopping() // the client has gone: nobody hears it
		}
		if f.add(sl, it) {
			return nil
		}
		st.forget(f)
	}
}

// forwardTo returns the stream to a node, a new one if need be; nil when the handler is returning.
func (st *appendStream) forwardTo(n raftcore.NodeID) *forwardStream {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.gone {
		return nil
	}
	f := st.forwards[n]
	if f == nil {
		f = &forwardStream{st: st, node: n, wake: make(chan struct{}, 1), slots: map[uint64]*slot{}}
		st.forwards[n] = f
		st.running.Go(f.run)
	}
	return f
}

func (st *appendStream) forget(f *forwardStream) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.forwards[f.node] == f {
		delete(st.forwards, f.node)
	}
}

func (f *forwardStream) add(sl *slot, it *multiraftv1.AppendItem) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken {
		return false
	}
	f.next++
	it.RequestId = f.next
	f.queue = append(f.queue, it)
	f.slots[f.next] = sl
	notify(f.wake)
	return true
}

func (f *forwardStream) run() {
	ctx, cancel := context.WithCancel(f.st.ctx)
	err := f.exchange(ctx, cancel)
	cancel()
	f.st.forget(f)
	f.end(err)
}

// exchange sends until the stream breaks; another goroutine receives.
func (f *forwardStream) exchange(ctx context.Context, cancel context.CancelFunc) error {
	conn, err := f.st.s.connect(ctx, f.node)
	if err != nil {
		return err
	}
	rpc, err := multiraftv1.NewLogServiceClient(conn).Append(f.st.origin.forwarded(ctx))
	if err != nil {
		return err
	}
	received := make(chan error, 1)
	go func() {
		received <- f.receive(rpc)
		cancel() // a Send that is stuck fails
	}()
	err = f.send(ctx, rpc)
	cancel()
	return cmp.Or(<-received, err)
}

func (f *forwardStream) send(ctx context.Context, rpc grpc.BidiStreamingClient[multiraftv1.AppendRequest, multiraftv1.AppendResponse]) error {
	for {
		items := f.take()
		if len(items) == 0 {
			select {
			case <-f.wake:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err := rpc.Send(&multiraftv1.AppendRequest{Items: items}); err != nil {
			return err
		}
	}
}

// take removes what fits into one message from the queue. From now on it counts as sent.
func (f *forwardStream) take() []*multiraftv1.AppendItem {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, size := 0, int64(0)
	for n < len(f.queue) && (n == 0 || size+f.slots[f.queue[n].RequestId].bytes <= forwardBytesMax) {
		size += f.slots[f.queue[n].RequestId].bytes
		n++
	}
	if n == 0 {
		return nil
	}
	items := f.queue[:n:n]
	f.queue = f.queue[n:]
	f.sent = items[n-1].RequestId
	return items
}

func (f *forwardStream) receive(rpc grpc.BidiStreamingClient[multiraftv1.AppendRequest, multiraftv1.AppendResponse]) error {
	for {
		resp, err := rpc.Recv()
		if err != nil {
			return err
		}
		for _, r := range resp.GetResults() {
			f.answered(r)
		}
	}
}

func (f *forwardStream) answered(r *multiraftv1.AppendResult) {
	f.mu.Lock()
	sl, ok := f.slots[r.GetRequestId()]
	if ok = ok && r.GetRequestId() <= f.sent; ok {
		delete(f.slots, r.GetRequestId())
	}
	f.mu.Unlock()
	if !ok {
		return // the other node answered twice, or what was not asked
	}
	sl.release()
	switch o := r.GetOutcome().(type) {
	case *multiraftv1.AppendResult_Receipt:
		sl.took(f.st.s.cfg.Counters.now())
		sl.finish(o.Receipt, nil)
	case *multiraftv1.AppendResult_Error:
		sl.finish(nil, secondHand(f.node, fromItem(o.Error)))
	default:
		sl.finish(nil, fail(outcomeUnknown, "node %d answered without an outcome", f.node))
	}
}

// end gives every slot that still waits its end.
func (f *forwardStream) end(err error) {
	f.mu.Lock()
	f.broken = true
	var ids []uint64
	for id := range f.slots {
		ids = append(ids, id)
	}
	f.mu.Unlock()
	slices.Sort(ids)
	for _, id := range ids { // nobody else touches slots of a broken stream
		sl := f.slots[id]
		sl.release()
		if id <= f.sent {
			sl.finish(nil, fail(outcomeUnknown, "node %d, to which this was forwarded, was lost: %v", f.node, err))
			continue
		}
		sl.finish(nil, fail(noLeader, "not forwarded to node %d: %v", f.node, err))
	}
	clear(f.slots)
}
