package raftcore

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

const top = math.MaxUint64

// msg makes a message to replica 1 from replica 2 in term 2, changed by f.
func msg(kind raftpb.MessageType, f func(*raftpb.Message)) *raftpb.Message {
	m := newMessage(scalars{kind: kind, from: 2, to: 1, term: 2})
	if f != nil {
		f(m)
	}
	return m
}

func at(index, term uint64) func(*raftpb.Message) {
	return func(m *raftpb.Message) { m.Index, m.LogTerm = new(index), new(term) }
}

func entryAt(index, term uint64) *raftpb.Entry {
	return &raftpb.Entry{Index: new(index), Term: new(term), Data: []byte("x")}
}

// replicaIn makes replica 1 of three what the row wants it to be. Its log is 2/2; its term 2.
func replicaIn(t testing.TB, role Role) *testNetwork {
	leader := ReplicaID(2)
	if role == Leader {
		leader = 1
	}
	n := startedNetwork(t, 3, leader)
	if role == Candidate || role == PreCandidate {
		n.crash(1) // forgets its leader, keeps its term
		n.start(1)
	}
	return n
}

type hostileRow struct {
	name string
	role Role
	from NodeID // 0 = the sender's
	m    *raftpb.Message
	want Reason
	// panics says that etcd/raft itself panics on the row: the reason why the row is here.
	panics bool
}

// inConf is a snapshot at 50/2 with this membership; inLog are entries after index/term.
func inConf(c *raftpb.ConfState) func(*raftpb.Message) {
	return func(m *raftpb.Message) {
		m.Snapshot = &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: new(uint64(50)), Term: new(uint64(2)), ConfState: c}}
	}
}

func inLog(index, term uint64, es ...*raftpb.Entry) func(*raftpb.Message) {
	return func(m *raftpb.Message) { at(index, term)(m); m.Entries = es }
}

func hostileRows() []hostileRow {
	return slices.Concat(rowsOfReliability(), rowsOfActorsRaft(), rowsOfShape(), rowsOfClaims())
}

// rowsOfReliability are the table in research/reliability.md, section 3.
func rowsOfReliability() []hostileRow {
	return []hostileRow{
		{name: "a stranger's heartbeat with a high commit", from: 99, want: ReasonNode, panics: true,
			m: msg(raftpb.MsgHeartbeat, func(m *raftpb.Message) { m.From, m.Term, m.Commit = new(uint64(99)), new(uint64(5)), new(uint64(1000)) })},
		{name: "a heartbeat for another replica", want: ReasonTo, m: msg(raftpb.MsgHeartbeat, func(m *raftpb.Message) { m.To = new(uint64(7)) })},
		{name: "a stranger's vote in the last term, by transfer", from: 99, want: ReasonNode, m: msg(raftpb.MsgVote, func(m *raftpb.Message) {
			m.From, m.Term, m.LogTerm, m.Index, m.Context = new(uint64(99)), new(uint64(top)), new(uint64(top)), new(uint64(top)), []byte(transferMark)
		})},
		{name: "a member's vote in the last term", want: ReasonTerm, m: msg(raftpb.MsgVote, func(m *raftpb.Message) { m.Term = new(uint64(top)) })},
		{name: "a vote just too far ahead", want: ReasonTerm, m: msg(raftpb.MsgVote, func(m *raftpb.Message) { m.Term = new(uint64(2 + termJumpMax + 1)) })},
		{name: "an append with a gap", want: ReasonEntryIndex, panics: true, m: msg(raftpb.MsgApp, inLog(2, 2, entryAt(7, 2), entryAt(9, 2)))},
		{name: "an append at the end of all indexes", want: ReasonIndex, m: msg(raftpb.MsgApp, inLog(top-1, 1, entryAt(5, 2)))},
		{name: "a snapshot without content", want: ReasonSnapshotData, m: msg(raftpb.MsgSnap, nil)},
		{name: "a snapshot whose learner is a voter", want: ReasonConfState, panics: true,
			m: msg(raftpb.MsgSnap, inConf(&raftpb.ConfState{Voters: []uint64{1, 2}, Learners: []uint64{1}}))},
		{name: "a proposal of a membership change", role: Leader, from: 99, want: ReasonType, m: msg(raftpb.MsgProp, func(m *raftpb.Message) {
			m.From, m.Term = new(uint64(99)), nil
			m.Entries = []*raftpb.Entry{{Type: raftpb.EntryConfChange.Enum()}}
		})},
		{name: "an append of term 0", want: ReasonTerm, m: msg(raftpb.MsgApp, func(m *raftpb.Message) { m.Term = new(uint64(0)) })},
		{name: "a hup", want: ReasonType, m: msg(raftpb.MsgHup, nil)},
	}
}

