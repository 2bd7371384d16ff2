package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/uuid"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/multiraftd/multiraftd/actors"
	"github.com/multiraftd/multiraftd/node/tracing"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/raftcore/store"
	"github.com/multiraftd/multiraftd/router"
	"github.com/multiraftd/multiraftd/transport"
)

// StorageError says that the node's log can no longer be written. It has acknowledged nothing since.
type StorageError struct{ Err error }

func (e *StorageError) Error() string { return fmt.Sprintf("storage failed: %v", e.Err) }

// Unwrap returns the cause.
func (e *StorageError) Unwrap() error { return e.Err }

// Node is a running node. Its methods are safe for concurrent use.
type Node struct {
	cfg      Config
	kv       store.KV
	counters counters
	space    actors.Space

	certs certs

	clientLis, peerLis, httpLis net.Listener

	idMu sync.Mutex
	id   store.Node // as Probe shows it; self once it is fixed

	self      store.Node
	tracer    *tracing.Tracer
	peers     *transport.Transport
	core      *router.Core
	started   atomic.Bool // core is there; for those who may ask before
	services  *router.Services
	server    *router.Server
	http      *http.Server
	stopSpace context.CancelFunc // ends the watch over the disk
	meters    *sdkmetric.MeterProvider
	intake    *intake
	life      context.Context // of the loops, and of frames that wait
	stop      context.CancelFunc
	loops     sync.WaitGroup
	readyOnce sync.Once
	ready     chan struct{}

	failOnce sync.Once
	done     chan struct{}
	err      error // valid when done is closed
	closing  sync.Once
	closeErr error
}

// Start starts a node and returns when it serves; Ready waits until the cluster does. On an empty store it
// first founds the cluster with the other nodes of cfg.Bootstrap, for which it waits until ctx ends.
//
// Errors: *UsageError for a Config that can't be right; *DataError when the data directory is refused (in
// use, another node's, another cluster's, newer, damaged; or empty where a cluster exists already); else
// what the system said, such as a port in use. Nothing is left running after an error.
func Start(ctx context.Context, cfg Config) (*Node, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg.withDefaults(), ready: make(chan struct{}), done: make(chan struct{})}
	n.counters.actors.Nanos, n.counters.router.Nanos = nanos, nanos
	for _, step := range []func(context.Context) error{n.loadCerts, n.listen, n.openStore, n.ownCert, n.servePeers, n.serveHTTP, n.found, n.ownCert, n.startCore, n.serve} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(err, n.Close())
		}
	}
	return n, nil
}

// listen takes the addresses first, so that a port in use changes nothing.
func (n *Node) listen(ctx context.Context) error {
	for _, l := range []struct {
		flag, addr string
		to         *net.Listener
	}{
		{"--client-addr", n.cfg.ClientAddr, &n.clientLis}, {"--peer-addr", n.cfg.PeerAddr, &n.peerLis}, {"--http-addr", n.cfg.HTTPAddr, &n.httpLis},
	} {
		if l.addr == "" {
			continue
		}
		lis, err := listenPatiently(ctx, l.addr)
		if err != nil {
			return fmt.Errorf("%s: %w", l.flag, err)
		}
		*l.to = lis
	}
	if n.cfg.AdvertiseClient == "" {
		n.cfg.AdvertiseClient = n.clientLis.Addr().String()
	}
	if n.cfg.AdvertisePeer == "" {
		n.cfg.AdvertisePeer = n.peerLis.Addr().String()
	}
	return nil
}

// listenTimeout is how long a node that starts waits for an address in use to become free: while a killed node
// was down, an outgoing connection of some process may have been given its port for a moment.
const (
	listenTimeout  = 3 * time.Second
	listenInterval = 50 * time.Millisecond
)

func listenPatiently(ctx context.Context, addr string) (net.Listener, error) {
	for deadline := time.Now().Add(listenTimeout); ; {
		lis, err := net.Listen("tcp", addr)
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
			return lis, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(listenInterval):
		}
	}
}

func (n *Node) openStore(context.Context) (err error) {
	n.watchSpace()
	if n.kv, err = openStore(n.cfg, n.storeFailed, &n.counters.store); err != nil {
		return err
	}
	n.id, err = loadIdentity(n.kv, n.cfg)
	return err
}

