package actors

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/multiraftd/multiraftd/proto/trace"
	"github.com/multiraftd/multiraftd/raftcore"
)

// Limits of what one replica traces at once. What is above goes on without, the oldest first.
const (
	tracedEntriesMax = 256 // proposed and not acknowledged by all members
	tracedWritesMax  = 64  // sampled writes of one entry, and of what one turn receives
	tracedTimeouts   = 2   // election timeouts after which a committed entry is not waited for any more
)

var (
	errNotAcknowledged = errors.New("not acknowledged in time")
	errTooManyTraced   = errors.New("given up: too many sampled writes at once")
)

// traces are the sampled writes that go through a replica:
//
//	leader:   takeTraced -> proposed -> placeTraces (now the index is known) -> carried, tracedWrite -> noteAck -> traceApply
//	follower: arrive -> tracedWrite -> endTurn
//
// All of it is empty, and no method is called, while nothing is sampled.
type traces struct {
	pending []pendingTrace // proposed in this turn
	entries []*tracedEntry // ascending by index; nil = none
	arrived []arrivedTrace // in this turn, from the leader
	handing []*trace.Span  // proposals whose entry this flush hands out

	won      string      // id of the trace of the election that this replica has won last
	election *election   // nil = none, or not sampled; likewise all that follows
	change   *trace.Span // of a membership change that is proposed
	move     *move
	transfer *trace.Span
	install  *trace.Span // of a snapshot that is being put in force
}

type pendingTrace struct {
	seq       uint64
	proposing *trace.Span
}

type arrivedTrace struct {
	index raftcore.Index
	at    trace.Context // what the leader traces, below which all stands that happens here
}

// tracedEntry is an entry of this leader with sampled writes in it.
type tracedEntry struct {
	at     raftcore.Position
	writes []tracedAppend
	// acked are the replicas that have it durably, in the order in which this leader heard of it.
	acked     []raftcore.ReplicaID
	committed bool
	age       int // ticks since it was committed
}

// tracedAppend is one of those writes. Everything below it stands in its own trace.
type tracedAppend struct {
	of      trace.Context
	commit  *trace.Span
	members []replicating
}

type replicating struct {
	to   raftcore.ReplicaID
	span *trace.Span
}

// takeTraced ends a proposal's time in the mailbox.
func (r *Replica) takeTraced(m *Propose) {
	m.Wait.End()
	m.proposing = r.cfg.Tracing.start(trace.SpanPropose, m.Wait.Above())
}

// refuse ends a proposal that has not entered the log.
func (m *Propose) refuse(err error) {
	if m.proposing != nil {
		m.proposing.Fail(err)
		m.proposing.End()
	}
	m.Reply.Proposed(ProposeResult{Err: err})
}

func (t *traces) proposed(seq uint64, proposing *trace.Span) {
	t.pending = append(t.pending, pendingTrace{seq, proposing})
}

// placeTraces finds the entries that the pending proposals were merged into: only a Ready tells their index.
func (r *Replica) placeTraces(m *raftpb.Message) {
	t := &r.traces
	for _, e := range m.GetEntries() {
		if e.GetType() != raftpb.EntryNormal && t.change != nil {
			r.followOne(e, t.change.At())
		}
		if len(t.pending) == 0 || e.GetType() != raftpb.EntryNormal || len(e.GetData()) == 0 {
			continue
		}
		entry, err := raftcore.DecodeEntry(e.GetData())
		if err != nil || entry.Origin != r.origin {
			continue
		}
		placed := &tracedEntry{at: raftcore.Position{Index: raftcore.Index(e.GetIndex()), Term: e.GetTerm()}}
		t.pending = slices.DeleteFunc(t.pending, func(p pendingTrace) bool {
			if p.seq < entry.FirstSeq || p.seq-entry.FirstSeq >= uint64(len(entry.Payloads)) {
				return false
			}
			p.proposing.Set(r.groupAttrs(placed.at)...).Set(trace.Number(trace.AttrMerged, len(entry.Payloads)))
			t.handing = append(t.handing, p.proposing)
			r.follow(placed, p.proposing.Above())
			return true
		})
		t.add(placed)
	}
	for _, p := range t.pending { // the log did not take them
		p.proposing.Fail(ErrOutcomeUnknown)
		p.proposing.End()
	}
	t.pending = nil
}

