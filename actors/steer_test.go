package actors

import (
	"errors"
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
)

// live lets ticks pass, one turn each, and returns what was sent meanwhile. Node 2 answers heartbeats and appends.
func (r *rig) live(ticks int) (all []sent) {
	r.t.Helper()
	for range ticks {
		r.ticks.add()
		r.tell(tick{})
		out := r.run()
		for len(out) > 0 {
			all = append(all, out...)
			var answers []any
			for _, s := range out {
				switch {
				case s.to != 2:
				case s.env.Type == raftv1.MessageType_MESSAGE_TYPE_HEARTBEAT:
					answers = append(answers, inbound(2, &raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_HEARTBEAT_RESPONSE, Term: s.env.Term, Context: s.env.Context}))
				case s.env.Type == raftv1.MessageType_MESSAGE_TYPE_APPEND:
					answers = append(answers, ack(s.env))
				}
			}
			if len(answers) == 0 {
				break
			}
			r.tell(answers...)
			out = r.run()
		}
	}
	return all
}

// transferred remembers the end of a Transfer; a second end is a fault.
type transferred struct {
	t     testing.TB
	ended bool
	to    raftcore.NodeID
	err   error
}

func (e *transferred) Transferred(to raftcore.NodeID, err error) {
	if e.ended {
		e.t.Error("a transfer ended twice")
	}
	e.ended, e.to, e.err = true, to, err
}

func (r *rig) transfer(m Transfer) *transferred {
	end := &transferred{t: r.t}
	m.Reply = end
	r.tell(&m)
	return end
}

// takeOver lets replica 2 become the leader of the term after this one, as TimeoutNow asks it to.
func (r *rig) takeOver() {
	st := r.status()
	r.tell(inbound(2, &raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_VOTE, Term: st.Term + 1, Index: uint64(st.Last), LogTerm: st.Term, Context: []byte("CampaignTransfer")}))
	r.run()
	r.tell(inbound(2, &raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_APPEND, Term: st.Term + 1, Index: uint64(st.Last), LogTerm: st.Term, Commit: uint64(st.Last),
		Entries: []*raftv1.LogEntry{{Term: st.Term + 1, Index: uint64(st.Last) + 1}}}))
	r.run()
}

func TestATransferWaitsForTheLogToDrainAndLeavesNoUnknownOutcome(t *testing.T) {
	r := newRig(t, nil)
	r.elect()
	ms, early := proposals(t, "a")
	r.tell(ms...)
	app := only(t, r.run(), raftv1.MessageType_MESSAGE_TYPE_APPEND, 2)
	end := r.transfer(Transfer{To: 2})
	ms, late := proposals(t, "b", "c")
	r.tell(ms...)
	for _, s := range r.run() {
		if s.env.Type == raftv1.MessageType_MESSAGE_TYPE_TIMEOUT_NOW {
			t.Fatal("leadership goes while an append has no end")
		}
	}
	if r.status().Transfer != 2 {
		t.Fatalf("the board shows %+v", r.status())
	}
	r.tell(ack(app))
	only(t, r.run(), raftv1.MessageType_MESSAGE_TYPE_TIMEOUT_NOW, 2)
	if !early[0].ended || early[0].Err != nil {
		t.Fatalf("the append before it: %+v", early[0])
	}
	if late[0].ended || end.ended {
		t.Fatal("ended before anybody has taken over")
	}
	r.takeOver()
	if !end.ended || end.err != nil || end.to != 2 || r.status().Transfer != 0 {
		t.Fatalf("the transfer: %+v", end)
	}
	for _, res := range late {
		var not *NotLeaderError
		if !res.ended || !errors.As(res.Err, &not) || not.Leader != 2 {
			t.Fatalf("an append that waited: %+v", res)
		}
	}
}

func TestATransferThatNobodyTakesEndsAfterAnElectionTimeoutAndTheLeaderGoesOn(t *testing.T) {
	r := newRig(t, nil)
	r.elect()
	end := r.transfer(Transfer{To: 2})
	ms, held := proposals(t, "a")
	r.tell(ms...)
	r.live(electionTicksDefault - 1)
	if end.ended || held[0].ended {
		t.Fatal("it ended early")
	}
	r.live(2)
	if !end.ended || !errors.Is(end.err, ErrTransferTimeout) {
		t.Fatalf("%+v", end)
	}
	if r.live(2); !held[0].ended || held[0].Err != nil {
		t.Fatalf("the append that waited: %+v", held[0])
	}
}

