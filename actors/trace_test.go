package actors

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/proto/trace"
	"github.com/multiraftd/multiraftd/raftcore"
)

// recorder traces everything, and remembers what went beside messages.
type recorder struct {
	spans   []*trace.Span
	ended   []*trace.Span
	carried map[raftcore.NodeID][]trace.Carried
	rig     *rig
}

func (r *recorder) Start(name string, parent trace.Context) *trace.Span {
	id := trace.Context{TraceID: parent.TraceID, SpanID: [8]byte{byte(len(r.spans) + 1)}}
	if !parent.Valid() {
		id.TraceID = [16]byte{byte(len(r.spans) + 1)}
	}
	s := trace.New(name, id, parent.SpanID, time.Time{}, r)
	r.spans = append(r.spans, s)
	return s
}

func (r *recorder) Ended(s *trace.Span) { r.ended = append(r.ended, s) }

func (r *recorder) Carry(to raftcore.NodeID, env *raftv1.Envelope, beside []trace.Carried) {
	for _, c := range beside {
		c.Sending.End()
	}
	r.carried[to] = append(r.carried[to], beside...)
	r.rig.Send(to, env)
}

func newTracedRig(t *testing.T) (*rig, *recorder) {
	rec := &recorder{carried: map[raftcore.NodeID][]trace.Carried{}}
	r := newRigWith(t, nil, func(c *ReplicaConfig) { c.Tracing = Tracing{Tracer: rec, Carrier: rec, Seed: "rig"} })
	rec.rig = r
	return r, rec
}

// named returns the spans of a name that have ended, as failures: empty for those that went well.
func (r *recorder) named(name string) (failures []string) {
	for _, s := range r.ended {
		if s.Name == name {
			failures = append(failures, s.Failure)
		}
	}
	return failures
}

func (r *recorder) open() (names []string) {
	for _, s := range r.spans {
		if !slices.Contains(r.ended, s) {
			names = append(names, s.Name)
		}
	}
	return names
}

// sampled makes a proposal of a sampled append.
func (r *recorder) sampled(t *testing.T, payload string) (*Propose, *result) {
	ms, rs := proposals(t, payload)
	p := ms[0].(*Propose)
	p.Wait = r.Start(trace.SpanMailbox, r.Start(trace.SpanAppend, trace.Context{}).At())
	return p, rs[0]
}

func TestWhatALeaderTracedOfALostTermEndsAsFailed(t *testing.T) {
	r, rec := newTracedRig(t)
	r.elect()
	p, res := rec.sampled(t, "a")
	r.tell(p)
	app := only(t, r.run(), raftv1.MessageType_MESSAGE_TYPE_APPEND, 2)
	if len(rec.carried[2]) < 2 || rec.carried[2][len(rec.carried[2])-1].Index != app.Entries[0].Index {
		t.Fatalf("beside the append to node 2 went %v", rec.carried[2])
	}
	r.tell(inbound(2, &raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_HEARTBEAT, Term: app.Term + 1}))
	r.run()
	if !res.ended || res.Err != ErrOutcomeUnknown {
		t.Fatalf("%+v", res.ProposeResult)
	}
	for _, name := range []string{trace.SpanReplicate, trace.SpanCommit} {
		if f := rec.named(name); !slices.Contains(f, ErrOutcomeUnknown.Error()) {
			t.Errorf("%s has ended as %q", name, f)
		}
	}
	for _, name := range rec.open() {
		if name != trace.SpanAppend { // the service's
			t.Errorf("%s has not ended", name)
		}
	}
}

func TestAMemberThatDoesNotAcknowledgeIsGivenUpInItsTraceSoonAfterTheCommit(t *testing.T) {
	r, rec := newTracedRig(t)
	r.elect()
	p, _ := rec.sampled(t, "a")
	r.tell(p)
	r.tell(ack(only(t, r.run(), raftv1.MessageType_MESSAGE_TYPE_APPEND, 2)))
	r.run()
	if f := rec.named(trace.SpanCommit); !slices.Equal(f, []string{"", ""}) { // its first entry's as well
		t.Fatalf("commits ended as %q", f)
	}
	for range tracedTimeouts*electionTicksDefault + 1 {
		r.ticks.add()
		r.tell(tick{}, inbound(2, &raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_HEARTBEAT_RESPONSE, Term: r.status().Term}))
		r.run()
	}
	if f := rec.named(trace.SpanReplicate); !slices.Contains(f, errNotAcknowledged.Error()) || !slices.Contains(f, "") {
		t.Errorf("replications ended as %q", f)
	}
	if r.self.traces.entries != nil {
		t.Error("something is still traced")
	}
}

