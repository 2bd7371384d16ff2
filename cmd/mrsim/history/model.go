package history

import (
	"math"
	"math/bits"
	"slices"

	"github.com/anishathalye/porcupine"
)

// stepKind is what an operation does to the log, in Porcupine's model.
type stepKind uint8

const (
	store stepKind = iota // values come to stand at offset, which is the log's end
	toEnd                 // the log ends at end, and holds values from offset on
	seen                  // the log ends at end or later, and holds values from offset on
)

// step is an operation as Porcupine's model sees it.
type step struct {
	kind        stepKind
	op          Ref // none for the final log and for records that nobody saw
	offset, end int64
	values      []uint64 // 0 equals everything
	call, ret   int64    // doubled Moment.Seqs, or never
	place       int64    // where it stands: what a floor must reach to have it below
}

// impossible is the end of a step that fits no state.
const impossible = math.MaxInt64

func (w *witness) steps() []step {
	var steps []step
	for i := range w.submissions {
		steps = w.appendSteps(steps, int32(i))
	}
	for i := range w.h.ops {
		op := &w.h.ops[i]
		if op.Kind == Append || op.Outcome != Done {
			continue
		}
		s := step{
			kind: toEnd, op: Ref(i), offset: op.Offset, end: op.end(), values: w.h.Values(Ref(i)),
			call: doubled(op.Call), ret: doubled(op.Return), place: op.end(),
		}
		if op.Kind == End {
			s.offset = s.end
		}
		if op.Kind == Read {
			s.kind, s.end, s.place = seen, w.shown(Ref(i)), w.floor(w.shown(Ref(i)))
		}
		steps = append(steps, s)
	}
	for _, o := range w.holes {
		steps = append(steps, step{kind: store, op: none, offset: o, end: o + 1, values: []uint64{0}, call: 0, ret: never, place: o + 1})
	}
	return steps
}

// appendSteps adds what stores a submission, and what its answers have seen.
func (w *witness) appendSteps(steps []step, n int32) []step {
	s := &w.submissions[n]
	values := w.contents[s.content].values
	offset, acked := w.ackedAt(n)
	if s.occurrence != none && !acked {
		offset = w.occurrences[s.occurrence].base
	}
	if acked || s.occurrence != none {
		end := offset + int64(len(values))
		steps = append(steps, step{
			kind: store, op: w.storer(n), offset: offset, end: end, values: values,
			call: doubled(w.calledAt(n)), ret: w.storedBy(n), place: end,
		})
	}
	for _, r := range s.attempts {
		op := &w.h.ops[r]
		saw := step{kind: seen, op: r, call: doubled(op.Call), ret: doubled(op.Return)}
		switch {
		case op.Outcome == Done && len(s.attempts) > 1:
			saw.offset, saw.end, saw.values = op.Offset, op.end(), values
		case op.Outcome == Duplicate && s.occurrence != none:
			saw.end = w.shown(r)
			saw.offset = saw.end
		case op.Outcome == Duplicate && !acked && len(w.holes) == 0:
			saw.end = impossible
		default:
			continue
		}
		saw.place = saw.end
		steps = append(steps, saw)
	}
	return steps
}

// storedBy is when a submission was stored at the latest: its first good answer, or, without any, the first answer
// to somebody else that shows it. If that came before the call, no order will be found for that other operation.
func (w *witness) storedBy(n int32) int64 {
	s := &w.submissions[n]
	at := int64(never)
	for _, r := range s.attempts {
		if op := &w.h.ops[r]; op.Outcome == Done || op.Outcome == Duplicate {
			at = min(at, doubled(op.Return))
		}
	}
	if at != never || s.occurrence == none {
		return at
	}
	shown := w.firstShown(w.occurrences[s.occurrence].base)
	if shown > doubled(w.calledAt(n)) {
		return shown
	}
	return never
}

// firstShown is when the first answer showed a record at an offset.
func (w *witness) firstShown(offset int64) int64 {
	if w.showing == nil {
		w.showing = make([]int64, len(w.at))
		known := int64(0)
		for seq, e := range w.h.events() {
			if seq == 0 || e >= 0 {
				continue
			}
			for end := min(w.shown(^e), int64(len(w.at))); known < end; known++ {
				w.showing[known] = 2 * int64(seq)
			}
		}
		for ; known < int64(len(w.at)); known++ {
			w.showing[known] = never
		}
	}
	return w.showing[offset]
}

func doubled(m Moment) int64 {
	if m == Forever {
		return never
	}
	return 2 * m.Seq
}

// checkBelow compares what a step says of the log below a window with the final log, once, and leaves the rest of
// it to the search.
func (w *witness) checkBelow(s *step, from int64) {
	switch {
	case s.kind == store || s.offset >= from:
		return
	case s.offset < 0:
		s.end = impossible
		return
	}
	below := s.values[:min(from-s.offset, int64(len(s.values)))]
	for i, v := range below {
		o := s.offset + int64(i)
		if w.at[o] != 0 && w.at[o] != v {
			s.end = impossible
		}
	}
	s.offset, s.values = s.offset+int64(len(below)), s.values[len(below):]
}

// tail is a state of the model: the log from a window's floor on, newest batch first. States are never changed, so
// orders that the search tries share what they have in common.
type tail struct {
	older  *tail
	end    int64
	values []uint64 // up to end
	hash   uint64
}

// model returns porcupine's model of a window, and the count of steps it has tried. Beyond stepsMax no step
// succeeds, which ends the search.
func model(win *window, stepsMax int) (*int, porcupine.Model) {
	taken := new(int)
	return taken, porcupine.Model{
		Init: func() any { return &tail{end: win.from} },
		Step: func(state, input, _ any) (bool, any) {
			if *taken++; *taken > stepsMax {
				return false, state
			}
			return state.(*tail).take(input.(*step))
		},
		Equal: func(a, b any) bool { return a.(*tail).equal(b.(*tail)) },
		Hash:  func(state any) uint64 { return state.(*tail).hash },
	}
}

func (t *tail) take(s *step) (bool, any) {
	switch {
	case s.kind == store && t.end == s.offset:
		return true, &tail{older: t, end: s.end, values: s.values, hash: mix(t.hash, s.values[0])}
	case s.kind == toEnd && t.end == s.end && t.holds(s.offset, s.values),
		s.kind == seen && t.end >= s.end && t.holds(s.offset, s.values):
		return true, t
	}
	return false, t
}

// mix needs no more than to tell most orders of one window apart; equal decides.
func mix(hash, v uint64) uint64 { return bits.RotateLeft64((hash^v)*0x9E3779B97F4A7C15, 29) }

// holds compares only what is above the window's floor; checkBelow has seen to the rest.
func (t *tail) holds(offset int64, values []uint64) bool {
	for ; t.older != nil && t.end > offset; t = t.older {
		base := t.end - int64(len(t.values))
		for i, v := range t.values {
			at := base + int64(i) - offset
			if at < 0 || at >= int64(len(values)) || v == 0 || values[at] == 0 {
				continue
			}
			if values[at] != v {
				return false
			}
		}
	}
	return true
}

func (t *tail) equal(o *tail) bool {
	for ; t != o; t, o = t.older, o.older {
		if t == nil || o == nil || t.end != o.end || t.hash != o.hash || !slices.Equal(t.values, o.values) {
			return false
		}
	}
	return true
}
