package actors

import (
	"encoding/binary"
	"io"
	"log/slog"
	"slices"
	"testing"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/proto"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// storedMachine keeps payloads in the store and counts them in memory: what it says after a snapshot it can only
// have from there. It panics when an entry does not follow what it holds.
type storedMachine struct {
	prefix   []byte
	payloads []string
	last     raftcore.Index
}

func openStoredMachine(v store.View, prefix []byte) (Machine, error) {
	m := &storedMachine{prefix: slices.Clone(prefix)}
	return m, v.Scan(append(slices.Clone(prefix), 0), append(slices.Clone(prefix), 1), false, func(key, value []byte) bool {
		m.last = raftcore.Index(binary.BigEndian.Uint64(value))
		m.payloads = append(m.payloads, string(value[8:]))
		return true
	})
}

func (m *storedMachine) Apply(at raftcore.Position, e *raftcore.Entry, b *store.Batch) []raftcore.Outcome {
	var outcomes []raftcore.Outcome
	for _, p := range e.Payloads {
		if at.Index < m.last {
			panic("applied twice")
		}
		m.last = at.Index
		n := len(m.payloads)
		b.Set(binary.BigEndian.AppendUint64(append(slices.Clone(m.prefix), 0), uint64(n)), append(binary.BigEndian.AppendUint64(nil, uint64(at.Index)), p...))
		outcomes = append(outcomes, raftcore.Outcome{Offset: raftcore.Offset(n), Count: 1})
		m.payloads = append(m.payloads, string(p))
	}
	return outcomes
}

func (m *storedMachine) Bounds() (raftcore.Offset, raftcore.Offset) {
	return 0, raftcore.Offset(len(m.payloads))
}

// group is a whole group, replica i on node i, and everything between its replicas. Nothing happens but in run.
type group struct {
	t      *testing.T
	disp   *queueDispatcher
	system *actor.ActorSystem
	nodes  map[raftcore.NodeID]*member
	cut    map[raftcore.NodeID]bool // sends and receives nothing
	mute   map[raftcore.NodeID]bool // is told no controls
	gone   map[raftcore.NodeID]bool // as the others' Routers know
	sent   int                      // messages and controls
	quiet  int                      // QuietTicks
	carry  []*carried
	panics []any
	keep   Keep
	// spoil changes a request on its way, when it is not nil.
	spoil func(*carried, *raftv1.InstallSnapshotRequest)
	// staged runs when a chunk is on its way to the disk, when it is not nil.
	staged func()
}

type member struct {
	g        *group
	id       raftcore.NodeID
	kv       *store.MemKV
	writer   *actor.PID
	replica  *actor.PID
	board    *Board
	ticks    *TickCount
	machine  *storedMachine
	counters Counters
	core     raftcore.Counters
	starts   uint64
}

const groupVoters = 3

// newGroup starts voters 1, 2 and 3, and elects 1.
func newGroup(t *testing.T, keep Keep) *group {
	t.Helper()
	return newQuietGroup(t, keep, 0)
}

// newQuietGroup is newGroup that goes quiet after so many ticks.
func newQuietGroup(t *testing.T, keep Keep, quiet int) *group {
	t.Helper()
	silent := slog.New(slog.NewTextHandler(io.Discard, nil))
	g := &group{t: t, disp: &queueDispatcher{}, nodes: map[raftcore.NodeID]*member{}, cut: map[raftcore.NodeID]bool{}, mute: map[raftcore.NodeID]bool{}, gone: map[raftcore.NodeID]bool{}, keep: keep, quiet: quiet}
	g.system = actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return silent }))
	for id := raftcore.NodeID(1); id <= groupVoters; id++ {
		b := new(store.Batch)
		store.PutBirth(b, store.Birth{Group: rigGroup, Replica: raftcore.ReplicaID(id), Members: map[raftcore.ReplicaID]raftcore.NodeID{1: 1, 2: 2, 3: 3}})
		g.add(id, b)
	}
	g.run()
	g.until("node 1 leads", func() bool { return g.nodes[1].status().Role == raftcore.Leader && g.nodes[2].status().Leader == 1 })
	t.Cleanup(func() {
		for _, p := range g.panics {
			t.Errorf("panic: %v", p)
		}
	})
	return g
}