func TestWhatIsTracedAtOnceHasABound(t *testing.T) {
	r, rec := newTracedRig(t)
	r.elect()
	for range tracedEntriesMax + 10 { // nobody acknowledges
		p, _ := rec.sampled(t, "a")
		r.tell(p)
		r.run()
	}
	if n := len(r.self.traces.entries); n > tracedEntriesMax {
		t.Errorf("%d entries are traced", n)
	}
	var arrived []Arrived
	for i := range 3 * tracedWritesMax {
		arrived = append(arrived, Arrived{Index: raftcore.Index(i), Wait: rec.Start(trace.SpanMailbox, trace.Context{})})
	}
	r.self.traces.arrive(arrived)
	if n := len(r.self.traces.arrived); n != tracedWritesMax {
		t.Errorf("%d arrivals of one turn are traced", n)
	}
}

func TestAProposalThatIsRefusedEndsInItsTrace(t *testing.T) {
	r, rec := newTracedRig(t)
	p, res := rec.sampled(t, "a")
	r.tell(p)
	r.run()
	if !res.ended || res.Err == nil {
		t.Fatalf("taken without a leader: %+v", res.ProposeResult)
	}
	if f := rec.named(trace.SpanPropose); len(f) != 1 || f[0] == "" {
		t.Errorf("ended as %q", f)
	}
}

func TestAMoveIsOneTraceWithItsMembershipChangesWhoeverLeads(t *testing.T) {
	r, rec := newTracedRig(t)
	r.elect()
	members := map[raftcore.ReplicaID]raftcore.NodeID{1: 1, 2: 2, 3: 3, 4: 4}
	r.tell(&SetTarget{raftcore.Target{ID: 9, Voters: members}})
	r.ticks.add()
	r.tell(tick{})
	r.tell(ack(only(t, r.run(), raftv1.MessageType_MESSAGE_TYPE_APPEND, 2)))
	r.run()
	at := trace.Derive("rig", uint64(rigGroup), 9)
	i := slices.IndexFunc(rec.ended, func(s *trace.Span) bool { return s.Name == trace.SpanMembership })
	if i < 0 || rec.ended[i].Above() != at || rec.ended[i].Failure != "" {
		t.Fatalf("no membership change below the move: %v", rec.ended)
	}
	if m := r.self.traces.move; m == nil || m.span.At() != at || m.span.Parent != [8]byte{} {
		t.Errorf("the move is %+v, want the root %v", m, at)
	}
	commit := slices.IndexFunc(rec.ended, func(s *trace.Span) bool {
		return s.Name == trace.SpanCommit && s.Above() == rec.ended[i].At()
	})
	if commit < 0 {
		t.Error("the change's entry is not traced")
	}
}

func TestAtDebugLevelEveryRPCIsALineWithTheTraceOfWhatItHolds(t *testing.T) {
	var out bytes.Buffer
	rec := &recorder{carried: map[raftcore.NodeID][]trace.Carried{}}
	r := newRigWith(t, nil, func(c *ReplicaConfig) {
		c.Tracing = Tracing{Tracer: rec, Carrier: rec}
		c.Logger = slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	rec.rig = r
	r.elect()
	term := r.status().Term
	in := inbound(2, &raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_APPEND, Term: term + 1, Index: uint64(r.status().Last), LogTerm: term,
		Entries: []*raftv1.LogEntry{{Term: term + 1, Index: uint64(r.status().Last) + 1}}})
	at := trace.Context{TraceID: [16]byte{0xab}, SpanID: [8]byte{1}}
	in.Arrived = []Arrived{{Index: r.status().Last + 1, Wait: rec.Start(trace.SpanMailbox, at)}}
	r.tell(in)
	r.run()
	for _, want := range []string{"msg=RequestVoteResponse", "pre_vote=true", "msg=AppendEntriesResponse", "success=true", "msg=AppendEntries ", "entries=1", "trace_id=" + at.ID()} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
	if !r.self.debug {
		t.Error("not at debug level")
	}
}

func TestAReplicaThatTracesNothingAllocatesNothingForIt(t *testing.T) {
	r := newRig(t, nil)
	r.run()
	app := &raftpb.Message{Type: raftpb.MsgApp.Enum()}
	if per := testing.AllocsPerRun(100, func() {
		if r.self.traces.active() && r.self.beside(app) != nil || r.self.traces.pending != nil || r.self.traces.arrived != nil {
			t.Error("something is traced")
		}
		r.self.ageTraces(1)
		r.self.traces.handedOut()
		r.self.traces.endTurn()
	}); per != 0 {
		t.Errorf("%v allocations", per)
	}
}
