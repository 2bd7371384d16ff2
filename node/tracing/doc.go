// Package tracing is the tracer of real nodes and of mrctl: it samples, tells the time, remembers and exports.
//
//	room --Start--> Tracer --*trace.Span--> room --End--> Tracer --+--> Ring: the latest traces, for GetTrace
//	                                                               +--> OpenTelemetry's SDK --OTLP--> collector
//
// Sampling is at the head and by parent: a context that comes with a request decides; without one the ratio does, for
// appends. What is rare (elections, membership changes, snapshots, moves) is always sampled, a few a second at most.
//
// It does not know what a span means, and nothing waits for it: the ring has a bound, and so has the queue of the
// exporter, which drops what is too much.
//
// Goroutines: those of the SDK's batch processor and exporter, if there is an exporter, until Close.
package tracing
