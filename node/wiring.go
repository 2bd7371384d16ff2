package node

import (
	"context"
	"fmt"
	"time"

	"github.com/multiraftd/multiraftd/actors"
	"github.com/multiraftd/multiraftd/node/tracing"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/proto/trace"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
	"github.com/multiraftd/multiraftd/router"
	"github.com/multiraftd/multiraftd/transport"
)

// counters are those of all rooms of one node.
type counters struct {
	store  store.Counters
	core   raftcore.Counters
	actors actors.Counters
	router router.Counters
	certs  certCounters
}

func (n *Node) counterSources() []counterSource {
	return []counterSource{n.peers.Counters(), &n.counters.store, &n.counters.core, &n.counters.actors, &n.counters.router, &n.counters.certs}
}

// epoch is what nanos counts from: a difference to it comes from the clock that never goes back.
var epoch = time.Now()

// nanos is the clock of durations.
func nanos() int64 { return int64(time.Since(epoch)) }

// wallClock is the real time.
type wallClock struct{}

// NowMillis is part of actors.Clock.
func (wallClock) NowMillis() int64 { return time.Now().UnixMilli() }

// sender gives the rooms' typed ids to the transport, which knows numbers.
type sender struct{ t *transport.Transport }

// Send is part of actors.Sender.
func (s sender) Send(to raftcore.NodeID, env *raftv1.Envelope) { s.t.Send(uint64(to), env) }

// Carry is part of actors.Carrier.
func (s sender) Carry(to raftcore.NodeID, env *raftv1.Envelope, beside []trace.Carried) {
	s.t.Carry(uint64(to), env, beside)
}

// SendSnapshot is part of actors.SnapshotSender.
func (s sender) SendSnapshot(to raftcore.NodeID, source *actors.SnapshotSource) {
	s.t.SendSnapshot(uint64(to), source)
}

// SendControl is part of router.Sender.
func (s sender) SendControl(to raftcore.NodeID, c *raftv1.Control) { s.t.SendControl(uint64(to), c) }

// SendReport is part of router.Sender.
func (s sender) SendReport(to raftcore.NodeID, r *raftv1.NodeReport) { s.t.SendReport(uint64(to), r) }

func (n *Node) identity() store.Node {
	n.idMu.Lock()
	defer n.idMu.Unlock()
	return n.id
}

func (n *Node) setIdentity(id store.Node) {
	n.idMu.Lock()
	defer n.idMu.Unlock()
	n.id = id
}

func (n *Node) servicesConfig() router.ServicesConfig {
	return router.ServicesConfig{
		Core: n.core, Cluster: n.self.Cluster, Start: n.self.Start, BootID: n.self.BootID, Counters: &n.counters.router, Logger: n.cfg.Logger,
		RecordBytesMax: n.cfg.RecordBytesMax, BatchBytesMax: appendBytesMax, ElectionTimeout: n.cfg.ElectionTimeout,
		Failed: n.done, Space: &n.space, TLS: n.certs.client,
		Tracing: router.TracingConfig{Tracer: n.tracer, Headers: n.tracer.Samples(), Traces: n.tracer},
	}
}

// startTracing makes the tracer of a node that knows who it is.
func (n *Node) startTracing(ctx context.Context) (err error) {
	cfg := n.cfg.Tracing
	cfg.Service, cfg.Version = "multiraftd", n.cfg.Version
	cfg.Node, cfg.Instance = uint64(n.self.NodeID), fmt.Sprintf("%s/%d", n.self.Cluster, n.self.NodeID)
	n.tracer, err = tracing.New(ctx, cfg)
	return err
}

// traceCloseTimeout bounds how long a node that stops waits for its last spans to be exported.
const traceCloseTimeout = 2 * time.Second

// stopTracing exports what is left. That it can't is no failure of the node: it is only said.
func (n *Node) stopTracing() {
	ctx, cancel := context.WithTimeout(context.Background(), traceCloseTimeout)
	defer cancel()
	if err := n.tracer.Close(ctx); err != nil {
		n.cfg.Logger.Warn("traces", "err", err)
	}
}
