package history

import (
	"cmp"
	"fmt"
	"slices"
)

// none marks that there is no operation, submission or occurrence.
const none = -1

// witness says which append stands where in the final log. It judges nothing but what cannot be read at all;
// where the log or an answer is wrong, it leaves things unmatched for the checkers to find.
//
//	content     the values of a batch
//	submission  what may store them once: a plain append, or all attempts with one Producer
//	occurrence  a place of the log where they stand
type witness struct {
	h           *History
	at          []uint64 // by offset, from 0; 0 below the log start where nobody saw it
	teller      []Ref    // by offset below the log start: who was told of it
	holes       []int64  // offsets of which not even the batch is known
	contents    []content
	ofValue     map[uint64]place
	submissions []submission
	ofAppend    []int32 // by Ref: its submission
	occurrences []occurrence
	ownerOf     []int32 // by offset: the occurrence there, or none

	unreadable *Violation // the first part of the log that is no batch
	showing    []int64    // see firstShown
}

type place struct{ content, index int32 }

type content struct {
	values      []uint64
	submissions []int32
	occurrences []int32
}

type submission struct {
	content    int32
	occurrence int32 // or none
	attempts   []Ref // in the order of their calls
}

type occurrence struct {
	base, end  int64
	content    int32
	submission int32 // or none
}

func newWitness(h *History) (*witness, error) {
	if !h.hasLog {
		h.refuse("there is no final log")
	}
	if h.misuse != nil {
		return nil, h.misuse
	}
	w := &witness{h: h, ofValue: make(map[uint64]place, int64(len(h.log))+h.logStart)}
	if err := w.group(); err != nil {
		return nil, err
	}
	w.fill()
	w.parse()
	w.match()
	return w, nil
}

// group sorts appends into contents and submissions.
func (w *witness) group() error {
	w.ofAppend = make([]int32, len(w.h.ops))
	ofProducer := make(map[Producer]int32)
	for i := range w.h.ops {
		op := &w.h.ops[i]
		w.ofAppend[i] = none
		if op.Kind != Append {
			continue
		}
		c, err := w.contentOf(Ref(i))
		if err != nil {
			return err
		}
		s, attempted := ofProducer[op.Producer]
		if op.Producer.ID == 0 || !attempted {
			s = int32(len(w.submissions))
			ofProducer[op.Producer] = s
			w.submissions = append(w.submissions, submission{content: c, occurrence: none})
			w.contents[c].submissions = append(w.contents[c].submissions, s)
		}
		if w.submissions[s].content != c {
			return fmt.Errorf("%w: %s and %s have one sequence and differ", ErrMisuse,
				w.h.Describe(w.submissions[s].attempts[0]), w.h.Describe(Ref(i)))
		}
		w.submissions[s].attempts = append(w.submissions[s].attempts, Ref(i))
		w.ofAppend[i] = s
	}
	return nil
}

// contentOf wants a value to be in one content only, once.
func (w *witness) contentOf(r Ref) (int32, error) {
	values := w.h.Values(r)
	if p, known := w.ofValue[values[0]]; known && slices.Equal(w.contents[p.content].values, values) {
		return p.content, nil
	}
	c := int32(len(w.contents))
	for i, v := range values {
		if _, known := w.ofValue[v]; known || v == 0 {
			return 0, fmt.Errorf("%w: %s: value %d is zero or belongs to another batch too", ErrMisuse, w.h.Describe(r), v)
		}
		w.ofValue[v] = place{content: c, index: int32(i)}
	}
	w.contents = append(w.contents, content{values: values})
	return c, nil
}

// fill takes what is at or above the log start from the final log, and the rest from what clients were told:
// acknowledgements first, as they say more.
func (w *witness) fill() {
	start := w.h.logStart
	w.at = make([]uint64, start+int64(len(w.h.log)))
	copy(w.at[start:], w.h.log)
	w.teller = make([]Ref, start)
	if start == 0 {
		return
	}
	for _, appends := range []bool{true, false} {
		for i := range w.h.ops {
			op := &w.h.ops[i]
			if op.Outcome == Done && op.Kind != End && (op.Kind == Append) == appends {
				w.tell(Ref(i))
			}
		}
	}
}

func (w *witness) tell(r Ref) {
	base := w.h.ops[r].Offset
	for i, v := range w.h.Values(r) {
		o := base + int64(i)
		if o < 0 || o >= w.h.logStart {
			continue
		}
		if w.at[o] == 0 {
			w.at[o], w.teller[o] = v, r
		}
	}
}

// parse cuts the log into batches.
func (w *witness) parse() {
	w.ownerOf = make([]int32, len(w.at))
	free := int64(0) // first offset that no batch or unreadable record has taken
	for o := int64(0); o < int64(len(w.at)); {
		w.ownerOf[o] = none
		if w.at[o] == 0 && o < w.h.logStart {
			o++
			continue
		}
		p, appended := w.ofValue[w.at[o]]
		if !appended {
			w.cannotRead(violation(RuleInvented, "offset %d holds %d, which nobody appended%s", o, w.at[o], w.told(o)))
			o++
			free = o
			continue
		}
		base := o - int64(p.index)
		if v := w.torn(p.content, base, o, free); v != nil {
			w.cannotRead(v)
			o++
			free = o
			continue
		}
		o = w.place(p.content, base)
		free = o
	}
	for o, v := range w.at[:w.h.logStart] {
		if v == 0 && w.ownerOf[o] == none {
			w.holes = append(w.holes, int64(o))
		}
	}
}

