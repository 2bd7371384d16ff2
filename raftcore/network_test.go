package raftcore

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
)

const testGroup GroupID = 7

// testLog is a replica's log in memory: entries after (1, 1), as a newborn group has it (rule 23).
type testLog struct {
	cut     Position
	entries []*raftpb.Entry
	hard    *raftpb.HardState
	conf    *raftpb.ConfState
	snap    func() (*raftpb.Snapshot, error) // nil = there is none
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
	if l.snap != nil {
		return l.snap()
	}
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
	writing []testWrite
	loose   []testWrite // written, and not synced yet
	applied Index
}

// testWrite is an append on its way to the disk.
type testWrite struct {
	*raftpb.Message
	sync bool
}

// testNetwork is a group of nodes, node i hosting replica i, and the messages between them.
type testNetwork struct {
	t     rapid.TB
	nodes map[ReplicaID]*testNode
	queue []*raftpb.Message
	cut   map[ReplicaID]bool
	trace strings.Builder
	// confs are the memberships that were applied, by index: the part of the machine that restarts and
	// snapshots bring back.
	confs []confAt
	// configure changes the configuration of every replica before it starts.
	configure func(*Config)
}

func newTestNetwork(t rapid.TB, size int) *testNetwork {
	n := &testNetwork{t: t, nodes: map[ReplicaID]*testNode{}, cut: map[ReplicaID]bool{}}
	members := map[ReplicaID]NodeID{}
	for i := range size {
		id := ReplicaID(i + 1)
		members[id] = NodeID(id)
		n.nodes[id] = &testNode{id: id, disk: newTestLog(n.voters(size)...), applied: 1}
	}
	n.confs = []confAt{{1, newTestLog(n.voters(size)...).conf, members, 0}}
	return n
}

// confAt is the membership after the entry at index.
type confAt struct {
	index   Index
	conf    *raftpb.ConfState
	members map[ReplicaID]NodeID
	target  uint64
}

// confAfter returns the membership in force when i is applied; nothing before the first entry.
func (n *testNetwork) confAfter(i Index) (at confAt) {
	for _, c := range n.confs {
		if c.index <= i {
			at = c
		}
	}
	return at
}

// join puts an empty replica on node id, which only a snapshot can fill.
func (n *testNetwork) join(id ReplicaID) {
	disk := newTestLog()
	disk.cut, disk.hard = Position{}, &raftpb.HardState{Term: new(uint64(0)), Vote: new(uint64(0)), Commit: new(uint64(0))}
	n.nodes[id] = &testNode{id: id, disk: disk}
	n.start(id)
}

// snapshot is what the log of node says when entries are missing: a snapshot at its applied index.
func (n *testNetwork) snapshot(node *testNode) func() (*raftpb.Snapshot, error) {
	return func() (*raftpb.Snapshot, error) {
		term, err := node.log.Term(uint64(node.applied))
		if err != nil {
			return nil, err
		}
		return &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
			Index: new(uint64(node.applied)), Term: new(term), ConfState: n.confAfter(node.applied).conf,
		}}, nil
	}
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
	at := n.confAfter(node.applied)
	node.log, node.writing = node.disk.clone(), nil
	node.log.snap = n.snapshot(node)
	if at.index > 1 {
		node.log.conf = at.conf
	}
	cfg := Config{
		Group: testGroup, Self: id, Storage: node.log, Applied: node.applied,
		ElectionTicks: 10, HeartbeatTicks: 1, Members: at.members, FollowedTarget: at.target,
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
	node.core, node.writing, node.loose = nil, nil, nil
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
		n.activate(node, e.Append.GetSnapshot())
		node.log.append(e.Append)
		node.writing = append(node.writing, testWrite{e.Append, e.Sync})
	}
	for _, r := range e.ReadStates {
		n.say("%d: read %d confirmed at %d", id, r.Context, r.Index)
	}
	n.apply(node, e.Apply)
	return true
}

// activate makes a snapshot's machine the node's.
func (n *testNetwork) activate(node *testNode, s *raftpb.Snapshot) {
	if s == nil {
		return
	}
	node.applied = Index(s.GetMetadata().GetIndex())
	at := n.confAfter(node.applied)
	node.core.SetMembers(at.members)
	node.core.SetFollowedTarget(at.target)
	n.say("%d: has the snapshot at %d", node.id, node.applied)
}

// applyChange applies a membership change and compares it with what other replicas made of it.
func (n *testNetwork) applyChange(node *testNode, e *raftpb.Entry) {
	conf, members, err := node.core.ApplyConfChange(e)
	if err != nil {
		n.say("%d: %v", node.id, err)
		return
	}
	at := confAt{Index(e.GetIndex()), conf, members, node.core.FollowedTarget()}
	if at.index > n.confs[len(n.confs)-1].index {
		n.confs = append(n.confs, at)
	} else if seen := n.confAfter(at.index); seen.index != at.index || conf.Equivalent(seen.conf) != nil || !maps.Equal(members, seen.members) {
		n.t.Fatalf("replica %d applied %v at %d, another %v at %d", node.id, conf, at.index, seen.conf, seen.index)
	}
}

func (n *testNetwork) apply(node *testNode, m *raftpb.Message) {
	for _, e := range m.GetEntries() {
		if e.GetType() != raftpb.EntryNormal {
			n.applyChange(node, e)
		}
		node.applied = Index(e.GetIndex())
		n.say("%d: applies %s", node.id, describeEntry(e))
	}
	for _, r := range m.GetResponses() {
		n.local(node, r)
	}
}

// written writes to a node's disk, and makes it durable with all before it if any of it asks for that.
func (node *testNode) written(work []testWrite) (synced bool) {
	node.loose = append(node.loose, work...)
	if !slices.ContainsFunc(work, func(w testWrite) bool { return w.sync }) {
		return false
	}
	for _, w := range node.loose {
		node.disk.append(w.Message)
	}
	node.loose = nil
	return true
}

// sync writes everything handed to the disk, then releases the responses.
func (n *testNetwork) sync(id ReplicaID) bool {
	node := n.nodes[id]
	work, done := node.writing, ""
	node.writing = nil
	if !node.written(work) {
		done = ", not synced"
	}
	for _, w := range work {
		n.say("%d: disk %s%s", id, describeAppend(w.Message), done)
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
		if lost || to == nil || to.core == nil {
			n.say("%s  (lost)", describe(m))
			n.reportSnapshot(m, false)
			continue
		}
		n.say("%s", describe(m))
		err := to.core.Step(NodeID(m.GetFrom()), n.wire(m))
		if err != nil {
			n.say("  %d refuses: %v", to.id, err)
		}
		n.reportSnapshot(m, err == nil)
	}
	return delivered
}

// reportSnapshot tells the sender of a snapshot how it ended.
func (n *testNetwork) reportSnapshot(m *raftpb.Message, done bool) {
	if from := n.nodes[ReplicaID(m.GetFrom())]; m.GetType() == raftpb.MsgSnap && from != nil && from.core != nil {
		from.core.ReportSnapshot(ReplicaID(m.GetTo()), done)
	}
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

func startedNetwork(t rapid.TB, size int, leader ReplicaID) *testNetwork {
	n := newTestNetwork(t, size)
	n.elect(leader)
	return n
}
