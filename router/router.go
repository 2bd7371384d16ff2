package router

import (
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
	SendControl(to raftcore.NodeID, c *raftv1.Control)
}

// Config says what a Router works with. Replica is the template for the replicas that it spawns: Group,
// Incarnation, OpenMachine, Writer, Vouch, OnApplied, Campaign, Board and Ticks are filled in for each.
type Config struct {
	Replica  actors.ReplicaConfig
	Sender   Sender
	Tables   *Tables
	Counters *Counters
	Writer   actors.LogWriterConfig
	Props    []actor.PropsOption // the dispatcher of all actors; empty = protoactor's default
	// WriterProps come after Props for the LogWriter.
	WriterProps []actor.PropsOption
}

// Router is the actor that owns the table group -> mailbox.
type Router struct {
	cfg    Config
	writer *actor.PID
	clock  *actor.PID
	groups map[raftcore.GroupID]*Hosted
	birth  map[raftcore.GroupID]bool // the initial batch is on its way to the disk
	// buried are the groups whose replica here was deleted. Born again, it would vote twice.
	buried  map[raftcore.GroupID]bool
	byPID   map[string]*Hosted
	meta    *metadata.State
	spawned uint64
	// topicSeen is the newest topic whose placement has been looked at. Topic ids grow, so that each topic
	// is looked at once and not after every applied command.
	topicSeen uint64

	// Scratch space of one frame.
	inbound map[raftcore.GroupID]*actors.Inbound
	order   []*Hosted
}

// Props returns the Props with which the Router is spawned. It spawns the LogWriter, the Clock and the
// replicas as its children. A replica that panics is stopped for good and marked; a Router that panics ends
// the node, since protoactor would restart it beside the replicas that it has.
func Props(cfg Config) *actor.Props {
	r := &Router{
		cfg: cfg, groups: map[raftcore.GroupID]*Hosted{}, birth: map[raftcore.GroupID]bool{}, buried: map[raftcore.GroupID]bool{}, byPID: map[string]*Hosted{},
		meta: metadata.Empty(), inbound: map[raftcore.GroupID]*actors.Inbound{},
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
		ctx.Send(r.clock, m)
	case *Lost:
		r.lost(ctx, m)
	case *NodeGone:
		r.nodeGone(ctx, m.Node)
	case *MetadataApplied:
		r.metadataApplied(ctx, m.State)
	case *born:
		delete(r.birth, m.group)
		r.spawn(ctx, m.group, m.campaign)
		r.publish()
	case *actor.Terminated:
		ctx.Send(r.clock, &actors.Untrack{PID: m.Who})
	case *actor.Started:
		r.start(ctx)
	}
}