// followOne traces an entry that is one operation's.
func (r *Replica) followOne(e *raftpb.Entry, of trace.Context) {
	placed := &tracedEntry{at: raftcore.Position{Index: raftcore.Index(e.GetIndex()), Term: e.GetTerm()}}
	if r.traces.entry(placed.at.Index) == nil {
		r.follow(placed, of)
		r.traces.add(placed)
	}
}

// follow traces one write of an entry from here on.
func (r *Replica) follow(e *tracedEntry, of trace.Context) {
	if len(e.writes) < tracedWritesMax {
		commit := r.cfg.Tracing.start(trace.SpanCommit, of)
		e.writes = append(e.writes, tracedAppend{of: of, commit: commit.Set(r.groupAttrs(e.at)...)})
	}
}

func (t *traces) add(e *tracedEntry) {
	if len(e.writes) == 0 {
		return
	}
	if len(t.entries) >= tracedEntriesMax {
		t.entries[0].end(errTooManyTraced)
		t.entries = slices.Delete(t.entries, 0, 1)
	}
	t.entries = append(t.entries, e)
}

func (r *Replica) groupAttrs(at raftcore.Position) []trace.Attr {
	return []trace.Attr{
		trace.Number(trace.AttrGroup, uint64(r.cfg.Group)), trace.Number(trace.AttrTerm, at.Term), trace.Number(trace.AttrIndex, uint64(at.Index)),
	}
}

// handedOut ends the proposing of what the flush has given to the peers and to the disk.
func (t *traces) handedOut() {
	if t.handing == nil {
		return
	}
	for _, s := range t.handing {
		s.End()
	}
	t.handing = nil
}

func (t *traces) entry(i raftcore.Index) *tracedEntry {
	for _, e := range t.entries {
		if e.at.Index == i {
			return e
		}
	}
	return nil
}

// carried returns what goes beside an append: for each sampled write in it the span under which the member's stand.
// An entry that is sent again stays in the span that it had.
func (r *Replica) carried(m *raftpb.Message) []trace.Carried {
	var beside []trace.Carried
	to := raftcore.ReplicaID(m.GetTo())
	for _, sent := range m.GetEntries() {
		e := r.traces.entry(raftcore.Index(sent.GetIndex()))
		if e == nil || e.at.Term != sent.GetTerm() {
			continue
		}
		for i := range e.writes {
			w := &e.writes[i]
			s := w.member(to)
			if s == nil {
				s = r.cfg.Tracing.start(trace.SpanReplicate, w.of).Set(trace.Number(trace.AttrTo, uint64(r.nodeOf(to)))).Set(r.groupAttrs(e.at)...)
				w.members = append(w.members, replicating{to, s})
			}
			beside = append(beside, trace.Carried{Index: sent.GetIndex(), Context: s.At(), Sending: r.cfg.Tracing.start(trace.SpanSend, s.At())})
		}
	}
	return beside
}

func (w *tracedAppend) member(to raftcore.ReplicaID) *trace.Span {
	for _, m := range w.members {
		if m.to == to {
			return m.span
		}
	}
	return nil
}

// arrive ends the time in the mailbox of what the leader traces.
func (t *traces) arrive(all []Arrived) {
	for _, a := range all {
		a.Wait.End()
		if len(t.arrived) < tracedWritesMax {
			t.arrived = append(t.arrived, arrivedTrace{a.Index, a.Wait.Above()})
		}
	}
}

// arriveUnary does so for the request of a canonical RPC: its entries, or with index 0 its vote.
func (t *traces) arriveUnary(u *Unary) {
	if u.Append == nil {
		t.arrived = append(t.arrived, arrivedTrace{at: u.Trace})
		return
	}
	for i := range u.Append.GetEntries() {
		if len(t.arrived) < tracedWritesMax {
			t.arrived = append(t.arrived, arrivedTrace{raftcore.Index(u.Append.GetPrevLogIndex()) + 1 + raftcore.Index(i), u.Trace})
		}
	}
}

func (t *traces) endTurn() {
	if t.arrived != nil {
		t.arrived = nil
	}
}

