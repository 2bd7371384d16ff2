package main

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/multiraftd/multiraftd/node/tracing"
	"github.com/multiraftd/multiraftd/proto/trace"
)

const (
	// tracesMax is how many batches append --trace samples: whoever asks for it wants to look at some.
	tracesMax = 16
	// exportTimeout is how long the end of a command waits for its spans to be exported.
	exportTimeout = 5 * time.Second
)

// firstTraces samples the first batches that a command sends.
type firstTraces struct {
	tracer *tracing.Tracer
	begun  atomic.Int64
}

// newTracer returns what append --trace samples with; nil without it.
func (a *appendOptions) newTracer(ctx context.Context) (*firstTraces, error) {
	if !a.trace {
		return nil, nil
	}
	t, err := tracing.New(ctx, tracing.Config{Service: "mrctl", Instance: "mrctl", Version: version, Ratio: 1, Endpoint: a.otlp, RingSpansMax: -1})
	if err != nil {
		return nil, usage(err)
	}
	return &firstTraces{tracer: t}, nil
}

// Start is part of client.Tracer.
func (f *firstTraces) Start(name string, parent trace.Context) *trace.Span {
	if !parent.Valid() && f.begun.Add(1) > tracesMax {
		return nil
	}
	return f.tracer.Start(name, parent)
}

// close exports what is left. nil has nothing.
func (f *firstTraces) close() error {
	if f == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), exportTimeout)
	defer cancel()
	return f.tracer.Close(ctx)
}
