package actors

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/proto"

	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/metadata"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// clusterRig is a Controller on node 1 and the cluster that it keeps, as far as it can see: the real metadata
// machine, whose commands are committed at once, and groups that follow their targets. Nothing happens but in
// tick.
type clusterRig struct {
	t       *testing.T
	disp    *queueDispatcher
	system  *actor.ActorSystem
	control *actor.PID
	meta    *actor.PID
	parent  *actor.PID
	machine *metadata.Machine
	board   FindingBoard
	leads   bool
	term    uint64
	voters  []raftcore.NodeID // of the metadata group
	silence map[raftcore.NodeID]int
	groups  map[raftcore.GroupID]*rigLed
	reports map[raftcore.NodeID]func(*raftv1.NodeReport) // what is changed in a node's report
	frozen  bool                                         // groups do not follow their targets
	deaf    bool                                         // leaders do not hand over
	log     []string                                     // commands and transfers
}

type rigLed struct {
	leader  raftcore.NodeID
	term    uint64
	members []metadata.Member
	target  uint64
	lagging []uint64
}

const rigElectionTicks = 10

// newClusterRig has nodes 1 to n, in racks, and founds them by registering; the first three vote.
func newClusterRig(t *testing.T, replaceAfter int, racks ...string) *clusterRig {
	t.Helper()
	r := &clusterRig{t: t, disp: &queueDispatcher{}, leads: true, term: 5, voters: []raftcore.NodeID{1, 2, 3},
		silence: map[raftcore.NodeID]int{}, groups: map[raftcore.GroupID]*rigLed{}, reports: map[raftcore.NodeID]func(*raftv1.NodeReport){}}
	v, err := store.NewMem().View()
	if err != nil {
		t.Fatal(err)
	}
	if r.machine, err = metadata.Open(v, store.MachinePrefix(raftcore.MetadataGroup, 1)); err != nil {
		t.Fatal(err)
	}
	for i, rack := range racks {
		r.command(&metav1.Command{Command: &metav1.Command_RegisterNode{RegisterNode: &metav1.RegisterNode{Node: &metav1.Node{
			NodeId: uint64(i + 1), StoreId: fmt.Sprint("s", i), StartNumber: 1, Rack: rack, ClientAddr: fmt.Sprintf("node%d:1", i+1)}}}})
	}
	silent := slog.New(slog.NewTextHandler(io.Discard, nil))
	r.system = actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return silent }))
	opts := []actor.PropsOption{actor.WithDispatcher(r.disp)}
	r.meta = r.system.Root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
		if m, ok := ctx.Message().(*Propose); ok {
			r.propose(m)
		}
	}, opts...))
	r.parent = r.system.Root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
		switch m := ctx.Message().(type) {
		case *actor.Started:
			r.control = ctx.Spawn(ControllerProps(ControllerConfig{ReplaceAfterTicks: replaceAfter, MinuteTicks: 100, Node: 1,
				ElectionTicks: rigElectionTicks, Board: &r.board, Counters: &Counters{}, Logger: silent}, opts...))
		case *AskTransfer:
			r.transfer(m)
		}
	}, opts...))
	r.disp.run()
	t.Cleanup(func() {
		f := r.system.Root.StopFuture(r.parent)
		r.disp.run()
		if err := f.Wait(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *clusterRig) command(c *metav1.Command) raftcore.Outcome {
	r.t.Helper()
	payload, err := proto.Marshal(c)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.machine.Apply(raftcore.Position{Index: 2, Term: 1}, &raftcore.Entry{Payloads: [][]byte{payload}}, new(store.Batch))[0]
}

func (r *clusterRig) propose(m *Propose) {
	var c metav1.Command
	if err := proto.Unmarshal(m.Payload, &c); err != nil {
		r.t.Fatal(err)
	}
	out := r.command(&c)
	switch c := c.GetCommand().(type) {
	case *metav1.Command_SetTarget:
		r.log = append(r.log, fmt.Sprintf("target %d %v %v", c.SetTarget.GetGroupId(), c.SetTarget.GetVoters(), out.Verdict))
	case *metav1.Command_GroupSettled:
		r.log = append(r.log, fmt.Sprintf("settled %d %v", c.GroupSettled.GetGroupId(), out.Verdict))
	}
	m.Reply.Proposed(ProposeResult{Outcome: out})
}

func (r *clusterRig) transfer(m *AskTransfer) {
	r.log = append(r.log, fmt.Sprintf("transfer %d from %d", m.Group, m.Node))
	g := r.groups[m.Group]
	if r.deaf || g.leader != m.Node || g.term != m.Term {
		return
	}
	for _, member := range g.members {
		if member.Node != g.leader && r.silence[member.Node] < 15 && (m.To == 0 || m.To == member.ID) {
			g.leader = member.Node
			g.term++
			return
		}
	}
}

// topic creates a topic; each partition is led by its first replica.
func (r *clusterRig) topic(name string, partitions, replicas uint32) []raftcore.GroupID {
	r.t.Helper()
	out := r.command(&metav1.Command{Command: &metav1.Command_CreateTopic{CreateTopic: &metav1.CreateTopic{
		Name: name, Partitions: partitions, Replicas: replicas, RequestId: fmt.Appendf(nil, "%016s", name)}}})
	topic, ok := out.Value.(*metav1.Topic)
	if !ok {
		r.t.Fatal(out.Value)
	}
	var ids []raftcore.GroupID
	for _, p := range topic.GetPartitions() {
		g := metadata.GroupOf(p)
		r.groups[g.ID] = &rigLed{leader: g.Current[0].Node, term: 2, members: g.Current}
		ids = append(ids, g.ID)
	}
	return ids
}

// tick lets n ticks pass: groups take a step, nodes report, the Controller watches.
func (r *clusterRig) tick(n int) {
	r.t.Helper()
	for range n {
		for node := range r.silence {
			r.silence[node]++
		}
		r.steer()
		st := &Status{Group: 1, Node: 1, Role: raftcore.Follower, Term: r.term, Voters: r.voters}
		if r.leads {
			st.Role = raftcore.Leader
		}
		r.system.Root.Send(r.control, &Watch{Meta: r.machine.State(), Metadata: st, Replica: r.meta, Silence: r.silence, SilenceMax: 15})
		for _, node := range r.machine.State().Nodes() {
			if id := raftcore.NodeID(node.GetNodeId()); r.silence[id] == 0 {
				r.system.Root.Send(r.control, &Reported{From: id, Report: r.report(id)})
			}
		}
		r.disp.run()
	}
}

func (r *clusterRig) steer() {
	if r.frozen {
		return
	}
	if t, ok := r.machine.State().Target(raftcore.MetadataGroup); ok {
		r.voters = t.Nodes()
	}
	for id, g := range r.groups {
		if t, ok := r.machine.State().Target(id); ok {
			g.members, g.target = t.Voters, t.ID
			if !slices.ContainsFunc(g.members, func(m metadata.Member) bool { return m.Node == g.leader }) {
				g.leader = g.members[0].Node
				g.term++
			}
		}
	}
}

func (r *clusterRig) report(n raftcore.NodeID) *raftv1.NodeReport {
	rep := &raftv1.NodeReport{}
	for id, g := range r.groups {
		if g.leader != n {
			continue
		}
		led := &raftv1.LedGroup{GroupId: uint64(id), Term: g.term, TargetId: g.target, ConfState: &raftv1.ConfState{}, Lagging: g.lagging}
		for _, m := range g.members {
			led.ConfState.Voters = append(led.ConfState.Voters, uint64(m.ID))
			if m.Node == n {
				led.LeaderId = uint64(m.ID)
			}
		}
		rep.Led = append(rep.Led, led)
	}
	rep.LedCount = uint32(len(rep.GetLed()))
	if change := r.reports[n]; change != nil {
		change(rep)
	}
	return rep
}

func (r *clusterRig) drain(n uint64) {
	r.t.Helper()
	r.command(&metav1.Command{Command: &metav1.Command_SetNodeState{SetNodeState: &metav1.SetNodeState{NodeId: n, State: metav1.NodeState_NODE_STATE_DRAINING}}})
}

// on returns the nodes of a group, ascending, and whether it is at rest.
func (r *clusterRig) on(g raftcore.GroupID) (nodes []raftcore.NodeID, atRest bool) {
	group, ok := r.machine.State().Group(g)
	if !ok {
		r.t.Fatalf("group %d is gone", g)
	}
	for _, m := range group.Current {
		nodes = append(nodes, m.Node)
	}
	slices.Sort(nodes)
	return nodes, !group.Moving
}

func (r *clusterRig) wantOn(g raftcore.GroupID, want ...raftcore.NodeID) {
	r.t.Helper()
	if got, atRest := r.on(g); !slices.Equal(got, want) || !atRest {
		r.t.Fatalf("group %d is on %v, at rest: %v, want %v; %s", g, got, atRest, want, strings.Join(r.log, "; "))
	}
}

func (r *clusterRig) logged(what string) (n int) {
	for _, l := range r.log {
		if strings.Contains(l, what) {
			n++
		}
	}
	return n
}

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