func (w *witness) cannotRead(v *Violation) {
	if w.unreadable == nil {
		w.unreadable = v
	}
}

// torn says why a content cannot stand at base, where o is the first offset known to hold one of its values. All
// of [free, o) are holes.
func (w *witness) torn(c int32, base, o, free int64) *Violation {
	values := w.contents[c].values
	first := w.submissions[w.contents[c].submissions[0]].attempts[0]
	if base < free {
		return violation(RuleTorn, "offset %d holds %d, from the middle of the batch of %s, without what comes before it%s",
			o, w.at[o], w.h.Describe(first), w.told(o))
	}
	for i, v := range values {
		at := base + int64(i)
		switch {
		case at >= int64(len(w.at)):
			return violation(RuleTorn, "the log ends at %d, within the batch at %d of %s", len(w.at), base, w.h.Describe(first))
		case at < w.h.logStart && w.at[at] == 0, w.at[at] == v:
		default:
			return violation(RuleTorn, "offset %d holds %d, but %d follows in the batch at %d of %s%s",
				at, w.at[at], v, base, w.h.Describe(first), w.told(at))
		}
	}
	return nil
}

// place returns the end of the new occurrence. What of it nobody saw is no hole any more.
func (w *witness) place(c int32, base int64) int64 {
	n := int32(len(w.occurrences))
	end := base + int64(len(w.contents[c].values))
	for o := base; o < end; o++ {
		w.ownerOf[o] = n
	}
	w.occurrences = append(w.occurrences, occurrence{base: base, end: end, content: c, submission: none})
	w.contents[c].occurrences = append(w.contents[c].occurrences, n)
	return end
}

// told names who was told of an offset below the log start, where the log itself is gone.
func (w *witness) told(o int64) string {
	if o >= w.h.logStart {
		return ""
	}
	return ", as told to " + w.h.Describe(w.teller[o])
}

// match decides which submission an occurrence is of, where several have the same content: acknowledged ones
// stand where they say. The rest have no Return that counts, so the earliest occurrences go to the earliest
// calls: if any choice is right, that one is.
func (w *witness) match() {
	for i := range w.contents {
		c := &w.contents[i]
		for _, s := range c.submissions {
			w.pin(c, s)
		}
		var free []int32
		for _, o := range c.occurrences {
			if w.occurrences[o].submission == none {
				free = append(free, o)
			}
		}
		if len(free) == 0 {
			continue
		}
		for j, s := range w.candidates(c, len(free)) {
			w.bind(s, free[j])
		}
	}
}

func (w *witness) pin(c *content, s int32) {
	offset, acked := w.ackedAt(s)
	if !acked {
		return
	}
	for _, o := range c.occurrences {
		if w.occurrences[o].base == offset && w.occurrences[o].submission == none {
			w.bind(s, o)
			return
		}
	}
}

func (w *witness) bind(s, o int32) {
	w.submissions[s].occurrence, w.occurrences[o].submission = o, s
}

// candidates returns at most n submissions that may have stored c somewhere, by their calls. Those told
// "stored before" must have, so they are not left out; those told an offset have it, or nothing.
func (w *witness) candidates(c *content, n int) []int32 {
	var must, may []int32
	for _, s := range c.submissions {
		_, acked := w.ackedAt(s)
		switch {
		case acked || !w.mayStore(s):
		case w.answered(s):
			must = append(must, s)
		default:
			may = append(may, s)
		}
	}
	all := slices.Concat(must, may) // each in the order of first calls
	all = all[:min(n, len(all))]
	slices.SortStableFunc(all, func(a, b int32) int { return cmp.Compare(w.calledAt(a).Seq, w.calledAt(b).Seq) })
	return all
}

// ackedAt returns the offset that the first acknowledged attempt was told.
func (w *witness) ackedAt(s int32) (offset int64, acked bool) {
	for _, r := range w.submissions[s].attempts {
		if op := &w.h.ops[r]; op.Outcome == Done {
			return op.Offset, true
		}
	}
	return 0, false
}

func (w *witness) mayStore(s int32) bool { return w.storer(s) != none }

func (w *witness) answered(s int32) bool {
	return slices.ContainsFunc(w.submissions[s].attempts, func(r Ref) bool {
		return w.h.ops[r].Outcome == Done || w.h.ops[r].Outcome == Duplicate
	})
}

// storer is the first attempt that can have stored a submission, or none.
func (w *witness) storer(s int32) Ref {
	for _, r := range w.submissions[s].attempts {
		if w.h.ops[r].Outcome != Failed {
			return r
		}
	}
	return none
}

// calledAt is the earliest call that can have stored a submission.
func (w *witness) calledAt(s int32) Moment {
	if r := w.storer(s); r != none {
		return w.h.ops[r].Call
	}
	return Forever
}

// shown is the first offset above what the answer of an operation shows to be stored.
func (w *witness) shown(r Ref) int64 {
	op := &w.h.ops[r]
	switch {
	case op.Outcome == Duplicate:
		if o := w.submissions[w.ofAppend[r]].occurrence; o != none {
			return w.occurrences[o].end
		}
		return 0
	case op.Outcome != Done, op.Kind == Read && op.from == op.to:
		return 0
	}
	return op.end()
}