// rowsOfActorsRaft are "panics reachable from a peer's bytes" in research/actors-raft.md.
func rowsOfActorsRaft() []hostileRow {
	return []hostileRow{
		{name: "a vote of term 0", want: ReasonTerm, panics: true, m: msg(raftpb.MsgVote, func(m *raftpb.Message) { at(9, 9)(m); m.Term = nil })},
		{name: "an append that skips its first entry", want: ReasonEntryIndex, m: msg(raftpb.MsgApp, inLog(2, 2, entryAt(4, 2)))},
		{name: "a read round of 7 bytes at the leader", role: Leader, want: ReasonContext, panics: true,
			m: msg(raftpb.MsgHeartbeatResp, func(m *raftpb.Message) { m.Context = make([]byte, 7) })},
		{name: "a read round of 9 bytes", want: ReasonContext, m: msg(raftpb.MsgHeartbeat, func(m *raftpb.Message) { m.Context = make([]byte, 9) })},
		{name: "an empty proposal", role: Leader, want: ReasonType, panics: true, m: msg(raftpb.MsgProp, func(m *raftpb.Message) { m.Term = nil })},
		{name: "a proposal that is no membership change", role: Leader, want: ReasonType, panics: true, m: msg(raftpb.MsgProp, func(m *raftpb.Message) {
			m.Term, m.Entries = nil, []*raftpb.Entry{{Type: raftpb.EntryConfChange.Enum(), Data: []byte{0xff}}}
		})},
		{name: "an append with a nil entry", want: ReasonNil, m: msg(raftpb.MsgApp, inLog(2, 2, nil))},
		{name: "an append from this replica itself", from: 1, want: ReasonFrom, m: msg(raftpb.MsgApp, func(m *raftpb.Message) { m.From = new(uint64(1)) })},
		{name: "an append from nobody", want: ReasonFrom, m: msg(raftpb.MsgApp, func(m *raftpb.Message) { m.From = nil })},
		{name: "a response from the disk", want: ReasonFrom, m: msg(raftpb.MsgAppResp, func(m *raftpb.Message) { m.From = new(uint64(raft.LocalAppendThread)) })},
		{name: "an append from a replica that is no member", from: 9, want: ReasonNode, m: msg(raftpb.MsgApp, func(m *raftpb.Message) { m.From = new(uint64(9)) })},
	}
}

