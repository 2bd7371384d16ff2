package actors

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/asynkron/protoactor-go/actor"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/partition"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// Log is the disk as the actors see it.
type Log = store.KV

// Sender takes messages for other nodes. It promises nothing: it may drop, and never blocks.
type Sender interface {
	Send(to raftcore.NodeID, env *raftv1.Envelope)
	SendControl(to raftcore.NodeID, c *raftv1.Control)
}

// Clock tells the time that a leader writes into its entries.
type Clock interface {
	NowMillis() int64
}

// Machine is a group's state machine. Apply judges every payload of a committed entry, moves the state in
// memory at once, adds what must be stored to b, and returns one outcome per payload. Bounds are the log
// start and the high watermark; 0, 0 where there are no records.
type Machine interface {
	Apply(at raftcore.Position, e *raftcore.Entry, b *store.Batch) []raftcore.Outcome
	Bounds() (logStart, highWatermark raftcore.Offset)
}

// Default limits of a replica.
const (
	electionTicksDefault  = 10
	heartbeatTicksDefault = 1
	entryBytesMaxDefault  = 8 << 20
	cacheBytesDefault     = 1 << 20 // per group; what a follower needs beyond it comes from the store
)

// ReplicaConfig says what a Replica is and what it works with.
type ReplicaConfig struct {
	Group       raftcore.GroupID
	Node        raftcore.NodeID
	Start       uint64 // the node's start number: with the replica id the origin of its proposals
	Incarnation uint64 // distinct for every spawn in a process: late storage responses are told by it

	Log         Log
	OpenMachine func(v store.View, prefix []byte) (Machine, error)
	Writer      *actor.PID
	Sender      Sender
	// Snapshots takes snapshots for other nodes; nil = none can be sent.
	Snapshots SnapshotSender
	Clock     Clock
	// Tracing observes; its zero value does not.
	Tracing Tracing
	// Vouch says whether a replica of this group may speak for that node though the group's own membership
	// does not tell (rule 16). nil = the membership alone.
	Vouch func(raftcore.ReplicaID, raftcore.NodeID) bool
	// Gone says that nothing was heard of a node for an election timeout; a NodeBack follows when something is. nil =
	// nobody knows: a leader waits for every member before it goes quiet.
	Gone func(raftcore.NodeID) bool
	// OnApplied runs in the replica's turn after entries were applied, and once at the start. nil = nothing.
	OnApplied func(Machine)
	// Campaign makes the replica campaign at once instead of waiting for an election timeout; set on the
	// preferred leader of a new group.
	Campaign bool
	// Retention of a partition's records, until a Retain says otherwise.
	Retention partition.Retention
	// Space of the disk; nil = always enough.
	Space *Space

	ElectionTicks  int // 0 = 10
	HeartbeatTicks int // 0 = 1
	QuietTicks     int // without anything under way, until a leader's group goes quiet; 0 = never
	EntryBytesMax  int // most bytes of payloads merged into one entry; 0 = 8 MiB
	CacheBytes     int // of recent entries kept in memory; 0 = 1 MiB
	ChunkBytes     int // of a snapshot that is sent; 0 = 256 KiB
	// Keep makes the replica truncate its log by itself, as far as what is applied is more than this. Zero: only
	// the machine truncates it.
	Keep           Keep
	RetentionTicks int // between two looks at what a leader's records are kept for; 0 = 100

	Board    *Board
	Ticks    *TickCount
	Counters *Counters
	Core     *raftcore.Counters
	Logger   *slog.Logger
}

func (c ReplicaConfig) withDefaults() ReplicaConfig {
	if c.ElectionTicks == 0 {
		c.ElectionTicks = electionTicksDefault
	}
	if c.HeartbeatTicks == 0 {
		c.HeartbeatTicks = heartbeatTicksDefault
	}
	if c.EntryBytesMax == 0 {
		c.EntryBytesMax = entryBytesMaxDefault
	}
	if c.CacheBytes == 0 {
		c.CacheBytes = cacheBytesDefault
	}
	if c.ChunkBytes == 0 {
		c.ChunkBytes = snapshotChunkBytes
	}
	if c.RetentionTicks == 0 {
		c.RetentionTicks = retentionTicksDefault
	}
	return c
}

