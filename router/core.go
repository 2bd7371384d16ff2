package router

import (
	"log/slog"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/multiraftd/multiraftd/actors"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// Core is the deterministic part of a node: the Router actor and, below it, the LogWriter, the Clock and the
// replicas. It starts no goroutine but through the dispatcher in Config.Props. The node puts services and
// connections around it; the simulator runs several of them on one queue.
type Core struct {
	system *actor.ActorSystem
	router *actor.PID
	cfg    Config
}

// StartCore spawns the actors over what the store holds.
func StartCore(cfg Config) *Core {
	cfg.Replica.Sender, cfg.Writer.Sender = cfg.Sender, cfg.Sender
	cfg.Writer.Log, cfg.Writer.Tracing = cfg.Replica.Log, cfg.Replica.Tracing
	system := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger {
		return slog.New(slog.DiscardHandler) // what matters of actors is logged by ours
	}))
	ownDeadLetters(system)
	return &Core{system: system, router: system.Root.Spawn(Props(cfg)), cfg: cfg}
}

// Node returns the node's id.
func (c *Core) Node() raftcore.NodeID { return c.cfg.Replica.Node }

// Table returns the latest table.
func (c *Core) Table() *Table { return c.cfg.Tables.Load() }

// Liveness returns who was heard of lately.
func (c *Core) Liveness() *Liveness { return c.cfg.Tables.Liveness() }

// Findings returns what the Controller of this node wants done and can't do, if it acts.
func (c *Core) Findings() []actors.Finding { return c.cfg.Tables.Findings.Load() }

// View returns an image of the store, for reading records.
func (c *Core) View() (store.View, error) { return c.cfg.Replica.Log.View() }

// Dispatch sends messages to replicas. It never blocks.
func (c *Core) Dispatch(items ...Routed) { c.system.Root.Send(c.router, &Dispatch{items}) }

// Tick is one tick of the node's clock.
func (c *Core) Tick() { c.system.Root.Send(c.router, &actors.ClockTick{}) }

// Frame takes a frame from a peer. It never blocks.
func (c *Core) Frame(from uint64, f *raftv1.Frame) { c.FrameThen(from, f, nil) }

// FrameThen is Frame, and calls done when nothing of the frame waits any more. Mailboxes never refuse, so this
// is how who hands frames over knows when to stop.
func (c *Core) FrameThen(from uint64, f *raftv1.Frame, done func()) {
	m := &Frame{From: raftcore.NodeID(from), Frame: f, Done: done}
	if tracer := c.cfg.Replica.Tracing.Tracer; tracer != nil && len(f.GetTraces()) > 0 {
		m.receiving = receive(tracer, from, f.GetTraces())
	}
	c.system.Root.Send(c.router, m)
}

// SnapshotChunk takes one request of InstallSnapshot from a peer. It never blocks; reply is called once, and with
// nothing when the next request may come.
func (c *Core) SnapshotChunk(from uint64, req *raftv1.InstallSnapshotRequest, reply func(*raftv1.InstallSnapshotResponse, error)) {
	group := raftcore.GroupID(req.GetHeader().GetGroupId())
	c.Dispatch(Routed{group, &actors.Unary{From: raftcore.NodeID(from), Snapshot: req, Reply: chunkReply(reply)}})
}

// chunkReply passes the end of a chunk on.
type chunkReply func(*raftv1.InstallSnapshotResponse, error)

// Answered is part of actors.UnaryReply.
func (f chunkReply) Answered(a actors.UnaryAnswer) { f(a.Snapshot, peerError(a.Err)) }

// Lost takes note that appends of these groups to a node were lost. It never blocks.
func (c *Core) Lost(node uint64, groups []uint64) {
	c.system.Root.Send(c.router, &Lost{raftcore.NodeID(node), groups})
}

// Gone takes note that a node's process has ended. It never blocks.
func (c *Core) Gone(node uint64) { c.system.Root.Send(c.router, &NodeGone{raftcore.NodeID(node)}) }

// Stop stops all actors and waits for them. Every request that still waits ends.
func (c *Core) Stop() error { return c.system.Root.StopFuture(c.router).Wait() }
