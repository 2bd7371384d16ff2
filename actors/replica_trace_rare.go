package actors

import (
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/multiraftd/multiraftd/proto/trace"
	"github.com/multiraftd/multiraftd/raftcore"
)

// What is rare is traced too: elections, membership changes, moves, transfers of leadership and snapshots. Each is a
// trace of its own, but for what belongs to a move.

var (
	errNoAnswer   = errors.New("no answer")
	errLeaderGone = errors.New("leadership has gone elsewhere: whoever leads goes on")
)

// election is this replica's candidacy, from the first question for a pre-vote until it leads or follows.
type election struct {
	span  *trace.Span
	asked []asking
}

// asking is a vote that a member was asked for.
type asking struct {
	to      raftcore.ReplicaID
	preVote bool
	span    *trace.Span
}

// active says whether messages must be looked at.
func (t *traces) active() bool {
	return t.entries != nil || t.election != nil || t.transfer != nil
}

// beside returns what goes to a peer beside a message; nil = nothing.
func (r *Replica) beside(m *raftpb.Message) []trace.Carried {
	switch m.GetType() {
	case raftpb.MsgApp:
		return r.carried(m)
	case raftpb.MsgPreVote:
		return r.asked(m)
	case raftpb.MsgTimeoutNow:
		if r.traces.transfer != nil {
			return []trace.Carried{{Context: r.traces.transfer.At()}}
		}
	}
	return nil
}

// noteAnswer takes note of what a peer says to what is traced.
func (r *Replica) noteAnswer(m *raftpb.Message) {
	if r.traces.entries != nil {
		r.noteAck(m)
	}
	e := r.traces.election
	kind := m.GetType()
	if e == nil || kind != raftpb.MsgVoteResp && kind != raftpb.MsgPreVoteResp {
		return
	}
	for _, a := range e.asked {
		if uint64(a.to) == m.GetFrom() && a.preVote == (kind == raftpb.MsgPreVoteResp) {
			result := "granted"
			if m.GetReject() {
				result = "refused"
			}
			a.span.Set(trace.Text(trace.AttrResult, result)).End()
		}
	}
	e.asked = slices.DeleteFunc(e.asked, func(a asking) bool {
		return uint64(a.to) == m.GetFrom() && a.preVote == (kind == raftpb.MsgPreVoteResp)
	})
}

// asked begins the asking of a member for its vote or pre-vote.
func (r *Replica) asked(m *raftpb.Message) []trace.Carried {
	e, kind := r.traces.election, m.GetType()
	if e == nil || kind != raftpb.MsgVote && kind != raftpb.MsgPreVote {
		return nil
	}
	preVote := kind == raftpb.MsgPreVote
	s := r.cfg.Tracing.start(trace.SpanVote, e.span.At()).Set(trace.Number(trace.AttrTo, uint64(r.nodeOf(raftcore.ReplicaID(m.GetTo())))),
		trace.Text(trace.AttrPreVote, fmt.Sprint(preVote)), trace.Number(trace.AttrTerm, m.GetTerm()))
	e.asked = append(e.asked, asking{raftcore.ReplicaID(m.GetTo()), preVote, s})
	return []trace.Carried{{Context: s.At()}}
}

// traceElection follows this replica's role: what begins with a candidacy ends when it leads or follows.
func (r *Replica) traceElection(eff *raftcore.Effects) {
	st, t := r.core.Status(), &r.traces
	switch {
	case st.Role == raftcore.PreCandidate || st.Role == raftcore.Candidate:
		if t.election != nil {
			return
		}
		t.won = ""
		var parent trace.Context
		if i := slices.IndexFunc(t.arrived, func(a arrivedTrace) bool { return a.index == 0 }); i >= 0 && st.Role == raftcore.Candidate {
			parent = t.arrived[i].at // the leader that hands over asked for it
		}
		if s := r.cfg.Tracing.start(trace.SpanElection, parent); s != nil {
			t.election = &election{span: s.Set(trace.Number(trace.AttrGroup, uint64(r.cfg.Group)))}
		}
	case t.election == nil:
	case st.Role == raftcore.Leader:
		for _, e := range eff.Append.GetEntries() {
			if e.GetTerm() == st.Term && len(e.GetData()) == 0 {
				r.followOne(e, t.election.span.At()) // with it committed the group has a leader that serves
			}
		}
		t.endElection("won", st.Term)
	default:
		t.endElection("lost", st.Term)
	}
}

