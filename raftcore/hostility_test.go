package raftcore

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
)

// hostility is a replica in the hands of peers that send whatever a program of bytes tells them. Most fields
// are drawn close to what the replica has, since far-off ones are refused at the first check.
type hostility struct {
	t       testing.TB
	net     *testNetwork
	program []byte
	// checkpoints are where the machine has been, for restarts: it is as durable as its entries.
	checkpoints []checkpoint
	// votes are the durable ones, by term. They outlive restarts.
	votes map[uint64]uint64
	// released is what has gone out to peers since it was last cleared.
	released []*raftpb.Message
	// What the program has reached.
	stepped, led, reconfigured, restored, restarted, answered int
	refusals                                                  [reasonCount]int
}

type checkpoint struct {
	applied Index
	conf    *raftpb.ConfState
}

// births are where a program may find the replica's log, and confs the membership that it finds.
var (
	births = []struct {
		cut  Position
		term uint64
	}{
		{Position{1, 1}, 1}, {Position{1, 1}, 1}, {Position{1, 1}, 1}, {Position{1, 1}, 1}, {Position{1, 1}, 7}, {Position{3, 2}, 3},
		{Position{1 << 40, 1 << 33}, 1 << 33}, {Position{5, termMax - 3}, termMax - 2}, {Position{indexMax - 9, 3}, 4},
		{Position{indexMax, termMax}, termMax},
	}
	confs = []*raftpb.ConfState{
		{Voters: []uint64{1, 2, 3}}, {Voters: []uint64{1, 2, 3}}, {Voters: []uint64{1, 2, 3}}, {Voters: []uint64{1, 2, 3}}, {Voters: []uint64{1, 2, 3}, Learners: []uint64{4}}, {Voters: []uint64{1}},
		{Voters: []uint64{2, 3}, Learners: []uint64{1}}, {Voters: []uint64{1, 2, 4}, VotersOutgoing: []uint64{1, 2, 3}, LearnersNext: []uint64{3}},
	}
)

func newHostility(t testing.TB, program []byte) *hostility {
	h := &hostility{t: t, net: newTestNetwork(t, 3), program: program, votes: map[uint64]uint64{}}
	birth, conf := births[int(h.byte())%len(births)], confs[int(h.byte())%len(confs)]
	node := h.net.nodes[1]
	node.disk.cut, node.applied = birth.cut, birth.cut.Index
	node.disk.hard = &raftpb.HardState{Term: new(birth.term), Vote: new(uint64(0)), Commit: new(uint64(birth.cut.Index))}
	node.disk.conf = raftpb.EnsureConfState(conf)
	h.checkpoints = []checkpoint{{birth.cut.Index, node.disk.conf}}
	h.net.configure = func(c *Config) {
		c.Members = nodesOf(node.disk.conf)
		c.EntryBytesMax = 1 << 10
		c.Staged = func(p Position) bool { return p.Index%8 != 5 }
		c.Vouch = func(r ReplicaID, n NodeID) bool { return r == 4 && n == 4 }
	}
	h.net.start(1)
	switch h.byte() % 4 {
	case 1:
		h.must(h.core().Campaign())
	case 2, 3:
		h.beElected()
	}
	return h
}

// nodesOf is the membership of a conf in which every replica lives on the node with its number.
func nodesOf(conf *raftpb.ConfState) map[ReplicaID]NodeID {
	members := map[ReplicaID]NodeID{}
	for _, ids := range [][]uint64{conf.Voters, conf.Learners, conf.VotersOutgoing, conf.LearnersNext} {
		for _, id := range ids {
			members[ReplicaID(id)] = NodeID(id)
		}
	}
	return members
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
		before, conf, restarted := h.core().Status(), h.core().ConfState(), h.restarted
		h.act()
		if h.core().ConfState() != conf {
			h.reconfigured++
		}
		if after := h.core().Status(); h.restarted == restarted && (after.Term < before.Term || after.Commit < before.Commit || after.Applied < before.Applied) {
			h.t.Fatalf("went back: %+v, then %+v", before, after)
		}
	}
}

func (h *hostility) core() *Core { return h.net.core(1) }

func (h *hostility) act() {
	c := h.core()
	switch h.byte() % 24 {
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
		h.tolerate(c.Propose([][]byte{make([]byte, int(h.byte())*5), {}}), ErrNotLeader, ErrDropped, ErrTooLarge)
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
	case 9:
		h.must(c.ForgetLeader())
	case 10:
		if h.byte()%4 == 0 {
			h.restart()
		}
	case 11, 12:
		h.unary()
	default:
		h.step(h.message())
	}
}

// settle does everything that the replica has to do.
func (h *hostility) settle() {
	for h.take() || len(h.net.nodes[1].writing) > 0 {
		h.syncOne()
	}
}

