package router

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/multiraftd/multiraftd/actors"
	"github.com/multiraftd/multiraftd/proto/lineage"
	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
	"github.com/multiraftd/multiraftd/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testElectionTimeout = 100 * time.Millisecond
	testRecordBytesMax  = 1000
	testBatchBytesMax   = 4000
	testTimeout         = 30 * time.Second // ends what hangs; no measure of speed
)

// testNode is a whole node but for its disk, which is memory, and its peer connections, which are an
// in-process network: Core, services and a server on a free port.
type testNode struct {
	t        *testing.T
	id       raftcore.NodeID
	kv       store.KV
	core     *Core
	link     *transport.InprocLink
	held     *heldCore
	services *Services
	server   *Server
	addr     string
	counters Counters
	space    actors.Space
	failed   atomic.Pointer[error]
	panics   atomic.Bool // the clock panics, in the turn of whichever replica asks it
	client   *grpc.ClientConn
	log      multiraftv1.LogServiceClient
	admin    multiraftv1.AdminServiceClient
	stop     func()
}

// Send, SendControl and NowMillis make it the Sender and Clock of its Core.
func (n *testNode) Send(to raftcore.NodeID, e *raftv1.Envelope) { n.link.Send(uint64(to), e) }

func (n *testNode) SendReport(to raftcore.NodeID, r *raftv1.NodeReport) {
	n.link.SendReport(uint64(to), r)
}

func (n *testNode) SendControl(to raftcore.NodeID, c *raftv1.Control) {
	n.link.SendControl(uint64(to), c)
}

func (n *testNode) NowMillis() int64 {
	if n.panics.Load() {
		panic("planted")
	}
	return time.Now().UnixMilli()
}

// heldCore is a mock core: the real one, but for the messages that a test takes.
type heldCore struct {
	*Core
	mu   sync.Mutex
	take func(Routed) bool // says that it has taken the message
	old  store.View        // what is read instead of the store
}

func (h *heldCore) View() (store.View, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.old != nil {
		return unclosed{h.old}, nil
	}
	return h.Core.View()
}

// unclosed is a View that its user does not close.
type unclosed struct{ store.View }

func (unclosed) Close() error { return nil }

// freeze makes the services read what is in the store now, until unfreeze.
func (h *heldCore) freeze(t *testing.T) (unfreeze func()) {
	t.Helper()
	v, err := h.Core.View()
	must(t, err)
	set := func(v store.View) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.old = v
	}
	set(v)
	return func() { set(nil); must(t, v.Close()) }
}

func (h *heldCore) Dispatch(items ...Routed) {
	h.mu.Lock()
	take := h.take
	h.mu.Unlock()
	var rest []Routed
	for _, it := range items {
		if take == nil || !take(it) {
			rest = append(rest, it)
		}
	}
	h.Core.Dispatch(rest...)
}

// intercept lets f take messages from now on; nil = none.
func (h *heldCore) intercept(f func(Routed) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.take = f
}

// testCluster is some testNodes that found a cluster.
type testCluster struct {
	t     *testing.T
	net   *transport.Inproc
	nodes map[raftcore.NodeID]*testNode
}

// newSilentCluster is a network without nodes.
func newSilentCluster(t *testing.T) *testCluster {
	var mu sync.Mutex // of the random numbers
	return &testCluster{t: t, nodes: map[raftcore.NodeID]*testNode{}, net: transport.NewInproc(
		func(d time.Duration, f func()) { time.AfterFunc(d, f) },
		func(n uint64) uint64 { mu.Lock(); defer mu.Unlock(); return rand.Uint64N(n) })}
}

// members are nodes 1 to n, as the metadata group has them.
func (c *testCluster) members(n int) map[raftcore.ReplicaID]raftcore.NodeID {
	members := map[raftcore.ReplicaID]raftcore.NodeID{}
	for id := 1; id <= n; id++ {
		members[raftcore.ReplicaID(id)] = raftcore.NodeID(id)
	}
	return members
}

