package transport

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"
)

type exchangeClient = grpc.BidiStreamingClient[raftv1.ExchangeRequest, raftv1.ExchangeResponse]

// peer is the sending side of one node pair: connect, shake hands, then drain the queue and send one frame,
// over and over. While it cannot connect, it backs off, and the queue drops and reports.
type peer struct {
	t       *Transport
	session *session
	node    uint64
	addr    string
	queue   *queue
	stop    context.CancelFunc
	// soon cuts a back-off short: the node has just connected to us, so it is there.
	soon      chan struct{}
	connected atomic.Bool
	// complained is the last failure logged, so that an outage is one line and not one a second.
	complained string
	// met says that there was an Exchange with the node, of whose end nobody has been told yet.
	met bool
}

func (t *Transport) startPeer(s *session, node uint64, addr string) *peer {
	ctx, stop := context.WithCancel(t.ctx)
	p := &peer{t: t, session: s, node: node, addr: addr, queue: newQueue(t.cfg.limits()), stop: stop, soon: make(chan struct{}, 1)}
	// Before the goroutine runs: what is sent right after SetPeers waits for the first attempt.
	p.queue.open()
	t.running.Go(func() { p.run(ctx) })
	return p
}

func (p *peer) run(ctx context.Context) {
	for failures := 0; ; failures++ {
		wasUp, err := p.exchange(ctx)
		p.connected.Store(false)
		p.t.counters.failed(p.queue.fail())
		if ctx.Err() != nil {
			return
		}
		p.ended(wasUp, err)
		if wasUp {
			failures, p.met = 0, true
		}
		if p.met {
			p.knock(ctx)
		}
		if !p.backOff(ctx, failures) {
			return
		}
	}
}

// exchange opens one Exchange and serves it until it ends; wasUp says that the handshakes were done.
func (p *peer) exchange(ctx context.Context) (wasUp bool, err error) {
	p.queue.open()
	conn, err := grpc.NewClient(targetOf(p.addr), p.t.dialOptions(p.node)...)
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close() }() // it reports only that it was closed before
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stream, err := p.shakeHands(ctx, cancel, conn)
	if err != nil {
		return false, err
	}
	p.up()
	answers := make(chan struct{})
	go func() {
		defer close(answers)
		cancel(p.readAnswers(stream))
	}()
	// A send says EOF when the peer has ended the stream; why it did is what reading returns.
	if err := p.sendFrames(ctx, stream); !errors.Is(err, io.EOF) {
		cancel(err)
	}
	<-answers
	return true, context.Cause(ctx)
}

func (p *peer) shakeHands(ctx context.Context, cancel context.CancelCauseFunc, conn *grpc.ClientConn) (exchangeClient, error) {
	late := time.AfterFunc(p.t.cfg.HandshakeTimeout, func() { cancel(ErrHandshakeTimeout) })
	defer late.Stop()
	stream, err := raftv1.NewRaftServiceClient(conn).Exchange(ctx)
	if err != nil {
		return nil, because(ctx, err)
	}
	hello := &raftv1.ExchangeRequest{Message: &raftv1.ExchangeRequest_Handshake{Handshake: p.session.identity.handshake(p.node)}}
	if err := stream.Send(hello); err != nil && !errors.Is(err, io.EOF) {
		return nil, because(ctx, err)
	}
	answer, err := stream.Recv()
	if err != nil {
		return nil, because(ctx, err)
	}
	if err := p.admit(answer.GetHandshake()); err != nil {
		p.t.counters.refuse(err)
		return nil, err
	}
	return stream, nil
}

// because prefers the reason for which we cancelled to the "canceled" that came of it.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

func (p *peer) admit(h *raftv1.Handshake) error {
	if err := p.session.incarnations.admit(h); err != nil {
		return err
	}
	if from := h.GetHeader().GetFromNode(); from != p.node {
		return fmt.Errorf("%w: node %d answers at %s, where node %d should be", ErrWrongNode, from, p.addr, p.node)
	}
	return nil
}

func (p *peer) up() {
	p.queue.up()
	p.connected.Store(true)
	p.t.counters.Connects.Add(1)
	p.complained = ""
	p.t.cfg.Logger.Info("peer connected", "peer", p.node, "addr", p.addr)
}

