package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/transport/tlsfiles"
	"google.golang.org/grpc"
)

type exchangeServer = grpc.BidiStreamingServer[raftv1.ExchangeRequest, raftv1.ExchangeResponse]

// service is RaftService as gRPC calls it.
type service struct {
	raftv1.UnimplementedRaftServiceServer
	t *Transport
}

// Probe answers at any time, before Start too.
func (s *service) Probe(context.Context, *raftv1.ProbeRequest) (*raftv1.ProbeResponse, error) {
	return s.t.cfg.Probe(), nil
}

// AppendEntries checks the header and hands on.
func (s *service) AppendEntries(ctx context.Context, req *raftv1.AppendEntriesRequest) (*raftv1.AppendEntriesResponse, error) {
	se, err := s.t.admitCall(ctx, req.GetHeader())
	if err != nil {
		return nil, toStatus(err)
	}
	ctx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	return se.rpc.AppendEntries(ctx, req)
}

// RequestVote checks the header and hands on.
func (s *service) RequestVote(ctx context.Context, req *raftv1.RequestVoteRequest) (*raftv1.RequestVoteResponse, error) {
	se, err := s.t.admitCall(ctx, req.GetHeader())
	if err != nil {
		return nil, toStatus(err)
	}
	ctx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	return se.rpc.RequestVote(ctx, req)
}

// Exchange is served by an inbound.
func (s *service) Exchange(stream exchangeServer) error {
	se := s.t.session.Load()
	if se == nil {
		s.t.counters.refuse(ErrNotStarted)
		return toStatus(ErrNotStarted)
	}
	x := &inbound{t: s.t, session: se, queue: newQueue(s.t.cfg.limits()), superseded: newGate(), done: newGate(), ended: make(chan error, 1)}
	err := x.serve(stream)
	s.t.counters.refuse(err)
	return toStatus(err)
}

// admitCall judges a unary call by its header (rules 19 and 20).
func (t *Transport) admitCall(ctx context.Context, h *raftv1.Header) (*session, error) {
	se := t.session.Load()
	err := ErrNotStarted
	if se != nil {
		err = t.checkCall(ctx, se, h)
	}
	if err != nil {
		t.counters.refuse(err)
		return nil, err
	}
	t.counters.RPCs.Add(1)
	return se, nil
}

func (t *Transport) checkCall(ctx context.Context, se *session, h *raftv1.Header) error {
	if err := se.incarnations.checkSender(h); err != nil {
		return err
	}
	if err := speaksFor(tlsfiles.CertOf(ctx), h.GetFromNode()); err != nil {
		return err
	}
	t.mu.Lock()
	x := t.inbound[h.GetFromNode()]
	t.mu.Unlock()
	if x != nil && !x.incarnation.same(h) {
		return fmt.Errorf("%w: node %d, start number %d", ErrOtherExchange, h.GetFromNode(), x.incarnation.start)
	}
	return se.incarnations.checkHeader(h)
}

// complain logs a refused handshake, at debug when it is the same as the last or comes soon after it.
func (t *Transport) complain(node uint64, err error) {
	text, log, now := err.Error(), t.cfg.Logger.Debug, time.Now()
	t.mu.Lock()
	if text != t.complained && now.Sub(t.complainedAt) >= complaintInterval {
		t.complained, t.complainedAt, log = text, now, t.cfg.Logger.Warn
	}
	t.mu.Unlock()
	log("handshake refused", "peer", node, "err", err)
}

// inbound is the receiving side of one Exchange. gRPC's handler goroutine shakes hands and then sends
// controls; a second goroutine reads frames.
type inbound struct {
	t           *Transport
	session     *session
	node        uint64
	incarnation incarnation
	header      *raftv1.Header
	queue       *queue
	superseded  *gate      // closed by the node's next Exchange
	ended       chan error // why reading ended
	done        *gate      // closed when the receiver is not called from here any more
}