// restart loses everything but the disk, and what the machine had applied of it.
func (h *hostility) restart() {
	node := h.net.nodes[1]
	h.net.crash(1)
	last := slices.IndexFunc(h.checkpoints, func(p checkpoint) bool { return p.applied > Index(node.disk.hard.GetCommit()) })
	if last > 0 {
		h.checkpoints = h.checkpoints[:last]
	}
	at := h.checkpoints[len(h.checkpoints)-1]
	node.applied, node.disk.conf = at.applied, at.conf
	h.net.start(1)
	h.restarted++
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
				h.tolerate(h.core().Step(members[r], m), refuse(ReasonNotMember), refuse(ReasonTerm))
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
		node.applied = Index(node.writing[n-1].GetSnapshot().GetMetadata().GetIndex())
		h.core().SetMembers(nodesOf(node.log.conf))
		h.restored++
	}
	if node.applied > h.checkpoints[len(h.checkpoints)-1].applied {
		h.checkpoints = append(h.checkpoints, checkpoint{node.applied, h.core().ConfState()})
	}
	if last, err := node.log.LastIndex(); err != nil || Index(last) != h.core().Status().Last || h.core().lastSure != Index(last) {
		h.t.Fatalf("the log ends at %d, the core says %d and %d", last, h.core().Status().Last, h.core().lastSure)
	}
	for _, m := range h.net.queue {
		h.release(m)
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
	w := node.writing[0]
	node.writing = node.writing[1:]
	node.written([]testWrite{w})
	for _, r := range w.GetResponses() {
		h.release(r)
		if ReplicaID(r.GetTo()) == 1 {
			h.must(h.core().StepLocal(r))
		}
	}
}

// release checks what leaves the replica: one vote a term, whatever it has forgotten in between.
func (h *hostility) release(m *raftpb.Message) {
	h.released = append(h.released, m)
	if m.GetType() != raftpb.MsgVoteResp || m.GetReject() {
		return
	}
	if to, twice := h.votes[m.GetTerm()]; twice && to != m.GetTo() {
		h.t.Fatalf("voted for %d and %d in term %d", to, m.GetTo(), m.GetTerm())
	}
	h.votes[m.GetTerm()] = m.GetTo()
}

// standing is all of a replica that can be seen from outside of etcd/raft, short of its log.
type standing struct {
	status                   Status
	busy                     bool
	sure, last, commit       Index
	applied                  Position
	round                    uint64
	conf                     *raftpb.ConfState
	members, checked, queued int
	progress                 [8]tracker.Progress
}

func (h *hostility) standing() standing {
	c := h.core()
	s := standing{
		status: c.Status(), busy: c.rn.HasReady(), sure: c.lastSure, last: c.handedLast, commit: c.handedCommit, applied: c.applied,
		round: c.readRound, conf: c.conf, members: len(c.members), checked: len(h.checkpoints), queued: len(h.net.nodes[1].writing),
	}
	c.rn.WithProgress(func(id uint64, _ raft.ProgressType, p tracker.Progress) {
		if id < uint64(len(s.progress)) {
			s.progress[id] = p
		}
	})
	return s
}

// step steps m as from the node that its sender lives on, and says whether it was admitted.
func (h *hostility) step(m *raftpb.Message) bool {
	before := h.standing()
	err := h.core().Step(NodeID(m.GetFrom()), m)
	if err == nil {
		h.stepped++
		return true
	}
	if !errors.Is(err, ErrQuarantine) {
		h.refused(err, before)
	}
	return false
}

func (h *hostility) refused(err error, before standing) {
	var refusal *Refusal
	if !errors.As(err, &refusal) {
		h.t.Fatalf("not a refusal: %v", err)
	}
	h.refusals[refusal.Reason]++
	if after := h.standing(); after != before {
		h.t.Fatalf("%v, and changed from %+v to %+v", err, before, after)
	}
}

// unary sends a canonical RPC, alone in its turn, and holds the answer against the disk.
func (h *hostility) unary() {
	h.settle()
	before, kind := h.standing(), h.byte()%2
	var m *raftpb.Message
	var err error
	app, vote := h.appendEntries(), h.requestVote()
	if kind == 0 {
		m, err = h.core().FromAppendEntries(app)
	} else {
		m, err = h.core().FromRequestVote(vote)
	}
	if err != nil {
		h.refused(err, before)
		return
	}
	if !h.step(m) {
		return
	}
	h.released = nil
	h.settle()
	var resp *raftpb.Message
	if i := slices.IndexFunc(h.released, func(r *raftpb.Message) bool { return IsAnswer(m, r) }); i >= 0 {
		resp = h.released[i]
		h.answered++
	}
	if kind == 0 {
		h.checkAppended(app, h.core().AppendEntriesAnswer(app, m, resp))
	} else {
		h.checkVoted(vote, RequestVoteAnswer(m, resp, h.core().Status().Term))
	}
}

// checkAppended: what is acknowledged is on the disk, with the leader's terms; what is not leads the leader back.
func (h *hostility) checkAppended(req *raftv1.AppendEntriesRequest, a *raftv1.AppendEntriesResponse) {
	if !a.GetSuccess() {
		if a.GetConflictIndex() > max(1, req.GetPrevLogIndex()) || a.GetConflictTerm() > 0 && a.GetConflictIndex() == 0 {
			h.t.Fatalf("%v is answered with %v", req, a)
		}
		return
	}
	for i, e := range req.GetEntries() {
		term, err := h.net.nodes[1].disk.Term(req.GetPrevLogIndex() + 1 + uint64(i))
		if !errors.Is(err, raft.ErrCompacted) && (err != nil || term != e.GetTerm()) {
			h.t.Fatalf("acknowledged %v, entry %d has term %d on the disk, %v", req, i, term, err)
		}
	}
}

func (h *hostility) checkVoted(req *raftv1.RequestVoteRequest, a *raftv1.RequestVoteResponse) {
	hard := h.net.nodes[1].disk.hard
	if a.GetVoteGranted() && !req.GetPreVote() && (hard.GetVote() != req.GetCandidateId() || hard.GetTerm() != req.GetTerm()) {
		h.t.Fatalf("voted as %v asked for; on the disk is %v", req, hard)
	}
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
