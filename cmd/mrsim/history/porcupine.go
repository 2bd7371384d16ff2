package history

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sort"

	"github.com/anishathalye/porcupine"
)

// Defaults of Limits.
const (
	windowAnswers     = 20
	searchStepsMax    = 200_000
	culpritsShownMax  = 6
	longWindowsFactor = 2 // a window that finds no quiet moment is cut at this many times its answers
)

// Limits bound what Porcupine searches. Zero values mean the defaults.
type Limits struct {
	// WindowAnswers is how many answers a window has at least: 20. It ends at the next moment with nothing
	// under way, or after twice as many. Where it is cut makes no difference to what is found.
	WindowAnswers int
	// SearchStepsMax is after how many tried operations a window is given up, undecided: 200,000. With 8
	// operations at once a window has taken up to 3,000, with 16 up to 20,000; with 32 some are not decided.
	// Steps, not seconds, so that a run repeats.
	SearchStepsMax int
}

func (l Limits) orDefaults() Limits {
	if l.WindowAnswers <= 0 {
		l.WindowAnswers = windowAnswers
	}
	if l.SearchStepsMax <= 0 {
		l.SearchStepsMax = searchStepsMax
	}
	return l
}

// Coverage is what Porcupine did. Undecided windows are not known to be right.
type Coverage struct {
	Windows      int // searched, undecided ones included
	Undecided    int
	Operations   int // in all windows
	AtOnceMax    int // operations under way at one moment
	StepsMax     int // taken by one window
	WildRecords  int // below the log start and seen by nobody: anything is right there
	NeverStarted int // windows after the one with the violation
}

// Porcupine searches each window of a history for an order of its operations that explains all answers, appends
// without an answer included, and that ends in the final log. It returns nil, a *Violation with RuleOrder, or an
// error that is ErrMisuse. Producers' sequences are not part of its model.
//
// A history may be cut at any moment: what was shown before it is a floor. An operation answered before the cut
// belongs to the window before it, one called later to the window after it, and one under way to the window
// before it exactly if it stands within the floor. The next window starts from the final log up to the floor. A
// correct history passes, since each window holds what lies between two floors; and nothing is missed, since of
// two operations that contradict each other across a cut, the one asked later finds its place below the floor.
func Porcupine(h *History, limits Limits) (Coverage, error) {
	w, err := newWitness(h)
	if err != nil {
		return Coverage{}, err
	}
	limits = limits.orDefaults()
	windows := w.windows(limits.WindowAnswers)
	cover := Coverage{WildRecords: len(w.holes)}
	for i := range windows {
		v := w.search(&windows[i], limits.SearchStepsMax, &cover)
		if v != nil {
			cover.NeverStarted = len(windows) - i - 1
			return cover, v
		}
	}
	return cover, nil
}

// cut is the end of a window: times are doubled Moment.Seqs, so that a cut fits between two events.
type cut struct {
	time  int64
	floor int64 // what was shown before, up to the end of its batch
}

const never = math.MaxInt64

func (w *witness) cuts(answers int) []cut {
	var cuts []cut
	floor, seen, underWay := int64(0), 0, 0
	for seq, e := range w.h.events() {
		switch {
		case seq == 0:
		case e >= 0:
			if w.h.ops[e].Return != Forever {
				underWay++
			}
		default:
			floor = max(floor, w.floor(w.shown(^e)))
			seen++
			underWay--
			if seen >= answers && underWay == 0 || seen >= longWindowsFactor*answers {
				cuts = append(cuts, cut{time: 2*int64(seq) + 1, floor: floor})
				seen = 0
			}
		}
	}
	return append(cuts, cut{time: never, floor: int64(len(w.at))})
}

// floor rounds up to the end of a batch: who has seen a part knows that all of it is stored.
func (w *witness) floor(shown int64) int64 {
	shown = min(max(shown, 0), int64(len(w.at)))
	if shown > 0 && w.ownerOf[shown-1] != none {
		return w.occurrences[w.ownerOf[shown-1]].end
	}
	return shown
}

type window struct {
	from, to int64 // floors
	end      int64 // time
	steps    []step
}