// rowsOfShape are the rest of rules 16 and 17.
func rowsOfShape() []hostileRow {
	return []hostileRow{
		{name: "nothing", want: ReasonNil, m: nil},
		{name: "a member's message from another node", from: 3, want: ReasonNode, m: msg(raftpb.MsgHeartbeat, nil)},
		{name: "a response from a stranger", from: 9, want: ReasonNotMember, m: msg(raftpb.MsgAppResp, func(m *raftpb.Message) { m.From = new(uint64(9)) })},
		{name: "a read from the wire", want: ReasonType, m: msg(raftpb.MsgReadIndex, nil)},
		{name: "an answer to a read from the wire", want: ReasonType, m: msg(raftpb.MsgReadIndexResp, nil)},
		{name: "a transfer from the wire", role: Leader, want: ReasonType, m: msg(raftpb.MsgTransferLeader, nil)},
		{name: "a storage response from the wire", want: ReasonType, m: msg(raftpb.MsgStorageAppendResp, nil)},
		{name: "a type that does not exist", want: ReasonType, m: msg(raftpb.MessageType(99), nil)},
		{name: "a heartbeat with entries", want: ReasonField, m: msg(raftpb.MsgHeartbeat, inLog(0, 0, entryAt(1, 1)))},
		{name: "an append with a snapshot", want: ReasonField, m: msg(raftpb.MsgApp, inConf(nil))},
		{name: "a vote with responses", want: ReasonField, m: msg(raftpb.MsgVote, func(m *raftpb.Message) { m.Responses = []*raftpb.Message{{}} })},
		{name: "a pre-vote by transfer", want: ReasonContext, m: msg(raftpb.MsgPreVote, func(m *raftpb.Message) { m.Context = []byte(transferMark) })},
		{name: "a vote with another context", want: ReasonContext, m: msg(raftpb.MsgVote, func(m *raftpb.Message) { m.Context = []byte("x") })},
		{name: "an append with a context", want: ReasonContext, m: msg(raftpb.MsgApp, func(m *raftpb.Message) { m.Context = []byte("trace") })},
		{name: "an index without a term", want: ReasonIndex, m: msg(raftpb.MsgApp, at(2, 0))},
		{name: "a log term above the term", want: ReasonLogTerm, m: msg(raftpb.MsgVote, at(9, 3))},
		{name: "entries of falling terms", want: ReasonEntryTerm, m: msg(raftpb.MsgApp, inLog(2, 2, entryAt(3, 1)))},
		{name: "entries above the term", want: ReasonEntryTerm, m: msg(raftpb.MsgApp, inLog(2, 2, entryAt(3, 3)))},
		{name: "an entry of term 0 at the start", want: ReasonEntryTerm, m: msg(raftpb.MsgApp, inLog(0, 0, entryAt(1, 0)))},
		{name: "an entry of unknown type", want: ReasonEntryType, m: msg(raftpb.MsgApp, inLog(2, 2, &raftpb.Entry{
			Index: new(uint64(3)), Term: new(uint64(2)), Type: raftpb.EntryType(3).Enum()}))},
		{name: "a membership change that cannot be decoded", want: ReasonEntryType, m: msg(raftpb.MsgApp, inLog(2, 2, &raftpb.Entry{
			Index: new(uint64(3)), Term: new(uint64(2)), Type: raftpb.EntryConfChangeV2.Enum(), Data: []byte{0xff}}))},
		{name: "an entry above the limit", want: ReasonEntriesSize, m: msg(raftpb.MsgApp, inLog(2, 2, &raftpb.Entry{
			Index: new(uint64(3)), Term: new(uint64(2)), Data: make([]byte, entryBytesMax+1)}))},
		{name: "too many entries", want: ReasonEntriesSize, m: msg(raftpb.MsgApp, inLog(2, 2, make([]*raftpb.Entry, entriesMax+1)...))},
	}
}