// watchSpace looks at the disk for the first time: on a full one the store needs what the reserve frees to open.
func (n *Node) watchSpace() {
	free := n.cfg.FreeSpace
	if free == nil {
		if free = freeSpace; n.cfg.KV != nil || n.cfg.DataDir == "" {
			return
		}
	}
	w := &spaceWatch{dir: n.cfg.DataDir, free: free, space: &n.space, log: n.cfg.Logger}
	if _, err := os.Stat(w.dir); err == nil { // else the store makes it
		w.look()
	}
	var ctx context.Context
	ctx, n.stopSpace = context.WithCancel(context.Background())
	n.loops.Go(func() { w.run(ctx) })
}

// servePeers answers Probe from now on: nodes that found a cluster wait for each other.
func (n *Node) servePeers(context.Context) (err error) {
	n.peers, err = transport.Listen(transport.Config{
		Listener: n.peerLis, Probe: n.probe, Logger: n.cfg.Logger, Known: n.known, TLS: n.certs.peer,
		SnapshotBytesPerSecond: n.cfg.SnapshotBytesPerSecond,
	})
	return err
}

// found makes the node a member of a cluster, unless it is one.
func (n *Node) found(ctx context.Context) error {
	n.cfg.Logger.Info("starting", "node", n.id.NodeID, "version", n.cfg.Version, "data", n.cfg.DataDir,
		"client", n.cfg.AdvertiseClient, "peer", n.cfg.AdvertisePeer, "http", addrOf(n.httpLis))
	if n.id.State == raftv1.StoreState_STORE_STATE_FORMED {
		return nil
	}
	become, err := n.founder()
	if n.id.Bootstrap == "" {
		become, err = n.joiner(), nil
	}
	if err != nil {
		return err
	}
	// Clients are refused meanwhile, rather than accepted and left without an answer.
	addr := n.clientLis.Addr().String()
	if err := n.clientLis.Close(); err != nil {
		return err
	}
	if err := become(ctx); err != nil {
		return err
	}
	if n.clientLis, err = listenPatiently(ctx, addr); err != nil {
		return fmt.Errorf("--client-addr: %w", err)
	}
	return nil
}

func (n *Node) founder() (func(context.Context) error, error) {
	// The stored set, not the one of this command line, which may be left out on a second start: a node that
	// is still FOUNDING must wait for the same nodes as before.
	peers, err := parseContacts(n.id.Bootstrap)
	if err != nil {
		return nil, &DataError{fmt.Sprintf("the stored bootstrap set: %v", err)}
	}
	delete(peers, n.id.NodeID)
	f := founder{
		self: n.id, kv: n.kv, peers: peers, probe: n.probePeer, uuid: uuid.NewString,
		saved: n.setIdentity, log: n.cfg.Logger,
	}
	return f.run, nil
}

func (n *Node) joiner() func(context.Context) error {
	j := joiner{
		self: n.id, kv: n.kv, addrs: n.cfg.Join, secure: n.cfg.ClientTLS.Set() || n.cfg.PeerTLS.Set(), probe: n.probePeer, join: n.joinAt, saved: n.setIdentity, log: n.cfg.Logger,
		req: &multiraftv1.JoinNodeRequest{StoreId: n.id.StoreID, ClientAddr: n.cfg.AdvertiseClient, PeerAddr: n.cfg.AdvertisePeer, Rack: n.cfg.Rack},
	}
	return j.run
}

func (n *Node) startCore(ctx context.Context) (err error) {
	if n.self, err = NextStart(n.kv, n.identity()); err != nil {
		return &StorageError{err}
	}
	n.setIdentity(n.self)
	n.cfg.Logger.Info("member", "node", n.self.NodeID, "cluster", n.self.Cluster, "start", n.self.Start)
	if err := n.startTracing(ctx); err != nil {
		return err
	}
	n.core = Assemble(n.self, n.parts())
	n.services = router.NewServices(n.servicesConfig())
	n.life, n.stop = context.WithCancel(context.Background())
	n.intake = newIntake(n.life, n.core, func(id uint64) bool { _, named := n.known(id); return named })
	n.started.Store(true)
	n.setPeers()
	return n.peers.Start(transport.Identity{
		Cluster: n.self.Cluster, StoreID: n.self.StoreID, Node: uint64(n.self.NodeID), Start: n.self.LatestStart(),
	}, n.intake, n.services.Peers())
}

// ticks returns how many ticks of the node's clock pass in d.
func (n *Node) ticks(d time.Duration) int { return int(d * electionTicks / n.cfg.ElectionTimeout) }

