package history

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/anishathalye/porcupine"
)

// disturb changes a history at random, for better or worse: the checkers have to find out which.
func disturb(h *History, rng *rand.Rand) {
	for i := range h.ops {
		h.ops[i].LogStart = 0 // only Check knows of log starts
	}
	for range 1 + rng.IntN(3) {
		switch rng.IntN(6) {
		case 0, 1:
			shiftEnd(h, rng)
		case 2, 3, 4:
			move(h, 1+rng.Int64N(h.last.Seq-1), 1+rng.Int64N(12))
		case 5:
			forgetAnswer(h, rng)
		}
	}
}

func shiftEnd(h *History, rng *rand.Rand) {
	var ends []*Op
	for i := range h.ops {
		if h.ops[i].linearizable() {
			ends = append(ends, &h.ops[i])
		}
	}
	if ends == nil {
		return
	}
	op := ends[rng.IntN(len(ends))]
	if op.Kind == End {
		op.HighWatermark = max(0, op.HighWatermark+rng.Int64N(7)-3)
	}
	if op.Kind == ReadToEnd && op.to > op.from {
		op.to--
	}
}

// move makes an event happen some events later, as far as that is not before its call or after its answer.
func move(h *History, seq, by int64) {
	for ; by > 0 && seq < h.last.Seq; by-- {
		exchange(h, seq)
		seq++
	}
}

// exchange makes the event at seq and the next one happen in the other order.
func exchange(h *History, seq int64) {
	events := h.events()
	a, b := events[seq], events[seq+1]
	if a == ^b || a >= 0 && b >= 0 {
		return // a call and its own answer; two calls, which are in the order of their Refs
	}
	moment := func(e Ref) *Moment {
		if e < 0 {
			return &h.ops[^e].Return
		}
		return &h.ops[e].Call
	}
	moment(a).Seq, moment(b).Seq = seq+1, seq
}

func forgetAnswer(h *History, rng *rand.Rand) {
	op := &h.ops[rng.IntN(len(h.ops))]
	if op.Kind != Append || op.Outcome != Done {
		return
	}
	gone := op.Return.Seq
	op.Outcome, op.Return = Unknown, Forever
	for i := range h.ops {
		for _, m := range []*Moment{&h.ops[i].Call, &h.ops[i].Return} {
			if *m != Forever && m.Seq > gone {
				m.Seq--
			}
		}
	}
	h.last.Seq--
}

// orderMatters leaves out what only Check knows.
func orderMatters(err error) bool {
	var v *Violation
	return errors.As(err, &v) && v.Rule != RuleProducerOrder && v.Rule != RuleProducerGap
}

func TestCheckAndPorcupineAgreeOnDisturbedHistories(t *testing.T) {
	good, bad := 0, 0
	for seed := range uint64(1500) {
		rng := rand.New(rand.NewPCG(seed, 9))
		h := generate(seed, 2+int(seed%6), 60).h
		disturb(h, rng)
		err := Check(h)
		if errors.Is(err, ErrMisuse) {
			t.Fatal(err)
		}
		for _, answers := range []int{1, 4, 16, 1000} {
			cover, other := Porcupine(h, Limits{WindowAnswers: answers})
			if cover.Undecided > 0 {
				t.Fatalf("seed %d: undecided: %+v", seed, cover)
			}
			if orderMatters(err) != (other != nil) {
				t.Fatalf("seed %d, windows of %d answers: Check: %v; Porcupine: %v", seed, answers, err, other)
			}
		}
		if orderMatters(err) {
			bad++
		} else {
			good++
		}
	}
	if good < 400 || bad < 400 {
		t.Errorf("%d good and %d bad histories: the test is one-sided", good, bad)
	}
	t.Logf("%d good, %d bad", good, bad)
}

// reference is the partition as a client would describe it, with no idea of the final log: it leaves it to the
// search where appends without an answer stand, or whether they do.
func reference(h *History, stepsMax int) (ok, decided bool) {
	var ops []porcupine.Operation
	for i := range h.ops {
		op := &h.ops[i]
		if op.Outcome == Failed || op.Kind != Append && op.Outcome == Unknown {
			continue
		}
		ops = append(ops, porcupine.Operation{Input: Ref(i), Call: 2 * op.Call.Seq, Return: doubled(op.Return)})
	}
	// The final log is read after all answers; an append that is not in it takes effect later.
	ops = append(ops, porcupine.Operation{Input: Ref(none), Call: 2*h.last.Seq + 1, Return: never - 1})
	taken := 0
	ok = porcupine.CheckOperations(porcupine.Model{
		Init: func() any { return []uint64(nil) },
		Step: func(state, input, _ any) (bool, any) {
			if taken++; taken > stepsMax {
				return false, state
			}
			return referenceStep(h, state.([]uint64), input.(Ref))
		},
		Equal: func(a, b any) bool { return slices.Equal(a.([]uint64), b.([]uint64)) },
		Hash: func(state any) uint64 {
			var hash uint64
			for _, v := range state.([]uint64) {
				hash = mix(hash, v)
			}
			return hash
		},
	}, ops)
	return ok, taken <= stepsMax
}

func referenceStep(h *History, log []uint64, r Ref) (bool, any) {
	if r == none {
		return slices.Equal(log, h.log), log
	}
	op, values := &h.ops[r], h.Values(r)
	high := int64(len(log))
	switch op.Kind {
	case Append:
		base := high
		if at := slices.Index(log, values[0]); at >= 0 && op.Producer.ID != 0 {
			base = int64(at)
		}
		if op.Outcome == Done && op.Offset != base {
			return false, log
		}
		if base < high {
			return true, log
		}
		return true, slices.Concat(log, values)
	case End:
		return op.HighWatermark == high, log
	default:
		end := op.Offset + int64(len(values))
		if len(values) == 0 {
			return op.Kind == Read || op.Offset == high, log
		}
		return end <= high && slices.Equal(log[op.Offset:end], values) && (op.Kind == Read || end == high), log
	}
}

func TestCheckAgreesWithASearchThatDoesNotKnowTheFinalLog(t *testing.T) {
	good, bad, undecided := 0, 0, 0
	for seed := range uint64(1200) {
		h := newToy(seed, 2+int(seed%3), false).run(24).h
		if seed%4 > 0 {
			disturb(h, rand.New(rand.NewPCG(seed, 11)))
		}
		err := Check(h)
		ok, decided := reference(h, 100_000)
		switch {
		case !decided:
			undecided++
		case orderMatters(err) == ok:
			t.Fatalf("seed %d: Check: %v; the search: %v", seed, err, ok)
		case ok:
			good++
		default:
			bad++
		}
	}
	if good < 300 || bad < 300 || undecided > 60 {
		t.Errorf("%d good, %d bad, %d undecided histories", good, bad, undecided)
	}
	t.Logf("%d good, %d bad, %d undecided", good, bad, undecided)
}