func (p *peer) sendFrames(ctx context.Context, stream exchangeClient) error {
	for {
		lost, f := p.queue.take()
		p.report(lost)
		if f != nil {
			f.Header = p.session.header
			if err := stream.Send(&raftv1.ExchangeRequest{Message: &raftv1.ExchangeRequest_Frame{Frame: f}}); err != nil {
				return err
			}
			p.t.counters.sent(f)
			continue
		}
		if lost != nil {
			continue
		}
		select {
		case <-p.queue.wake:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// readAnswers hands on the controls that the serving side sends, until the stream ends.
func (p *peer) readAnswers(stream exchangeClient) error {
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return ErrPeerEnded
		}
		if err != nil {
			return err
		}
		f := m.GetFrame()
		if f.GetHeader().GetFromNode() != p.node || f.GetHeader().GetClusterId() != p.session.identity.Cluster {
			p.t.counters.refuse(ErrForeignFrame)
			return ErrForeignFrame
		}
		if len(f.GetControls()) == 0 {
			continue
		}
		f = &raftv1.Frame{Header: f.GetHeader(), Controls: f.GetControls()}
		p.t.counters.received(f)
		p.session.receiver.Frame(p.node, f)
	}
}

func (p *peer) report(lost []uint64) {
	if len(lost) == 0 {
		return
	}
	p.t.counters.LossesReported.Add(uint64(len(lost)))
	p.session.receiver.Lost(p.node, lost)
}

// ended counts and logs the end of an attempt or a connection: the first of its kind, then only at debug.
func (p *peer) ended(wasUp bool, err error) {
	if wasUp {
		p.t.counters.ConnectionsLost.Add(1)
		p.t.cfg.Logger.Warn("peer connection lost", "peer", p.node, "addr", p.addr, "err", err)
		return
	}
	p.t.counters.ConnectFailures.Add(1)
	log := p.t.cfg.Logger.Debug
	// A peer that has not been founded yet is no news: the founding tells what it waits for.
	if text := err.Error(); text != p.complained && !strings.Contains(text, ErrNotStarted.Error()) {
		p.complained, log = text, p.t.cfg.Logger.Warn
	}
	log("cannot connect to peer", "peer", p.node, "addr", p.addr, "err", err)
}

// knock tells a process that has ended from a connection that broke: the system of a dead one refuses.
// Silence says nothing.
func (p *peer) knock(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, knockTimeout)
	defer cancel()
	conn, err := p.t.cfg.Dial(ctx, p.addr)
	if err == nil {
		_ = conn.Close() // it was only to see whether somebody answers
		return
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		p.met = false
		p.session.receiver.Gone(p.node)
	}
}

// backOff waits, doubling with each failure and never the same for two nodes, and reports losses meanwhile.
// It returns false when the peer is to stop.
func (p *peer) backOff(ctx context.Context, failures int) bool {
	wait := time.NewTimer(backoffDelay(failures, p.t.cfg.Rand))
	defer wait.Stop()
	for {
		if lost, _ := p.queue.take(); lost != nil {
			p.report(lost)
			continue
		}
		select {
		case <-wait.C:
			return true
		case <-p.soon:
			return true
		case <-p.queue.wake:
		case <-ctx.Done():
			return false
		}
	}
}

// backoffDelay is between a half and the whole of backoffMin doubled failures times, at most backoffMax.
func backoffDelay(failures int, rand func(uint64) uint64) time.Duration {
	d := backoffMin
	for ; failures > 0 && d < backoffMax; failures-- {
		d *= 2
	}
	d = min(d, backoffMax)
	return d/2 + time.Duration(rand(uint64(d/2)))
}

// hurry ends a back-off, now or the next one.
func (p *peer) hurry() {
	select {
	case p.soon <- struct{}{}:
	default: // it is hurrying already
	}
}

// dialOptions are those of a connection to a node, which must be that node by its certificate too.
func (t *Transport) dialOptions(node uint64) []grpc.DialOption {
	isNode := func(cert *x509.Certificate) error {
		err := speaksFor(cert, node)
		t.counters.refuse(err)
		return err
	}
	return []grpc.DialOption{
		grpc.WithTransportCredentials(t.cfg.TLS.Dial(isNode, nil)),
		grpc.WithContextDialer(countedDial(t.cfg.Dial, &t.counters)),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(t.cfg.FrameBytesMax()), grpc.MaxCallSendMsgSize(t.cfg.FrameBytesMax())),
		grpc.WithStaticStreamWindowSize(receiveWindowBytes),
		grpc.WithStaticConnWindowSize(connWindowBytes),
		grpc.WithReadBufferSize(ioBufferBytes),
		grpc.WithWriteBufferSize(ioBufferBytes),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: clientPingInterval, Timeout: clientPingTimeout, PermitWithoutStream: true}),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: connectTimeout}),
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy(),
	}
}
