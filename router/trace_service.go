package router

import (
	"bytes"
	"context"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/multiraftd/multiraftd/actors"
	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/proto/recordbatch"
	"github.com/multiraftd/multiraftd/proto/trace"
	"github.com/multiraftd/multiraftd/raftcore"
)

const (
	// traceparentKey is both the metadata of a call and the header of a record in which W3C Trace Context travels.
	traceparentKey = "traceparent"
	// recordLinksMax bounds how many traces of the records of one batch its append names.
	recordLinksMax  = 16
	messagingSystem = "multiraft"
)

// Traces remembers sampled traces.
type Traces interface {
	// Trace returns the spans of a trace that have ended here, in that order.
	Trace(id [16]byte) []*trace.Span
}

// TracingConfig says what the services trace with. The zero value traces nothing.
type TracingConfig struct {
	Tracer actors.Tracer
	// Headers makes the services look for contexts in the headers of records: it costs a search of each batch.
	Headers bool
	// Traces serves GetTrace; nil = nothing is remembered.
	Traces Traces
}

// traceAppend begins the span of one item, if it is sampled: by its caller, by who made its records, or by this node.
func (s *Services) traceAppend(it *multiraftv1.AppendItem, method string) *trace.Span {
	parent, decision := trace.Parse(it.GetTraceparent())
	var links []trace.Context
	if decision == trace.Undecided && s.cfg.Tracing.Headers {
		parent, links, decision = recordContexts(it)
	}
	if decision == trace.Dropped {
		return nil
	}
	span := s.cfg.Tracing.Tracer.Start(trace.SpanAppend, parent)
	if span == nil {
		return nil
	}
	span.Link(links...)
	return s.describeAppend(span.As(trace.Server), it).Set(trace.Text(trace.AttrRPCMethod, method))
}

// describeAppend says what an append is about, in OpenTelemetry's words and ours.
func (s *Services) describeAppend(span *trace.Span, it *multiraftv1.AppendItem) *trace.Span {
	meta := s.core.Table().Meta
	topic := strconv.FormatUint(it.GetTopicId(), 10)
	if t, ok := meta.Topic(it.GetTopicId()); ok {
		topic = t.GetName()
		span.Set(groupAttr(t, it.GetPartition())...)
	}
	records, size := len(it.GetRecords().GetRecords()), 0
	if batch := it.GetBatch(); batch != nil {
		size = len(batch)
		if info, err := recordbatch.ParseHeader(batch); err == nil {
			records = info.Count
		}
	}
	return span.Set(
		trace.Text(trace.AttrMessagingSystem, messagingSystem), trace.Text(trace.AttrMessagingOperation, "append"), trace.Text(trace.AttrMessagingType, "send"),
		trace.Text(trace.AttrDestination, topic), trace.Text(trace.AttrPartition, strconv.FormatUint(uint64(it.GetPartition()), 10)),
		trace.Number(trace.AttrBatchCount, records), trace.Number(trace.AttrBodyBytes, size),
		trace.Text(trace.AttrRPCSystem, "grpc"), trace.Text(trace.AttrRPCService, multiraftv1.LogService_ServiceDesc.ServiceName))
}

func groupAttr(t *metav1.Topic, partition uint32) []trace.Attr {
	if int64(partition) >= int64(len(t.GetPartitions())) {
		return nil
	}
	return []trace.Attr{trace.Number(trace.AttrGroup, t.GetPartitions()[partition].GetGroupId())}
}

