package actors

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/metadata"
)

func TestANewControllerLooksAroundBeforeItActsAndActsOnlyWhileItLeads(t *testing.T) {
	r := newClusterRig(t, 50, "", "", "", "")
	r.leads = false
	r.topic("t", 1, 3)
	r.drain(1)
	r.tick(100)
	if len(r.log) != 0 {
		t.Fatalf("a follower's controller acts: %v", r.log)
	}
	r.leads = true
	r.tick(watchBeforeActing*rigElectionTicks - 1)
	if len(r.log) != 0 {
		t.Fatalf("it acts before it has looked around: %v", r.log)
	}
	r.tick(20)
	if r.logged("target 1 [1 2 3]") != 1 {
		t.Fatalf("the voters of the metadata group are not recorded: %v", r.log)
	}
	r.tick(200)
	r.wantOn(2, 2, 3, 4)
	r.leads, r.term = false, 6
	r.tick(1)
	r.log = nil
	r.drain(2)
	r.tick(200)
	if len(r.log) != 0 {
		t.Fatalf("it goes on after it has lost the lead: %v", r.log)
	}
}

func TestADrainMovesLeadersThenReplicasThenVoters(t *testing.T) {
	r := newClusterRig(t, 0, "", "", "", "")
	groups := r.topic("t", 20, 3)
	r.tick(40)
	r.drain(1)
	r.tick(400)
	for _, g := range groups {
		if on, atRest := r.on(g); slices.Contains(on, 1) || !atRest || r.groups[g].leader == 1 {
			t.Errorf("group %d is on %v, at rest: %v, led by %d", g, on, atRest, r.groups[g].leader)
		}
	}
	if !slices.Equal(r.voters, []raftcore.NodeID{2, 3, 4}) {
		t.Errorf("voters %v", r.voters)
	}
	first := func(what string) int {
		return slices.IndexFunc(r.log, func(l string) bool { return strings.HasPrefix(l, what) })
	}
	for _, g := range groups {
		if asked, moved := first(fmt.Sprintf("transfer %d from 1", g)), first(fmt.Sprintf("target %d ", g)); asked >= 0 && moved >= 0 && asked > moved {
			t.Errorf("group %d: its replica moved before its leader: %v", g, r.log)
		}
	}
	if f := r.board.Load(); len(f) != 0 {
		t.Errorf("findings %v", f)
	}
}

func TestNoMoreTargetsAreOpenAtOnceThanAllowed(t *testing.T) {
	r := newClusterRig(t, 0, "", "", "", "")
	r.topic("t", 30, 3)
	r.tick(40)
	r.frozen = true
	r.drain(1)
	r.tick(400)
	open := 0
	r.machine.State().Groups(func(g metadata.Group) bool {
		if g.Moving {
			open++
		}
		return true
	})
	if open != targetsOpenMax {
		t.Fatalf("%d targets are open, want %d", open, targetsOpenMax)
	}
}

func TestADrainThatHasNowhereToGoSaysWhyAndWhatToType(t *testing.T) {
	r := newClusterRig(t, 0, "", "", "")
	r.topic("t", 2, 3)
	r.tick(40)
	r.drain(3)
	r.tick(100)
	f := r.board.Load()
	if len(f) != 1 || !strings.Contains(f[0].What, "2 replicas cannot leave node 3") || !strings.Contains(f[0].Try, "--join node1:1") || !strings.Contains(f[0].Try, "mrctl node drain 3 --cancel") {
		t.Fatalf("%+v", f)
	}
	if !slices.Equal(r.voters, []raftcore.NodeID{1, 2}) {
		t.Fatalf("voters %v", r.voters)
	}
}

func TestALeaderThatDoesNotHandOverMovesWithItsReplica(t *testing.T) {
	r := newClusterRig(t, 0, "", "", "", "")
	r.topic("t", 1, 3)
	r.deaf = true
	r.tick(40)
	r.drain(1)
	r.tick(200)
	r.wantOn(2, 2, 3, 4)
	if r.logged("transfer 2 from 1") < 2 {
		t.Fatalf("%v", r.log)
	}
}

