package router

import (
	"github.com/multiraftd/multiraftd/actors"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/proto/trace"
	"github.com/multiraftd/multiraftd/raftcore"
)

// tracesPerFrameMax bounds what is traced of one frame, whatever its sender put in it.
const tracesPerFrameMax = 256

// receiving is a sampled write in a frame, from its arrival to the mailbox.
type receiving struct {
	group raftcore.GroupID
	index raftcore.Index
	span  *trace.Span
}

// receive begins the receiving of what a frame's sender traces. Contexts are only as true as the sender: what can't
// be read is ignored, and none makes anything but a span.
func receive(tracer actors.Tracer, from uint64, contexts []*raftv1.TraceContext) []receiving {
	var all []receiving
	for _, c := range contexts[:min(len(contexts), tracesPerFrameMax)] {
		at, decision := trace.Parse(c.GetTraceparent())
		if decision != trace.Sampled {
			continue
		}
		span := tracer.Start(trace.SpanReceive, at).Set(trace.Number(trace.AttrFrom, from),
			trace.Number(trace.AttrGroup, c.GetGroupId()), trace.Number(trace.AttrIndex, c.GetIndex()))
		all = append(all, receiving{raftcore.GroupID(c.GetGroupId()), raftcore.Index(c.GetIndex()), span})
	}
	return all
}

// received hands what is traced of a frame on to the groups that it has messages for.
func (r *Router) received(all []receiving) {
	for _, rec := range all {
		in, ok := r.inbound[rec.group]
		if !ok {
			rec.span.Fail(ErrNotHosted)
			rec.span.End()
			continue
		}
		rec.span.End()
		in.Arrived = append(in.Arrived, actors.Arrived{Index: rec.index, Wait: r.cfg.Replica.Tracing.Tracer.Start(trace.SpanMailbox, rec.span.Above())})
	}
}

// nextWait ends a sampled proposal's way to here: from now on it waits in the mailbox.
func (r *Router) nextWait(p *actors.Propose) {
	p.Wait.End()
	p.Wait = r.cfg.Replica.Tracing.Tracer.Start(trace.SpanMailbox, p.Wait.Above())
}
