package client

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
)

// courier carries append items to one node. It is used by one producer, under that producer's lock, and
// reports to it without that lock.
type courier interface {
	// send takes an item and never blocks: the producer's window bounds what it is given.
	send(*multiraftv1.AppendItem)
	// address is the node's.
	address() string
	// stop ends it; what it reports from then on is of no interest.
	stop()
}

// outcome is a node's answer to one item: a receipt or an error.
type outcome struct {
	request uint64
	receipt *multiraftv1.Receipt
	err     *Error
}

// sender is who a courier reports to.
type sender interface {
	answered(via courier, outcomes []outcome)
	// lost says that via carries nothing any more; what it was given and did not answer has that error.
	lost(via courier, e *Error)
}

// stream is a courier over one Append stream: it lives as long as the stream does. Its sending side drains
// what is waiting and sends it as one message, so a slow stream makes larger messages, not more.
type stream struct {
	addr   string
	to     sender
	ctx    context.Context
	cancel context.CancelFunc

	mu   sync.Mutex
	out  []*multiraftv1.AppendItem
	kick chan struct{} // holds one: out is not empty
}

func newStream(parent context.Context, conn *grpc.ClientConn, addr string, to sender, wg *sync.WaitGroup) *stream {
	ctx, cancel := context.WithCancel(parent)
	s := &stream{addr: addr, to: to, ctx: ctx, cancel: cancel, kick: make(chan struct{}, 1)}
	wg.Go(func() { s.run(multiraftv1.NewLogServiceClient(conn), wg) })
	return s
}

func (s *stream) address() string { return s.addr }
func (s *stream) stop()           { s.cancel() }

func (s *stream) send(item *multiraftv1.AppendItem) {
	s.mu.Lock()
	s.out = append(s.out, item)
	s.mu.Unlock()
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// run opens the stream and sends until it ends. Only the receiving side sees why a stream ended, so it alone
// reports the end.
func (s *stream) run(client multiraftv1.LogServiceClient, wg *sync.WaitGroup) {
	rpc, err := client.Append(s.ctx)
	if err != nil {
		e := fromStatus("append", err)
		e.unsent = true
		s.to.lost(s, e)
		return
	}
	wg.Go(func() { s.receive(rpc) })
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.kick:
		}
		for items := s.take(); len(items) > 0; items = s.take() {
			if rpc.Send(&multiraftv1.AppendRequest{Items: items}) != nil {
				return // receive hears the reason
			}
		}
	}
}

// take removes the items of the next message.
func (s *stream) take() []*multiraftv1.AppendItem {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, bytes := 0, 0
	for n < len(s.out) && (n == 0 || bytes < appendRequestBytesMax) {
		bytes += proto.Size(s.out[n])
		n++
	}
	items := s.out[:n:n]
	if s.out = s.out[n:]; len(s.out) == 0 {
		s.out = nil // lets go of the items that were sent
	}
	return items
}

func (s *stream) receive(rpc grpc.BidiStreamingClient[multiraftv1.AppendRequest, multiraftv1.AppendResponse]) {
	defer s.cancel()
	for {
		resp, err := rpc.Recv()
		if err != nil {
			s.to.lost(s, streamEnd(err))
			return
		}
		outcomes := make([]outcome, 0, len(resp.GetResults()))
		for _, r := range resp.GetResults() {
			o := outcome{request: r.GetRequestId(), receipt: r.GetReceipt()}
			if o.receipt == nil {
				o.err = fromItem(r.GetError())
			}
			outcomes = append(outcomes, o)
		}
		s.to.answered(s, outcomes)
	}
}

// streamEnd is why a stream ended. The status of a stream says nothing about its items, whatever it is: an
// answer may have been on its way.
func streamEnd(err error) *Error {
	if errors.Is(err, io.EOF) {
		err = errors.New("the node ended the stream")
	}
	e := fromStatus("append", err)
	e.Reason = ""
	return e
}

// calls is a courier that sends each item in a unary call of its own.
type calls struct {
	addr   string
	client multiraftv1.LogServiceClient
	to     sender
	wg     *sync.WaitGroup
	ctx    context.Context
	cancel context.CancelFunc
}

func newCalls(parent context.Context, conn *grpc.ClientConn, addr string, to sender, wg *sync.WaitGroup) *calls {
	ctx, cancel := context.WithCancel(parent)
	return &calls{addr: addr, client: multiraftv1.NewLogServiceClient(conn), to: to, wg: wg, ctx: ctx, cancel: cancel}
}

func (c *calls) address() string { return c.addr }
func (c *calls) stop()           { c.cancel() }

// send starts a goroutine for the call: there are at most as many as partitions, because a producer with
// unary calls has one batch in flight in each.
func (c *calls) send(item *multiraftv1.AppendItem) {
	c.wg.Go(func() {
		ctx, cancel := context.WithTimeout(c.ctx, answerTimeout)
		defer cancel()
		receipt, e := appendOnce(ctx, c.client, item)
		c.to.answered(c, []outcome{{request: item.GetRequestId(), receipt: receipt, err: e}})
	})
}

// appendOnce makes one unary append. A call that never got a connection is marked unsent.
func appendOnce(ctx context.Context, client multiraftv1.LogServiceClient, item *multiraftv1.AppendItem) (*multiraftv1.Receipt, *Error) {
	var p peer.Peer
	resp, err := client.AppendOnce(ctx, &multiraftv1.AppendOnceRequest{Item: item}, grpc.Peer(&p))
	if err == nil {
		return resp.GetReceipt(), nil
	}
	e := fromStatus("append", err)
	e.unsent = e.lostOnTheWay() && p.Addr == nil
	return nil, e
}
