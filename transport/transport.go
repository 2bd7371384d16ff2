package transport

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/proto/trace"
	"github.com/multiraftd/multiraftd/transport/guard"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
)

// Transport is a node's side of the peer protocol. Listen makes one, which answers Probe; Start gives it an
// identity, from when on it takes part; Close ends it. All methods are safe for concurrent use.
type Transport struct {
	cfg      Config
	counters Counters
	server   *grpc.Server
	ctx      context.Context
	cancel   context.CancelFunc
	// running counts the goroutines listed in doc.go.
	running sync.WaitGroup
	session atomic.Pointer[session]
	// paceOut and paceIn are for snapshots.
	paceOut, paceIn Pacer
	// peers is replaced, never changed: Send takes no lock to find the queue.
	peers atomic.Pointer[map[uint64]*peer]

	mu      sync.Mutex // guards what follows, and the replacing of session and peers
	addrs   map[uint64]string
	inbound map[uint64]*inbound
	closed  bool
	// snapshotsOut counts the snapshots that are sent; snapshotsIn are those that are received.
	snapshotsOut int
	snapshotsIn  map[snapshotKey]*gate
	// complained is the last refusal logged, so that a node which tries again and again is one line, and
	// complainedAt when: whoever finds new reasons to be refused is one line a second.
	complained   string
	complainedAt time.Time
}

// session is what Start adds.
type session struct {
	identity     Identity
	header       *raftv1.Header
	receiver     Receiver
	rpc          RPC
	incarnations *incarnations
}

// Listen serves Probe on the listener at once. Everything else answers UNAVAILABLE until Start.
func Listen(cfg Config) (*Transport, error) {
	cfg = withDefaults(cfg)
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	t := &Transport{cfg: cfg, inbound: make(map[uint64]*inbound), snapshotsIn: make(map[snapshotKey]*gate)}
	t.paceOut.BytesPerSecond, t.paceIn.BytesPerSecond = cfg.SnapshotBytesPerSecond, cfg.SnapshotBytesPerSecond
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.peers.Store(&map[uint64]*peer{})
	guarded := guard.Listen(cfg.Listener, guardLimits(), errTooManyCalls, &t.counters.Shed)
	t.server = newServer(t, guarded)
	t.running.Go(func() { t.serve(guarded) })
	return t, nil
}

// Start gives the transport its identity, and connects to the peers set so far. It is called once.
func (t *Transport) Start(id Identity, r Receiver, rpc RPC) error {
	if err := id.validate(); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return ErrClosed
	case t.session.Load() != nil:
		return fmt.Errorf("%w: started twice", ErrConfig)
	}
	t.session.Store(&session{identity: id, header: id.header(), receiver: r, rpc: rpc, incarnations: newIncarnations(id, t.cfg.Known, t.hasAddress)})
	t.reconcilePeers()
	return nil
}

// SetPeers replaces the peers' addresses. New ones are connected to, missing ones are let go, changed ones
// are connected to anew. This node's own entry is ignored. It may come before Start, and does not wait.
func (t *Transport) SetPeers(addrs map[uint64]string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.addrs = maps.Clone(addrs)
	if t.session.Load() != nil && !t.closed {
		t.reconcilePeers()
	}
}

// Send queues e for node to, and takes it over. It never blocks and never fails: what cannot be queued is
// dropped and counted, and a dropped append is reported to Receiver.Lost.
func (t *Transport) Send(to uint64, e *raftv1.Envelope) { t.Carry(to, e, nil) }

// Carry is Send with the contexts of sampled writes in e, which travel in its frame beside it.
func (t *Transport) Carry(to uint64, e *raftv1.Envelope, beside []trace.Carried) {
	p := (*t.peers.Load())[to]
	if p == nil {
		t.counters.envelope(UnknownPeer)
		dropCarried(beside, UnknownPeer)
		return
	}
	fate := p.queue.add(e, beside)
	t.counters.envelope(fate)
	if fate == EnvelopeTooBig {
		// Rule 2 is broken: the group cannot replicate past this entry.
		t.cfg.Logger.Error("message is too large for the transport", "peer", to, "group", e.GetGroupId(), "index", e.GetIndex(), "bytes_max", t.cfg.EnvelopeBytesMax)
	}
}

// SendControl queues c for node to, under the same terms. It goes out on our Exchange; while that is not
// connected, as an answer on the one that the node holds here.
func (t *Transport) SendControl(to uint64, c *raftv1.Control) {
	p := (*t.peers.Load())[to]
	if p == nil || !p.connected.Load() {
		t.mu.Lock()
		x := t.inbound[to]
		t.mu.Unlock()
		if x != nil {
			t.counters.control(x.queue.addControl(c))
			return
		}
	}
	if p == nil {
		t.counters.control(UnknownPeer)
		return
	}
	t.counters.control(p.queue.addControl(c))
}

// SendReport sets what node to is told next of this node, in place of what still waits. It goes out only on our
// own Exchange. It never blocks and never fails; a lost report is made good by the next.
func (t *Transport) SendReport(to uint64, r *raftv1.NodeReport) {
	p := (*t.peers.Load())[to]
	if p == nil {
		t.counters.report(UnknownPeer)
		return
	}
	t.counters.report(p.queue.setReport(r))
}

// hasAddress says that the node is one of those that this one connects to.
func (t *Transport) hasAddress(node uint64) bool { return (*t.peers.Load())[node] != nil }