func TestADeadNodesReplicasAreReplacedAfterTheTimeAndNotBefore(t *testing.T) {
	r := newClusterRig(t, 80, "", "", "", "")
	r.topic("t", 2, 3)
	r.tick(40)
	r.silence[2] = 1
	for _, g := range r.groups {
		if g.leader == 2 {
			g.leader, g.term = g.members[1].Node, g.term+1
		}
	}
	r.tick(75)
	r.wantOn(2, 1, 2, 3)
	r.tick(100)
	for g := range r.groups {
		if on, atRest := r.on(g); slices.Contains(on, 2) || !atRest {
			t.Errorf("group %d is on %v", g, on)
		}
	}
	if slices.Contains(r.voters, 2) || len(r.voters) != 3 {
		t.Errorf("voters %v", r.voters)
	}
	// What it had is ordered deleted: it may come back.
	if got := len(r.machine.State().Removals(2)); got != 2 {
		t.Errorf("%d removals", got)
	}
}

func TestNeverMeansNever(t *testing.T) {
	r := newClusterRig(t, 0, "", "", "", "")
	r.topic("t", 1, 3)
	r.silence[2] = 1
	r.tick(5000)
	r.wantOn(2, 1, 2, 3)
}

func TestATargetWhoseNodeDiesOnTheWayGoesElsewhere(t *testing.T) {
	r := newClusterRig(t, 80, "", "", "", "", "")
	r.topic("t", 1, 3)
	r.tick(40)
	r.frozen = true
	r.command(&metav1.Command{Command: &metav1.Command_SetTarget{SetTarget: &metav1.SetTarget{GroupId: 2, Voters: []uint64{2, 3, 4}}}})
	r.tick(40)
	r.silence[4] = 1
	r.tick(120)
	r.frozen = false
	r.tick(40)
	r.wantOn(2, 1, 2, 3) // node 1 has it already; its load is the least
}

func TestARemovedNodesReplicasAreReplacedAtOnce(t *testing.T) {
	r := newClusterRig(t, 0, "", "", "", "")
	r.topic("t", 1, 3)
	r.tick(40)
	r.command(&metav1.Command{Command: &metav1.Command_RemoveNode{RemoveNode: &metav1.RemoveNode{NodeId: 3, Force: true}}})
	r.tick(40)
	r.wantOn(2, 1, 2, 4)
	if !slices.Equal(r.voters, []raftcore.NodeID{1, 2, 4}) {
		t.Fatalf("voters %v", r.voters)
	}
}

func TestAReplicaThatHasFailedForLongIsReplaced(t *testing.T) {
	r := newClusterRig(t, 80, "", "", "", "")
	r.topic("t", 1, 3)
	r.reports[3] = func(rep *raftv1.NodeReport) {
		rep.Failed = append(rep.Failed, &raftv1.FailedReplica{GroupId: 2, ReplicaId: 3, Reason: "planted"})
	}
	r.tick(70)
	r.wantOn(2, 1, 2, 3)
	r.tick(60)
	r.wantOn(2, 1, 2, 4)
}

func TestAReplacementGoesToTheRackThatLacksOneAndNotToAFullDisk(t *testing.T) {
	r := newClusterRig(t, 0, "a", "b", "c", "a", "c", "c")
	r.topic("t", 1, 3)
	r.reports[5] = func(rep *raftv1.NodeReport) { rep.DiskFull = true }
	r.tick(40)
	r.wantOn(2, 1, 2, 3)
	r.drain(3)
	r.tick(100)
	r.wantOn(2, 1, 2, 6) // 4 is in rack a, 5 is full
}

