package actors

import (
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/proto/trace"
	"github.com/multiraftd/multiraftd/raftcore"
)

// Tracer begins spans. It observes and never decides: what it returns changes nothing but what is told of it.
type Tracer interface {
	// Start begins a span below parent. Without a parent a trace begins, if the tracer samples it. nil = not sampled.
	Start(name string, parent trace.Context) *trace.Span
}

// Carrier is a Sender that takes the contexts of sampled writes along beside a message.
type Carrier interface {
	Carry(to raftcore.NodeID, env *raftv1.Envelope, beside []trace.Carried)
}

// Tracing is what the actors trace with: both, or neither. Where nothing is sampled it costs one comparison per
// message, entry or write.
type Tracing struct {
	Tracer  Tracer
	Carrier Carrier
	// Seed tells this cluster's traces of moves from another's: their ids follow from it.
	Seed string
}

func (t Tracing) start(name string, parent trace.Context) *trace.Span {
	if t.Tracer == nil {
		return nil
	}
	return t.Tracer.Start(name, parent)
}

// tracedWrite is what is sampled in a Write: the spans that end when it is durable, and what its acknowledgement to
// the leader stands below, ascending by index.
type tracedWrite struct {
	spans   []*trace.Span
	answers []arrivedTrace
}

// beginFsync begins the one span of a commit, beside the first sampled write in it. Not below: Jaeger takes a span
// that links to its own parent for one without.
func (l *LogWriter) beginFsync(fsync *trace.Span, w *tracedWrite) *trace.Span {
	if fsync == nil {
		fsync = l.cfg.Tracing.start(trace.SpanFsync, w.spans[0].Above())
	}
	return fsync
}

// endFsync ends the span, and ties it and every sampled write in it together: those of other traces find it by the
// link.
func endFsync(fsync *trace.Span, ws []*Write, appends uint64) {
	for _, w := range ws {
		if w.traced == nil {
			continue
		}
		for _, s := range w.traced.spans {
			fsync.Link(s.At())
			s.Link(fsync.At())
		}
	}
	fsync.Set(trace.Number(trace.AttrSharedWrites, len(ws)), trace.Number(trace.AttrSharedAppends, appends))
	fsync.End()
	for _, w := range ws {
		if w.traced != nil {
			endAll(w.traced.spans)
		}
	}
}

// answers begins the spans of an answer to a leader or candidate: of what it is the first to acknowledge.
func (l *LogWriter) answers(w *tracedWrite, env *raftv1.Envelope) (beside []trace.Carried) {
	upTo := uint64(0) // a vote's
	switch env.GetType() {
	case raftv1.MessageType_MESSAGE_TYPE_APPEND_RESPONSE:
		if upTo = env.GetIndex(); env.GetReject() {
			return nil
		}
	case raftv1.MessageType_MESSAGE_TYPE_VOTE_RESPONSE, raftv1.MessageType_MESSAGE_TYPE_PRE_VOTE_RESPONSE:
	default:
		return nil
	}
	for len(w.answers) > 0 && uint64(w.answers[0].index) <= upTo {
		beside = append(beside, trace.Carried{Sending: l.cfg.Tracing.start(trace.SpanAnswer, w.answers[0].at)})
		w.answers = w.answers[1:]
	}
	return beside
}
