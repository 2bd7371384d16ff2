package trace

import "time"

// Limits of one span: what is above is left out.
const (
	attrsMax = 32
	linksMax = 128
)

// Kind is OpenTelemetry's span kind.
type Kind uint8

// The kinds, in OpenTelemetry's order.
const (
	Internal Kind = iota
	Server
	Client
	Producer
	Consumer
)

// Attr is a named value of a span: a text or a number.
type Attr struct {
	Key    string
	Text   string
	Number int64
	IsText bool
}

// Text is an attribute with a text.
func Text(key, value string) Attr { return Attr{Key: key, Text: value, IsText: true} }

// Number is an attribute with a number.
func Number[N ~int | ~int64 | ~uint64 | ~uint32](key string, value N) Attr {
	return Attr{Key: key, Number: int64(value)}
}

// Sink takes a span that has ended: it notes the time and keeps it. It must not block.
type Sink interface{ Ended(*Span) }

// Span is one operation of a sampled trace. See the package comment for who owns it when.
type Span struct {
	Name    string
	Kind    Kind
	Context Context
	Parent  [8]byte // span of the same trace; zero = the trace begins here
	Began   time.Time
	Over    time.Time // zero until it has ended
	Attrs   []Attr
	Links   []Context
	Failure string // empty = it went well

	sink  Sink
	ended bool
}

// New returns a span that has begun. Its sink hears of its end.
func New(name string, at Context, parent [8]byte, began time.Time, sink Sink) *Span {
	return &Span{Name: name, Context: at, Parent: parent, Began: began, sink: sink}
}

// At returns the span's context: what its children and links name.
func (s *Span) At() Context {
	if s == nil {
		return Context{}
	}
	return s.Context
}

// As sets the kind, and returns the span.
func (s *Span) As(k Kind) *Span {
	if s != nil {
		s.Kind = k
	}
	return s
}

// Set adds attributes, and returns the span.
func (s *Span) Set(attrs ...Attr) *Span {
	if s != nil && !s.ended {
		s.Attrs = append(s.Attrs, attrs[:min(len(attrs), attrsMax-len(s.Attrs))]...)
	}
	return s
}

// Link names spans of this or another trace that this one has to do with.
func (s *Span) Link(to ...Context) {
	if s == nil || s.ended {
		return
	}
	for _, c := range to {
		if c.Valid() && len(s.Links) < linksMax {
			s.Links = append(s.Links, c)
		}
	}
}

// Fail says why the operation did not do what it was for. nil changes nothing.
func (s *Span) Fail(err error) {
	if s != nil && !s.ended && err != nil {
		s.Failure = err.Error()
	}
}

// End ends the span. Ending it again does nothing, and neither does anything else from then on.
func (s *Span) End() {
	if s == nil || s.ended {
		return
	}
	s.ended = true
	if s.sink != nil {
		s.sink.Ended(s)
	}
}

// Carried is a context on its way to another node beside a message: that of the entry at Index, or, with index 0, of
// the message itself. Sending ends when the message has been given to the connection, or was dropped.
type Carried struct {
	Index   uint64
	Context Context
	Sending *Span
}

// Above returns the context of the span's parent.
func (s *Span) Above() Context {
	if s == nil {
		return Context{}
	}
	return Context{TraceID: s.Context.TraceID, SpanID: s.Parent}
}