// Replica is the actor of one member of one group. All fields belong to its turn; others see its Board.
//
// Life: Started opens the log and the machine and builds the Core. From then on messages are stepped as they
// come and flushed once per turn. Stopping, after a stop or a panic, ends every request that still waits.
type Replica struct {
	cfg     ReplicaConfig
	core    *raftcore.Core
	log     *store.Log
	machine Machine
	state   store.State // applied in memory; what is stored follows through the LogWriter
	origin  raftcore.Origin

	proposals []*Propose // this turn's
	waiters   waiterQueue
	nextSeq   uint64
	// leading is the term in which this replica leads; 0 = it does not. Invariant: waiters and readRounds
	// are empty when it is 0.
	leading uint64

	// unsynced counts the appends whose fsync has not been reported, stalled the ticks since one was.
	// leaveAt is how long stalled may get before leadership is handed over.
	unsynced, stalled, leaveAt int

	ends       []ReadEndReply // this turn's
	rounds     []readRound
	readCtx    uint64
	readable   raftcore.Offset // what a View serves
	readWaits  []WaitReadable
	unaries    []*Unary
	campaigns  int // early campaigns left, see campaignEarly
	campaignIn int // ticks until the next of them
	// membersChanged makes the next publish work out the nodes of voters and learners anew.
	membersChanged bool
	// speakers are replicas that are no members as far as this one knows, and spoke for a node that metadata
	// place them on: a later leader, whom an answer has to reach. Few, and forgotten with the next change.
	speakers map[raftcore.ReplicaID]raftcore.NodeID

	sending    []*sending
	snapshotID uint64    // of the last one sent
	incoming   *incoming // nil = none is being received
	installs   []*Unary  // snapshots that have arrived in this turn
	reloading  bool      // a snapshot is in force in the log, and state and machine are those before it
	tail       tail
	tellEnded  func(*snapshotEnded)

	target   raftcore.Target
	steered  raftcore.Step       // what Steer said last
	progress []raftcore.Progress // as the board shows it; never changed
	scratch  []raftcore.Progress
	transfer transfer
	failure  error

	// quiet: no ticks, until something happens. Invariant: nothing is under way then.
	quiet   bool
	quiesce *Quiesce // of this turn

	telemetry

	retainIn   int              // ticks until the next look at retention
	oldest     partition.Oldest // as of the latest look
	truncating bool             // a truncation is proposed and has no end yet

	traces traces
	debug  bool // every RPC is logged
}

// ReplicaProps returns the Props with which a Replica is spawned. The producer has no side effects:
// protoactor calls it before it checks the name.
func ReplicaProps(cfg ReplicaConfig, opts ...actor.PropsOption) *actor.Props {
	opts = append(opts, actor.WithMailbox(func() actor.Mailbox {
		b := newDrainMailbox()
		cfg.Board.mailbox.Store(b)
		return b
	}))
	return actor.PropsFromProducer(func() actor.Actor { return &Replica{cfg: cfg.withDefaults()} }, opts...)
}

// Receive is part of actor.Actor.
func (r *Replica) Receive(ctx actor.Context) {
	if r.quiet && wakes(ctx.Message()) && !r.echo(ctx.Message()) {
		r.wake()
	}
	switch m := ctx.Message().(type) {
	case drained:
		r.turn(ctx)
	case *Propose:
		if m.Wait != nil {
			r.takeTraced(m)
		}
		r.proposals = append(r.proposals, m)
	case *Inbound:
		r.step(m)
	case *Persisted:
		r.persisted(m)
	case *ReadEnd:
		r.ends = append(r.ends, m.Reply)
	case *WaitReadable:
		r.waitReadable(*m)
	case *CancelWait:
		r.cancelWait(m.ID)
	case *Unary:
		r.unaries = append(r.unaries, m)
	case *chunkStored:
		r.chunkStored(m)
	case *snapshotEnded:
		r.snapshotEnded(m)
	case *Inspect:
		r.inspect(m)
	case *Retain:
		r.cfg.Retention = m.Retention
	case *Unreachable:
		r.unreachable(m.Node)
	case *NodeGone:
		r.nodeGone(m.Node)
	case *SetTarget:
		r.target, r.idle = m.Target, 0 // what steered says is of the one before
	case *Transfer:
		r.beginTransfer(m)
	case *Campaign:
		r.campaigns, r.campaignIn = campaignsMax, 0
	case *Quiesce:
		r.quiesce = m
	case *Suspect:
		r.suspect(m.Node)
	case *NodeBack:
		r.nodeBack(m.Node)
	case tick, flush, *Wake: // what they announce is read in the turn that follows
	case *actor.Started:
		r.start(ctx)
	case *actor.Stopping:
		r.end()
	case *actor.Restarting: // the supervisor never restarts; if something did, nobody may be left waiting
		r.end()
	}
}