// rowsOfClaims are about what a message claims of this replica's log, and snapshots.
func rowsOfClaims() []hostileRow {
	return []hostileRow{
		{name: "an append from a second leader of this term", from: 3, want: ReasonSecondLeader, m: msg(raftpb.MsgApp, func(m *raftpb.Message) { m.From = new(uint64(3)) })},
		{name: "a heartbeat for the leader of this term", role: Leader, want: ReasonSecondLeader, m: msg(raftpb.MsgHeartbeat, nil)},
		{name: "an order to campaign from another than the leader", from: 3, want: ReasonNotLeader,
			m: msg(raftpb.MsgTimeoutNow, func(m *raftpb.Message) { m.From = new(uint64(3)) })},
		{name: "an order to campaign in a later term", want: ReasonNotLeader, m: msg(raftpb.MsgTimeoutNow, func(m *raftpb.Message) { m.Term = new(uint64(3)) })},
		{name: "an append that contradicts what is applied", want: ReasonCommitted, m: msg(raftpb.MsgApp, at(2, 1))},
		{name: "an acknowledgement beyond the log", role: Leader, want: ReasonBeyondLog, m: msg(raftpb.MsgAppResp, at(3, 0))},
		{name: "a rejection with a hint beyond it", role: Leader, want: ReasonBeyondLog, m: msg(raftpb.MsgAppResp, func(m *raftpb.Message) {
			m.Index, m.Reject, m.RejectHint = new(uint64(2)), new(true), new(uint64(3))
		})},
		{name: "a read round that was never started", role: Leader, want: ReasonReadRound,
			m: msg(raftpb.MsgHeartbeatResp, func(m *raftpb.Message) { m.Context = []byte{1, 0, 0, 0, 0, 0, 0, 0} })},

		// Snapshots.
		{name: "a snapshot with data in it", want: ReasonSnapshotData, m: msg(raftpb.MsgSnap, func(m *raftpb.Message) {
			inConf(&raftpb.ConfState{Voters: []uint64{1}})(m)
			m.Snapshot.Data = []byte("x")
		})},
		{name: "a snapshot above the term", want: ReasonSnapshotData, m: msg(raftpb.MsgSnap, func(m *raftpb.Message) {
			inConf(&raftpb.ConfState{Voters: []uint64{1}})(m)
			m.Snapshot.Metadata.Term = new(uint64(3))
		})},
		{name: "a snapshot without voters", want: ReasonConfState, m: msg(raftpb.MsgSnap, inConf(&raftpb.ConfState{Learners: []uint64{1}}))},
		{name: "a snapshot with one voter twice", want: ReasonConfState, panics: true, m: msg(raftpb.MsgSnap, inConf(&raftpb.ConfState{Voters: []uint64{1, 1}}))},
		{name: "a snapshot with voter 0", want: ReasonConfState, panics: true, m: msg(raftpb.MsgSnap, inConf(&raftpb.ConfState{Voters: []uint64{0, 1}}))},
		{name: "a snapshot with too many members", want: ReasonConfState, m: msg(raftpb.MsgSnap, inConf(&raftpb.ConfState{Voters: make([]uint64, replicasMax+1)}))},
		{name: "a snapshot that nobody has sent", want: ReasonSnapshotUnstaged, m: msg(raftpb.MsgSnap, inConf(&raftpb.ConfState{Voters: []uint64{1, 2, 3}}))},
	}
}

func TestAHostileMessageChangesNothingAndIsCountedByItsReason(t *testing.T) {
	for _, row := range hostileRows() {
		t.Run(row.name, func(t *testing.T) {
			c := replicaIn(t, row.role).core(1)
			before, from := c.Status(), row.from
			if from == 0 {
				from = NodeID(row.m.GetFrom())
			}
			err := c.Step(from, row.m)
			var refusal *Refusal
			if !errors.As(err, &refusal) || refusal.Reason != row.want {
				t.Fatalf("got %v, want %s", err, row.want)
			}
			if after := c.Status(); after != before {
				t.Errorf("was %+v, is %+v", before, after)
			}
			if _, some := c.Effects(); some {
				t.Error("it had effects")
			}
			if n := c.cfg.Counters.Refused(row.want); n != 1 {
				t.Errorf("counted %d times", n)
			}
		})
	}
}