func (n *Node) serve(context.Context) error {
	n.loops.Go(func() { n.tickLoop(n.life) })
	n.loops.Go(func() { n.registrar(n.life) })
	n.server = router.NewServer(n.clientLis, router.ServerConfig{Tracer: n.tracer, TLS: n.certs.client}, n.services)
	n.server.Start()
	n.loops.Go(func() {
		<-n.server.Done() // after Close without an error
		if err := n.server.Err(); err != nil {
			n.fail(fmt.Errorf("serving clients: %w", err))
		}
	})
	return nil
}

// serveHTTP answers probes from now on: a node that waits for others to found the cluster lives and is not
// ready.
func (n *Node) serveHTTP(context.Context) (err error) {
	if n.httpLis == nil {
		return nil
	}
	if n.http, err = n.httpServer(); err != nil {
		return err
	}
	n.loops.Go(func() {
		if err := n.http.Serve(n.httpLis); !errors.Is(err, http.ErrServerClosed) {
			n.fail(fmt.Errorf("http: %w", err))
		}
	})
	return nil
}

// tickLoop drives the clock of all groups.
func (n *Node) tickLoop(ctx context.Context) {
	t := time.NewTicker(n.cfg.ElectionTimeout / electionTicks)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			n.core.Tick()
		}
	}
}

// Done is closed when the node has failed; Err then says why.
func (n *Node) Done() <-chan struct{} { return n.done }

// Err returns why the node failed, or nil.
func (n *Node) Err() error {
	select {
	case <-n.done:
		return n.err
	default:
		return nil
	}
}

func (n *Node) fail(err error) {
	n.failOnce.Do(func() {
		n.err = err
		n.cfg.Logger.Error("node failed", "err", err)
		close(n.done)
	})
}

func (n *Node) storeFailed(err error) { n.fail(&StorageError{err}) }

// ErrStoreInUse says that Close has returned while something of the node still hung on its failed store.
var ErrStoreInUse = errors.New("the store is still in use")

// Close stops the node: services first, then connections, actors and the store. What clients wait for ends,
// and nothing uses Config.KV any more. After a storage failure the node's own store is left as it is, and
// ErrStoreInUse says that its writer or a reader did not return in time.
func (n *Node) Close() error {
	n.closing.Do(func() { n.closeErr = n.close() })
	return n.closeErr
}

func (n *Node) close() error {
	var errs []error
	for _, stop := range []context.CancelFunc{n.stopSpace, n.stop} {
		if stop != nil {
			stop()
		}
	}
	if n.http != nil {
		errs = append(errs, n.http.Close())
	}
	if n.meters != nil {
		errs = append(errs, n.meters.Shutdown(context.Background()))
	}
	ended := make(chan error, 1)
	go func() { ended <- errors.Join(n.closeServers(), n.stopCore()) }()
	var storage *StorageError
	if errors.As(n.Err(), &storage) {
		// A handler that reads from the failed store may never return, and the store's writer neither.
		select {
		case err := <-ended:
			errs = append(errs, err)
		case <-time.After(failedCloseTimeout):
			errs = append(errs, fmt.Errorf("%w after %v: it has failed", ErrStoreInUse, failedCloseTimeout))
		}
		n.stopTracing()
		return errors.Join(append(errs, n.closeListeners())...)
	}
	errs = append(errs, <-ended)
	n.stopTracing()
	if n.kv != nil && n.cfg.KV == nil {
		errs = append(errs, n.kv.Close())
	}
	return errors.Join(append(errs, n.closeListeners())...)
}

// failedCloseTimeout bounds how long Close waits for what may hang on a failed store.
const failedCloseTimeout = 3 * time.Second

func (n *Node) stopCore() error {
	if n.core == nil {
		return nil
	}
	return n.core.Stop()
}

func (n *Node) closeServers() (err error) {
	if n.server != nil {
		n.server.Close()
	}
	if n.services != nil {
		n.services.Close()
	}
	if n.peers != nil {
		err = n.peers.Close()
	}
	n.loops.Wait()
	return err
}

// closeListeners closes what no server has taken over; closing one again is no fault.
func (n *Node) closeListeners() error {
	var errs []error
	for _, l := range []net.Listener{n.clientLis, n.peerLis, n.httpLis} {
		if l == nil {
			continue
		}
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
