package raftcore

import (
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// hostility is a replica in the hands of peers that send whatever a program of bytes tells them. Most fields
// are drawn close to what the replica has, since far-off ones are refused at the first check.
type hostility struct {
	t       testing.TB
	net     *testNetwork
	program []byte
	// What the program has reached.
	stepped, led, reconfigured, restored int
}

func newHostility(t testing.TB, program []byte) *hostility {
	h := &hostility{t: t, net: newTestNetwork(t, 3), program: program}
	h.net.configure = func(c *Config) {
		c.Staged = func(Position) bool { return true }
		c.Vouch = func(r ReplicaID, n NodeID) bool { return r == 4 && n == 4 }
	}
	h.net.start(1)
	return h
}

func (h *hostility) byte() byte {
	if len(h.program) == 0 {
		return 0
	}
	b := h.program[0]
	h.program = h.program[1:]
	return b
}

func (h *hostility) rarely() bool { return h.byte() == 1 }

func (h *hostility) run() {
	for len(h.program) > 0 && !h.core().Status().Quarantined {
		before := h.core().Status()
		conf := h.core().ConfState()
		h.act()
		if h.core().ConfState() != conf {
			h.reconfigured++
		}
		if after := h.core().Status(); after.Term < before.Term || after.Commit < before.Commit || after.Applied < before.Applied {
			h.t.Fatalf("went back: %+v, then %+v", before, after)
		}
	}
}

func (h *hostility) core() *Core { return h.net.core(1) }

func (h *hostility) act() {
	c := h.core()
	switch h.byte() % 16 {
	case 0:
		h.take()
	case 1:
		h.syncOne()
	case 2:
		for range h.byte() % 12 {
			c.Tick()
		}
	case 3:
		h.must(c.Campaign())
	case 4:
		h.tolerate(c.Propose([][]byte{{h.byte()}, {}}), ErrNotLeader, ErrDropped)
	case 5:
		h.tolerate(c.ReadIndex(uint64(h.byte())), ErrNotLeader)
	case 6:
		c.ReportUnreachable(ReplicaID(h.byte() % 5))
		c.ReportSnapshot(ReplicaID(h.byte()%5), h.byte()%2 == 0)
		h.tolerate(c.TransferLeader(ReplicaID(h.byte()%5)), ErrNotLeader, ErrNoSuccessor)
	case 7:
		h.settle()
	case 8:
		h.beElected()
	default:
		h.step()
	}
}

// settle does everything that the replica has to do.
func (h *hostility) settle() {
	for h.take() || len(h.net.nodes[1].writing) > 0 {
		h.syncOne()
	}
}

// beElected has all members vote for the replica, if it asks them.
func (h *hostility) beElected() {
	h.must(h.core().Campaign())
	for _, kind := range []raftpb.MessageType{raftpb.MsgPreVoteResp, raftpb.MsgVoteResp} {
		h.settle()
		members := h.core().Members()
		for _, r := range slices.Sorted(maps.Keys(members)) {
			st := h.core().Status()
			if term := st.Term; r != 1 && (st.Role == PreCandidate || st.Role == Candidate) {
				if st.Role == PreCandidate {
					term++
				}
				m := newMessage(scalars{kind: kind, from: uint64(r), to: 1, term: term})
				h.tolerate(h.core().Step(members[r], m), refuse(ReasonNotMember))
			}
		}
	}
	if h.core().Status().Role == Leader {
		h.led++
	}
}

// take is testNetwork.take, and what the owner of a core does for a snapshot.
func (h *hostility) take() bool {
	node := h.net.nodes[1]
	some := h.net.take(1)
	if n := len(node.writing); some && n > 0 && node.writing[n-1].Snapshot != nil {
		members := map[ReplicaID]NodeID{}
		conf := node.log.conf
		for _, ids := range [][]uint64{conf.Voters, conf.Learners, conf.VotersOutgoing} {
			for _, id := range ids {
				members[ReplicaID(id)] = NodeID(id)
			}
		}
		h.core().SetMembers(members)
		h.restored++
	}
	if last, err := node.log.LastIndex(); err != nil || Index(last) != h.core().Status().Last || h.core().lastSure != Index(last) {
		h.t.Fatalf("the log ends at %d, the core says %d and %d", last, h.core().Status().Last, h.core().lastSure)
	}
	h.net.queue = nil
	h.net.trace.Reset()
	return some
}

// syncOne finishes the oldest write.
func (h *hostility) syncOne() {
	node := h.net.nodes[1]
	if len(node.writing) == 0 {
		return
	}
	m := node.writing[0]
	node.writing = node.writing[1:]
	for _, r := range m.GetResponses() {
		if ReplicaID(r.GetTo()) == 1 {
			h.must(h.core().StepLocal(r))
		}
	}
}

func (h *hostility) step() {
	c, m := h.core(), h.message()
	before, busy := c.Status(), c.rn.HasReady()
	err := c.Step(NodeID(m.GetFrom()), m)
	var refusal *Refusal
	switch {
	case err == nil:
		h.stepped++
	case errors.As(err, &refusal):
		if c.Status() != before || c.rn.HasReady() != busy {
			h.t.Fatalf("refused %v and changed from %+v to %+v", m, before, c.Status())
		}
	default:
		h.tolerate(err, ErrQuarantine)
	}
}

var hostileTypes = []raftpb.MessageType{
	raftpb.MsgApp, raftpb.MsgApp, raftpb.MsgApp, raftpb.MsgAppResp, raftpb.MsgAppResp, raftpb.MsgHeartbeat, raftpb.MsgHeartbeatResp,
	raftpb.MsgVote, raftpb.MsgVoteResp, raftpb.MsgVoteResp, raftpb.MsgPreVote, raftpb.MsgPreVoteResp, raftpb.MsgPreVoteResp,
	raftpb.MsgSnap, raftpb.MsgTimeoutNow,
}

func (h *hostility) message() *raftpb.Message {
	st := h.core().Status()
	s := scalars{kind: hostileTypes[int(h.byte())%len(hostileTypes)], from: 2 + uint64(h.byte()%3), to: 1, term: st.Term + uint64(h.byte()%8)/6}
	if h.rarely() {
		s.kind = raftpb.MessageType(h.byte() % 25)
	}
	if h.rarely() {
		s.term = h.number(st)
	}
	s.index, s.commit, s.rejectHint = h.number(st), h.number(st), h.number(st)
	s.reject = h.byte()%3 == 1
	if s.logTerm = h.number(st); h.byte()%4 != 1 {
		if own, err := h.net.nodes[1].log.Term(s.index); err == nil {
			s.logTerm = own
		}
	}
	if s.kind == raftpb.MsgHeartbeat && !h.rarely() {
		s.commit = min(s.commit, uint64(st.Commit)) // else every program ends in quarantine
	}
	m := newMessage(s)
	switch s.kind {
	case raftpb.MsgApp:
		h.entries(m)
	case raftpb.MsgSnap:
		m.Snapshot = h.snapshot(st)
	case raftpb.MsgHeartbeat, raftpb.MsgHeartbeatResp:
		if n := h.byte(); n%2 == 0 {
			m.Context = []byte{n / 2 % 4, 0, 0, 0, 0, 0, 0, 0}[:min(8, 8-n/2%16/14)]
		}
	case raftpb.MsgVote:
		if h.byte()%2 == 0 {
			m.Context = []byte(transferMark)
		}
	}
	return m
}

// number is one that matters to the replica, or any.
func (h *hostility) number(st Status) uint64 {
	last := uint64(st.Last)
	near := []uint64{0, 1, last, last, last - 1, last + 1, last + 2, uint64(st.Commit), uint64(st.Commit) + 1, uint64(st.Applied), st.Term, top, top - 1, indexMax}
	pick := int(h.byte())
	if pick < len(near)*8 {
		return near[pick%len(near)]
	}
	return uint64(pick % 16)
}

func (h *hostility) entries(m *raftpb.Message) {
	term := max(m.GetLogTerm(), 1)
	for i := range uint64(h.byte() % 5) {
		if h.byte()%3 == 1 && term < m.GetTerm() {
			term++
		}
		e := &raftpb.Entry{Index: new(m.GetIndex() + 1 + i), Term: new(term), Data: []byte("x")}
		switch h.byte() % 32 {
		case 1:
			e.Index = new(uint64(h.byte()))
		case 2:
			e.Term = new(uint64(h.byte()))
		case 3:
			e = nil
		case 4, 5:
			e.Type, e.Data = raftpb.EntryConfChangeV2.Enum(), h.change()
		case 6:
			e.Type, e.Data = raftpb.EntryConfChange.Enum(), []byte{h.byte(), h.byte(), h.byte(), h.byte()}
		}
		m.Entries = append(m.Entries, e)
	}
}

func (h *hostility) change() []byte {
	change := &raftpb.ConfChangeV2{Transition: raftpb.ConfChangeTransition(h.byte() % 4).Enum()}
	for range h.byte() % 4 {
		change.Changes = append(change.Changes, &raftpb.ConfChangeSingle{
			Type: raftpb.ConfChangeType(h.byte() % 5).Enum(), NodeId: new(uint64(h.byte() % 7))})
	}
	context, err := EncodeMembership(map[ReplicaID]NodeID{4: 4, 5: 5, 6: 6})
	h.must(err)
	change.Context = context
	data, err := proto.Marshal(change)
	h.must(err)
	return data
}

func (h *hostility) snapshot(st Status) *raftpb.Snapshot {
	ids := func() (ids []uint64) {
		for range h.byte() % 4 {
			ids = append(ids, uint64(h.byte()%6))
		}
		return ids
	}
	conf := &raftpb.ConfState{Voters: []uint64{1, 2, 3}, AutoLeave: new(h.rarely())}
	switch h.byte() % 4 {
	case 1:
		conf.Voters = ids()
	case 2:
		conf.Learners = ids()
	case 3:
		conf.VotersOutgoing, conf.LearnersNext = ids(), ids()
	}
	return &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: new(h.number(st)), Term: new(h.number(st)), ConfState: conf}}
}