// add gives a node a store with these records, and starts its replica.
func (g *group) add(id raftcore.NodeID, b *store.Batch) *member {
	g.t.Helper()
	m := &member{g: g, id: id, kv: store.NewMem()}
	if err := m.kv.Commit(b, true); err != nil {
		g.t.Fatal(err)
	}
	g.nodes[id] = m
	m.start()
	return m
}

func (m *member) start() {
	m.starts++
	m.board, m.ticks = &Board{}, &TickCount{}
	opts := []actor.PropsOption{actor.WithDispatcher(m.g.disp), actor.WithGuardian(StopAndReport(func(_ *actor.PID, reason any) { m.g.panics = append(m.g.panics, reason) }))}
	m.writer = m.g.system.Root.Spawn(LogWriterProps(LogWriterConfig{
		Log: m.kv, Sender: m, OnFailure: func(err error) { m.g.t.Error(err) }, Counters: &m.counters,
	}, opts...))
	m.replica = m.g.system.Root.Spawn(ReplicaProps(ReplicaConfig{
		Group: rigGroup, Node: m.id, Start: m.starts, Incarnation: m.starts, Log: m.kv, Writer: m.writer, Sender: m, Snapshots: m, Clock: m,
		OpenMachine: func(v store.View, prefix []byte) (Machine, error) {
			opened, err := openStoredMachine(v, prefix)
			m.machine = opened.(*storedMachine)
			return opened, err
		},
		Gone:     func(n raftcore.NodeID) bool { return m.g.gone[n] },
		Vouch:    func(r raftcore.ReplicaID, n raftcore.NodeID) bool { return uint64(r) == uint64(n) },
		Campaign: m.id == 1 && m.starts == 1, Keep: m.g.keep, CacheBytes: 1, QuietTicks: m.g.quiet,
		Board: m.board, Ticks: m.ticks, Counters: &m.counters, Core: &m.core, Logger: slog.New(slog.DiscardHandler),
	}, opts...))
}

// crash loses what was not synced and starts again.
func (m *member) crash() {
	m.g.t.Helper()
	m.g.system.Root.Stop(m.replica)
	m.g.run()
	m.kv = m.kv.Crash(nil)
	m.start()
	m.g.run()
}

func (m *member) Send(to raftcore.NodeID, env *raftv1.Envelope) {
	m.g.sent++
	if target := m.g.nodes[to]; target != nil && !m.g.cut[m.id] && !m.g.cut[to] {
		env = proto.Clone(env).(*raftv1.Envelope)
		m.g.system.Root.Send(target.replica, &Inbound{From: m.id, Envelopes: []*raftv1.Envelope{env}})
	}
}

func (m *member) SendControl(to raftcore.NodeID, c *raftv1.Control) {
	m.g.sent++
	if target := m.g.nodes[to]; target == nil || m.g.cut[m.id] || m.g.cut[to] || m.g.mute[to] {
		return
	}
	switch c.GetKind() { // as the Router does
	case raftv1.Control_KIND_QUIESCE:
		m.g.nodes[to].tell(&Quiesce{From: m.id, Term: c.GetTerm(), Commit: raftcore.Index(c.GetCommit())})
	case raftv1.Control_KIND_WAKE:
		m.g.nodes[to].tell(&Wake{})
	}
}

func (m *member) NowMillis() int64 { return 1_700_000_000_000 }

func (m *member) status() *Status { return m.board.Load() }

func (m *member) tell(msg any) { m.g.system.Root.Send(m.replica, msg) }

func (g *group) run() { g.disp.run() }

// tick lets time pass for all, n ticks.
func (g *group) tick(n int) {
	for range n {
		for _, id := range []raftcore.NodeID{1, 2, 3, 4} {
			if m := g.nodes[id]; m != nil && m.ticks.add() {
				g.system.Root.Send(m.replica, tick{})
			}
		}
		g.run()
	}
}