// tracedWrite begins the writes of what is sampled in an append to the log; nil = nothing is.
func (r *Replica) tracedWrite(m *raftpb.Message) *tracedWrite {
	var w tracedWrite
	write := func(at trace.Context, e *raftpb.Entry) {
		pos := raftcore.Position{Index: raftcore.Index(e.GetIndex()), Term: e.GetTerm()}
		if s := r.cfg.Tracing.start(trace.SpanWrite, at); s != nil {
			w.spans = append(w.spans, s.Set(r.groupAttrs(pos)...))
		}
	}
	for _, e := range m.GetEntries() {
		if own := r.traces.entry(raftcore.Index(e.GetIndex())); own != nil && own.at.Term == e.GetTerm() {
			for i := range own.writes {
				write(own.writes[i].of, e)
			}
		}
		for _, a := range r.traces.arrived {
			if a.index == raftcore.Index(e.GetIndex()) {
				write(a.at, e)
				w.answers = append(w.answers, a)
			}
		}
	}
	r.tracedVote(m, &w)
	if len(w.spans) == 0 {
		return nil
	}
	return &w
}

// noteAck takes note of who has which entries, in the order in which the leader hears of it.
func (r *Replica) noteAck(m *raftpb.Message) {
	if m.GetType() != raftpb.MsgAppResp || m.GetReject() || m.GetTerm() != r.leading {
		return
	}
	from := raftcore.ReplicaID(m.GetFrom())
	for _, e := range r.traces.entries {
		if uint64(e.at.Index) > m.GetIndex() || slices.Contains(e.acked, from) {
			continue
		}
		e.acked = append(e.acked, from)
		for i := range e.writes {
			e.writes[i].member(from).End()
		}
	}
	r.traces.prune(r.settled)
}

// settled says that nothing more is to come of an entry: it is committed, and all members have it.
func (r *Replica) settled(e *tracedEntry) bool {
	for id := range r.state.Members { // all or not all: the order does not matter
		if !slices.Contains(e.acked, id) {
			return false
		}
	}
	return e.committed
}

// traceApply ends the wait for the quorum, and begins the applying of an entry's sampled writes.
func (r *Replica) traceApply(at raftcore.Position) (applying []*trace.Span) {
	e := r.traces.entry(at.Index)
	if e == nil || e.committed {
		return nil
	}
	if e.at.Term != at.Term { // another leader's came to stand there
		r.traces.prune(func(other *tracedEntry) bool { return other == e })
		return nil
	}
	e.committed = true
	quorum := trace.Text(trace.AttrQuorum, r.quorum(e.acked))
	for i := range e.writes {
		w := &e.writes[i]
		w.commit.Set(quorum).End()
		applying = append(applying, r.cfg.Tracing.start(trace.SpanApply, w.of))
	}
	r.traces.prune(r.settled)
	return applying
}

// quorum names the nodes of the first voters that had an entry, as many as make a majority. In a joint membership
// they are of the one to be.
func (r *Replica) quorum(acked []raftcore.ReplicaID) string {
	voters := r.state.ConfState.GetVoters()
	var nodes []string
	for _, id := range acked {
		if slices.Contains(voters, uint64(id)) && len(nodes) < len(voters)/2+1 {
			nodes = append(nodes, strconv.FormatUint(uint64(r.nodeOf(id)), 10))
		}
	}
	return strings.Join(nodes, ",")
}

// ageTraces gives up waiting for members that do not acknowledge what is long committed.
func (r *Replica) ageTraces(ticks int) {
	if r.traces.entries == nil {
		return
	}
	for _, e := range r.traces.entries {
		if e.committed {
			e.age += ticks
		}
	}
	r.traces.prune(func(e *tracedEntry) bool { return e.age >= tracedTimeouts*r.cfg.ElectionTicks })
}

// lost ends all that is traced: the leader's term is over.
func (t *traces) lost(why error) {
	for _, p := range t.pending {
		p.proposing.Fail(why)
		p.proposing.End()
	}
	t.handedOut()
	for _, e := range t.entries {
		e.end(why)
	}
	t.pending, t.entries = nil, nil
	t.change.Fail(why)
	t.change.End()
	t.change = nil
	t.endMove(errLeaderGone)
}

// prune ends the entries that match.
func (t *traces) prune(match func(*tracedEntry) bool) {
	t.entries = slices.DeleteFunc(t.entries, func(e *tracedEntry) bool {
		if !match(e) {
			return false
		}
		e.end(errNotAcknowledged)
		return true
	})
	if len(t.entries) == 0 {
		t.entries = nil
	}
}

// end ends what has not ended.
func (e *tracedEntry) end(why error) {
	for i := range e.writes {
		w := &e.writes[i]
		if !e.committed {
			w.commit.Fail(why)
			w.commit.End()
		}
		for _, m := range w.members {
			if !slices.Contains(e.acked, m.to) {
				m.span.Fail(why)
			}
			m.span.End()
		}
	}
}