func (t *traces) endElection(result string, term uint64) {
	e := t.election
	t.election = nil
	for _, a := range e.asked {
		if result != "won" {
			a.span.Fail(errNoAnswer)
		}
		a.span.Set(trace.Text(trace.AttrResult, "not waited for")).End()
	}
	t.won = ""
	if result == "won" {
		t.won = e.span.At().ID()
	}
	e.span.Set(trace.Text(trace.AttrResult, result), trace.Number(trace.AttrTerm, term)).End()
}

// tracedVote adds what makes a vote of this replica durable: its own as a candidate, or the answer to one.
func (r *Replica) tracedVote(m *raftpb.Message, w *tracedWrite) {
	for _, resp := range m.GetResponses() {
		switch resp.GetType() {
		case raftpb.MsgVote:
			if e := r.traces.election; e != nil && len(w.spans) == 0 {
				w.spans = append(w.spans, r.cfg.Tracing.start(trace.SpanWrite, e.span.At()).Set(trace.Number(trace.AttrTerm, m.GetTerm())))
			}
		case raftpb.MsgVoteResp, raftpb.MsgPreVoteResp:
			for _, a := range r.traces.arrived {
				if a.index == 0 && !slices.ContainsFunc(w.answers, func(other arrivedTrace) bool { return other == a }) {
					w.spans = append(w.spans, r.cfg.Tracing.start(trace.SpanWrite, a.at).Set(trace.Number(trace.AttrTerm, m.GetTerm())))
					w.answers = slices.Insert(w.answers, 0, a)
				}
			}
		}
	}
}

// move is a group's way to a target that metadata set. Its ids follow from the target, so that all who lead on the way
// work on one trace; whoever leads at the end has its root.
type move struct {
	target uint64
	span   *trace.Span
}

// moveAt is the root of a target's trace.
func (r *Replica) moveAt(target uint64) trace.Context {
	return trace.Derive(r.cfg.Tracing.Seed, uint64(r.cfg.Group), target)
}

// traceChange begins the trace of a membership change that has been proposed, below the move that it is part of.
func (r *Replica) traceChange(change *raftpb.ConfChangeV2) {
	if r.cfg.Tracing.Tracer == nil {
		return
	}
	t := &r.traces
	var parent trace.Context
	if r.target.ID != 0 && len(r.target.Voters) > 0 {
		parent = r.moveAt(r.target.ID)
		if t.move == nil || t.move.target != r.target.ID {
			t.endMove(errLeaderGone)
			s := r.cfg.Tracing.start(trace.SpanMove, parent)
			s.Context, s.Parent = parent, [8]byte{}
			t.move = &move{r.target.ID, s.Set(trace.Number(trace.AttrGroup, uint64(r.cfg.Group)), trace.Number(trace.AttrTarget, r.target.ID))}
		}
	}
	t.change.Fail(ErrOutcomeUnknown) // one before it that was refused without a word
	t.change.End()
	t.change = r.cfg.Tracing.start(trace.SpanMembership, parent).Set(trace.Number(trace.AttrGroup, uint64(r.cfg.Group)),
		trace.Number(trace.AttrTarget, r.target.ID), trace.Text(trace.AttrChange, raftpb.ConfChangesToString(change.GetChanges())))
}

// traceChanged ends it: the change is applied here.
func (r *Replica) traceChanged(cs *raftpb.ConfState) {
	if r.traces.change == nil {
		return
	}
	r.traces.change.Set(trace.Text(trace.AttrResult, fmt.Sprintf("voters %v learners %v outgoing %v", cs.GetVoters(), cs.GetLearners(), cs.GetVotersOutgoing()))).End()
	r.traces.change = nil
}

