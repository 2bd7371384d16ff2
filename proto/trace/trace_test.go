package trace

import (
	"errors"
	"strings"
	"testing"
	"time"
)

const example = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func TestATraceparentIsReadAsTheStandardWantsIt(t *testing.T) {
	for in, want := range map[string]Decision{
		example:                                  Sampled,
		strings.TrimSuffix(example, "01") + "03": Sampled, // a flag that is not known yet
		strings.TrimSuffix(example, "01") + "00": Dropped,
		"cc" + example[2:]:                       Sampled,
		"cc" + example[2:] + "-more":             Sampled,
		"cc" + example[2:] + "more":              Undecided,
		example + "-more":                        Undecided, // version 00 has no more
		"ff" + example[2:]:                       Undecided,
		strings.ToUpper(example):                 Undecided,
		"":                                       Undecided,
		example[:54]:                             Undecided,
		"00-00000000000000000000000000000000-b7ad6b7169203331-01": Undecided,
		"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01": Undecided,
		"00-0af7651916cd43dd8448eb211c80319c.b7ad6b7169203331-01": Undecided,
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333g-01": Undecided,
	} {
		c, got := Parse(in)
		if got != want || c.Valid() != (want == Sampled) {
			t.Errorf("%q: %v %v, want %v", in, got, c, want)
		}
	}
	if c, _ := Parse(example); c.Traceparent() != example || c.ID() != "0af7651916cd43dd8448eb211c80319c" {
		t.Errorf("%q comes back as %q, id %q", example, c.Traceparent(), c.ID())
	}
}

func FuzzParse(f *testing.F) {
	f.Add(example)
	f.Add("cc" + example[2:] + "-more")
	f.Fuzz(func(t *testing.T, in string) {
		c, d := Parse(in)
		if (d == Sampled) != c.Valid() {
			t.Fatalf("%q: %v with %v", in, d, c)
		}
		if again, _ := Parse(c.Traceparent()); again != c {
			t.Fatalf("%q: %v comes back as %v", in, c, again)
		}
	})
}

type kept struct{ spans []*Span }

func (k *kept) Ended(s *Span) { k.spans = append(k.spans, s) }

func TestASpanEndsOnceAndHoldsABoundedNumberOfThings(t *testing.T) {
	var k kept
	s := New("s", Context{TraceID: [16]byte{1}, SpanID: [8]byte{2}}, [8]byte{3}, time.Time{}, &k)
	for range 2 * linksMax {
		s.Set(Number("n", 1), Text("t", "x"))
		s.Link(s.At(), Context{})
	}
	s.Fail(nil)
	s.Fail(errors.New("broken"))
	s.End()
	s.Set(Number("late", 1)).Link(Context{TraceID: [16]byte{9}, SpanID: [8]byte{9}})
	s.Fail(errors.New("late"))
	s.End()
	if len(k.spans) != 1 || len(s.Attrs) != attrsMax || len(s.Links) != linksMax || s.Failure != "broken" {
		t.Errorf("ended %d times, %d attributes, %d links, failure %q", len(k.spans), len(s.Attrs), len(s.Links), s.Failure)
	}
}

func TestASpanThatNobodyTracesDoesNothingAndCostsNoAllocation(t *testing.T) {
	var s *Span
	err := errors.New("broken")
	if per := testing.AllocsPerRun(100, func() {
		s.As(Server).Set(Text("t", "x"), Number("n", 1)).Link(s.At(), s.Above())
		s.Fail(err)
		s.End()
	}); per != 0 {
		t.Errorf("%v allocations", per)
	}
}