func TestATransferThatCannotBeIsRefusedAtOnce(t *testing.T) {
	r := newRig(t, nil)
	r.disp.run()
	early := r.transfer(Transfer{To: 2})
	r.run()
	var not *NotLeaderError
	if !errors.As(early.err, &not) {
		t.Fatalf("from a replica that does not lead: %v", early.err)
	}
	r = newRig(t, nil)
	r.elect()
	term := r.status().Term
	silent, unknown, old := r.transfer(Transfer{To: 3}), r.transfer(Transfer{To: 9}), r.transfer(Transfer{To: 2, Term: term - 1})
	r.run()
	if !errors.Is(silent.err, ErrNoSuccessor) || !errors.Is(unknown.err, ErrNoSuccessor) || !errors.As(old.err, &not) {
		t.Fatalf("to a silent one: %v; to a stranger: %v; in an old term: %v", silent.err, unknown.err, old.err)
	}
	first, same, other, best := r.transfer(Transfer{To: 2}), r.transfer(Transfer{Replica: 2, Term: term}), r.transfer(Transfer{To: 3}), r.transfer(Transfer{})
	r.run()
	if !errors.Is(other.err, ErrTransferUnderWay) || first.ended || same.ended || best.ended {
		t.Fatalf("while one is under way: %v, %+v, %+v", other.err, first, same)
	}
	r.system.Root.Stop(r.replica)
	late := r.transfer(Transfer{To: 2})
	r.run()
	for _, end := range []*transferred{first, same, best, late} {
		if !errors.Is(end.err, ErrStopped) {
			t.Fatalf("of a replica that stops: %v", end.err)
		}
	}
}

func members(ids ...raftcore.ReplicaID) map[raftcore.ReplicaID]raftcore.NodeID {
	all := map[raftcore.ReplicaID]raftcore.NodeID{}
	for _, id := range ids {
		all[id] = raftcore.NodeID(id)
	}
	return all
}

func TestALeaderSteersItsGroupOneChangeAtATime(t *testing.T) {
	r := newRig(t, nil)
	r.elect()
	r.tell(&SetTarget{raftcore.Target{ID: 1, Voters: members(1, 2, 4)}})
	if out := r.run(); len(out) != 0 {
		t.Fatalf("it acts without time having passed: %v", out)
	}
	r.live(3)
	st := r.status()
	if !slices.Equal(st.LearnerIDs, []raftcore.ReplicaID{4}) || st.Joint || st.FollowedTarget != 1 || st.Waits != raftcore.WaitLearner || st.WaitsFor != 4 {
		t.Fatalf("the new one is no learner: %+v", st)
	}
	if r.live(20); r.counters.Changes.Load() != 1 {
		t.Fatalf("%d changes while the learner is silent", r.counters.Changes.Load())
	}
	if i := slices.IndexFunc(r.status().Progress, func(p raftcore.Progress) bool { return p.Replica == 4 }); i < 0 || r.status().Progress[i].Node != 4 {
		t.Fatalf("the board shows %+v", r.status().Progress)
	}
	r.tell(inbound(4, &raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_APPEND_RESPONSE, Term: st.Term, Index: uint64(st.Last)}))
	r.live(1)
	st = r.status()
	if !st.Joint || !slices.Equal(st.VoterIDs, []raftcore.ReplicaID{1, 2, 4}) || !slices.Equal(st.OutgoingIDs, []raftcore.ReplicaID{1, 2, 3}) {
		t.Fatalf("not joint: %+v", st)
	}
	if r.live(3); r.status().Joint || r.counters.Changes.Load() != 3 || r.status().Role != raftcore.Leader {
		t.Fatalf("%d changes: %+v", r.counters.Changes.Load(), r.status())
	}
	if r.live(20); r.counters.Changes.Load() != 3 {
		t.Fatalf("%d changes: it goes on at its target", r.counters.Changes.Load())
	}
}

