package actors

import (
	"io"
	"log/slog"
	"testing"

	"github.com/asynkron/protoactor-go/actor"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// queueDispatcher runs mailboxes one after the other, when the test says so.
type queueDispatcher struct{ queue []func() }

func (d *queueDispatcher) Schedule(f func()) { d.queue = append(d.queue, f) }
func (d *queueDispatcher) Throughput() int   { return 1 << 30 }

func (d *queueDispatcher) run() {
	for len(d.queue) > 0 {
		d.one()
	}
}

// one runs the mailbox that has waited longest.
func (d *queueDispatcher) one() {
	f := d.queue[0]
	d.queue = d.queue[1:]
	f()
}

type sent struct {
	to  raftcore.NodeID
	env *raftv1.Envelope
}

type control struct {
	to raftcore.NodeID
	*raftv1.Control
}

// rig is one replica (id and node 1 of members 1, 2 and 3) with a LogWriter over an in-memory log, and a
// sender that only remembers. Nothing happens but in run.
type rig struct {
	t       testing.TB
	disp    *queueDispatcher
	system  *actor.ActorSystem
	kv      store.KV
	machine *listMachine
	writer  *actor.PID
	stalled bool // the disk takes no writes; they wait in held
	held    []any
	now     int64 // of the clock, after a base
	// holdApplies makes the disk take appends, but not what was applied.
	holdApplies bool
	replica     *actor.PID
	self        *Replica // for what no message can do
	board       *Board
	ticks       *TickCount
	counters    Counters
	core        raftcore.Counters
	out         []sent
	controls    []control
	failed      []error
	panics      []any
}

const rigGroup raftcore.GroupID = 7

// listMachine remembers payloads. It panics on "panic".
type listMachine struct{ payloads []string }

func (m *listMachine) Apply(_ raftcore.Position, e *raftcore.Entry, _ *store.Batch) []raftcore.Outcome {
	var outcomes []raftcore.Outcome
	for _, p := range e.Payloads {
		if string(p) == "panic" {
			panic("planted")
		}
		outcomes = append(outcomes, raftcore.Outcome{Offset: raftcore.Offset(len(m.payloads)), Count: 1})
		m.payloads = append(m.payloads, string(p))
	}
	return outcomes
}

func (m *listMachine) Bounds() (raftcore.Offset, raftcore.Offset) {
	return 0, raftcore.Offset(len(m.payloads))
}

func (r *rig) Send(to raftcore.NodeID, env *raftv1.Envelope) { r.out = append(r.out, sent{to, env}) }
func (r *rig) SendControl(to raftcore.NodeID, c *raftv1.Control) {
	r.controls = append(r.controls, control{to, c})
}
func (r *rig) NowMillis() int64 { return 1_700_000_000_000 + r.now }

// failingKV fails from the n-th commit on.
type failingKV struct {
	store.KV
	left int
	how  func() error
}

func (k *failingKV) Commit(b *store.Batch, sync bool) error {
	if k.left--; k.left < 0 {
		return k.how()
	}
	return k.KV.Commit(b, sync)
}

func newRig(t testing.TB, wrap func(store.KV) store.KV) *rig {
	t.Helper()
	return newRigWith(t, wrap, func(*ReplicaConfig) {})
}

// newRigWith is newRig with some of the replica's configuration changed.
func newRigWith(t testing.TB, wrap func(store.KV) store.KV, change func(*ReplicaConfig)) *rig {
	t.Helper()
	r := &rig{t: t, disp: &queueDispatcher{}, machine: &listMachine{}, board: &Board{}, ticks: &TickCount{}}
	r.kv = store.NewMem()
	b := new(store.Batch)
	store.PutBirth(b, store.Birth{Group: rigGroup, Replica: 1, Members: map[raftcore.ReplicaID]raftcore.NodeID{1: 1, 2: 2, 3: 3}})
	if err := r.kv.Commit(b, true); err != nil {
		t.Fatal(err)
	}
	if wrap != nil {
		r.kv = wrap(r.kv)
	}
	silent := slog.New(slog.NewTextHandler(io.Discard, nil))
	r.system = actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return silent }))
	opts := []actor.PropsOption{actor.WithDispatcher(r.disp), actor.WithGuardian(StopAndReport(func(_ *actor.PID, reason any) { r.panics = append(r.panics, reason) }))}
	var asked ReplicaConfig
	change(&asked)
	r.writer = r.system.Root.Spawn(LogWriterProps(LogWriterConfig{
		Log: r.kv, Sender: r, Tracing: asked.Tracing, OnFailure: func(err error) { r.failed = append(r.failed, err) }, Counters: &r.counters,
	}, opts...))
	gate := r.system.Root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
		w, ok := ctx.Message().(*Write)
		if !ok {
			return
		}
		if done, ok := w.Done.(*Persisted); r.stalled || ok && done.Applied && r.holdApplies {
			r.held = append(r.held, w)
			return
		}
		ctx.Send(r.writer, w)
	}, opts...))
	cfg := ReplicaConfig{
		Group: rigGroup, Node: 1, Start: 1, Incarnation: 1, Log: r.kv, Writer: gate, Sender: r, Clock: r,
		OpenMachine: func(store.View, []byte) (Machine, error) { return r.machine, nil },
		Campaign:    true, Board: r.board, Ticks: r.ticks, Counters: &r.counters, Core: &r.core, Logger: silent,
	}
	change(&cfg)
	opts = append(opts, actor.WithMailbox(func() actor.Mailbox { return newDrainMailbox() }))
	r.replica = r.system.Root.Spawn(actor.PropsFromProducer(func() actor.Actor { // as ReplicaProps, but for self
		r.self = &Replica{cfg: cfg.withDefaults()}
		return r.self
	}, opts...))
	return r
}

