package raftcore

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
)

const testGroup GroupID = 7

// testLog is a replica's log in memory: entries after (1, 1), as a newborn group has it (rule 23).
type testLog struct {
	cut     Position
	entries []*raftpb.Entry
	hard    *raftpb.HardState
	conf    *raftpb.ConfState
}

func newTestLog(voters ...uint64) *testLog {
	return &testLog{
		cut:  Position{1, 1},
		hard: &raftpb.HardState{Term: new(uint64(1)), Vote: new(uint64(0)), Commit: new(uint64(1))},
		conf: &raftpb.ConfState{Voters: voters, AutoLeave: new(false)},
	}
}

func (l *testLog) clone() *testLog {
	c := *l
	c.entries = slices.Clone(l.entries)
	return &c
}

func (l *testLog) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	return l.hard, l.conf, nil
}
func (l *testLog) FirstIndex() (uint64, error) { return uint64(l.cut.Index) + 1, nil }
func (l *testLog) LastIndex() (uint64, error) {
	return uint64(l.cut.Index) + uint64(len(l.entries)), nil
}
func (l *testLog) Snapshot() (*raftpb.Snapshot, error) {
	return nil, raft.ErrSnapshotTemporarilyUnavailable
}

func (l *testLog) Term(i uint64) (uint64, error) {
	switch first := uint64(l.cut.Index); {
	case i < first:
		return 0, raft.ErrCompacted
	case i == first:
		return l.cut.Term, nil
	case i > first+uint64(len(l.entries)):
		return 0, raft.ErrUnavailable
	default:
		return l.entries[i-first-1].GetTerm(), nil
	}
}

func (l *testLog) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	first := uint64(l.cut.Index) + 1
	if lo < first {
		return nil, raft.ErrCompacted
	}
	if hi > first+uint64(len(l.entries)) {
		return nil, raft.ErrUnavailable
	}
	part := l.entries[lo-first : hi-first]
	size := uint64(0)
	for i, e := range part {
		if size += uint64(proto.Size(e)); size > maxSize && i > 0 {
			return part[:i], nil
		}
	}
	return part, nil
}

// append does what a MsgStorageAppend asks for.
func (l *testLog) append(m *raftpb.Message) {
	if meta := m.GetSnapshot().GetMetadata(); meta != nil {
		l.cut, l.entries = Position{Index(meta.GetIndex()), meta.GetTerm()}, nil
		l.conf = meta.GetConfState()
	}
	if m.Term != nil {
		l.hard = &raftpb.HardState{Term: m.Term, Vote: m.Vote, Commit: m.Commit}
	}
	if len(m.Entries) > 0 {
		keep := m.Entries[0].GetIndex() - uint64(l.cut.Index) - 1
		l.entries = append(slices.Clone(l.entries[:keep]), m.Entries...)
	}
}

// testNode is a replica with a disk that forgets what was not synced, and a machine that is a list.
type testNode struct {
	id      ReplicaID
	core    *Core    // nil = crashed
	log     *testLog // as handed out
	disk    *testLog // as synced
	writing []*raftpb.Message
	applied Index
}

// testNetwork is a group of nodes, node i hosting replica i, and the messages between them.
type testNetwork struct {
	t     testing.TB
	nodes map[ReplicaID]*testNode
	queue []*raftpb.Message
	cut   map[ReplicaID]bool
	trace strings.Builder
	// configure changes the configuration of every replica before it starts.
	configure func(*Config)
}

func newTestNetwork(t testing.TB, size int) *testNetwork {
	n := &testNetwork{t: t, nodes: map[ReplicaID]*testNode{}, cut: map[ReplicaID]bool{}}
	for i := range size {
		id := ReplicaID(i + 1)
		n.nodes[id] = &testNode{id: id, disk: newTestLog(n.voters(size)...), applied: 1}
	}
	return n
}

func (n *testNetwork) voters(size int) (ids []uint64) {
	for i := range size {
		ids = append(ids, uint64(i+1))
	}
	return ids
}

func (n *testNetwork) ids() []ReplicaID { return slices.Sorted(maps.Keys(n.nodes)) }

func (n *testNetwork) say(format string, args ...any) {
	fmt.Fprintf(&n.trace, format+"\n", args...)
}