// Without this the table could list dangers that are none.
func TestEtcdRaftPanicsOnTheRowsThatSaySo(t *testing.T) {
	for _, row := range hostileRows() {
		if !row.panics {
			continue
		}
		t.Run(row.name, func(t *testing.T) {
			c := replicaIn(t, row.role).core(1)
			if err := stepBare(c, row.m); !errors.Is(err, errPanicked) {
				t.Errorf("etcd/raft took it: %v", err)
			}
		})
	}
}

var errPanicked = errors.New("panicked")

// stepBare steps m past the allow-list, and what comes of it.
func stepBare(c *Core, m *raftpb.Message) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errPanicked, p)
		}
	}()
	err = c.rn.Step(proto.CloneOf(m))
	for c.rn.HasReady() {
		rd := c.rn.Ready()
		for _, m := range rd.Messages {
			for _, r := range m.GetResponses() {
				if r.GetTo() == uint64(c.cfg.Self) {
					err = errors.Join(err, c.rn.Step(r))
				}
			}
		}
	}
	return err
}

func TestEveryReasonIsGivenInSomeTestRow(t *testing.T) {
	elsewhere := map[Reason]bool{ReasonUnsettled: true, ReasonLeaderID: true, ReasonQuarantine: true}
	for _, row := range hostileRows() {
		elsewhere[row.want] = true
	}
	for r := admitted + 1; r < reasonCount; r++ {
		if !elsewhere[r] || r.String() == "" {
			t.Errorf("reason %d (%s) has no row", r, r)
		}
	}
}

// A peer that raises the term as far as it may, again and again, would reach the last one within hours.
func TestNoPeerLeadsAReplicaToTheLastTerm(t *testing.T) {
	n := newTestNetwork(t, 3)
	n.nodes[1].disk.hard.Term = new(uint64(termMax - 1))
	n.start(1)
	c := n.core(1)
	vote := func(term uint64) error {
		return c.Step(2, msg(raftpb.MsgVote, func(m *raftpb.Message) { at(1, 1)(m); m.Term = new(term) }))
	}
	if err := vote(termMax + 1); !errors.Is(err, refuse(ReasonTerm)) {
		t.Errorf("got %v", err)
	}
	if err := vote(termMax); err != nil {
		t.Errorf("the highest term: %v", err)
	}
	for n.take(1) || n.sync(1) {
	}
	if err := c.Campaign(); err != nil || c.Status().Term != termMax {
		t.Errorf("campaign: %v, %+v", err, c.Status())
	}
}

func TestAHeartbeatBeyondTheLogQuarantinesTheReplicaForGood(t *testing.T) {
	c := replicaIn(t, Follower).core(1)
	before := c.Status()
	ahead := msg(raftpb.MsgHeartbeat, func(m *raftpb.Message) { m.Commit = new(uint64(3)) })
	if err := c.Step(2, ahead); !errors.Is(err, ErrQuarantine) {
		t.Fatalf("got %v", err)
	}
	after := c.Status()
	if before.Quarantined = true; after != before {
		t.Errorf("was %+v, is %+v", before, after)
	}
	c.Tick()
	for what, err := range map[string]error{
		"step":      c.Step(2, msg(raftpb.MsgHeartbeat, nil)),
		"own disk":  c.StepLocal(msg(raftpb.MsgAppResp, nil)),
		"campaign":  c.Campaign(),
		"propose":   c.Propose([][]byte{{1}}),
		"read":      c.ReadIndex(1),
		"hand over": c.TransferLeader(2),
	} {
		if !errors.Is(err, ErrQuarantine) {
			t.Errorf("%s: got %v", what, err)
		}
	}
	if _, some := c.Effects(); some {
		t.Error("it has effects")
	}
	if c.cfg.Counters.Quarantines.Load() != 1 || c.cfg.Counters.Refused(ReasonQuarantine) != 1 {
		t.Error("counted wrongly")
	}
}

