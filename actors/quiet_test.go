package actors

import (
	"testing"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/partition"
)

const rigQuietTicks = 20

// newSleepers is a group that has stored something and gone quiet.
func newSleepers(t *testing.T) *group {
	t.Helper()
	g := newQuietGroup(t, Keep{}, rigQuietTicks)
	g.propose("one")
	g.until("all are quiet", g.allQuiet)
	return g
}

func (g *group) allQuiet() bool {
	for _, id := range []raftcore.NodeID{1, 2, 3} {
		if !g.nodes[id].status().Quiet {
			return false
		}
	}
	return true
}

func TestAQuietGroupSaysNothingAndTakesAnAppendAtOnce(t *testing.T) {
	g := newSleepers(t)
	before, term := g.sent, g.nodes[1].status().Term
	g.tick(50 * electionTicksDefault)
	if n := g.sent - before; n != 0 || !g.allQuiet() {
		t.Fatalf("%d messages while it was quiet; quiet still: %v", n, g.allQuiet())
	}
	if st := g.nodes[1].status(); st.Role != raftcore.Leader || st.Term != term {
		t.Fatalf("%+v", st)
	}
	g.propose("two") // without a tick
	for id, m := range g.nodes {
		if m.status().Quiet {
			t.Errorf("node %d is quiet after an append", id)
		}
	}
	if c := &g.nodes[1].counters; c.QuietStarts.Load() != 1 || c.QuietEnds.Load() != 1 {
		t.Errorf("counted: %d starts, %d ends", c.QuietStarts.Load(), c.QuietEnds.Load())
	}
	g.until("all are quiet again", g.allQuiet)
	if st := g.nodes[2].status(); st.Term != term || len(g.nodes[2].machine.payloads) != 2 {
		t.Errorf("%+v, %q", st, g.nodes[2].machine.payloads)
	}
}

func TestAFollowerGoesQuietOnlyWithItsLeaderAndTheSameLog(t *testing.T) {
	g := newQuietGroup(t, Keep{}, 0)
	g.propose("one")
	m := g.nodes[2]
	g.until("node 2 has applied it", func() bool {
		return m.status().Applied == m.status().Last && m.status().Commit == g.nodes[1].status().Last
	})
	st := m.status()
	for name, q := range map[string]Quiesce{
		"another term":       {1, st.Term - 1, st.Commit},
		"a later term":       {1, st.Term + 1, st.Commit},
		"commit is further":  {1, st.Term, st.Commit + 1},
		"commit is not here": {1, st.Term, st.Commit - 1},
		"not its leader":     {3, st.Term, st.Commit},
	} {
		m.tell(&q)
		g.run()
		if m.status().Quiet {
			t.Errorf("%s: it went quiet", name)
		}
	}
	g.nodes[1].tell(&Quiesce{2, st.Term, st.Commit})
	m.tell(&Quiesce{1, st.Term, st.Commit})
	g.run()
	if !m.status().Quiet || g.nodes[1].status().Quiet {
		t.Errorf("node 2 is quiet: %v; node 1, which leads: %v", m.status().Quiet, g.nodes[1].status().Quiet)
	}
}

func TestALeaderDoesNotGoQuietWhileSomethingIsToBeDone(t *testing.T) {
	for name, hinder := range map[string]func(*group){
		"a member is silent": func(g *group) { g.cut[3] = true },
		"a target is not reached": func(g *group) {
			for _, m := range g.nodes { // node 4 never comes
				m.tell(&SetTarget{raftcore.Target{ID: 1, Voters: map[raftcore.ReplicaID]raftcore.NodeID{1: 1, 2: 2, 4: 4}}})
			}
		},
		"somebody reads": func(g *group) { g.nodes[1].tell(&ReadEnd{new(endOfRead)}); g.cut[2], g.cut[3] = true, true },
	} {
		t.Run(name, func(t *testing.T) {
			g := newQuietGroup(t, Keep{}, rigQuietTicks)
			g.propose("one")
			g.tick(rigQuietTicks - 1) // it is about to
			hinder(g)
			g.tick(3 * rigQuietTicks)
			if n := g.nodes[1].counters.QuietStarts.Load(); n != 0 {
				t.Errorf("it went quiet %d times", n)
			}
		})
	}
}

// endOfRead takes the end of a ReadEnd.
type endOfRead struct{ err error }

func (e *endOfRead) ReadEnd(_, _ raftcore.Offset, _ uint64, err error) { e.err = err }

func TestQuietFollowersOfALeaderThatIsSuspectedElectAnotherWithoutATick(t *testing.T) {
	g := newSleepers(t)
	g.cut[1] = true
	for _, id := range []raftcore.NodeID{2, 3} {
		g.nodes[id].tell(&Suspect{5 - id}) // of the wrong one first
		g.nodes[id].tell(&Suspect{1})
	}
	g.run()
	if st := g.nodes[2].status(); st.Role != raftcore.Leader || st.Commit != st.Last {
		t.Errorf("node 2: %+v", st)
	}
}