func (r *Router) start(ctx actor.Context) {
	r.writer = ctx.SpawnPrefix(actors.LogWriterProps(r.cfg.Writer, slices.Concat(r.cfg.Props, r.cfg.WriterProps)...), "log")
	r.clock = ctx.SpawnPrefix(actors.ClockProps(r.cfg.Props...), "clock")
	stored, err := r.stored()
	if err != nil {
		r.cfg.Writer.OnFailure(fmt.Errorf("reading which groups are stored: %w", err))
		return
	}
	for _, g := range stored {
		if g.Tombstone {
			r.buried[g.Group] = true
			continue
		}
		r.spawn(ctx, g.Group, false)
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

// spawn starts the replica that is stored for g.
func (r *Router) spawn(ctx actor.Context, g raftcore.GroupID, campaign bool) {
	r.spawned++
	cfg := r.cfg.Replica
	cfg.Group, cfg.Incarnation, cfg.Campaign = g, r.spawned, campaign
	cfg.Writer, cfg.Board, cfg.Ticks = r.writer, &actors.Board{}, &actors.TickCount{}
	cfg.Vouch = r.vouch(g)
	cfg.OpenMachine = func(v store.View, prefix []byte) (actors.Machine, error) { return partition.Open(v, prefix) }
	if g == raftcore.MetadataGroup {
		self, root := ctx.Self(), ctx.ActorSystem().Root
		cfg.OpenMachine = func(v store.View, prefix []byte) (actors.Machine, error) { return metadata.Open(v, prefix) }
		cfg.OnApplied = func(m actors.Machine) {
			root.Send(self, &MetadataApplied{m.(*metadata.Machine).State()})
		}
	}
	h := &Hosted{Group: g, Board: cfg.Board}
	h.PID = ctx.SpawnPrefix(actors.ReplicaProps(cfg, r.cfg.Props...), fmt.Sprintf("g%d", g))
	r.groups[g], r.byPID[h.PID.Id] = h, h
	ctx.Send(r.clock, &actors.Track{PID: h.PID, Ticks: cfg.Ticks})
}

// vouch lets a replica speak for a node when metadata placed it there (rule 16). In the metadata group the
// initial replica ids are the node ids.
func (r *Router) vouch(g raftcore.GroupID) func(raftcore.ReplicaID, raftcore.NodeID) bool {
	return func(id raftcore.ReplicaID, n raftcore.NodeID) bool {
		info, ok := r.cfg.Tables.Load().Meta.Group(g)
		if !ok {
			return false
		}
		node, ok := info.Node(id)
		return ok && node == n
	}
}

// childFailed marks the replica that broke an invariant; the other groups go on.
func (r *Router) childFailed(child *actor.PID, reason any) {
	h, ok := r.byPID[child.Id]
	if !ok { // the LogWriter or the Clock: nothing works without them
		r.cfg.Writer.OnFailure(fmt.Errorf("actor %s failed: %v", child.Id, reason))
		return
	}
	r.cfg.Counters.ReplicasFailed.Add(1)
	r.cfg.Replica.Logger.Error("replica failed", "group", h.Group, "reason", reason)
	if s := h.Board.Load(); s != nil {
		for _, n := range s.Voters {
			if n != r.cfg.Replica.Node {
				r.cfg.Sender.SendControl(n, &raftv1.Control{Kind: raftv1.Control_KIND_REPLICA_FAILED, GroupId: uint64(h.Group), ReplicaId: uint64(s.Replica)})
			}
		}
	}
	h.Board.Fail(h.Group, r.cfg.Replica.Node, fmt.Sprint(reason))
}

// failed hears of a panic of the Router itself.
func (r *Router) failed(_ *actor.PID, reason any) {
	r.cfg.Writer.OnFailure(fmt.Errorf("the router failed: %v", reason))
}

func (r *Router) publish() {
	r.cfg.Tables.p.Store(&Table{groups: maps.Clone(r.groups), Meta: r.meta})
}

// metadataApplied gives birth to the replicas that new topics place here. Nothing is ever deleted because
// metadata does not mention it.
func (r *Router) metadataApplied(ctx actor.Context, s *metadata.State) {
	r.meta = s
	r.publish()
	for _, t := range s.TopicsAfter(r.topicSeen) {
		for _, p := range t.GetPartitions() {
			r.reconcile(ctx, metadata.GroupOf(p))
		}
		r.topicSeen = t.GetTopicId()
	}
}

func (r *Router) reconcile(ctx actor.Context, g metadata.Group) {
	if r.groups[g.ID] != nil || r.birth[g.ID] || r.buried[g.ID] {
		return
	}
	for i, member := range g.Replicas {
		if member.Node != r.cfg.Replica.Node {
			continue
		}
		w := &actors.Write{Batch: new(store.Batch), Sync: true, To: ctx.Self(), Done: &born{g.ID, i == 0}}
		store.PutBirth(w.Batch, store.Birth{Group: g.ID, Replica: member.ID, Members: g.Members()})
		r.birth[g.ID] = true
		ctx.Send(r.writer, w)
	}
}