func TestOnlyTheLeaderOfAValidTermCanQuarantine(t *testing.T) {
	high := func(m *raftpb.Message) { m.Commit = new(uint64(1000)) }
	for name, row := range map[string]struct {
		from NodeID
		m    *raftpb.Message
	}{
		"an earlier term":  {2, msg(raftpb.MsgHeartbeat, func(m *raftpb.Message) { high(m); m.Term = new(uint64(1)) })},
		"another node":     {3, msg(raftpb.MsgHeartbeat, high)},
		"no leader":        {3, msg(raftpb.MsgHeartbeat, func(m *raftpb.Message) { high(m); m.From = new(uint64(3)) })},
		"an answer":        {2, msg(raftpb.MsgHeartbeatResp, high)},
		"an append's mark": {2, msg(raftpb.MsgApp, func(m *raftpb.Message) { high(m); at(2, 2)(m) })},
	} {
		c := replicaIn(t, Follower).core(1)
		if err := c.Step(row.from, row.m); errors.Is(err, ErrQuarantine) {
			t.Errorf("%s quarantined the replica", name)
		}
	}
}

// An append that is under way in the core may have cut the log; the core must not guess, neither to the
// replica's harm (quarantine) nor to etcd/raft's (panic).
func TestAHeartbeatBehindAnUnsettledAppendWaitsForTheNextOne(t *testing.T) {
	n := replicaIn(t, Follower)
	c := n.core(1)
	step := func(m *raftpb.Message) error { return c.Step(2, m) }
	tail := msg(raftpb.MsgApp, func(m *raftpb.Message) {
		at(2, 2)(m)
		m.Entries = []*raftpb.Entry{entryAt(3, 2), entryAt(4, 2), entryAt(5, 2)}
	})
	if err := step(tail); err != nil {
		t.Fatal(err)
	}
	n.run()
	later := func(m *raftpb.Message) { m.Term, m.Commit = new(uint64(3)), new(uint64(5)) }
	cut := msg(raftpb.MsgApp, func(m *raftpb.Message) { later(m); at(2, 2)(m); m.Entries = []*raftpb.Entry{entryAt(3, 3)} })
	if err := step(cut); err != nil {
		t.Fatal(err)
	}
	if err := step(msg(raftpb.MsgHeartbeat, later)); !errors.Is(err, refuse(ReasonUnsettled)) {
		t.Fatalf("got %v", err)
	}
	n.run()
	if err := step(msg(raftpb.MsgHeartbeat, later)); !errors.Is(err, ErrQuarantine) {
		t.Fatalf("the log ends at 3: got %v", err)
	}
}

func TestAHeartbeatBehindAnUnsettledSnapshotWaitsToo(t *testing.T) {
	n := replicaIn(t, Follower)
	c := n.core(1)
	c.cfg.Staged = func(Position) bool { return true }
	tail := msg(raftpb.MsgApp, func(m *raftpb.Message) {
		at(2, 2)(m)
		m.Entries = []*raftpb.Entry{entryAt(3, 2), entryAt(4, 2), entryAt(5, 2)}
	})
	if err := c.Step(2, tail); err != nil {
		t.Fatal(err)
	}
	n.run()
	later := func(m *raftpb.Message) { m.Term, m.Commit = new(uint64(3)), new(uint64(5)) }
	snap := msg(raftpb.MsgSnap, func(m *raftpb.Message) {
		later(m)
		m.Snapshot = &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
			Index: new(uint64(3)), Term: new(uint64(3)), ConfState: &raftpb.ConfState{Voters: []uint64{1, 2, 3}, AutoLeave: new(false)}}}
	})
	if err := c.Step(2, snap); err != nil {
		t.Fatal(err)
	}
	if err := c.Step(2, msg(raftpb.MsgHeartbeat, later)); !errors.Is(err, refuse(ReasonUnsettled)) {
		t.Fatalf("got %v", err)
	}
}