// start makes a node's core from what is on its disk.
func (n *testNetwork) start(id ReplicaID) {
	node := n.nodes[id]
	members := map[ReplicaID]NodeID{}
	for r := range n.nodes {
		members[r] = NodeID(r)
	}
	node.log, node.writing = node.disk.clone(), nil
	cfg := Config{
		Group: testGroup, Self: id, Storage: node.log, Applied: node.applied,
		ElectionTicks: 10, HeartbeatTicks: 1, Members: members,
	}
	if n.configure != nil {
		n.configure(&cfg)
	}
	core, err := New(cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	node.core = core
}

// crash forgets everything but the disk. The machine is assumed to be as durable as its entries.
func (n *testNetwork) crash(id ReplicaID) {
	node := n.nodes[id]
	node.core, node.writing = nil, nil
	node.applied = min(node.applied, Index(node.disk.hard.GetCommit()))
}

// take takes one Effects: sends, hands the append to the disk, applies.
func (n *testNetwork) take(id ReplicaID) bool {
	node := n.nodes[id]
	if node.core == nil {
		return false
	}
	e, ok := node.core.Effects()
	if !ok {
		return false
	}
	if st := node.core.Status(); e.LeaderChanged {
		n.say("%d: %s, term %d, leader %d", id, st.Role, st.Term, st.Leader)
	}
	n.queue = append(n.queue, e.Messages...)
	if e.Append != nil {
		node.log.append(e.Append)
		node.writing = append(node.writing, e.Append)
	}
	for _, r := range e.ReadStates {
		n.say("%d: read %d confirmed at %d", id, r.Context, r.Index)
	}
	n.apply(node, e.Apply)
	return true
}

func (n *testNetwork) apply(node *testNode, m *raftpb.Message) {
	for _, e := range m.GetEntries() {
		if e.GetType() != raftpb.EntryNormal {
			if _, _, err := node.core.ApplyConfChange(e); err != nil {
				n.say("%d: %v", node.id, err)
			}
		}
		node.applied = Index(e.GetIndex())
		n.say("%d: applies %s", node.id, describeEntry(e))
	}
	for _, r := range m.GetResponses() {
		n.local(node, r)
	}
}

// sync makes everything handed to the disk durable, then releases the responses.
func (n *testNetwork) sync(id ReplicaID) bool {
	node := n.nodes[id]
	work := node.writing
	node.writing = nil
	for _, m := range work {
		node.disk.append(m)
		n.say("%d: disk %s", id, describeAppend(m))
	}
	for _, m := range work {
		for _, r := range m.GetResponses() {
			if ReplicaID(r.GetTo()) == id {
				n.local(node, r)
			} else {
				n.queue = append(n.queue, r)
			}
		}
	}
	return len(work) > 0
}

func (n *testNetwork) local(node *testNode, m *raftpb.Message) {
	if err := node.core.StepLocal(m); err != nil {
		n.t.Fatalf("replica %d: %v", node.id, err)
	}
}

// deliver hands over the messages under way for which want says yes, after a trip over the wire.
func (n *testNetwork) deliver(want func(*raftpb.Message) bool) bool {
	queue := n.queue
	n.queue = nil
	delivered := false
	for _, m := range queue {
		if !want(m) {
			n.queue = append(n.queue, m)
			continue
		}
		delivered = true
		lost := n.cut[ReplicaID(m.GetFrom())] || n.cut[ReplicaID(m.GetTo())]
		to := n.nodes[ReplicaID(m.GetTo())]
		if lost || to.core == nil {
			n.say("%s  (lost)", describe(m))
			continue
		}
		n.say("%s", describe(m))
		if err := to.core.Step(NodeID(m.GetFrom()), n.wire(m)); err != nil {
			n.say("  %d refuses: %v", to.id, err)
		}
	}
	return delivered
}

func (n *testNetwork) wire(m *raftpb.Message) *raftpb.Message {
	data, err := proto.Marshal(ToEnvelope(testGroup, m))
	if err != nil {
		n.t.Fatal(err)
	}
	var e raftv1.Envelope
	if err := proto.Unmarshal(data, &e); err != nil {
		n.t.Fatal(err)
	}
	got, err := FromEnvelope(&e)
	if err != nil {
		n.t.Fatal(err)
	}
	return got
}

// run does all that there is to do until nothing is left.
func (n *testNetwork) run() {
	const roundsMax = 200
	for rounds, busy := 0, true; busy; rounds++ {
		if busy = false; rounds > roundsMax {
			n.t.Fatalf("never quiet: %s", n.trace.String()[:2000])
		}
		for _, id := range n.ids() {
			busy = n.take(id) || busy
		}
		for _, id := range n.ids() {
			busy = n.sync(id) || busy
		}
		busy = n.deliver(func(*raftpb.Message) bool { return true }) || busy
	}
}

func (n *testNetwork) core(id ReplicaID) *Core { return n.nodes[id].core }

// elect starts all replicas and lets one of them become the leader.
func (n *testNetwork) elect(leader ReplicaID) {
	for _, id := range n.ids() {
		n.start(id)
	}
	if err := n.core(leader).Campaign(); err != nil {
		n.t.Fatal(err)
	}
	n.run()
	if n.core(leader).Status().Role != Leader {
		n.t.Fatalf("no leader:\n%s", n.trace.String())
	}
}

func startedNetwork(t testing.TB, size int, leader ReplicaID) *testNetwork {
	n := newTestNetwork(t, size)
	n.elect(leader)
	return n
}