func TestATargetIsSettledOnlyByALeaderThatKnowsItAndHasExactlyItsMembers(t *testing.T) {
	r := newClusterRig(t, 0, "", "", "", "")
	r.topic("t", 1, 3)
	r.frozen = true
	r.tick(40)
	out := r.command(&metav1.Command{Command: &metav1.Command_SetTarget{SetTarget: &metav1.SetTarget{GroupId: 2, Voters: []uint64{1, 2, 4}}}})
	target := out.Value.(*metadata.Target)
	g := r.groups[2]
	wantOpen := func(why string) {
		t.Helper()
		r.tick(40)
		if r.logged("settled") != 0 {
			t.Fatalf("settled %s", why)
		}
	}
	wantOpen("where it was")
	g.members = target.Voters
	wantOpen("by a leader that was not told")
	g.target = target.ID
	r.reports[g.leader] = func(rep *raftv1.NodeReport) { rep.Led[0].ConfState.VotersOutgoing = []uint64{1, 2, 3} }
	wantOpen("in a joint configuration")
	r.reports[g.leader] = func(rep *raftv1.NodeReport) { rep.Led[0].ConfState.Learners = []uint64{9} }
	wantOpen("with a learner too many")
	delete(r.reports, g.leader)
	r.tick(10)
	r.wantOn(2, 1, 2, 4)
}

func TestAnOlderLeadersWordDoesNotCountAgainstANewersOne(t *testing.T) {
	r := newClusterRig(t, 0, "", "", "", "")
	r.topic("t", 1, 3)
	r.frozen = true
	r.tick(40)
	out := r.command(&metav1.Command{Command: &metav1.Command_SetTarget{SetTarget: &metav1.SetTarget{GroupId: 2, Voters: []uint64{1, 2, 4}}}})
	target := out.Value.(*metadata.Target)
	r.groups[2].leader, r.groups[2].term = 2, 9
	r.reports[3] = func(rep *raftv1.NodeReport) { // of a leader that was deposed and does not know
		rep.Led = append(rep.Led, &raftv1.LedGroup{GroupId: 2, Term: 2, TargetId: target.ID, ConfState: &raftv1.ConfState{Voters: []uint64{1, 2, 4}}})
	}
	r.tick(60)
	if r.logged("settled") != 0 {
		t.Fatal("settled by a deposed leader")
	}
}

func TestLeadersAreBalancedAndNoGroupMovesTwiceInAMinute(t *testing.T) {
	r := newClusterRig(t, 0, "", "", "")
	groups := r.topic("t", 12, 3)
	for _, g := range groups {
		r.groups[g].leader = 3
	}
	r.tick(95)
	if r.logged("transfer") != 0 {
		t.Fatalf("it moves leaders before it has listened for a minute: %v", r.log)
	}
	r.tick(60)
	count := map[raftcore.NodeID]int{}
	for _, g := range groups {
		count[r.groups[g].leader]++
	}
	if count[1] != 4 || count[2] != 4 || count[3] != 4 {
		t.Fatalf("leaders: %v after %v", count, r.log)
	}
	moves := len(r.log)
	r.tick(300)
	if len(r.log) != moves {
		t.Fatalf("it goes on when all is even: %v", r.log[moves:])
	}
	// All back to node 3: what has just moved stays for a minute.
	for _, g := range groups {
		r.groups[g].leader, r.groups[g].term = 3, r.groups[g].term+1
	}
	r.log = nil
	r.tick(60)
	for _, g := range groups {
		if r.logged(fmt.Sprintf("transfer %d ", g)) > 0 && slices.Contains(groups[:8], g) {
			continue
		}
		if n := r.logged(fmt.Sprintf("transfer %d ", g)); n > 1 {
			t.Fatalf("group %d moved %d times", g, n)
		}
	}
}