// newCluster starts n nodes and waits until all are registered.
func newCluster(t *testing.T, n int) *testCluster {
	t.Helper()
	return newClusterOn(t, n, nil)
}

// newClusterOn is newCluster with something in front of each node's store.
func newClusterOn(t *testing.T, n int, wrap func(raftcore.NodeID, store.KV) store.KV) *testCluster {
	t.Helper()
	c := newSilentCluster(t)
	for id := range raftcore.NodeID(n) {
		var own func(store.KV) store.KV
		if wrap != nil {
			own = func(kv store.KV) store.KV { return wrap(id+1, kv) }
		}
		c.start(id+1, c.members(n), own)
	}
	ctx := testContext(t)
	var all sync.WaitGroup // together: a node can be asked once the leader is registered
	for _, node := range c.nodes {
		all.Go(func() { node.register(ctx) })
	}
	all.Wait()
	for _, node := range c.nodes {
		eventually(t, "all nodes are registered everywhere", func() bool { return len(node.core.Table().Meta.Nodes()) == n })
	}
	return c
}

// single is a cluster of one node.
func single(t *testing.T) *testNode {
	t.Helper()
	return newCluster(t, 1).nodes[1]
}

// start starts a node; wrap may put a store in front of its own.
func (c *testCluster) start(id raftcore.NodeID, members map[raftcore.ReplicaID]raftcore.NodeID, wrap func(store.KV) store.KV) *testNode {
	n := &testNode{t: c.t, id: id, kv: store.NewMem()}
	b := new(store.Batch)
	store.PutBirth(b, store.Birth{Group: raftcore.MetadataGroup, Replica: raftcore.ReplicaID(id), Members: members})
	must(c.t, n.kv.Commit(b, true))
	if wrap != nil {
		n.kv = wrap(n.kv)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	must(c.t, err)
	n.addr = lis.Addr().String()
	boot := make([]byte, 16)
	boot[0] = byte(id)
	to := new(lateReceiver)
	n.link = c.net.Attach(transport.Identity{Cluster: "test", StoreID: fmt.Sprint("store-", id), Node: uint64(id), Start: lineage.Start{Number: 1, ID: boot}}, to)
	n.core = StartCore(n.config())
	to.core.Store(n.core)
	n.held = &heldCore{Core: n.core}
	n.services = NewServices(ServicesConfig{Core: n.held, Cluster: "test", Start: 1, BootID: boot, Counters: &n.counters,
		RecordBytesMax: testRecordBytesMax, BatchBytesMax: testBatchBytesMax, ElectionTimeout: testElectionTimeout,
		Space: &n.space})
	n.server = NewServer(lis, ServerConfig{}, n.services)
	n.server.Start()
	n.connect()
	n.tick()
	c.nodes[id] = n
	c.t.Cleanup(n.close)
	return n
}

// lateReceiver drops what arrives before there is a Core.
type lateReceiver struct{ core atomic.Pointer[Core] }

func (r *lateReceiver) Frame(from uint64, f *raftv1.Frame) {
	if c := r.core.Load(); c != nil {
		c.Frame(from, f)
	}
}

func (r *lateReceiver) Lost(node uint64, groups []uint64) {
	if c := r.core.Load(); c != nil {
		c.Lost(node, groups)
	}
}

func (r *lateReceiver) Gone(node uint64) {
	if c := r.core.Load(); c != nil {
		c.Gone(node)
	}
}

func (n *testNode) config() Config {
	return Config{
		Replica: actors.ReplicaConfig{Node: n.id, Start: 1, Log: n.kv, Clock: n, Counters: &actors.Counters{},
			Core: &raftcore.Counters{}, Logger: slog.New(slog.DiscardHandler), Space: &n.space, RetentionTicks: 10},
		Sender: n, Tables: NewTables(), Counters: &n.counters,
		Writer: actors.LogWriterConfig{OnFailure: func(err error) { n.failed.Store(&err) }, Counters: &actors.Counters{}},
	}
}

func (n *testNode) connect() {
	var err error
	n.client, err = grpc.NewClient(n.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(n.t, err)
	n.log, n.admin = multiraftv1.NewLogServiceClient(n.client), multiraftv1.NewAdminServiceClient(n.client)
}

// tick drives the node's clock.
func (n *testNode) tick() {
	end := make(chan struct{})
	var loop sync.WaitGroup
	loop.Go(func() {
		t := time.NewTicker(testElectionTimeout / 10)
		defer t.Stop()
		for {
			select {
			case <-end:
				return
			case <-t.C:
				n.core.Tick()
			}
		}
	})
	n.stop = sync.OnceFunc(func() { close(end); loop.Wait() })
}

func (n *testNode) close() {
	must(n.t, n.client.Close())
	n.server.Close()
	n.link.Detach()
	n.stop()
	must(n.t, n.core.Stop())
	if o := n.services.outflow; o.bytes != 0 || len(o.byHost) != 0 || len(o.sending) != 0 {
		n.t.Errorf("node %d: %d bytes are still held for clients, %v", n.id, o.bytes, o.byHost)
	}
	if load := n.services.admitted.items.Load(); load != 0 {
		n.t.Errorf("node %d: %d appends are still admitted", n.id, load)
	}
}

// kill makes a node vanish for the others.
func (c *testCluster) kill(id raftcore.NodeID) {
	n := c.nodes[id]
	n.server.Close()
	n.link.Detach()
	n.stop()
	delete(c.nodes, id)
}

func (n *testNode) register(ctx context.Context) {
	n.t.Helper()
	retry(ctx, n.t, func() error {
		_, err := n.services.RegisterNode(ctx, &multiraftv1.RegisterNodeRequest{NodeId: uint64(n.id), StoreId: fmt.Sprint("store-", n.id),
			StartNumber: 1, ClientAddr: n.addr, PeerAddr: "unused", Rack: ""})
		return err
	})
}

// createTopic creates a topic and returns its id.
func (n *testNode) createTopic(ctx context.Context, name string, partitions, replicas uint32) uint64 {
	n.t.Helper()
	id := make([]byte, 16)
	copy(id, name)
	var resp *multiraftv1.CreateTopicResponse
	retry(ctx, n.t, func() (err error) {
		resp, err = n.admin.CreateTopic(ctx, &multiraftv1.CreateTopicRequest{Name: name, Partitions: partitions, Replicas: replicas, RequestId: id})
		return err
	})
	if !resp.GetReady() {
		n.t.Fatalf("topic %s is not ready", name)
	}
	return resp.GetTopicId()
}

// retry repeats a call until it ends otherwise than for the moment.
func retry(ctx context.Context, t *testing.T, call func() error) {
	t.Helper()
	pause := time.NewTicker(5 * time.Millisecond)
	defer pause.Stop()
	for {
		err := call()
		if err == nil {
			return
		}
		if !IsRetriable(err) || ctx.Err() != nil {
			t.Error(err)
			return
		}
		<-pause.C
	}
}

// eventually waits for something that happens by itself.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	pause := time.NewTicker(2 * time.Millisecond)
	defer pause.Stop()
	late := time.After(testTimeout)
	for !cond() {
		select {
		case <-late:
			t.Fatalf("it never came true: %s", what)
		case <-pause.C:
		}
	}
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	t.Cleanup(cancel)
	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// topicOf is a topic as it would be placed, in groups that nobody has.
func topicOf(req *multiraftv1.CreateTopicRequest) *metav1.Topic {
	topic := &metav1.Topic{TopicId: 1000, Name: req.GetName()}
	for p := range uint64(req.GetPartitions()) {
		topic.Partitions = append(topic.Partitions, &metav1.Partition{GroupId: 1000 + p, Replicas: []*metav1.Replica{{ReplicaId: 1, NodeId: 1}}})
	}
	return topic
}