func (h *hostility) must(err error) {
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *hostility) tolerate(err error, expected ...error) {
	for _, e := range expected {
		if errors.Is(err, e) {
			return
		}
	}
	h.must(err)
}

// FuzzStep: no sequence of messages that passes the allow-list makes etcd/raft panic, whatever the replica
// does in between; a refused one changes nothing; term, commit and applied never go back.
func FuzzStep(f *testing.F) {
	fixedElectionTimeouts(f)
	random := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		f.Add(randomProgram(random, 400))
	}
	f.Fuzz(func(t *testing.T, program []byte) {
		newHostility(t, program).run()
	})
}

func randomProgram(random *rand.Rand, n int) []byte {
	program := make([]byte, n)
	for i := range program {
		program[i] = byte(random.Uint32())
	}
	return program
}

func TestNoSequenceOfHostileMessagesPanics(t *testing.T) {
	fixedElectionTimeouts(t)
	const programs = 2000
	random := rand.New(rand.NewPCG(5, 6))
	var sum hostility
	quarantined := 0
	for range programs {
		h := newHostility(t, randomProgram(random, 1000))
		h.run()
		sum.stepped += h.stepped
		sum.led += h.led
		sum.reconfigured += h.reconfigured
		sum.restored += h.restored
		if h.core().Status().Quarantined {
			quarantined++
		}
	}
	t.Logf("%d messages admitted, %d terms led, %d memberships applied, %d snapshots restored, %d replicas quarantined",
		sum.stepped, sum.led, sum.reconfigured, sum.restored, quarantined)
	if sum.stepped < programs*10 || min(sum.led, sum.reconfigured, sum.restored, quarantined) < programs/50 {
		t.Error("the programs no longer reach what they should")
	}
}
