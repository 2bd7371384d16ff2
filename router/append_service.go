package router

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/multiraftd/multiraftd/actors"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/proto/trace"
	"github.com/multiraftd/multiraftd/raftcore"
)

// appendStream is one Append call.
//
//	read:  Recv -> check each item -> admit -> one Dispatch per message;  items led elsewhere -> forwardStream
//	write: wait -> everything that has a result -> Send
//
// The handler's goroutine writes; one more reads, since a Recv can only be cut short by the handler's return.
// Results come from replicas' turns and from forwardStreams; they are collected under mu, which is never held
// while something waits. A reader that does not take its results is not read from any more.
//
// Invariant: within a partition results are sent in the order of the items (lanes). Invariant: every slot gets
// exactly one result, or outlives the stream, when the client has gone.
type appendStream struct {
	s      *Services
	rpc    grpc.BidiStreamingServer[multiraftv1.AppendRequest, multiraftv1.AppendResponse]
	ctx    context.Context // ends with the handler
	origin origin
	share  *share
	wake   chan struct{} // for write; one slot
	room   chan struct{} // for read; one slot

	mu       sync.Mutex
	lanes    map[laneKey]*lane
	results  []*multiraftv1.AppendResult
	replies  []tracedReply // of the sampled among results
	open     int           // slots without a result, or behind one
	unsent   int           // results that the client has not taken
	readErr  error
	readDone bool
	gone     bool // the handler is returning

	forwards map[raftcore.NodeID]*forwardStream
	running  sync.WaitGroup // forwards
}

type laneKey struct {
	topic     uint64
	partition uint32
}

// lane holds the items of one partition that wait for results, in order.
type lane struct {
	key         laneKey
	first, last *slot
}

// slot is one item from its arrival to its result.
type slot struct {
	proposal
	st        *appendStream
	lane      *lane
	next      *slot
	requestID uint64
	result    *multiraftv1.AppendResult

	// What is traced of it; nil = it is not sampled.
	span, forwarding, reply *trace.Span
}

// Append stores the items that a client streams.
func (s *Services) Append(rpc grpc.BidiStreamingServer[multiraftv1.AppendRequest, multiraftv1.AppendResponse]) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.exit()
	ctx, cancel := context.WithCancel(rpc.Context())
	st := &appendStream{
		s: s, rpc: rpc, ctx: ctx, origin: originOf(ctx), share: s.outflow.open(ctx), wake: make(chan struct{}, 1), room: make(chan struct{}, 1),
		lanes: map[laneKey]*lane{}, forwards: map[raftcore.NodeID]*forwardStream{},
	}
	defer st.share.close()
	go st.read() // ends soon after this handler: gRPC then fails its Recv
	err := st.write()
	st.leave()
	cancel()
	st.running.Wait()
	return s.refused(err)
}

// leave makes sure that no forward begins any more.
func (st *appendStream) leave() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.gone = true
	for _, r := range st.replies {
		r.end(errClientGone)
	}
	st.replies = nil
}

var errClientGone = errors.New("the client has gone")

func (st *appendStream) read() {
	err := st.readAll()
	st.mu.Lock()
	st.readDone, st.readErr = true, err
	st.mu.Unlock()
	notify(st.wake)
}

func (st *appendStream) readAll() error {
	for {
		if err := st.awaitRoom(); err != nil {
			return err
		}
		if err := st.share.await(st.ctx, streamItemsMax*resultBytes); err != nil {
			return err
		}
		req, err := st.rpc.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if n := len(req.GetItems()); n > streamItemsMax {
			return badField("items", "%d in one message, at most %d", n, streamItemsMax)
		}
		if err := st.share.mustTake(int64(len(req.GetItems())) * resultBytes); err != nil {
			return err
		}
		st.take(req.GetItems())
	}
}

// awaitRoom waits while too much of this stream is under way or not taken by the client.
func (st *appendStream) awaitRoom() error {
	for {
		st.mu.Lock()
		full := st.open+st.unsent >= streamItemsMax
		st.mu.Unlock()
		if !full {
			return nil
		}
		select {
		case <-st.room:
		case <-st.ctx.Done():
			return st.ctx.Err()
		}
	}
}

// take starts the items of one message, in order. Those for replicas here go to the router together.
func (st *appendStream) take(items []*multiraftv1.AppendItem) {
	t, now, since := st.s.core.Table(), time.Now(), st.s.cfg.Counters.now()
	routed := make([]Routed, 0, len(items))
	for _, it := range items {
		sl := st.newSlot(it)
		sl.msg.Since = since
		if st.s.cfg.Tracing.Tracer != nil {
			sl.span = st.s.traceAppend(it, "Append")
		}
		r, err := st.start(t, sl, it, now)
		if err != nil {
			sl.finish(nil, err)
			continue
		}
		if r.Msg != nil {
			routed = append(routed, r)
		}
	}
	if len(routed) > 0 {
		st.s.cfg.Counters.AppendsAdmitted.Add(uint64(len(routed)))
		st.s.core.Dispatch(routed...)
	}
}

// newSlot puts an item into its partition's lane.
func (st *appendStream) newSlot(it *multiraftv1.AppendItem) *slot {
	key := laneKey{it.GetTopicId(), it.GetPartition()}
	sl := &slot{st: st, requestID: it.GetRequestId()}
	sl.to, sl.node = sl, &st.s.admitted
	st.mu.Lock()
	defer st.mu.Unlock()
	l := st.lanes[key]
	if l == nil {
		l = &lane{key: key}
		st.lanes[key] = l
	}
	if sl.lane = l; l.last == nil {
		l.first = sl
	} else {
		l.last.next = sl
	}
	l.last = sl
	st.open++
	return sl
}