// obey makes replica 2 the leader, which commits a membership change.
func (r *rig) obey(changes ...*raftpb.ConfChangeSingle) {
	r.t.Helper()
	data, err := proto.Marshal(&raftpb.ConfChangeV2{Transition: raftpb.ConfChangeTransitionJointExplicit.Enum(), Changes: changes})
	if err != nil {
		r.t.Fatal(err)
	}
	r.disp.run()
	conf := raftv1.EntryType_ENTRY_TYPE_CONF_CHANGE_V2
	r.tell(inbound(2, &raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_APPEND, Term: 9, Index: 1, LogTerm: 1, Commit: 3,
		Entries: []*raftv1.LogEntry{{Term: 9, Index: 2, Type: conf, Data: data}, {Term: 9, Index: 3, Type: conf}}}))
	r.run()
	if st := r.status(); st.Applied != 3 || st.Joint {
		r.t.Fatalf("not applied: %+v", st)
	}
}

// quiet fails when the replica asks for votes, whatever happens.
func (r *rig) quiet() {
	r.t.Helper()
	r.tell(&NodeGone{2})
	out := append(r.run(), r.live(100)...)
	r.tell(inbound(2, &raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_HEARTBEAT, Term: 9, Commit: 3}))
	out = append(out, r.run()...)
	r.tell(inbound(2, &raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_TIMEOUT_NOW, Term: 9}))
	out = append(out, r.run()...)
	out = append(out, r.live(100)...)
	for _, s := range out {
		if s.env.Type == raftv1.MessageType_MESSAGE_TYPE_PRE_VOTE || s.env.Type == raftv1.MessageType_MESSAGE_TYPE_VOTE {
			r.t.Fatalf("it asks for votes: %v", s.env)
		}
	}
	if st := r.status(); st.Role != raftcore.Follower || st.Term != 9 {
		r.t.Fatalf("%+v", st)
	}
}

func TestALearnerNeverCampaigns(t *testing.T) {
	r := newRig(t, nil)
	r.obey(&raftpb.ConfChangeSingle{Type: raftpb.ConfChangeAddLearnerNode.Enum(), NodeId: new(uint64(1))})
	if st := r.status(); !slices.Equal(st.LearnerIDs, []raftcore.ReplicaID{1}) {
		t.Fatalf("%+v", st)
	}
	r.quiet()
}

func TestAReplicaRemovedFromItsGroupKeepsQuietAndItsData(t *testing.T) {
	r := newRig(t, nil)
	r.obey(&raftpb.ConfChangeSingle{Type: raftpb.ConfChangeRemoveNode.Enum(), NodeId: new(uint64(1))})
	if st := r.status(); slices.Contains(st.VoterIDs, 1) || st.standing() != "no member" {
		t.Fatalf("%+v", st)
	}
	r.quiet()
	if st := r.status(); st.Failure != "" || st.Applied != 3 {
		t.Fatalf("it is not kept: %+v", st)
	}
}

func TestAnAnswerReachesALeaderThatOnlyMetadataKnow(t *testing.T) {
	r := newRigWith(t, nil, func(c *ReplicaConfig) {
		c.Vouch = func(id raftcore.ReplicaID, n raftcore.NodeID) bool { return id == 8 && n == 5 }
	})
	r.disp.run()
	app := &raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_APPEND, Term: 9, Index: 1, LogTerm: 1, Commit: 1, Entries: []*raftv1.LogEntry{{Term: 9, Index: 2}}}
	in := inbound(8, app)
	in.From = 5
	r.tell(in)
	if resp := only(t, r.run(), raftv1.MessageType_MESSAGE_TYPE_APPEND_RESPONSE, 5); resp.ToReplica != 8 || resp.Reject {
		t.Fatalf("%v", resp)
	}
	if st := r.status(); st.Leader != 5 {
		t.Fatalf("%+v", st)
	}
}

// Raft forgets at every CheckQuorum who was heard of; the board must not show that as silence.
func TestALeaderShowsNobodyAsSilentWhileAllAnswerItsHeartbeats(t *testing.T) {
	g := newGroup(t, Keep{})
	g.propose("a")
	g.until("all have it", func() bool { return !g.nodes[1].status().UnderReplicated() })
	for tick := range 40 {
		g.tick(1)
		if st := g.nodes[1].status(); st.UnderReplicated() {
			t.Fatalf("after %d ticks: %+v", tick+1, st.Progress)
		}
	}
	g.cut[3] = true
	g.tick(2 * electionTicksDefault)
	if !g.nodes[1].status().UnderReplicated() {
		t.Error("a member that is cut off is not shown as silent")
	}
}