// until lets time pass until it is so.
func (g *group) until(what string, done func() bool) {
	g.t.Helper()
	for range 1000 {
		if done() {
			return
		}
		g.tick(1)
	}
	g.t.Fatalf("it was never so that %s", what)
}

// propose commits payloads at node 1, which leads, one entry each.
func (g *group) propose(payloads ...string) {
	g.t.Helper()
	for _, p := range payloads {
		res := &result{t: g.t}
		g.nodes[1].tell(&Propose{Payload: []byte(p), Reply: res})
		g.run()
		if !res.ended || res.Err != nil {
			g.t.Fatalf("proposal %s: %+v", p, res)
		}
	}
}

// carried is a snapshot that a node has given to its sender. The test says when chunks arrive.
type carried struct {
	g        *group
	from, to raftcore.NodeID
	source   *SnapshotSource
	open     *raftv1.InstallSnapshotRequest
	chunk    int
	offset   uint64
	last     bool
	ended    bool
}

// SendSnapshot is part of SnapshotSender.
func (m *member) SendSnapshot(to raftcore.NodeID, s *SnapshotSource) {
	m.g.carry = append(m.g.carry, &carried{g: m.g, from: m.id, to: to, source: s})
}

// taken is the end of a chunk.
type taken struct {
	ended bool
	UnaryAnswer
}

func (a *taken) Answered(u UnaryAnswer) {
	if a.ended {
		panic("a chunk was answered twice")
	}
	a.ended, a.UnaryAnswer = true, u
}

// next sends the next chunk and returns its end.
func (c *carried) next() UnaryAnswer {
	c.g.t.Helper()
	if c.open == nil {
		var err error
		if c.open, err = c.source.Open(); err != nil {
			return UnaryAnswer{Err: err}
		}
	}
	data, last, err := c.source.Chunk(c.chunk)
	if err != nil {
		return UnaryAnswer{Err: err}
	}
	a := c.send(c.offset, data, last)
	if a.Err == nil && a.Snapshot == nil {
		c.chunk, c.offset = c.chunk+1, c.offset+uint64(len(data))
	}
	c.last = last
	return a
}

func (c *carried) send(offset uint64, data []byte, last bool) UnaryAnswer {
	c.g.t.Helper()
	from := c.g.nodes[c.from]
	req := proto.Clone(c.open).(*raftv1.InstallSnapshotRequest)
	req.Header.FromNode, req.Header.StartNumber = uint64(c.from), from.starts
	req.Offset, req.Data, req.Done, req.Checksum = offset, slices.Clone(data), last, SnapshotChecksum(data)
	if c.g.spoil != nil {
		c.g.spoil(c, req)
	}
	a := &taken{}
	c.g.nodes[c.to].tell(&Unary{From: c.from, Snapshot: req, Reply: a})
	if c.g.staged != nil {
		c.g.disp.one()
		c.g.staged()
	}
	c.g.run()
	if !a.ended {
		c.g.t.Fatal("a chunk was not answered")
	}
	return a.UnaryAnswer
}

// finish sends all that is left and ends it with the answer.
func (c *carried) finish() *raftv1.InstallSnapshotResponse {
	c.g.t.Helper()
	for {
		a := c.next()
		if a.Err != nil || a.Snapshot != nil {
			c.end(a)
			return a.Snapshot
		}
	}
}

func (c *carried) end(a UnaryAnswer) {
	c.source.Ended(a.Snapshot, a.Err)
	c.ended = true
	c.g.run()
}

// awaitSnapshot waits until a leader has announced one that has not ended, and returns it.
func (g *group) awaitSnapshot() *carried {
	g.t.Helper()
	var c *carried
	g.until("a snapshot is announced", func() bool {
		i := slices.IndexFunc(g.carry, func(c *carried) bool { return !c.ended })
		if i >= 0 {
			c = g.carry[i]
		}
		return i >= 0
	})
	return c
}