func TestAFollowerThatLagsForLongIsNamed(t *testing.T) {
	r := newClusterRig(t, 0, "", "", "")
	r.topic("t", 1, 3)
	r.groups[2].lagging = []uint64{2}
	r.tick(30)
	if f := r.board.Load(); len(f) != 0 {
		t.Fatalf("too early: %v", f)
	}
	r.tick(55)
	r.groups[2].lagging = []uint64{2, 3} // another one, for a moment
	r.tick(5)
	if f := r.board.Load(); len(f) != 1 || !strings.Contains(f[0].What, "group 2 on node 2 lags behind") {
		t.Fatalf("%v", f)
	}
	r.reports[2] = func(rep *raftv1.NodeReport) { // nor is that of a failed replica, which has a reason of its own
		rep.Failed = []*raftv1.FailedReplica{{GroupId: 2, ReplicaId: 2, Reason: "planted"}}
	}
	r.tick(10)
	if f := r.board.Load(); len(f) != 0 {
		t.Fatalf("%v", f)
	}
	delete(r.reports, 2)
	r.silence[2] = 20 // a dead node's lag is no news
	r.tick(10)
	if f := r.board.Load(); len(f) != 0 {
		t.Fatalf("%v", f)
	}
}

func TestWhoVotesInTheMetadataGroup(t *testing.T) {
	for _, c := range []struct {
		name           string
		nodes          int
		now            []raftcore.NodeID
		draining, dead []raftcore.NodeID
		want           []raftcore.NodeID
	}{
		{"three of four", 4, []raftcore.NodeID{1, 2, 3}, nil, nil, []raftcore.NodeID{1, 2, 3}},
		{"five of five", 5, []raftcore.NodeID{1, 2, 3}, nil, nil, []raftcore.NodeID{1, 2, 3, 4, 5}},
		{"five of seven", 7, []raftcore.NodeID{1, 2, 3}, nil, nil, []raftcore.NodeID{1, 2, 3, 4, 5}},
		{"four are one too many", 4, []raftcore.NodeID{1, 2, 3, 4}, nil, nil, []raftcore.NodeID{1, 2, 3}},
		{"one and a second node", 2, []raftcore.NodeID{1}, nil, nil, []raftcore.NodeID{1}},
		{"one and two more", 3, []raftcore.NodeID{1}, nil, nil, []raftcore.NodeID{1, 2, 3}},
		{"a drain with a spare", 4, []raftcore.NodeID{1, 2, 3}, []raftcore.NodeID{1}, nil, []raftcore.NodeID{2, 3, 4}},
		{"a drain without", 3, []raftcore.NodeID{1, 2, 3}, []raftcore.NodeID{2}, nil, []raftcore.NodeID{1, 3}},
		{"a drain of one of five", 5, []raftcore.NodeID{1, 2, 3, 4, 5}, []raftcore.NodeID{2}, nil, []raftcore.NodeID{1, 3, 4}},
		{"a dead one with a spare", 4, []raftcore.NodeID{1, 2, 3}, nil, []raftcore.NodeID{3}, []raftcore.NodeID{1, 2, 4}},
		{"a dead one without", 3, []raftcore.NodeID{1, 2, 3}, nil, []raftcore.NodeID{3}, []raftcore.NodeID{1, 2, 3}},
		{"a dead one of five", 5, []raftcore.NodeID{1, 2, 3, 4, 5}, nil, []raftcore.NodeID{5}, []raftcore.NodeID{1, 2, 3, 4, 5}},
		{"a dead one of four", 4, []raftcore.NodeID{1, 2, 3, 4}, nil, []raftcore.NodeID{2}, []raftcore.NodeID{1, 3, 4}},
		{"all draining", 3, []raftcore.NodeID{1, 2, 3}, []raftcore.NodeID{1, 2, 3}, nil, []raftcore.NodeID{1, 2, 3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newClusterRig(t, 80, make([]string, c.nodes)...)
			r.voters = c.now
			r.leads = false
			r.tick(1)
			r.frozen = true
			for _, n := range c.dead {
				r.silence[n] = 100
			}
			for _, n := range c.draining {
				r.drain(uint64(n))
			}
			r.leads = true
			r.frozen = false
			r.tick(100)
			if got := slices.Sorted(slices.Values(r.voters)); !slices.Equal(got, c.want) {
				t.Fatalf("%v, want %v; %v", got, c.want, r.log)
			}
		})
	}
}
