package history

import (
	"fmt"
	"slices"
)

// Check holds a whole history against the final log. It takes time and memory in proportion to the number of
// operations and records. It returns nil, a *Violation, or an error that is ErrMisuse.
func Check(h *History) error {
	w, err := newWitness(h)
	if err != nil {
		return err
	}
	for _, rule := range []func(*witness) *Violation{
		(*witness).checkTold,
		(*witness).checkReadable,
		(*witness).checkStored,
		(*witness).checkEnds,
		(*witness).checkProducers,
		(*witness).checkOrder,
	} {
		if v := rule(w); v != nil {
			return v
		}
	}
	return nil
}

// checkTold wants acknowledged and read records to stand where clients were told.
func (w *witness) checkTold() *Violation {
	for i := range w.h.ops {
		if op := &w.h.ops[i]; op.Outcome == Done && op.Kind != End {
			if v := w.checkRecords(Ref(i)); v != nil {
				return v
			}
		}
	}
	return nil
}

func (w *witness) checkRecords(r Ref) *Violation {
	op := &w.h.ops[r]
	for i, v := range w.h.Values(r) {
		o := op.Offset + int64(i)
		if o >= 0 && o < int64(len(w.at)) && w.at[o] == v {
			continue
		}
		if op.Kind == Append {
			if s := w.elsewhere(r); s != "" {
				return violation(RuleElsewhere, "%s; the batch stands %s", w.h.Describe(r), s)
			}
		}
		if o < 0 || o >= int64(len(w.at)) {
			return violation(RuleLost, "%s; the final log is [%d, %d) and does not have %d at %d",
				w.h.Describe(r), w.h.logStart, len(w.at), v, o)
		}
		return violation(RuleChanged, "%s; offset %d should hold %d and holds %d%s", w.h.Describe(r), o, v, w.at[o], w.told(o))
	}
	return nil
}

// elsewhere says where else the batch of an append stands.
func (w *witness) elsewhere(r Ref) string {
	c := &w.contents[w.submissions[w.ofAppend[r]].content]
	var bases []int64
	for _, o := range c.occurrences {
		bases = append(bases, w.occurrences[o].base)
	}
	if bases == nil {
		return ""
	}
	return fmt.Sprintf("at %d", bases)
}

func (w *witness) checkReadable() *Violation { return w.unreadable }

// checkStored counts: each occurrence was stored by somebody, and each batch that was answered as stored occurs.
func (w *witness) checkStored() *Violation {
	for i := range w.submissions {
		s := &w.submissions[i]
		if s.occurrence != none || !w.answered(int32(i)) {
			continue
		}
		if offset, acked := w.ackedAt(int32(i)); acked {
			return violation(RuleSharedOffset, "offset %d was given to another append of the same records as well as to %s",
				offset, w.describe(s))
		}
		if len(w.holes) == 0 {
			return violation(RuleNotADuplicate, "the log has nothing of %s", w.describe(s))
		}
	}
	for _, o := range w.occurrences {
		if o.submission != none {
			continue
		}
		c := &w.contents[o.content]
		appended := w.describe(&w.submissions[c.submissions[0]])
		if !slices.ContainsFunc(c.submissions, w.mayStore) {
			return violation(RuleStoredFailed, "the log has at %d what cannot be stored: %s", o.base, appended)
		}
		return violation(RuleStoredTwice, "the batch at %d occurs %d times; %d appends can have stored it, first %s",
			o.base, len(c.occurrences), len(c.submissions), appended)
	}
	return nil
}

func (w *witness) describe(s *submission) string {
	text := w.h.Describe(s.attempts[0])
	for _, r := range s.attempts[1:] {
		text += " and again " + w.h.Describe(r)
	}
	return text
}

// checkEnds looks at each answered End and ReadToEnd by itself.
func (w *witness) checkEnds() *Violation {
	for i := range w.h.ops {
		op := &w.h.ops[i]
		if !op.linearizable() {
			continue
		}
		end := op.end()
		switch {
		case end > int64(len(w.at)):
			return violation(RuleLost, "the final log ends at %d: %s", len(w.at), w.h.Describe(Ref(i)))
		case op.Kind == End && (op.LogStart < 0 || op.LogStart > end):
			return violation(RuleLogStart, "the log start is not within the log: %s", w.h.Describe(Ref(i)))
		case op.Kind == End && op.LogStart > w.h.logStart:
			return violation(RuleLogStart, "the final log starts at %d: %s", w.h.logStart, w.h.Describe(Ref(i)))
		case w.inBatch(end):
			o := w.occurrences[w.ownerOf[end]]
			return violation(RuleEndInBatch, "the batch at [%d, %d) is one: %s", o.base, o.end, w.h.Describe(Ref(i)))
		}
	}
	return nil
}

// inBatch says whether a batch begins before offset and does not end there.
func (w *witness) inBatch(offset int64) bool {
	return offset > 0 && offset < int64(len(w.at)) && w.ownerOf[offset] != none && w.ownerOf[offset] == w.ownerOf[offset-1]
}

// checkProducers wants each epoch of a producer to stand in the order of its sequences, from 0, without a gap; an
// epoch fences those before it. Where a hole may have held what is missing, a gap is none.
func (w *witness) checkProducers() *Violation {
	latest := make(map[int64]int32) // occurrence by producer
	holes := w.holes
	hole := int64(none) // the highest below the occurrence
	for i, o := range w.occurrences {
		for len(holes) > 0 && holes[0] < o.base {
			hole, holes = holes[0], holes[1:]
		}
		p, _ := w.producerOf(int32(i))
		if p.ID == 0 {
			continue
		}
		last, seen := latest[p.ID]
		latest[p.ID] = int32(i)
		want, before := Producer{ID: p.ID, Epoch: p.Epoch}, Ref(none)
		end := int64(0) // of what was there before
		if seen {
			var q Producer
			q, before = w.producerOf(last)
			end = w.occurrences[last].end
			if q.Epoch == p.Epoch {
				want.Sequence = q.Sequence + end - w.occurrences[last].base
			}
			want.Epoch = max(q.Epoch, p.Epoch)
		}
		if v := w.checkSequence(int32(i), want, before, hole >= end); v != nil {
			return v
		}
	}
	return nil
}

// producerOf returns the append too that stored an occurrence, at the earliest. If nobody did, there is none.
func (w *witness) producerOf(o int32) (Producer, Ref) {
	s := w.occurrences[o].submission
	if s == none {
		return Producer{}, none
	}
	r := w.storer(s)
	return w.h.ops[r].Producer, r
}

// checkSequence is told the producer's batch before it, or none.
func (w *witness) checkSequence(o int32, want Producer, before Ref, lenient bool) *Violation {
	p, r := w.producerOf(o)
	wrongOrder := p.Epoch < want.Epoch || p.Sequence < want.Sequence
	if p == want || lenient && !wrongOrder {
		return nil
	}
	after := "nothing"
	if before != none {
		after = w.h.Describe(before)
	}
	if wrongOrder {
		return violation(RuleProducerOrder, "at %d stands %s, after %s", w.occurrences[o].base, w.h.Describe(r), after)
	}
	return violation(RuleProducerGap, "at %d stands %s, after %s: sequence %d is missing",
		w.occurrences[o].base, w.h.Describe(r), after, want.Sequence)
}
