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
}

func (t Tracing) start(name string, parent trace.Context) *trace.Span {
	if t.Tracer == nil {
		return nil
	}
	return t.Tracer.Start(name, parent)
}

// tracedWrite is what is sampled in a Write: the spans that end when it is durable, and what its acknowledgement to
// the leader stands below.
type tracedWrite struct {
	spans   []*trace.Span
	answers []trace.Context
}

// beginFsync begins the one span of a commit, below the first sampled write in it.
func (l *LogWriter) beginFsync(fsync *trace.Span, w *tracedWrite) *trace.Span {
	if fsync == nil {
		fsync = l.cfg.Tracing.start(trace.SpanFsync, w.spans[0].At())
	}
	return fsync
}

// endFsync ends the span, and ties it and every sampled write in it together: the writes of other traces, below which
// it does not stand, find it by the link.
func endFsync(fsync *trace.Span, ws []*Write, appends uint64) {
	for _, w := range ws {
		if w.traced == nil {
			continue
		}
		for _, s := range w.traced.spans {
			fsync.Link(s.At())
			s.Link(fsync.At())
			defer s.End() // after the fsync, which stands below
		}
	}
	fsync.Set(trace.Number(trace.AttrSharedWrites, len(ws)), trace.Number(trace.AttrSharedAppends, appends))
	fsync.End()
}

// answers begins the spans of an acknowledgement.
func (l *LogWriter) answers(w *tracedWrite) []trace.Carried {
	beside := make([]trace.Carried, len(w.answers))
	for i, at := range w.answers {
		beside[i].Sending = l.cfg.Tracing.start(trace.SpanAnswer, at)
	}
	return beside
}