func TestAQuietLeaderLooksAfterAMemberThatIsSuspected(t *testing.T) {
	g := newSleepers(t)
	g.cut[3] = true
	g.nodes[1].tell(&Suspect{9}) // no member
	g.run()
	if !g.nodes[1].status().Quiet {
		t.Error("a stranger wakes it")
	}
	g.nodes[1].tell(&Suspect{3})
	g.tick(3 * electionTicksDefault)
	if st := g.nodes[1].status(); st.Quiet || !st.UnderReplicated() || st.Role != raftcore.Leader {
		t.Errorf("%+v", st)
	}
	g.cut[3] = false
	g.until("all are quiet again", g.allQuiet)
	if st := g.nodes[1].status(); st.UnderReplicated() { // it went quiet with the first answer, and it shows what it goes by
		t.Errorf("a member that is back is shown as away for as long as the group is quiet: %+v", st)
	}
}

func TestALeaderDoesNotWaitForAMemberThatIsGoneAndLooksAfterItWhenItIsBack(t *testing.T) {
	g := newSleepers(t)
	g.gone[3], g.cut[3] = true, true
	g.propose("two") // node 3 lacks it
	for _, id := range []raftcore.NodeID{1, 2} {
		g.nodes[id].tell(&Suspect{3})
	}
	g.until("both others are quiet", func() bool { return g.nodes[1].status().Quiet && g.nodes[2].status().Quiet })
	if st := g.nodes[1].status(); !st.UnderReplicated() || st.Role != raftcore.Leader {
		t.Fatalf("%+v", st)
	}
	before := g.sent
	g.tick(5 * electionTicksDefault)
	if n := g.sent - before; n != 0 {
		t.Fatalf("%d messages while it was quiet", n)
	}
	delete(g.gone, 3)
	delete(g.cut, 3)
	for _, id := range []raftcore.NodeID{1, 2} {
		g.nodes[id].tell(&NodeBack{3})
	}
	g.run()
	if g.nodes[1].status().Quiet {
		t.Fatal("the leader sleeps on")
	}
	g.until("all are quiet", g.allQuiet)
	if st := g.nodes[3].status(); st.Commit != g.nodes[1].status().Commit || g.nodes[1].status().UnderReplicated() {
		t.Errorf("node 3: %+v", st)
	}
}

func TestLateAnswersToHeartbeatsWakeNobody(t *testing.T) {
	g := newSleepers(t)
	leader := g.nodes[1]
	answer := func(h *raftv1.GroupHeartbeat) {
		h.GroupId, h.FromReplica, h.ToReplica, h.Response = uint64(rigGroup), 2, 1, true
		leader.tell(&Inbound{From: 2, Heartbeats: []*raftv1.GroupHeartbeat{h}})
		g.run()
	}
	term := leader.status().Term
	stepped := leader.core.Stepped.Load()
	for range 3 {
		answer(&raftv1.GroupHeartbeat{Term: term})
	}
	if !g.allQuiet() || leader.core.Stepped.Load() != stepped+3 {
		t.Fatal("an answer to what was said before wakes the group, or is not taken")
	}
	answer(&raftv1.GroupHeartbeat{Term: term, Context: make([]byte, 8)})
	if leader.status().Quiet {
		t.Error("an answer to a read does not wake the leader")
	}
}

func TestALeaderWithoutAMajorityDoesNotGoQuiet(t *testing.T) {
	g := newSleepers(t)
	for _, id := range []raftcore.NodeID{2, 3} {
		g.gone[id], g.cut[id] = true, true
		g.nodes[1].tell(&Suspect{id})
	}
	g.tick(3 * rigQuietTicks)
	if st := g.nodes[1].status(); st.Quiet || st.Role == raftcore.Leader {
		t.Errorf("%+v", st)
	}
}

func TestWhoIsNotToldThatTheGroupGoesQuietWakesIt(t *testing.T) {
	g := newQuietGroup(t, Keep{}, rigQuietTicks)
	g.mute[3] = true
	g.propose("one")
	term := g.nodes[1].status().Term
	g.until("the others are quiet", func() bool { return g.nodes[1].status().Quiet && g.nodes[2].status().Quiet })
	g.mute[3] = false
	g.until("all are quiet", g.allQuiet)
	if st := g.nodes[1].status(); st.Role != raftcore.Leader || st.Term != term {
		t.Errorf("it cost the leader its place: %+v", st)
	}
}

func TestAQuietLeaderWakesForRecordsThatAreTooOld(t *testing.T) {
	r := recordsRig(t, func(c *ReplicaConfig) {
		c.Retention, c.QuietTicks = partition.Retention{Millis: 1000}, rigQuietTicks
	})
	r.elect()
	r.append(batchOf(2))
	for range 2 * rigQuietTicks {
		r.passAll(1)
	}
	if !r.status().Quiet {
		t.Fatalf("not quiet: %+v", r.status())
	}
	r.now = 5000
	for range rigRetentionTicks {
		if r.ticks.add() { // as the Clock
			r.tell(tick{})
		}
		r.settle(r.run())
	}
	if n := r.counters.Truncations.Load(); n != 1 || r.status().LogStart != 2 || r.status().Quiet {
		t.Errorf("%d truncations, %+v", n, r.status())
	}
}