// tell sends messages without running anything, so that they meet in one turn.
func (r *rig) tell(ms ...any) {
	for _, m := range ms {
		r.system.Root.Send(r.replica, m)
	}
}

// run runs until nothing is left to do, and returns what was sent meanwhile.
func (r *rig) run() []sent {
	r.out = nil
	r.disp.run()
	return r.out
}

// inbound wraps envelopes from a node.
func inbound(from raftcore.NodeID, envs ...*raftv1.Envelope) *Inbound {
	for _, e := range envs {
		e.GroupId, e.FromReplica = uint64(rigGroup), uint64(from)
		if e.ToReplica == 0 {
			e.ToReplica = 1
		}
	}
	return &Inbound{From: from, Envelopes: envs}
}

func (r *rig) status() *Status {
	r.t.Helper()
	s := r.board.Load()
	if s == nil {
		r.t.Fatal("the replica has not opened")
	}
	return s
}

// elect makes replica 1 the leader, with the vote of 2, and commits its first entry.
func (r *rig) elect() {
	r.t.Helper()
	for _, step := range []struct{ ask, answer raftv1.MessageType }{
		{raftv1.MessageType_MESSAGE_TYPE_PRE_VOTE, raftv1.MessageType_MESSAGE_TYPE_PRE_VOTE_RESPONSE},
		{raftv1.MessageType_MESSAGE_TYPE_VOTE, raftv1.MessageType_MESSAGE_TYPE_VOTE_RESPONSE},
	} {
		ask := only(r.t, r.run(), step.ask, 2)
		r.tell(inbound(2, &raftv1.Envelope{Type: step.answer, Term: ask.Term}))
	}
	app := only(r.t, r.run(), raftv1.MessageType_MESSAGE_TYPE_APPEND, 2)
	r.tell(ack(app))
	r.run()
	if s := r.status(); s.Role != raftcore.Leader || s.Commit != s.Last {
		r.t.Fatalf("not elected: %+v", s)
	}
}

// ack is node 2's acknowledgement of an append.
func ack(app *raftv1.Envelope) *Inbound {
	last := app.Index + uint64(len(app.Entries))
	return inbound(2, &raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_APPEND_RESPONSE, Term: app.Term, Index: last})
}

// only returns the one message of a type that was sent to a node.
func only(t testing.TB, out []sent, typ raftv1.MessageType, to raftcore.NodeID) *raftv1.Envelope {
	t.Helper()
	var found *raftv1.Envelope
	for _, s := range out {
		if s.env.Type == typ && s.to == to {
			if found != nil {
				t.Fatalf("more than one %v to node %d", typ, to)
			}
			found = s.env
		}
	}
	if found == nil {
		t.Fatalf("no %v to node %d among %v", typ, to, out)
	}
	return found
}

// result remembers the end of a Propose; a second end is a fault.
type result struct {
	t     testing.TB
	ended bool
	ProposeResult
}

func (r *result) Proposed(res ProposeResult) {
	if r.ended {
		r.t.Error("a proposal ended twice")
	}
	r.ended, r.ProposeResult = true, res
}

func proposals(t testing.TB, payloads ...string) ([]any, []*result) {
	var ms []any
	var rs []*result
	for _, p := range payloads {
		res := &result{t: t}
		rs = append(rs, res)
		ms = append(ms, &Propose{Payload: []byte(p), Reply: res})
	}
	return ms, rs
}
