// Package trace is what all rooms know of tracing: the context that names a span of a sampled trace, as W3C Trace
// Context has it; a Span as plain data while it goes on and after; and the names of spans and attributes, which
// docs/traces.md lists.
//
// It does not sample, keep, export or tell the time: whoever implements a room's Tracer does (node/tracing), and the
// simulator has none.
//
// Ownership: a Span belongs to one goroutine at a time and is handed on with the message that it is about. After End
// it belongs to the tracer and is not changed any more. A nil *Span is an operation that nobody traces: its methods
// do nothing, so that the rooms ask no questions.
package trace
