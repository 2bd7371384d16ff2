package node

import (
	"cmp"
	"log/slog"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/multiraftd/multiraftd/actors"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
	"github.com/multiraftd/multiraftd/router"
)

// Parts are what the actors of a node work with. Time, randomness, disk and network come in here and nowhere
// else: with a queue for a dispatcher the same actors run in the simulator.
type Parts struct {
	KV     store.KV
	Sender router.Sender
	// Snapshots sends snapshots to other nodes.
	Snapshots actors.SnapshotSender
	Clock     actors.Clock
	// Tracing observes; its zero value does not.
	Tracing actors.Tracing
	// Space says how full the disk is; nil = not full.
	Space *actors.Space
	// Dispatcher runs all actors; nil = protoactor's default. Disk runs the LogWriter instead, if it is set: a
	// slow dispatcher is a slow disk.
	Dispatcher, Disk actor.Dispatcher
	// OnFailure is told, once, that nothing will be acknowledged any more.
	OnFailure func(error)
	Logger    *slog.Logger

	// Controller says how the cluster is kept: router.Config's.
	Controller actors.ControllerConfig
	// MetadataKeep is router.Config's.
	MetadataKeep actors.Keep
	// ChunkBytes is actors.ReplicaConfig's.
	ChunkBytes int
	// CacheBytes and EntryBytesMax are those of actors.ReplicaConfig; 0 = what every node has. Small ones take
	// the simulator to where only large entries lead a real node.
	CacheBytes, EntryBytesMax int
	// RetentionTicks is that of actors.ReplicaConfig; 0 = what every node has.
	RetentionTicks int

	ActorCounters  *actors.Counters
	CoreCounters   *raftcore.Counters
	RouterCounters *router.Counters
}

// Assemble starts the actors of node self over what its store holds, with the limits that every node has.
func Assemble(self store.Node, p Parts) *router.Core {
	var props, disk []actor.PropsOption
	if p.Dispatcher != nil {
		props = append(props, actor.WithDispatcher(p.Dispatcher))
	}
	if p.Disk != nil {
		disk = append(disk, actor.WithDispatcher(p.Disk))
	}
	return router.StartCore(router.Config{
		Replica: actors.ReplicaConfig{
			Node: self.NodeID, Start: self.Start, Log: p.KV, Clock: p.Clock, Snapshots: p.Snapshots, Space: p.Space, Tracing: p.Tracing,
			ElectionTicks: electionTicks, QuietTicks: quietTicks, EntryBytesMax: cmp.Or(p.EntryBytesMax, entryBytesMax), CacheBytes: p.CacheBytes, ChunkBytes: p.ChunkBytes, RetentionTicks: p.RetentionTicks,
			Counters: p.ActorCounters, Core: p.CoreCounters, Logger: p.Logger,
		},
		Sender: p.Sender, Tables: router.NewTables(), Counters: p.RouterCounters,
		Writer: actors.LogWriterConfig{OnFailure: p.OnFailure, Counters: p.ActorCounters},
		Props:  props, WriterProps: disk, MetadataKeep: p.MetadataKeep, Controller: p.Controller,
	})
}

// ElectionTicks is how many ticks of a node's clock make an election timeout.
const ElectionTicks = electionTicks

func (n *Node) parts() Parts {
	return Parts{
		KV: n.kv, Sender: sender{n.peers}, Snapshots: sender{n.peers}, Space: &n.space, MetadataKeep: n.cfg.metadataKeep, Clock: wallClock{}, Dispatcher: n.cfg.Dispatcher,
		OnFailure: n.storeFailed, Logger: n.cfg.Logger, Tracing: actors.Tracing{Tracer: n.tracer, Carrier: sender{n.peers}, Seed: n.self.Cluster},
		Controller:    actors.ControllerConfig{ReplaceAfterTicks: n.ticks(max(0, n.cfg.ReplaceAfter)), MinuteTicks: n.ticks(time.Minute)},
		ActorCounters: &n.counters.actors, CoreCounters: &n.counters.core, RouterCounters: &n.counters.router,
	}
}