func (x *inbound) serve(stream exchangeServer) error {
	// While the handler goes on, read closes done; before that, this does.
	reading := false
	defer func() {
		if !reading {
			x.done.close()
		}
	}()
	h, err := x.awaitHandshake(stream)
	if err != nil {
		return err
	}
	// The certificate first: what admit takes, it remembers.
	if err = speaksFor(tlsfiles.CertOf(stream.Context()), h.GetHeader().GetFromNode()); err == nil {
		err = x.session.incarnations.admit(h)
	}
	if err != nil {
		x.t.complain(h.GetHeader().GetFromNode(), err)
		return err
	}
	x.header, x.node, x.incarnation = h.GetHeader(), h.GetHeader().GetFromNode(), claimOf(h.GetHeader(), h.GetStoreId())
	if err := x.install(stream.Context()); err != nil {
		return err
	}
	defer x.remove()
	hello := &raftv1.ExchangeResponse{Message: &raftv1.ExchangeResponse_Handshake{Handshake: x.session.identity.handshake(x.node)}}
	if err := stream.Send(hello); err != nil {
		return err
	}
	reading = true
	x.t.running.Go(func() { x.read(stream) })
	return x.sendControls(stream)
}

// awaitHandshake reads the first message. Reading cannot be interrupted but by the handler's return, so it
// has a goroutine of its own, which ends soon after the handler at the latest.
func (x *inbound) awaitHandshake(stream exchangeServer) (*raftv1.Handshake, error) {
	type result struct {
		m   *raftv1.ExchangeRequest
		err error
	}
	first := make(chan result, 1)
	x.t.running.Go(func() {
		m, err := stream.Recv()
		first <- result{m, err}
	})
	late := time.NewTimer(x.t.cfg.HandshakeTimeout)
	defer late.Stop()
	select {
	case r := <-first:
		if r.err == nil && r.m.GetHandshake() == nil {
			return nil, fmt.Errorf("%w: the first message of an Exchange must be a handshake", ErrMalformed)
		}
		return r.m.GetHandshake(), r.err
	case <-late.C:
		return nil, ErrHandshakeTimeout
	case <-x.t.ctx.Done():
		return nil, ErrClosed
	}
}

// install makes x the node's Exchange, and waits until the one before it hands over no more frames.
func (x *inbound) install(ctx context.Context) error {
	x.queue.open()
	x.queue.up()
	x.t.mu.Lock()
	old := x.t.inbound[x.node]
	if old == nil && x.session.incarnations.stranger(x.node) && x.t.strangers(x.session) >= strangersMax {
		x.t.mu.Unlock()
		x.session.incarnations.forget(x.node)
		return fmt.Errorf("%w: %d that nobody has registered", ErrTooManyNodes, strangersMax)
	}
	x.t.inbound[x.node] = x
	x.t.mu.Unlock()
	if p := (*x.t.peers.Load())[x.node]; p != nil {
		p.hurry()
	}
	if old == nil {
		return nil
	}
	old.superseded.close()
	select {
	case <-old.done.done:
		return nil
	case <-ctx.Done():
		x.remove()
		return ctx.Err()
	}
}

// strangers counts the Exchanges of strangers. t.mu is held.
func (t *Transport) strangers(s *session) (n int) {
	for node := range t.inbound {
		if s.incarnations.stranger(node) {
			n++
		}
	}
	return n
}

func (x *inbound) remove() {
	x.t.mu.Lock()
	if x.t.inbound[x.node] == x {
		delete(x.t.inbound, x.node)
		x.session.incarnations.forget(x.node)
	}
	x.t.mu.Unlock()
	x.t.counters.failed(x.queue.fail())
}

// read hands frames to the receiver until the stream ends.
func (x *inbound) read(stream exchangeServer) {
	defer x.done.close()
	for {
		m, err := stream.Recv()
		if err == nil {
			err = x.checkFrame(m.GetFrame())
		}
		if err != nil {
			x.ended <- err
			return
		}
		x.t.counters.received(m.GetFrame())
		x.session.receiver.Frame(x.node, m.GetFrame())
	}
}

func (x *inbound) checkFrame(f *raftv1.Frame) error {
	if f == nil {
		return fmt.Errorf("%w: only frames may follow the handshake", ErrMalformed)
	}
	if !sameHeader(f.GetHeader(), x.header) {
		return ErrForeignFrame
	}
	return nil
}

func (x *inbound) sendControls(stream exchangeServer) error {
	for {
		if _, f := x.queue.take(); f != nil {
			f.Header = x.session.header
			if err := stream.Send(&raftv1.ExchangeResponse{Message: &raftv1.ExchangeResponse_Frame{Frame: f}}); err != nil {
				return err
			}
			x.t.counters.sent(f)
			continue
		}
		select {
		case <-x.queue.wake:
		case err := <-x.ended:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		case <-x.superseded.done:
			return ErrSuperseded
		case <-x.t.ctx.Done():
			return ErrClosed
		}
	}
}