func (w *witness) windows(answers int) []window {
	cuts := w.cuts(answers)
	windows := make([]window, len(cuts))
	from := int64(0)
	for i, c := range cuts {
		windows[i] = window{from: from, to: c.floor, end: c.time}
		from = c.floor
	}
	for _, s := range w.steps() {
		i := windowOf(cuts, s)
		windows[i].steps = append(windows[i].steps, s)
	}
	for i := range windows {
		win := &windows[i]
		win.steps = append(win.steps, step{
			kind: toEnd, op: none, offset: win.from, end: win.to, values: w.at[win.from:win.to], call: min(win.end, never-1), ret: never,
		})
		for j := range win.steps {
			w.checkBelow(&win.steps[j], win.from)
		}
	}
	return windows
}

// windowOf is the first one by whose cut the step was answered, or called and within the floor.
func windowOf(cuts []cut, s step) int {
	first := func(of func(c cut) bool) int {
		return min(sort.Search(len(cuts), func(i int) bool { return of(cuts[i]) }), len(cuts)-1)
	}
	answered := first(func(c cut) bool { return s.ret < c.time })
	called := first(func(c cut) bool { return s.call < c.time })
	within := first(func(c cut) bool { return s.place <= c.floor })
	return min(answered, max(called, within))
}

// search runs porcupine over one window.
func (w *witness) search(win *window, stepsMax int, cover *Coverage) *Violation {
	ops := make([]porcupine.Operation, len(win.steps))
	for i := range win.steps {
		s := &win.steps[i]
		ops[i] = porcupine.Operation{Input: s, Call: s.call, Return: s.ret}
	}
	taken, m := model(win, stepsMax)
	ok := porcupine.CheckOperations(m, ops)
	cover.Windows++
	cover.Operations += len(ops) - 1
	cover.AtOnceMax = max(cover.AtOnceMax, atOnce(win.steps))
	cover.StepsMax = max(cover.StepsMax, *taken)
	if ok {
		return nil
	}
	if *taken > stepsMax {
		cover.Undecided++
		return nil
	}
	_, again := model(win, stepsMax)
	_, info := porcupine.CheckOperationsVerbose(again, ops, 0)
	return w.explain(win, info.PartialLinearizations())
}

// atOnce leaves out the window's own last step, and records that nobody saw.
func atOnce(steps []step) int {
	type change struct{ at, by int64 }
	var changes []change
	for _, s := range steps {
		if s.op != none {
			changes = append(changes, change{s.call, 1}, change{s.ret, -1})
		}
	}
	slices.SortFunc(changes, func(a, b change) int { return cmp.Compare(a.at, b.at) })
	most, n := int64(0), int64(0)
	for _, c := range changes {
		n += c.by
		most = max(most, n)
	}
	return int(most)
}

// explain shows how far the longest order came, and what could not be next.
func (w *witness) explain(win *window, partial [][][]int) *Violation {
	var longest []int
	for _, order := range partial[0] {
		if len(order) > len(longest) {
			longest = order
		}
	}
	ordered := make([]bool, len(win.steps))
	end := win.from
	for _, i := range longest {
		ordered[i] = true
		if win.steps[i].kind == store {
			end = win.steps[i].end
		}
	}
	first := int64(never) // an answer that must come after whatever is next
	for i, s := range win.steps {
		if !ordered[i] {
			first = min(first, s.ret)
		}
	}
	text, n := "", 0
	for i, s := range win.steps {
		if ordered[i] || s.call > first {
			continue
		}
		if n++; n <= culpritsShownMax {
			text += "\n\t" + w.stepText(&s)
		}
	}
	if n > culpritsShownMax {
		text += fmt.Sprintf("\n\tand %d more", n-culpritsShownMax)
	}
	return violation(RuleOrder, "of %d operations from offset %d on, %d have an order and bring the log to %d; none of these can be next:%s",
		len(win.steps)-1, win.from, len(longest), end, text)
}

func (w *witness) stepText(s *step) string {
	switch {
	case s.op != none:
		return w.h.Describe(s.op)
	case s.kind == store:
		return fmt.Sprintf("{a record at %d that nobody saw}", s.offset)
	default:
		return fmt.Sprintf("{the final log, which holds %s in [%d, %d)}", valuesText(s.values), s.offset, s.end)
	}
}