// traceSettled ends the move when the group is where it should be.
func (r *Replica) traceSettled() {
	m := r.traces.move
	if m.target == r.target.ID && r.core.FollowedTarget() >= m.target && r.target.Reached(r.state.ConfState) {
		m.span.End()
		r.traces.move = nil
	} else if m.target != r.target.ID {
		r.traces.endMove(errors.New("another target has taken its place"))
	}
}

// endMove gives up the root of a move; nil has none. Another leader ends it.
func (t *traces) endMove(why error) {
	if t.move == nil {
		return
	}
	if !errors.Is(why, errLeaderGone) {
		t.move.span.Fail(why)
		t.move.span.End()
	}
	t.move = nil
}

// traceTransfer begins the trace of a transfer of leadership.
func (r *Replica) traceTransfer(to raftcore.ReplicaID) {
	r.traces.transfer = r.cfg.Tracing.start(trace.SpanTransfer, r.traces.moving()).Set(
		trace.Number(trace.AttrGroup, uint64(r.cfg.Group)), trace.Number(trace.AttrTerm, r.leading), trace.Number(trace.AttrTo, uint64(r.nodeOf(to))))
}

func (t *traces) transferred(err error) {
	t.transfer.Fail(err)
	t.transfer.End()
	t.transfer = nil
}

// moving is the move that what this leader does is part of.
func (t *traces) moving() trace.Context {
	if t.move == nil {
		return trace.Context{}
	}
	return t.move.span.At()
}

// traceSending begins the trace of a snapshot that goes to a member.
func (r *Replica) traceSending(s *sending, m *raftpb.Message) {
	s.span = r.cfg.Tracing.start(trace.SpanSnapshot, r.traces.moving()).Set(trace.Number(trace.AttrTo, uint64(s.node)), trace.Number(trace.AttrSnapshot, s.source.id)).
		Set(r.groupAttrs(raftcore.Position{Index: raftcore.Index(m.GetSnapshot().GetMetadata().GetIndex()), Term: m.GetTerm()})...)
	s.source.traced = s.span.At()
}

// answered ends it with what the receiver said.
func (s *sending) answered(m *snapshotEnded) {
	if m.err != nil {
		s.end(m.err)
	} else if !m.resp.GetSuccess() {
		s.end(ErrSnapshotCancelled)
	}
	s.span.Set(trace.Number(trace.AttrChunks, s.source.chunks.Load())).End()
}

func (s *sending) end(why error) {
	s.span.Fail(why)
	s.span.End()
}

// traceIncoming begins the receiving of a snapshot whose sender traces it.
func (r *Replica) traceIncoming(in *incoming, u *Unary) {
	in.span = r.cfg.Tracing.start(trace.SpanSnapshotIn, u.Trace).Set(trace.Number(trace.AttrFrom, uint64(u.From)), trace.Number(trace.AttrSnapshot, in.key.id)).Set(r.groupAttrs(in.key.at)...)
}

// end ends the receiving; nil is none.
func (in *incoming) end(why error) {
	if in != nil {
		in.span.Fail(why)
		in.span.End()
	}
}

// traceInstall ends the receiving of what has arrived, and begins the putting in force.
func (r *Replica) traceInstall(in *incoming) {
	if in == nil || in.span == nil {
		return
	}
	r.traces.install = r.cfg.Tracing.start(trace.SpanInstall, in.span.Above()).Set(r.groupAttrs(in.key.at)...)
	in.span.End()
}

func endAll(spans []*trace.Span) {
	for _, s := range spans {
		s.End()
	}
}

// withTrace adds the trace that a line of the log is about, if there is one.
func withTrace(s *trace.Span, args ...any) []any {
	if s == nil {
		return args
	}
	return append(args, "trace_id", s.At().ID())
}

// asWinner is withTrace for a leader and the election that it has won.
func (t *traces) asWinner(args ...any) []any {
	if t.won == "" {
		return args
	}
	return append(args, "trace_id", t.won)
}
