package actors

import (
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/proto"

	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/metadata"
)

// Limits of the Controller. What a plan leaves over, the next one takes up.
const (
	plansPerElectionTimeout = 2
	targetsOpenMax          = 8 // that it opens itself; each fills replicas by a snapshot
	commandsPerPlanMax      = 32
	transfersPerPlanMax     = 32
	balancePerPlanMax       = 4 // leaders moved for balance alone
	findingsMax             = 50
	// Times in election timeouts.
	watchBeforeActing  = 2  // a new Controller looks around first
	reportFreshness    = 3  // a report that is older says nothing any more
	proposalPatience   = 10 // a proposal without an end for this long is taken for lost
	drainPatience      = 3  // a leader that does not go in this time moves with its replica
	lagPatience        = 5  // behind for this long is worth a word
	minuteTicksDefault = 600
	ledPerWindow       = 1000 // groups in one report: who leads more tells of them in turn
)

// ControllerConfig says how a cluster is kept.
type ControllerConfig struct {
	// ReplaceAfterTicks is how long a node must be silent, or a replica failed, before its replicas are placed
	// elsewhere. Shorter restores the number of replicas sooner, and copies data for nodes that would have
	// come back. 0 = never.
	ReplaceAfterTicks int
	// MinuteTicks is the least time between two moves of one group's leadership for balance. 0 = 600.
	MinuteTicks int

	Node          raftcore.NodeID
	ElectionTicks int
	Board         *FindingBoard
	Counters      *Counters
	Logger        *slog.Logger
}

// Finding is something that the Controller wants done and cannot do. Node is whose replicas it is about, if it is
// about a node.
type Finding struct {
	Node           raftcore.NodeID
	What, Why, Try string
}

// FindingBoard is where the Controller publishes its findings.
type FindingBoard struct{ p atomic.Pointer[[]Finding] }

// Load returns the latest findings; none on a node that does not lead the metadata group.
func (b *FindingBoard) Load() []Finding {
	if f := b.p.Load(); f != nil {
		return *f
	}
	return nil
}

// controller is the Controller actor. It acts while its node leads the metadata group, from what metadata say
// and nodes report, through committed commands alone:
//
//	Watch (each tick) --> plan, now and then --> Propose to the metadata replica, AskTransfer to the Router
//	Reported (each node, a few times per election timeout)
//
// It remembers nothing that counts: a new one on another node plans the same from the same state, and two at
// once do no harm, since the machine refuses what does not fit any more.
type controller struct {
	cfg ControllerConfig
	now int // ticks
	w   *Watch
	// term is the metadata term in which it acts, since when; 0 = it does not.
	term  uint64
	since int
	// pending counts proposals without an end; pendingSince is when the first of them was made.
	pending, pendingSince int

	reports map[raftcore.NodeID]*nodeNews
	led     map[raftcore.GroupID]*groupNews
	failed  map[replicaKey]int       // since when
	moved   map[raftcore.GroupID]int // when leadership was last moved, or asked to
	asked   map[raftcore.GroupID]int // since when a draining node has been asked to give up its leadership
}

type replicaKey struct {
	group   raftcore.GroupID
	replica raftcore.ReplicaID
}

// nodeNews is a node's latest report.
type nodeNews struct {
	at     int
	report *raftv1.NodeReport
}

// groupNews is what a group's leader said last.
type groupNews struct {
	at           int
	node         raftcore.NodeID
	laggingSince map[uint64]int // by replica
	*raftv1.LedGroup
}

// decided is the end of one of its proposals.
type decided struct {
	term    uint64
	command *metav1.Command
	result  ProposeResult
}

// verdict sends the end of a proposal to the Controller.
type verdict struct {
	root    *actor.RootContext
	to      *actor.PID
	term    uint64
	command *metav1.Command
}

// Proposed is part of ProposeReply.
func (v *verdict) Proposed(r ProposeResult) { v.root.Send(v.to, &decided{v.term, v.command, r}) }

// ControllerProps returns the Props with which the Controller is spawned, by the Router.
func ControllerProps(cfg ControllerConfig, opts ...actor.PropsOption) *actor.Props {
	if cfg.MinuteTicks == 0 {
		cfg.MinuteTicks = minuteTicksDefault
	}
	if cfg.ElectionTicks == 0 {
		cfg.ElectionTicks = electionTicksDefault
	}
	return actor.PropsFromProducer(func() actor.Actor {
		c := &controller{cfg: cfg}
		c.forget(0)
		return c
	}, opts...)
}

// Receive is part of actor.Actor.
func (c *controller) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *Watch:
		c.watch(ctx, m)
	case *Reported:
		c.reported(m.From, m.Report)
	case *decided:
		c.decided(m)
	}
}

func (c *controller) watch(ctx actor.Context, w *Watch) {
	c.now++
	c.w = w
	if term := w.leads(); term != c.term {
		c.forget(term)
	}
	if c.pending > 0 && c.now-c.pendingSince > proposalPatience*c.cfg.ElectionTicks {
		c.pending = 0
	}
	if c.term == 0 || c.pending > 0 || c.now-c.since < watchBeforeActing*c.cfg.ElectionTicks || c.now%max(1, c.cfg.ElectionTicks/plansPerElectionTimeout) != 0 {
		return
	}
	p := newPlan(c)
	p.make()
	c.act(ctx, p)
}

// leads returns the term in which the node leads the metadata group; 0 = it does not.
func (w *Watch) leads() uint64 {
	if w.Metadata == nil || w.Metadata.Failure != "" || w.Metadata.Role != raftcore.Leader {
		return 0
	}
	return w.Metadata.Term
}

