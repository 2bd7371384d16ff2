package raftcore

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

func TestAConfigIsRefusedWithAllItsFaults(t *testing.T) {
	_, err := New(Config{Self: ReplicaID(raft.LocalApplyThread), Applied: 1, EntryBytesMax: -1})
	if !errors.Is(err, ErrConfig) {
		t.Fatal(err)
	}
	for _, fault := range []string{"group", "replica id", "storage", "heartbeat", "members", "entry size"} {
		if !strings.Contains(err.Error(), fault) {
			t.Errorf("no word about the %s in: %v", fault, err)
		}
	}
}

func TestAStateThatCannotBeIsAnErrorNotAPanic(t *testing.T) {
	for name, spoil := range map[string]func(*Config, *testLog){
		"applied beyond commit":      func(c *Config, _ *testLog) { c.Applied = 2 },
		"applied before the log":     func(c *Config, _ *testLog) { c.Applied = 0 },
		"commit beyond the log":      func(_ *Config, l *testLog) { l.hard.Commit = new(uint64(9)) },
		"a membership without sense": func(_ *Config, l *testLog) { l.conf.Learners = []uint64{1} },
	} {
		log := newTestLog(1, 2, 3)
		cfg := Config{Group: 1, Self: 1, Storage: log, Applied: 1, ElectionTicks: 10, HeartbeatTicks: 1, Members: map[ReplicaID]NodeID{1: 1}}
		spoil(&cfg, log)
		if _, err := New(cfg); !errors.Is(err, ErrState) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestOnlyALeaderTakesProposals(t *testing.T) {
	n := startedNetwork(t, 3, 1)
	if err := n.core(2).Propose([][]byte{{1}}); !errors.Is(err, ErrNotLeader) {
		t.Errorf("follower: got %v", err)
	}
	if err := n.core(2).ReadIndex(1); !errors.Is(err, ErrNotLeader) {
		t.Errorf("follower: got %v", err)
	}
	if err := n.core(2).TransferLeader(1); !errors.Is(err, ErrNotLeader) {
		t.Errorf("follower: got %v", err)
	}
	if err := n.core(1).Propose(nil); err != nil {
		t.Errorf("nothing: got %v", err)
	}
	if _, some := n.core(1).Effects(); some {
		t.Error("proposing nothing had effects")
	}
}

func TestARefusedProposalIsNowhere(t *testing.T) {
	n := newTestNetwork(t, 3)
	n.configure = func(c *Config) { c.EntryBytesMax, c.UncommittedBytesMax = 100, 400 }
	n.elect(1)
	c, part := n.core(1), make([]byte, 100)
	if err := c.Propose([][]byte{{1}, make([]byte, 101)}); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("got %v", err)
	}
	for range 4 {
		if err := c.Propose([][]byte{part}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Propose([][]byte{part}); !errors.Is(err, ErrDropped) {
		t.Fatalf("above the limit of uncommitted bytes: got %v", err)
	}
	n.take(1)
	if st := c.Status(); st.Last != 6 {
		t.Fatalf("the log ends at %d", st.Last)
	}
	n.run()
	if err := c.Propose([][]byte{part}); err != nil {
		t.Errorf("after the commit: %v", err)
	}
	if err := c.TransferLeader(2); err != nil {
		t.Fatal(err)
	}
	if err := c.Propose([][]byte{{1}}); !errors.Is(err, ErrDropped) {
		t.Errorf("while leadership moves: got %v", err)
	}
}

func TestEffectsGoOutByDestination(t *testing.T) {
	n := startedNetwork(t, 3, 1)
	c := n.core(1)
	if err := c.Propose([][]byte{[]byte("a"), []byte("b")}); err != nil {
		t.Fatal(err)
	}
	e, ok := c.Effects()
	if !ok || len(e.Messages) != 2 || len(e.Append.GetEntries()) != 2 || e.Apply != nil || e.LeaderChanged {
		t.Fatalf("got %v", e)
	}
	var order []string
	for _, r := range e.Append.GetResponses() {
		order = append(order, fmt.Sprintf("%s->%d", r.GetType(), r.GetTo()))
	}
	// First the acknowledgement to itself, while the entries are still in memory; then their release.
	if got := strings.Join(order, " "); got != "MsgAppResp->1 MsgStorageAppendResp->1" {
		t.Errorf("responses: %s", got)
	}
	if _, again := c.Effects(); again {
		t.Error("effects without a cause")
	}
}

func TestAnAppendIsSyncedUnlessItMayBeForgotten(t *testing.T) {
	n := startedNetwork(t, 3, 1)
	to := func(m scalars, entries ...*raftpb.Entry) (e Effects) {
		t.Helper()
		m.from, m.to = 1, 2
		msg := newMessage(m)
		msg.Entries = entries
		if err := n.core(2).Step(1, msg); err != nil {
			t.Fatal(err)
		}
		e, _ = n.core(2).Effects()
		if e.Append != nil {
			n.nodes[2].log.append(e.Append)
		}
		for _, r := range e.Append.GetResponses() {
			if ReplicaID(r.GetTo()) == 2 {
				n.local(n.nodes[2], r)
			}
		}
		return e
	}
	entry := &raftpb.Entry{Term: new(uint64(2)), Index: new(uint64(3)), Data: []byte("x")}
	app := scalars{kind: raftpb.MsgApp, term: 2, index: 2, logTerm: 2, commit: 2}
	for _, step := range []struct {
		what      string
		do        func() Effects
		responses int
		sync      bool
	}{
		{"an entry", func() Effects { return to(app, entry) }, 2, true},
		{"its commit", func() Effects { a := app; a.index, a.commit = 3, 3; return to(a) }, 1, false},
		{"a heartbeat of a new term, which waits for nothing", func() Effects {
			return to(scalars{kind: raftpb.MsgHeartbeat, term: 4, commit: 3})
		}, 0, false},
		{"an answer in that term", func() Effects { a := app; a.term, a.index, a.commit = 4, 3, 3; return to(a) }, 1, true},
		{"the same again", func() Effects { a := app; a.term, a.index, a.commit = 4, 3, 3; return to(a) }, 1, false},
		{"the first answer of a new process", func() Effects {
			n.nodes[2].disk = n.nodes[2].log
			n.crash(2)
			n.start(2)
			a := app
			a.term, a.index, a.commit = 4, 3, 3
			return to(a)
		}, 1, true},
	} {
		e := step.do()
		if got := len(e.Append.GetResponses()); got != step.responses || e.Sync != step.sync {
			t.Errorf("%s: %d responses, to be synced: %v; %v", step.what, got, e.Sync, e.Append)
		}
	}
}

func TestALeaderKnowsHowManyVotersHoldAnEntryDurably(t *testing.T) {
	n := startedNetwork(t, 3, 1)
	c := n.core(1)
	if err := c.Propose([][]byte{[]byte("a")}); err != nil {
		t.Fatal(err)
	}
	n.take(1)
	everything := func(*raftpb.Message) bool { return true }
	for _, step := range []struct {
		do   func()
		want int
	}{
		{func() {}, 0},
		{func() { n.deliver(everything); n.take(2); n.sync(2); n.deliver(everything) }, 1},
		{func() { n.sync(1) }, 2},
		{func() { n.run() }, 3},
	} {
		step.do()
		if got := c.FsyncedReplicas(3); got != step.want {
			t.Errorf("got %d, want %d", got, step.want)
		}
	}
	if n.core(2).FsyncedReplicas(3) != 0 || n.core(2).Progress() != nil || n.core(2).Successor() != 0 {
		t.Error("a follower claims to know")
	}
}

func TestLeadershipGoesToTheLiveVoterThatIsFurthestAhead(t *testing.T) {
	n := startedNetwork(t, 3, 1)
	c := n.core(1)
	n.cut[2] = true
	if err := c.Propose([][]byte{[]byte("a")}); err != nil {
		t.Fatal(err)
	}
	n.run()
	if got := c.Successor(); got != 3 {
		t.Errorf("successor %d", got)
	}
	for range 20 {
		c.Tick()
		n.run()
	}
	for _, to := range []ReplicaID{1, 2, 9} {
		if err := c.TransferLeader(to); !errors.Is(err, ErrNoSuccessor) {
			t.Errorf("to %d: got %v", to, err)
		}
	}
	if p := c.Progress(); len(p) != 3 || p[1] != (Progress{2, 2, 2, true, false}) || p[2] != (Progress{3, 3, 3, true, true}) {
		t.Errorf("progress %+v", p)
	}
}

// TestAMemberThatAnswersEveryHeartbeatIsNeverNotHeardOf: etcd/raft's CheckQuorum forgets all members once per election
// timeout, and until they answered again `partition transfer-leader` said that there was no successor.
func TestAMemberThatAnswersEveryHeartbeatIsNeverNotHeardOf(t *testing.T) {
	n := startedNetwork(t, 3, 1)
	c := n.core(1)
	for tick := range 35 {
		c.Tick()
		if got := c.Successor(); got != 2 {
			t.Errorf("tick %d, the heartbeats on their way: successor %d; %+v", tick, got, c.Progress())
		}
		n.run()
	}
	n.cut[3] = true
	for range 10 { // one election timeout
		c.Tick()
		n.run()
	}
	if p := c.Progress(); !p[1].Active || p[2].Active {
		t.Errorf("a member that says nothing counts as heard of, or one that does, as not: %+v", p)
	}
	if err := c.TransferLeader(2); err != nil {
		t.Error(err)
	}
}

func TestOnlyOwnStorageResponsesAreTakenBack(t *testing.T) {
	c := startedNetwork(t, 3, 1).core(1)
	for _, m := range []*raftpb.Message{
		msg(raftpb.MsgAppResp, nil),
		msg(raftpb.MsgStorageAppendResp, func(m *raftpb.Message) { m.From, m.To = new(uint64(raft.LocalAppendThread)), new(uint64(2)) }),
	} {
		if err := c.StepLocal(m); !errors.Is(err, ErrNotLocal) {
			t.Errorf("%v: got %v", m, err)
		}
	}
}

func TestASnapshotThatFailedIsReportedWithoutHarm(t *testing.T) {
	n := startedNetwork(t, 3, 1)
	n.core(1).ReportSnapshot(2, false)
	n.core(1).ReportSnapshot(2, true)
	n.core(1).ReportUnreachable(2)
	if err := n.core(1).Propose([][]byte{[]byte("a")}); err != nil {
		t.Fatal(err)
	}
	n.run()
	n.core(1).Tick()
	n.run()
	if got := n.core(1).FsyncedReplicas(3); got != 3 {
		t.Errorf("%d replicas have it", got)
	}
}

func TestABrokenInvariantPanicsEvenWhenTheLoggerIsSilent(t *testing.T) {
	c := startedNetwork(t, 3, 1).core(1)
	defer func() {
		if recover() == nil {
			t.Error("etcd/raft went on after its invariant broke")
		}
	}()
	// Past the allow-list, on purpose.
	t.Error(c.rn.Step(msg(raftpb.MsgHeartbeat, func(m *raftpb.Message) { m.Term, m.Commit = new(uint64(9)), new(uint64(1000)) })))
}

func TestStatusAllocatesNothing(t *testing.T) {
	c := startedNetwork(t, 3, 1).core(1)
	if n := testing.AllocsPerRun(100, func() { _ = c.Status() }); n > 0 {
		t.Errorf("%.0f allocations", n)
	}
}

func TestAFollowerThatForgetsItsLeaderGrantsAPreVoteAtOnce(t *testing.T) {
	n := startedNetwork(t, 3, 1)
	n.crash(1)
	for _, id := range []ReplicaID{2, 3} {
		if err := n.core(id).ForgetLeader(); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.core(2).Campaign(); err != nil {
		t.Fatal(err)
	}
	n.run()
	if st := n.core(2).Status(); st.Role != Leader {
		t.Errorf("it is %s", st.Role)
	}
}