// Connected says that our Exchange to the node is open, both handshakes done.
func (t *Transport) Connected(node uint64) bool {
	p := (*t.peers.Load())[node]
	return p != nil && p.connected.Load()
}

// EachPeer calls f for every peer, in no order: whether our Exchange to it is open, and how many bytes wait for it.
func (t *Transport) EachPeer(f func(node uint64, connected bool, queuedBytes int)) {
	for node, p := range *t.peers.Load() {
		f(node, p.connected.Load(), p.queue.bytes())
	}
}

// Counters returns the transport's counters.
func (t *Transport) Counters() *Counters { return &t.counters }

// Addr returns the address that is listened on.
func (t *Transport) Addr() net.Addr { return t.cfg.Listener.Addr() }

// Close stops serving and sending, and returns when every goroutine has ended and the Receiver is not called
// any more. It must not be called from the Receiver. A second call does nothing.
func (t *Transport) Close() error {
	t.mu.Lock()
	closed := t.closed
	t.closed = true
	t.peers.Store(&map[uint64]*peer{})
	t.mu.Unlock()
	if closed {
		return nil
	}
	t.cancel()
	t.server.Stop()
	t.running.Wait()
	return nil
}

// reconcilePeers makes the running peers those of addrs. t.mu is held.
func (t *Transport) reconcilePeers() {
	s, old := t.session.Load(), *t.peers.Load()
	next := make(map[uint64]*peer, len(t.addrs))
	for node, addr := range t.addrs {
		if node == s.identity.Node {
			continue
		}
		if p := old[node]; p != nil && p.addr == addr {
			next[node] = p
			continue
		}
		next[node] = t.startPeer(s, node, addr)
	}
	t.peers.Store(&next)
	for node, p := range old {
		if next[node] != p {
			p.stop()
		}
	}
}

func (t *Transport) serve(l net.Listener) {
	if err := t.server.Serve(&countedListener{l, &t.counters}); err != nil && !errors.Is(err, grpc.ErrServerStopped) && t.ctx.Err() == nil {
		t.cfg.Logger.Error("peer listener failed", "addr", t.Addr().String(), "err", err)
	}
}

func guardLimits() guard.Limits {
	return guard.Limits{
		Connections: connectionsMax, ConnectionsPerHost: connectionsPerHostMax, Streams: streamsMax, StreamsFloor: streamsFloor,
		ConnectionRate: connectionsPerSecond, Resets: resetsMax, ResetRate: resetsPerSecond, Offences: offencesMax, OffenceRate: offencesPerSecond,
		PartialBytes: partialBytesMax, WriteTimeout: writeTimeout,
	}
}

// errTooManyCalls is what a call above the limit gets.
var errTooManyCalls = status.Error(codes.ResourceExhausted, "too many calls on this node's peer address")

func newServer(t *Transport, l *guard.Listener) *grpc.Server {
	opts := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(t.cfg.FrameBytesMax()),
		grpc.MaxSendMsgSize(t.cfg.FrameBytesMax()),
		grpc.MaxConcurrentStreams(streamsPerConnMax),
		grpc.MaxHeaderListSize(headerListBytesMax),
		grpc.ConnectionTimeout(t.cfg.HandshakeTimeout),
		grpc.StaticStreamWindowSize(receiveWindowBytes),
		grpc.StaticConnWindowSize(connWindowBytes),
		grpc.ReadBufferSize(ioBufferBytes),
		grpc.WriteBufferSize(ioBufferBytes),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: serverPingMin, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: serverPingInterval, Timeout: serverPingTimeout, MaxConnectionIdle: connectionIdleMax}),
		grpc.WaitForHandlers(true),
		grpc.InTapHandle(l.Tap),
		grpc.ForceServerCodecV2(guard.Codec()),
	}
	if certs := t.cfg.TLS; certs != nil {
		opts = append(opts, grpc.Creds(l.Credentials(certs.Server, certs.Complain)))
	}
	server := grpc.NewServer(opts...)
	raftv1.RegisterRaftServiceServer(guard.Registrar(server), &service{t: t})
	if a, ok := t.cfg.Listener.Addr().(*net.TCPAddr); ok && a.IP.IsLoopback() {
		reflection.Register(server)
	}
	return server
}

func withDefaults(cfg Config) Config {
	if cfg.Known == nil {
		cfg.Known = func(uint64) (r Registered, ok bool) { return r, false }
	}
	if cfg.Dial == nil {
		cfg.Dial = dialTCP
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Uint64N
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.EnvelopeBytesMax == 0 {
		cfg.EnvelopeBytesMax = envelopeBytesMax
	}
	if cfg.QueueBytesMax == 0 {
		cfg.QueueBytesMax = max(queueBytesMax, cfg.EnvelopeBytesMax)
	}
	cfg.SnapshotsMax = cmp.Or(cfg.SnapshotsMax, snapshotsMax)
	cfg.SnapshotBytesPerSecond = cmp.Or(cfg.SnapshotBytesPerSecond, snapshotRateBytes)
	cfg.SnapshotStallTimeout = cmp.Or(cfg.SnapshotStallTimeout, snapshotStall)
	if cfg.HandshakeTimeout == 0 {
		cfg.HandshakeTimeout = handshakeTimeout
	}
	return cfg
}
