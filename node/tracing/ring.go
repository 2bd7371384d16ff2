package tracing

import (
	"sync"

	"github.com/multiraftd/multiraftd/proto/trace"
)

const (
	// ringSpansMax is some 10 MiB.
	ringSpansMax = 16_384
	// traceSpansMax bounds what is remembered of one trace, so that none drives out all others.
	traceSpansMax = 1024
)

// Ring remembers the latest sampled traces: when there are too many spans, the trace that began first goes, whole.
type Ring struct {
	spansMax int

	mu     sync.Mutex
	traces map[[16]byte][]*trace.Span
	order  [][16]byte // as they came up; those before head are gone
	head   int
	spans  int // Invariant: the sum over traces
}

// NewRing returns a ring for so many spans.
func NewRing(spansMax int) *Ring {
	return &Ring{spansMax: spansMax, traces: make(map[[16]byte][]*trace.Span)}
}

func (r *Ring) add(s *trace.Span) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := s.Context.TraceID
	known, ok := r.traces[id]
	if len(known) >= traceSpansMax {
		return
	}
	if !ok {
		r.order = append(r.order, id)
	}
	r.traces[id] = append(known, s)
	for r.spans++; r.spans > r.spansMax; {
		r.forget()
	}
}

// forget drops the oldest trace. r.mu is held.
func (r *Ring) forget() {
	oldest := r.order[r.head]
	r.head++
	r.spans -= len(r.traces[oldest])
	delete(r.traces, oldest)
	if r.head*2 > len(r.order) {
		r.order = append(r.order[:0], r.order[r.head:]...)
		r.head = 0
	}
}

// Trace returns the spans of a trace, in the order in which they ended.
func (r *Ring) Trace(id [16]byte) []*trace.Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*trace.Span(nil), r.traces[id]...)
}