// forget begins a term, or ends one.
func (c *controller) forget(term uint64) {
	c.term, c.since, c.pending = term, c.now, 0
	c.reports, c.led = map[raftcore.NodeID]*nodeNews{}, map[raftcore.GroupID]*groupNews{}
	c.failed, c.moved, c.asked = map[replicaKey]int{}, map[raftcore.GroupID]int{}, map[raftcore.GroupID]int{}
	c.publish(nil)
}

func (c *controller) publish(f []Finding) {
	if c.cfg.Board != nil {
		c.cfg.Board.p.Store(&f)
	}
}

// reported takes in what a node says. Of two leaders the one with the higher term counts.
func (c *controller) reported(from raftcore.NodeID, rep *raftv1.NodeReport) {
	if c.term == 0 {
		return
	}
	c.reports[from] = &nodeNews{c.now, rep}
	for _, g := range rep.GetLed() {
		id := raftcore.GroupID(g.GetGroupId())
		before := c.led[id]
		if before != nil && before.GetTerm() > g.GetTerm() {
			continue
		}
		if before != nil && before.node != from {
			c.moved[id] = c.now
		}
		c.led[id] = &groupNews{at: c.now, node: from, LedGroup: g, laggingSince: before.stillLagging(g, c.now)}
	}
	c.noteFailed(from, rep)
}

// stillLagging returns since when each member that lags now has done so.
func (n *groupNews) stillLagging(g *raftv1.LedGroup, now int) map[uint64]int {
	if len(g.GetLagging()) == 0 {
		return nil
	}
	since := map[uint64]int{}
	for _, r := range g.GetLagging() {
		since[r] = now
		if n != nil {
			if before, ok := n.laggingSince[r]; ok {
				since[r] = before
			}
		}
	}
	return since
}

func (c *controller) noteFailed(from raftcore.NodeID, rep *raftv1.NodeReport) {
	now := map[replicaKey]bool{}
	for _, f := range rep.GetFailed() {
		k := replicaKey{raftcore.GroupID(f.GetGroupId()), raftcore.ReplicaID(f.GetReplicaId())}
		now[k] = true
		if _, known := c.failed[k]; !known {
			c.failed[k] = c.now
		}
	}
	for k := range c.failed { // each by itself: the order does not matter
		if !now[k] && c.nodeOf(k) == from {
			delete(c.failed, k)
		}
	}
}

func (c *controller) nodeOf(k replicaKey) raftcore.NodeID {
	if c.w == nil {
		return 0
	}
	g, _ := c.w.Meta.Group(k.group)
	n, _ := g.Node(k.replica)
	return n
}

// act carries a plan out.
func (c *controller) act(ctx actor.Context, p *plan) {
	c.publish(p.findings)
	for _, command := range p.commands {
		payload, err := proto.Marshal(command)
		if err != nil { // only for strings that are not UTF-8, and there are none in it
			panic(fmt.Errorf("a command cannot be encoded: %w", err))
		}
		if c.pending == 0 {
			c.pendingSince = c.now
		}
		c.pending++
		c.cfg.Counters.ControllerCommands.Add(1)
		c.cfg.Logger.Info("controller decides", "command", command.String())
		ctx.Send(c.w.Replica, &Propose{Payload: payload, Reply: &verdict{ctx.ActorSystem().Root, ctx.Self(), c.term, command}})
	}
	for _, ask := range p.asks {
		c.moved[ask.Group] = c.now
		c.cfg.Counters.ControllerTransfers.Add(1)
		c.cfg.Logger.Info("controller asks for another leader", "group", ask.Group, "node", ask.Node, "to", ask.To)
		ctx.Send(ctx.Parent(), &ask)
	}
}

func (c *controller) decided(m *decided) {
	if m.term != c.term {
		return
	}
	c.pending = max(0, c.pending-1)
	switch err, _ := m.result.Outcome.Value.(error); {
	case m.result.Err != nil:
		c.cfg.Logger.Info("a decision of the controller has no end", "command", m.command.String(), "err", m.result.Err)
	case m.result.Outcome.Verdict == raftcore.Refused:
		c.cfg.Logger.Warn("a decision of the controller is refused", "command", m.command.String(), "err", err)
	}
}

// alive says whether a node was heard of lately.
func (c *controller) alive(n raftcore.NodeID) bool {
	return n == c.cfg.Node || c.w.Silence[n] < c.w.SilenceMax
}

// fresh returns a node's report if it still says something.
func (c *controller) fresh(n raftcore.NodeID) *raftv1.NodeReport {
	news := c.reports[n]
	if news == nil || c.now-news.at > reportFreshness*c.cfg.ElectionTicks {
		return nil
	}
	return news.report
}

// leader returns what a group's leader said lately; nil = nobody did.
func (c *controller) leader(g raftcore.GroupID) *groupNews {
	news := c.led[g]
	if news == nil {
		return nil
	}
	rep := c.fresh(news.node)
	if rep == nil || c.now-news.at > reportFreshness*c.cfg.ElectionTicks*(1+int(rep.GetLedCount())/ledPerWindow) {
		return nil
	}
	return news
}

// unwanted says why a replica should not be where it is; empty = it may stay.
func (c *controller) unwanted(g raftcore.GroupID, m metadata.Member) string {
	n, member := c.w.Meta.Node(m.Node)
	replace := c.cfg.ReplaceAfterTicks
	since, failed := c.failed[replicaKey{g, m.ID}]
	switch {
	case !member:
		return "was removed"
	case n.GetState() == metav1.NodeState_NODE_STATE_DRAINING:
		return "is being drained"
	case replace > 0 && m.Node != c.cfg.Node && c.w.Silence[m.Node] >= replace:
		return "has been silent for too long"
	case replace > 0 && failed && c.now-since >= replace:
		return "has had a failed replica for too long"
	}
	return ""
}