// recordContexts finds the contexts in the headers of an item's records: the first sampled one is the parent, others
// are links.
func recordContexts(it *multiraftv1.AppendItem) (parent trace.Context, links []trace.Context, d trace.Decision) {
	take := func(value []byte) {
		c, decision := trace.Parse(string(value))
		switch {
		case decision == trace.Undecided || decision == trace.Dropped && d != trace.Undecided:
		case decision == trace.Dropped:
			d = trace.Dropped
		case d != trace.Sampled:
			parent, d = c, trace.Sampled
		case c != parent && len(links) < recordLinksMax:
			links = append(links, c)
		}
	}
	for _, r := range it.GetRecords().GetRecords() {
		for _, h := range r.GetHeaders() {
			if h.GetKey() == traceparentKey {
				take(h.GetValue())
			}
		}
	}
	batch := it.GetBatch()
	if !bytes.Contains(batch, []byte(traceparentKey)) {
		return parent, links, d
	}
	records, err := recordbatch.Decode(batch)
	if err != nil {
		return trace.Context{}, nil, trace.Undecided // it will be refused, with a reason
	}
	for i := range records {
		for _, h := range records[i].Headers {
			if h.Key == traceparentKey {
				take(h.Value)
			}
		}
	}
	return parent, links, d
}

// startDispatch begins a proposal's way from the service to its replica's mailbox.
func (s *Services) startDispatch(of *trace.Span) *trace.Span {
	if of == nil {
		return nil
	}
	return s.cfg.Tracing.Tracer.Start(trace.SpanDispatch, of.At())
}

// receiptAttrs are what an acknowledgement says.
func receiptAttrs(r *multiraftv1.Receipt) []trace.Attr {
	attrs := []trace.Attr{
		trace.Number(trace.AttrTerm, r.GetTerm()), trace.Number(trace.AttrIndex, r.GetIndex()),
		trace.Number(trace.AttrOffset, r.GetFirstOffset()), trace.Number(trace.AttrFsynced, r.GetFsyncedReplicas()),
	}
	if r.GetDuplicate() {
		attrs = append(attrs, trace.Text(trace.AttrDuplicate, "true"))
	}
	return attrs
}

// spanKey is where a sampled call's span is in its context.
type spanKey struct{}

// spanOf returns the span of the call that ctx belongs to; nil = it is not sampled.
func spanOf(ctx context.Context) *trace.Span {
	span, _ := ctx.Value(spanKey{}).(*trace.Span)
	return span
}

// traceOnce begins the span of a unary append, which its caller may have named in the item or in the call's metadata.
func (s *Services) traceOnce(ctx context.Context, it *multiraftv1.AppendItem) (context.Context, *trace.Span) {
	if s.cfg.Tracing.Tracer == nil || it == nil {
		return ctx, nil
	}
	if it.GetTraceparent() == "" {
		if md, ok := metadata.FromIncomingContext(ctx); ok {
			if v := md.Get(traceparentKey); len(v) > 0 {
				it.Traceparent = v[0]
			}
		}
	}
	span := s.traceAppend(it, "AppendOnce")
	if span == nil {
		return ctx, nil
	}
	it.Traceparent = span.At().Traceparent() // should it be forwarded, the next node goes on from here
	return context.WithValue(ctx, spanKey{}, span), span
}

// TraceCalls returns an interceptor that traces the unary calls whose caller samples them, but for AppendOnce, which
// does more.
func TraceCalls(tracer actors.Tracer) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		if v := md.Get(traceparentKey); len(v) > 0 && info.FullMethod != multiraftv1.LogService_AppendOnce_FullMethodName {
			if parent, d := trace.Parse(v[0]); d == trace.Sampled {
				return traceCall(ctx, tracer.Start(callName(info.FullMethod), parent), req, info, handler)
			}
		}
		return handler(ctx, req)
	}
}

func traceCall(ctx context.Context, span *trace.Span, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	describeCall(span, info.FullMethod)
	resp, err := handler(context.WithValue(ctx, spanKey{}, span), req)
	endCall(span, err)
	return resp, err
}

func describeCall(span *trace.Span, full string) {
	service, method := splitMethod(full)
	span.As(trace.Server).Set(trace.Text(trace.AttrRPCSystem, "grpc"), trace.Text(trace.AttrRPCService, service), trace.Text(trace.AttrRPCMethod, method))
}

func endCall(span *trace.Span, err error) {
	span.Fail(err)
	span.End()
}

// contextOf is what the caller of a call samples; zero = nothing.
func (s *Services) contextOf(ctx context.Context) trace.Context {
	if s.cfg.Tracing.Tracer == nil {
		return trace.Context{}
	}
	md, _ := metadata.FromIncomingContext(ctx)
	if v := md.Get(traceparentKey); len(v) > 0 {
		at, _ := trace.Parse(v[0])
		return at
	}
	return trace.Context{}
}