// start checks and admits one item. It returns the message for a replica here, or none when another node has
// been asked.
func (st *appendStream) start(t *Table, sl *slot, it *multiraftv1.AppendItem, now time.Time) (Routed, error) {
	s := st.s
	if s.draining.Err() != nil {
		return Routed{}, errStopping()
	}
	g, err := groupOf(t, it.GetTopicId(), it.GetPartition())
	if err != nil {
		return Routed{}, err
	}
	r, err := s.leaderOf(t, g, st.origin)
	if err != nil {
		return Routed{}, err
	}
	if r.here == nil {
		return Routed{}, st.forward(r.node, sl, it, now)
	}
	if err := s.roomFor(t, r.here); err != nil {
		return Routed{}, err
	}
	batch, err := s.batchOf(it)
	if err != nil {
		return Routed{}, err
	}
	sl.hosted, sl.bytes = r.here, int64(len(batch))
	sl.msg.Payload, sl.msg.Reply, sl.msg.Wait = batch, sl, s.startDispatch(sl.span)
	if err := sl.admit(now); err != nil {
		return Routed{}, err
	}
	return Routed{g, &sl.msg}, nil
}

// ended is part of proposalEnd: the replica, or whoever speaks for it, is done with a slot.
func (sl *slot) ended(res actors.ProposeResult) {
	if res.Err != nil {
		sl.finish(nil, res.Err)
		return
	}
	receipt, err := receiptOf(sl.hosted, sl.lane.key.partition, res)
	if err == nil {
		sl.took(res.Settled)
	}
	sl.finish(receipt, err)
}

// took records how long it was until an acknowledgement.
func (sl *slot) took(settled int64) {
	if settled != 0 {
		sl.st.s.cfg.Counters.Append.Observe(settled - sl.msg.Since)
	}
}

// finish gives the slot its result and releases the results that may be sent now.
func (sl *slot) finish(receipt *multiraftv1.Receipt, err error) {
	st := sl.st
	r := &multiraftv1.AppendResult{RequestId: sl.requestID}
	if err != nil {
		f := st.s.explain(err)
		st.s.cfg.Counters.AppendsRefused[f.reason].Add(1)
		r.Outcome = &multiraftv1.AppendResult_Error{Error: f.item()}
	} else {
		r.Outcome = &multiraftv1.AppendResult_Receipt{Receipt: receipt}
	}
	st.mu.Lock()
	if sl.result == nil {
		if sl.span != nil {
			sl.answer(receipt, err)
		}
		sl.result = r
		st.advance(sl.lane)
	}
	st.mu.Unlock()
	notify(st.wake)
}

func (st *appendStream) advance(l *lane) {
	for l.first != nil && l.first.result != nil {
		st.results = append(st.results, l.first.result)
		if l.first.span != nil {
			st.replied(l.first)
		}
		st.open--
		st.unsent++
		l.first = l.first.next
	}
	if l.first == nil {
		delete(st.lanes, l.key)
	}
}

// write sends results until the client is done and has them all, or has gone, or the node stops.
func (st *appendStream) write() error {
	draining := st.s.draining.Done()
	for {
		results, replies, done, err := st.collect()
		if err := st.send(results, replies); err != nil {
			return err
		}
		if done {
			return err
		}
		select {
		case <-st.wake:
		case <-draining:
			draining = nil // from now on done as soon as nothing is open
		case <-st.s.closed.Done():
			return errStopping()
		case <-st.ctx.Done():
			return st.ctx.Err()
		}
	}
}

// send sends results, and ends the replies of the sampled among them.
func (st *appendStream) send(results []*multiraftv1.AppendResult, replies []tracedReply) (err error) {
	for len(results) > 0 && err == nil {
		n := min(len(results), responseItemsMax)
		resp := &multiraftv1.AppendResponse{Results: results[:n]}
		if err = st.share.during(func() error { return st.rpc.Send(resp) }); err == nil {
			results = results[n:]
			st.taken(n)
		}
	}
	for _, r := range replies {
		r.end(err)
	}
	return err
}

// replied keeps what is traced of a slot's reply until it is sent. st.mu is held.
func (st *appendStream) replied(sl *slot) {
	r := tracedReply{sl.span, sl.reply}
	if st.gone {
		r.end(errClientGone)
		return
	}
	st.replies = append(st.replies, r)
}

// taken makes room for n more items.
func (st *appendStream) taken(n int) {
	st.mu.Lock()
	st.unsent -= n
	st.mu.Unlock()
	st.share.give(int64(n) * resultBytes)
	notify(st.room)
}

// collect takes the results that wait, and says whether they are the last ones.
func (st *appendStream) collect() (results []*multiraftv1.AppendResult, replies []tracedReply, done bool, err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	results, st.results = st.results, nil
	replies, st.replies = st.replies, nil
	switch {
	case st.readDone && st.readErr != nil:
		return results, replies, true, st.readErr
	case st.open > 0:
		return results, replies, false, nil
	case st.readDone:
		return results, replies, true, nil
	case st.s.draining.Err() != nil:
		return results, replies, true, errStopping()
	default:
		return results, replies, false, nil
	}
}

// notify wakes whoever waits on a channel with one slot.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