func TestReadRoundsOfAnEarlierTermAreNotAnswersInThisOne(t *testing.T) {
	n := startedNetwork(t, 3, 1)
	for context := range uint64(3) {
		if err := n.core(1).ReadIndex(context); err != nil {
			t.Fatal(err)
		}
	}
	n.run()
	for _, to := range []ReplicaID{2, 1} {
		if err := n.core(3 - to).TransferLeader(to); err != nil {
			t.Fatal(err)
		}
		n.run()
	}
	answer := msg(raftpb.MsgHeartbeatResp, func(m *raftpb.Message) {
		m.Term, m.Context = new(n.core(1).Status().Term), []byte{3, 0, 0, 0, 0, 0, 0, 0}
	})
	if err := n.core(1).Step(2, answer); !errors.Is(err, refuse(ReasonReadRound)) {
		t.Errorf("got %v", err)
	}
}

func TestAStrangerIsHeardWhenTheMetadataVouchForIt(t *testing.T) {
	for name, row := range map[string]struct {
		vouch bool
		kind  raftpb.MessageType
		want  Reason
	}{
		"an append of a later leader":     {true, raftpb.MsgApp, admitted},
		"a heartbeat of a later leader":   {true, raftpb.MsgHeartbeat, admitted},
		"a vote":                          {true, raftpb.MsgVote, admitted},
		"a response, vouched or not":      {true, raftpb.MsgVoteResp, ReasonNotMember},
		"an append nobody vouches for":    {false, raftpb.MsgApp, ReasonNode},
		"a response nobody vouches for":   {false, raftpb.MsgVoteResp, ReasonNotMember},
		"an order to campaign, no leader": {true, raftpb.MsgTimeoutNow, ReasonNotLeader},
	} {
		c := replicaIn(t, Follower).core(1)
		c.cfg.Vouch = func(r ReplicaID, n NodeID) bool { return row.vouch && r == 8 && n == 80 }
		err := c.Step(80, msg(row.kind, func(m *raftpb.Message) { at(2, 2)(m); m.From, m.Term = new(uint64(8)), new(uint64(3)) }))
		if row.want == admitted && err != nil || row.want != admitted && !errors.Is(err, refuse(row.want)) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestAStagedSnapshotIsTaken(t *testing.T) {
	n := replicaIn(t, Follower)
	c := n.core(1)
	c.cfg.Staged = func(p Position) bool { return p == Position{50, 2} }
	m := msg(raftpb.MsgSnap, func(m *raftpb.Message) {
		m.Snapshot = &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
			Index: new(uint64(50)), Term: new(uint64(2)), ConfState: &raftpb.ConfState{Voters: []uint64{1, 2}, Learners: []uint64{4}, AutoLeave: new(false)}}}
	})
	if err := c.Step(2, m); err != nil {
		t.Fatal(err)
	}
	e, _ := c.Effects()
	if e.Append.GetSnapshot().GetMetadata().GetIndex() != 50 {
		t.Fatalf("effects %v", e)
	}
	c.SetMembers(map[ReplicaID]NodeID{1: 1, 2: 2, 4: 4})
	if st := c.Status(); st.Last != 50 || st.Commit != 50 || fmt.Sprint(c.Members()) != "map[1:1 2:2 4:4]" || len(c.ConfState().Learners) != 1 {
		t.Errorf("status %+v, members %v", st, c.Members())
	}
}

func TestCountersListEveryReasonOnce(t *testing.T) {
	var c Counters
	c.Refuse(ReasonTerm)
	c.Stepped.Add(3)
	seen := map[string]uint64{}
	c.Each(func(name, label, value, help string, v uint64) {
		if help == "" || (label == "") != (value == "") {
			t.Errorf("%s{%s=%q}: %q", name, label, value, help)
		}
		seen[name+"/"+value] += v
	})
	if len(seen) != 3+int(reasonCount)-1 || seen["raft_messages_refused_total/term"] != 1 || seen["raft_messages_stepped_total/"] != 3 {
		t.Errorf("got %v", seen)
	}
}