func (r *Replica) start(ctx actor.Context) {
	if err := r.open(); err != nil {
		panic(fmt.Errorf("replica of group %d does not open: %w", r.cfg.Group, err))
	}
	r.debug = debugs(r.cfg.Logger)
	self, root := ctx.Self(), ctx.ActorSystem().Root
	r.tellEnded = func(m *snapshotEnded) { root.Send(self, m) }
	if w := (&Write{Batch: new(store.Batch)}); r.log.DropStrays(w.Batch) {
		ctx.Send(r.cfg.Writer, w)
	}
	if r.cfg.Campaign {
		r.campaigns = campaignsMax
	}
	_, r.readable = r.machine.Bounds()
	r.leaveAt = r.cfg.ElectionTicks
	r.role, r.term = raftcore.Follower, r.core.Status().Term
	r.retainIn = int(uint64(r.cfg.Group) % uint64(r.cfg.RetentionTicks)) // not all groups at the same tick
	r.publish()
	if r.cfg.OnApplied != nil {
		r.cfg.OnApplied(r.machine)
	}
	ctx.Send(ctx.Self(), flush{})
}

func (r *Replica) open() (err error) {
	if r.log, err = store.OpenLog(r.cfg.Log, r.cfg.Group, r.cfg.CacheBytes); err != nil {
		return err
	}
	if err := r.openMachine(); err != nil {
		return err
	}
	r.origin = raftcore.Origin{Replica: r.log.Replica(), Start: r.cfg.Start}
	r.core, err = raftcore.New(raftcore.Config{
		Group: r.cfg.Group, Self: r.log.Replica(), Storage: r.log, Applied: r.state.Applied,
		ElectionTicks: r.cfg.ElectionTicks, HeartbeatTicks: r.cfg.HeartbeatTicks,
		Members: r.state.Members, FollowedTarget: r.state.FollowedTarget, Vouch: r.cfg.Vouch, Counters: r.cfg.Core, Staged: r.staged,
		EntryBytesMax: r.cfg.EntryBytesMax + raftcore.EntryOverheadMax(turnMessagesMax),
	})
	return err
}

// openMachine opens the state machine as the log's state has it.
func (r *Replica) openMachine() error {
	r.state = r.log.State().Clone()
	v, err := r.cfg.Log.View()
	if err != nil {
		return err
	}
	r.machine, err = r.cfg.OpenMachine(v, store.MachinePrefix(r.cfg.Group, r.log.Generation()))
	return errors.Join(err, v.Close())
}

// end answers everything that waits. What has not entered the log was not stored; what has is unknown.
func (r *Replica) end() {
	r.refuseAll(ErrStopped)
	r.waiters.endAll(ErrOutcomeUnknown)
	r.traces.lost(ErrStopped)
	r.endTransfer(0, ErrStopped)
	for _, e := range r.ends {
		e.ReadEnd(0, 0, 0, ErrStopped)
	}
	r.ends = nil
	r.endRounds(ErrStopped)
	for _, w := range r.readWaits {
		w.Reply <- ErrStopped
	}
	r.readWaits = nil
	for _, u := range slices.Concat(r.unaries, r.installs) {
		u.Reply.Answered(UnaryAnswer{Err: ErrStopped})
	}
	r.unaries, r.installs = nil, nil
	r.dropSending(0)
}

// refused counts a message that could not even be taken for one of Raft's.
func (r *Replica) refused(err error) {
	var refusal *raftcore.Refusal
	if errors.As(err, &refusal) {
		r.cfg.Core.Refuse(refusal.Reason)
	}
}

// step hands a frame's messages to Raft, heartbeats first. A refused one is counted by the core and
// changes nothing.
func (r *Replica) step(m *Inbound) {
	defer m.done()
	if m.Arrived != nil {
		r.traces.arrive(m.Arrived)
	}
	for _, h := range m.Heartbeats {
		r.stepOne(m.From, raftcore.FromHeartbeat(h))
	}
	for _, env := range m.Envelopes {
		msg, err := raftcore.FromEnvelope(env)
		if err != nil {
			r.refused(err)
			continue
		}
		r.stepOne(m.From, msg)
	}
}
