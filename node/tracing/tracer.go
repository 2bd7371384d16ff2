package tracing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/multiraftd/multiraftd/proto/trace"
)

// rareTracesPerSecondMax bounds what is sampled of the rare operations: ten thousand groups that lose their leader at
// once are one event to whoever looks at it, not ten thousand traces.
const rareTracesPerSecondMax = 20

// rare are the operations that are sampled whatever the ratio.
var rare = map[string]bool{
	trace.SpanElection: true, trace.SpanMembership: true, trace.SpanMove: true, trace.SpanSnapshot: true, trace.SpanTransfer: true,
}

// Config says what is sampled and where it goes.
type Config struct {
	// Service and Instance name the process to who sees the spans.
	Service, Instance, Version string
	// Node is the node's id; 0 = none.
	Node uint64
	// Ratio of appends without a context that are sampled, 0 to 1.
	Ratio float64
	// Endpoint is where spans are exported to by OTLP over gRPC: a URL, or host:port in plaintext. Empty = what
	// OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT say; else they are not.
	Endpoint string
	// Exporter takes the spans in place of OTLP.
	Exporter sdktrace.SpanExporter
	// RingSpansMax is how many spans the ring remembers; 0 = 16384, negative = none.
	RingSpansMax int
}

// Tracer implements the rooms' tracers. Its methods are safe for concurrent use.
type Tracer struct {
	bound    uint64 // a random number below it is sampled; 0 = none
	always   bool
	ring     *Ring
	exporter *exporter // nil = none
	// second and rares count the rare operations sampled in a second.
	second, rares atomic.Int64
}

// New returns a tracer. It connects to nobody yet.
func New(ctx context.Context, c Config) (*Tracer, error) {
	if c.Ratio < 0 || c.Ratio > 1 || c.Ratio != c.Ratio {
		return nil, fmt.Errorf("sampling ratio %v is not between 0 and 1", c.Ratio)
	}
	if err := CheckEndpoint(c.Endpoint); err != nil {
		return nil, fmt.Errorf("endpoint %q: %w", c.Endpoint, err)
	}
	t := &Tracer{always: c.Ratio == 1}
	if !t.always {
		t.bound = uint64(math.Ldexp(c.Ratio, 64))
	}
	if c.RingSpansMax >= 0 {
		t.ring = NewRing(cmp.Or(c.RingSpansMax, ringSpansMax))
	}
	var err error
	t.exporter, err = newExporter(ctx, c)
	return t, err
}

// Start begins a span below parent. Without one a trace begins, if it is sampled; nil = it is not.
func (t *Tracer) Start(name string, parent trace.Context) *trace.Span {
	at := trace.Context{TraceID: parent.TraceID}
	if !parent.Valid() {
		if !t.sample(name) {
			return nil
		}
		put(at.TraceID[:8], rand.Uint64())
		put(at.TraceID[8:], rand.Uint64()|1) // never all 0
	}
	put(at.SpanID[:], rand.Uint64()|1)
	return trace.New(name, at, parent.SpanID, time.Now(), t)
}

func put(to []byte, v uint64) {
	for i := range to {
		to[i] = byte(v >> (8 * i))
	}
}

func (t *Tracer) sample(name string) bool {
	switch {
	case rare[name]:
		return t.sampleRare(time.Now().Unix())
	case t.always:
		return true
	default:
		return t.bound > 0 && rand.Uint64() < t.bound
	}
}

// sampleRare lets a few a second through. Two that race at the turn of a second may let one more pass.
func (t *Tracer) sampleRare(now int64) bool {
	if last := t.second.Load(); last != now && t.second.CompareAndSwap(last, now) {
		t.rares.Store(0)
	}
	return t.rares.Add(1) <= rareTracesPerSecondMax
}

// Ended is part of trace.Sink.
func (t *Tracer) Ended(s *trace.Span) {
	s.Over = time.Now()
	if t.ring != nil {
		t.ring.add(s)
	}
	if t.exporter != nil {
		t.exporter.add(s)
	}
}

// Samples says that there is a point in looking for contexts beyond those of requests: somebody wants traces.
func (t *Tracer) Samples() bool { return t.exporter != nil || t.always || t.bound > 0 }

// Trace returns the spans of a trace that have ended here and are remembered, in that order.
func (t *Tracer) Trace(id [16]byte) []*trace.Span {
	if t.ring == nil {
		return nil
	}
	return t.ring.Trace(id)
}

// ErrNotExported says that spans were lost at the end.
var ErrNotExported = errors.New("not all spans were exported")

// Close exports what is left, until ctx ends.
func (t *Tracer) Close(ctx context.Context) error {
	if t == nil || t.exporter == nil {
		return nil
	}
	if err := t.exporter.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrNotExported, err)
	}
	return nil
}
