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
