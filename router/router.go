package router

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/multiraftd/multiraftd/actors"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/metadata"
	"github.com/multiraftd/multiraftd/raftcore/partition"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// Sender takes what goes to other nodes. It may drop, and never blocks.
type Sender interface {
	actors.Sender
	// SendReport sets what a node is told next of this one; the newest counts.
	SendReport(to raftcore.NodeID, r *raftv1.NodeReport)
}

// Config says what a Router works with. Replica is the template for the replicas that it spawns: Group,
// Incarnation, OpenMachine, Writer, Vouch, Gone, OnApplied, Campaign, Board and Ticks are filled in for each.
type Config struct {
	Replica  actors.ReplicaConfig
	Sender   Sender
	Tables   *Tables
	Counters *Counters
	Writer   actors.LogWriterConfig
	// Controller says how the cluster is kept; the Router fills in what it knows itself.
	Controller actors.ControllerConfig
	Props      []actor.PropsOption // the dispatcher of all actors; empty = protoactor's default
	// WriterProps come after Props for the LogWriter.
	WriterProps []actor.PropsOption
	// MetadataKeep is what the metadata group's log keeps of what is applied; zero = 4096 entries or 16 MiB.
	MetadataKeep actors.Keep
}

// metadataKeepDefault bounds the metadata group's log, which no command truncates: enough for a node that is away
// for a while, with ten changes a second for seven minutes.
var metadataKeepDefault = actors.Keep{Entries: 4096, Bytes: 16 << 20}

// Router is the actor that owns the table group -> mailbox.
type Router struct {
	cfg    Config
	writer *actor.PID
	clock  *actor.PID
	// controller is nil after it has failed: the node goes on, and another one's takes over with leadership.
	controller *actor.PID
	hearing    hearing
	reportFrom int // where the next report goes on among the groups led here
	starting   starting
	notices    []notices
	groups     map[raftcore.GroupID]*Hosted
	ids        []raftcore.GroupID // the keys of groups, ascending
	shown      hosting            // groups and ids as they were published last
	// unshown says that groups have changed since; publishing, that a publish is in the Router's own mailbox.
	unshown, publishing bool
	birth               map[raftcore.GroupID]bool // the first batch is on its way to the disk
	// buried are the replicas that were deleted here, of each group the latest. Born again, it would vote twice.
	buried   map[raftcore.GroupID]raftcore.ReplicaID
	removing map[raftcore.GroupID]*removing
	byPID    map[string]*Hosted
	meta     *metadata.State
	spawned  uint64
	full     map[raftcore.NodeID]int // peers whose disk has no room: for how many ticks that holds

	// Scratch space of one frame.
	inbound map[raftcore.GroupID]*actors.Inbound
	order   []*Hosted
}

// Props returns the Props with which the Router is spawned. It spawns the LogWriter, the Clock and the
// replicas as its children. A replica that panics is stopped for good and marked; a Router that panics ends
// the node, since protoactor would restart it beside the replicas that it has.
func Props(cfg Config) *actor.Props {
	r := &Router{
		cfg: cfg, groups: map[raftcore.GroupID]*Hosted{}, birth: map[raftcore.GroupID]bool{}, buried: map[raftcore.GroupID]raftcore.ReplicaID{},
		removing: map[raftcore.GroupID]*removing{}, byPID: map[string]*Hosted{},
		meta: metadata.Empty(), inbound: map[raftcore.GroupID]*actors.Inbound{}, full: map[raftcore.NodeID]int{},
		hearing: newHearing(),
	}
	opts := append([]actor.PropsOption{
		actor.WithSupervisor(actors.StopAndReport(r.childFailed)), actor.WithGuardian(actors.StopAndReport(r.failed)),
	}, cfg.Props...)
	return actor.PropsFromProducer(func() actor.Actor { return r }, opts...)
}

// Receive is part of actor.Actor.
func (r *Router) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *Dispatch:
		r.dispatch(ctx, m.Items)
	case *Frame:
		r.frame(ctx, m)
	case *actors.ClockTick:
		r.tick(ctx, m)
	case *actors.AskTransfer:
		r.askTransfer(ctx, m)
	case *Lost:
		r.lost(ctx, m)
	case *NodeGone:
		r.nodeGone(ctx, m.Node)
	case *MetadataApplied:
		r.metadataApplied(ctx, m.State)
	case publish:
		r.publish()
	case *born:
		r.wasBorn(ctx, m)
	case *buried:
		r.wasBuried(ctx, m)
	case *actor.Terminated:
		ctx.Send(r.clock, &actors.Untrack{PID: m.Who})
		if h, ok := r.byPID[m.Who.Id]; ok {
			r.ended(ctx, h)
		}
	case *actor.Started:
		r.start(ctx)
	}
}

func (r *Router) start(ctx actor.Context) {
	r.writer = ctx.SpawnPrefix(actors.LogWriterProps(r.cfg.Writer, slices.Concat(r.cfg.Props, r.cfg.WriterProps)...), "log")
	r.clock = ctx.SpawnPrefix(actors.ClockProps(r.cfg.Props...), "clock")
	r.startController(ctx)
	stored, err := r.stored()
	if err != nil {
		r.cfg.Writer.OnFailure(fmt.Errorf("reading which groups are stored: %w", err))
		return
	}
	for _, g := range stored {
		if g.Tombstone {
			r.buried[g.Group] = g.Replica
			continue
		}
		h := r.spawn(ctx, g.Group, g.Replica, false)
		if g.Group == raftcore.MetadataGroup {
			r.track(ctx, h)
			continue
		}
		r.starting.waiting = append(r.starting.waiting, starter{h, 0})
	}
	r.publish()
}