// tracePeer begins the span of a canonical RPC whose caller samples it.
func (s *Services) tracePeer(ctx context.Context, full string) (trace.Context, *trace.Span) {
	parent := s.contextOf(ctx)
	if !parent.Valid() {
		return parent, nil
	}
	span := s.cfg.Tracing.Tracer.Start(callName(full), parent)
	describeCall(span, full)
	return span.At(), span
}

// callName is a method's name as OpenTelemetry wants it for a span: without the leading slash.
func callName(full string) string { return full[min(1, len(full)):] }

func splitMethod(full string) (service, method string) {
	name := callName(full)
	for i := len(name) - 1; i >= 0; i-- {
		if name[i] == '/' {
			return name[:i], name[i+1:]
		}
	}
	return "", name
}

// GetTrace returns what this node remembers of a trace.
func (s *Services) GetTrace(_ context.Context, req *multiraftv1.GetTraceRequest) (*multiraftv1.GetTraceResponse, error) {
	id, ok := trace.ParseID(req.GetTraceId())
	if !ok {
		return nil, badField("trace_id", "%q: want 32 hexadecimal digits in lower case, not all 0", req.GetTraceId())
	}
	resp := &multiraftv1.GetTraceResponse{NodeId: uint64(s.core.Node())}
	if s.cfg.Tracing.Traces == nil {
		return resp, nil
	}
	for _, span := range s.cfg.Tracing.Traces.Trace(id) {
		resp.Spans = append(resp.Spans, toWire(span))
	}
	return resp, nil
}

func toWire(s *trace.Span) *multiraftv1.TraceSpan {
	w := &multiraftv1.TraceSpan{
		SpanId: s.Context.SpanID[:], Name: s.Name, StartUnixNano: s.Began.UnixNano(), EndUnixNano: s.Over.UnixNano(), Failure: s.Failure,
	}
	if s.Parent != [8]byte{} {
		w.ParentSpanId = s.Parent[:]
	}
	for _, a := range s.Attrs {
		attr := &multiraftv1.TraceAttribute{Key: a.Key, Value: &multiraftv1.TraceAttribute_Number{Number: a.Number}}
		if a.IsText {
			attr.Value = &multiraftv1.TraceAttribute_Text{Text: a.Text}
		}
		w.Attributes = append(w.Attributes, attr)
	}
	for _, l := range s.Links {
		w.Links = append(w.Links, l.Traceparent())
	}
	return w
}

// tracedReply is an answer on its way to the client's stream, and the append that it ends.
type tracedReply struct{ append, reply *trace.Span }

func (t tracedReply) end(err error) {
	t.reply.Fail(err)
	t.reply.End()
	t.append.End()
}

// answer notes what became of a sampled slot, and begins the reply. st.mu is not held.
func (sl *slot) answer(receipt *multiraftv1.Receipt, err error) {
	if err == nil {
		sl.span.Set(receiptAttrs(receipt)...)
	}
	sl.st.s.cfg.Logger.Debug("append answered", "topic", sl.lane.key.topic, "partition", sl.lane.key.partition, "offset", receipt.GetFirstOffset(),
		"term", receipt.GetTerm(), "index", receipt.GetIndex(), "err", err, "trace_id", sl.span.At().ID())
	sl.span.Fail(err)
	sl.forwarding.Fail(err)
	sl.forwarding.End()
	sl.reply = sl.st.s.cfg.Tracing.Tracer.Start(trace.SpanReply, sl.span.At())
}

// startForward begins the span of an item that goes to another node, which continues the trace.
func (sl *slot) startForward(n raftcore.NodeID, it *multiraftv1.AppendItem) {
	sl.forwarding = sl.st.s.cfg.Tracing.Tracer.Start(trace.SpanForward, sl.span.At()).As(trace.Client).Set(trace.Number(trace.AttrTo, uint64(n)))
	it.Traceparent = sl.forwarding.At().Traceparent()
}