func (r *Router) stored() ([]store.StoredGroup, error) {
	v, err := r.cfg.Replica.Log.View()
	if err != nil {
		return nil, err
	}
	groups, err := store.Groups(v)
	return groups, errors.Join(err, v.Close())
}

// spawn starts the replica that is stored for g. It takes no ticks yet.
func (r *Router) spawn(ctx actor.Context, g raftcore.GroupID, id raftcore.ReplicaID, campaign bool) *Hosted {
	r.spawned++
	cfg := r.cfg.Replica
	cfg.Group, cfg.Incarnation, cfg.Campaign = g, r.spawned, campaign
	cfg.Writer, cfg.Board, cfg.Ticks = r.writer, &actors.Board{}, &actors.TickCount{}
	cfg.Vouch, cfg.Gone = r.vouch(g), r.gone
	cfg.OpenMachine = func(v store.View, prefix []byte) (actors.Machine, error) { return partition.Open(v, prefix) }
	if g == raftcore.MetadataGroup {
		self, root := ctx.Self(), ctx.ActorSystem().Root
		cfg.Keep, cfg.QuietTicks = cmp.Or(r.cfg.MetadataKeep, metadataKeepDefault), 0
		cfg.OpenMachine = func(v store.View, prefix []byte) (actors.Machine, error) { return metadata.Open(v, prefix) }
		cfg.OnApplied = func(m actors.Machine) {
			root.Send(self, &MetadataApplied{m.(*metadata.Machine).State()})
		}
	}
	if topic, _, ok := r.meta.Partition(g); ok {
		cfg.Retention = retentionOf(topic)
	}
	h := &Hosted{Group: g, Replica: id, Board: cfg.Board, ticks: cfg.Ticks}
	h.PID = ctx.SpawnPrefix(actors.ReplicaProps(cfg, r.cfg.Props...), fmt.Sprintf("g%d", g))
	r.host(h)
	r.aim(ctx, g)
	return h
}

// vouch lets a replica speak for a node when metadata placed it there (rule 16).
func (r *Router) vouch(g raftcore.GroupID) func(raftcore.ReplicaID, raftcore.NodeID) bool {
	return func(id raftcore.ReplicaID, n raftcore.NodeID) bool { return r.cfg.Tables.Load().Meta.Vouches(g, id, n) }
}

// childFailed marks the replica that broke an invariant; the other groups go on.
func (r *Router) childFailed(child *actor.PID, reason any) {
	if r.controller != nil && child.Id == r.controller.Id {
		r.controller = nil
		r.cfg.Replica.Logger.Error("the controller failed", "reason", reason)
		return
	}
	h, ok := r.byPID[child.Id]
	if !ok { // the LogWriter or the Clock: nothing works without them
		r.cfg.Writer.OnFailure(fmt.Errorf("actor %s failed: %v", child.Id, reason))
		return
	}
	r.cfg.Counters.ReplicasFailed.Add(1)
	r.cfg.Replica.Logger.Error("replica failed", "group", h.Group, "reason", reason)
	if s := h.Board.Load(); s != nil {
		r.sayFailed(s)
	}
	h.Board.Fail(h.Group, r.cfg.Replica.Node, fmt.Sprint(reason))
}

// failed hears of a panic of the Router itself.
func (r *Router) failed(_ *actor.PID, reason any) {
	r.cfg.Writer.OnFailure(fmt.Errorf("the router failed: %v", reason))
}

// host puts a replica into the table.
func (r *Router) host(h *Hosted) {
	if i, ok := slices.BinarySearch(r.ids, h.Group); !ok {
		r.ids = slices.Insert(r.ids, i, h.Group)
	}
	r.groups[h.Group], r.byPID[h.PID.Id], r.unshown = h, h, true
}

// unhost takes one out of it.
func (r *Router) unhost(h *Hosted) {
	if i, ok := slices.BinarySearch(r.ids, h.Group); ok {
		r.ids = slices.Delete(r.ids, i, i+1)
	}
	delete(r.groups, h.Group)
	delete(r.byPID, h.PID.Id)
	r.unshown = true
}

// publishSoon publishes once for all births and deaths that wait in the mailbox: the table is copied as a whole.
func (r *Router) publishSoon(ctx actor.Context) {
	if !r.publishing {
		r.publishing = true
		ctx.Send(ctx.Self(), publish{})
	}
}

func (r *Router) publish() {
	r.publishing = false
	if r.unshown {
		r.unshown = false
		r.shown = hosting{maps.Clone(r.groups), slices.Clone(r.ids), r.shown.version + 1}
	}
	r.cfg.Tables.p.Store(&Table{hosting: r.shown, full: slices.Sorted(maps.Keys(r.full)), Meta: r.meta, Deleted: r.deleted()})
}
