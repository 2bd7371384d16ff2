package history

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// both wants the rule from Check, and from Porcupine what it says when something is wrong at all; "" is correct.
func both(t *testing.T, h *History, rule string) {
	t.Helper()
	err := Check(h)
	var v *Violation
	if rule == "" && err != nil || rule != "" && (!errors.As(err, &v) || v.Rule != rule) {
		t.Errorf("Check finds %v, want %q", err, rule)
	}
	if err := checkPorcupine(t, h); (err != nil) != (rule != "") {
		t.Errorf("Porcupine finds %v, want %q", err, rule)
	}
}

func TestEventsAtOneTimeAreInTheOrderOfTheirRecording(t *testing.T) {
	for _, ackFirst := range []bool{true, false} {
		t.Run(fmt.Sprintf("ackFirst=%v", ackFirst), func(t *testing.T) {
			h := new(History)
			append1 := h.Append(10, 1, Producer{}, []uint64{7})
			var end Ref
			if ackFirst {
				h.Acked(append1, 20, 0)
				end = h.End(20, 2)
			} else {
				end = h.End(20, 2)
				h.Acked(append1, 20, 0)
			}
			h.Bounds(end, 20, 0, 0)
			h.SetLog(0, []uint64{7})
			if ackFirst {
				both(t, h, RuleStaleEnd)
			} else {
				both(t, h, "")
			}
		})
	}
}

func TestAnEmptyHistoryOfAnEmptyLogIsCorrect(t *testing.T) {
	h := new(History)
	h.SetLog(0, nil)
	both(t, h, "")
}

func TestAnEmptyLogIsNotTheEndOfAnAcknowledgedAppend(t *testing.T) {
	h := new(History)
	h.Acked(h.Append(0, 1, Producer{}, []uint64{1, 2}), 1, 0)
	h.SetLog(0, nil)
	both(t, h, RuleLost)
}

func TestAnswersOutsideOfAnyLogAreViolations(t *testing.T) {
	for _, offset := range []int64{-1, -5, 1, math.MaxInt64, math.MinInt64} {
		h := new(History)
		h.Acked(h.Append(0, 1, Producer{}, []uint64{1, 2}), 1, 0)
		h.Acked(h.Append(2, 1, Producer{}, []uint64{3, 4}), 3, offset)
		h.SetLog(0, []uint64{1, 2, 3, 4})
		both(t, h, RuleElsewhere)
	}
	for high, rule := range map[int64]string{-1: RuleLogStart, math.MinInt64: RuleLogStart, math.MaxInt64: RuleLost} {
		h := new(History)
		h.Bounds(h.End(0, 1), 1, 0, high)
		h.SetLog(0, nil)
		both(t, h, rule)
	}
}

func TestAPlainRetryMayStoreTwiceAndAnIdempotentOneOnce(t *testing.T) {
	for id, rule := range map[int64]string{0: "", 5: RuleStoredTwice} {
		h := new(History)
		p := Producer{ID: id}
		h.Append(0, 1, p, []uint64{1, 2})
		h.Acked(h.Append(1, 1, p, []uint64{1, 2}), 2, 2)
		h.SetLog(0, []uint64{1, 2, 1, 2})
		both(t, h, rule)
	}
}

func TestAnAppendThatFailedMayHaveBeenStoredByAnEarlierAttempt(t *testing.T) {
	for _, earlier := range []bool{true, false} {
		h := new(History)
		p := Producer{ID: 1}
		if earlier {
			h.Append(0, 1, p, []uint64{1})
		}
		h.Failed(h.Append(1, 1, p, []uint64{1}), 2)
		h.SetLog(0, []uint64{1})
		if earlier {
			both(t, h, "")
		} else {
			both(t, h, RuleStoredFailed)
		}
	}
}

func TestAnUnansweredAppendIsStoredOnlyAfterItsCall(t *testing.T) {
	for _, called := range []bool{true, false} {
		h := new(History)
		end := h.End(0, 1)
		if called {
			h.Append(5, 2, Producer{}, []uint64{1})
			h.Bounds(end, 6, 0, 1)
			both(t, logged(h, 0, 1), "")
		} else {
			h.Bounds(end, 6, 0, 1)
			h.Append(7, 2, Producer{}, []uint64{1})
			both(t, logged(h, 0, 1), RuleEndTooHigh)
		}
	}
}

func TestAnAcknowledgedAppendIsBelowThoseCalledLater(t *testing.T) {
	h := new(History)
	h.Acked(h.Append(0, 1, Producer{}, []uint64{1, 2}), 1, 1)
	h.Acked(h.Append(2, 2, Producer{}, []uint64{3}), 3, 0)
	both(t, logged(h, 0, 3, 1, 2), RuleAppendOrder)
}

func TestAReadReturnsOnlyWhatWasAppendedBefore(t *testing.T) {
	h := new(History)
	h.Records(h.Read(0, 1, 0), 1, []uint64{1})
	h.Append(2, 2, Producer{}, []uint64{1, 2})
	both(t, logged(h, 0, 1, 2), RuleReadPastCommit)
}

func TestAReadMayBeBehindAndStillShowsWhatItReturned(t *testing.T) {
	for high, rule := range map[int64]string{2: "", 1: RuleStaleEnd} {
		h := new(History)
		h.Append(0, 1, Producer{}, []uint64{1})
		h.Append(1, 1, Producer{}, []uint64{2})
		h.Records(h.Read(2, 2, 0), 3, []uint64{1, 2})
		h.Records(h.Read(4, 2, 0), 5, []uint64{1}) // another replica
		h.Records(h.Read(6, 2, 1), 7, nil)
		h.Bounds(h.End(8, 3), 9, 0, high)
		both(t, logged(h, 0, 1, 2), rule)
	}
}

func logged(h *History, start int64, values ...uint64) *History {
	h.SetLog(start, values)
	return h
}

func TestANewEpochStartsFromSequenceZero(t *testing.T) {
	h := new(History)
	h.Acked(h.Append(0, 1, Producer{ID: 9}, []uint64{1, 2}), 1, 0)
	h.Acked(h.Append(2, 1, Producer{ID: 9, Sequence: 2}, []uint64{3}), 3, 2)
	h.Acked(h.Append(4, 1, Producer{ID: 9, Epoch: 1}, []uint64{4}), 5, 3)
	both(t, logged(h, 0, 1, 2, 3, 4), "")
}

func TestWhatNobodySawBelowTheLogStartIsLeftAlone(t *testing.T) {
	h := new(History)
	p := Producer{ID: 3}
	h.Acked(h.Append(0, 1, p, []uint64{1}), 1, 0)
	h.Append(2, 1, Producer{ID: 3, Sequence: 1}, []uint64{2, 3}) // in [1, 3), perhaps
	h.Acked(h.Append(4, 1, Producer{ID: 3, Sequence: 3}, []uint64{4}), 5, 3)
	h.Bounds(h.End(6, 1), 7, 2, 4)
	h.Duplicate(h.Append(8, 1, Producer{ID: 3, Sequence: 1}, []uint64{2, 3}), 9)
	both(t, logged(h, 3, 4), "")
}

func TestABatchCutByTheLogStartIsRead(t *testing.T) {
	h := new(History)
	h.Append(0, 1, Producer{}, []uint64{1, 2, 3})
	h.Acked(h.Append(2, 1, Producer{}, []uint64{4}), 3, 3)
	both(t, logged(h, 2, 3, 4), "")
	both(t, logged(h, 1, 3, 4), RuleElsewhere)
}

func TestClientsThatDisagreeBelowTheLogStartAreHeard(t *testing.T) {
	h := new(History)
	h.Acked(h.Append(0, 1, Producer{}, []uint64{1}), 1, 0)
	h.Append(2, 1, Producer{}, []uint64{2})
	h.Records(h.Read(3, 2, 0), 4, []uint64{2})
	both(t, logged(h, 1), RuleChanged)
	if err := Check(h); err == nil || !strings.Contains(err.Error(), "told to {client 1") {
		t.Errorf("%v does not say who was told otherwise", err)
	}
}

func TestAReadToTheEndThatWasRefusedWithBothEndsIsAnEnd(t *testing.T) {
	for high, rule := range map[int64]string{1: "", 0: RuleStaleEnd} {
		h := new(History)
		h.Acked(h.Append(0, 1, Producer{}, []uint64{1}), 1, 0)
		h.Bounds(h.ReadToEnd(2, 1, 8), 3, 0, high)
		both(t, logged(h, 0, 1), rule)
	}
}

func TestAViolationNamesTheOperationsWithTimesAndValues(t *testing.T) {
	h := new(History)
	h.Acked(h.Append(100, 1, Producer{ID: 4, Epoch: 2}, []uint64{71, 72}), 250, 0)
	h.Bounds(h.End(300, 6), 350, 0, 0)
	h.SetLog(0, []uint64{71, 72})
	_, searched := Porcupine(h, Limits{})
	for _, err := range []error{Check(h), searched} {
		for _, want := range []string{"client 6 asks for the end at 300ns #3", "told [0, 0) at 350ns #4"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v does not say %q", err, want)
			}
		}
	}
	want := "{client 1 appends [71 72] as producer 4 epoch 2 sequence 0 at 100ns #1, acknowledged as [0, 2) at 250ns #2}"
	if err := Check(h); !strings.Contains(err.Error(), want) {
		t.Errorf("%v does not say %q", err, want)
	}
}

func TestAMisrecordedHistoryIsRefused(t *testing.T) {
	log := []uint64{1}
	for name, record := range map[string]func(h *History){
		"no log":            func(h *History) { h.hasLog = false },
		"negative start":    func(h *History) { h.SetLog(-1, nil) },
		"empty append":      func(h *History) { h.Append(0, 1, Producer{}, nil) },
		"negative read":     func(h *History) { h.Read(0, 1, -1) },
		"time runs back":    func(h *History) { h.End(5, 1); h.End(4, 1) },
		"answered twice":    func(h *History) { r := h.End(0, 1); h.Bounds(r, 1, 0, 0); h.Bounds(r, 2, 0, 0) },
		"end acknowledged":  func(h *History) { h.Acked(h.End(0, 1), 1, 0) },
		"append with bound": func(h *History) { h.Bounds(h.Append(0, 1, Producer{}, []uint64{2}), 1, 0, 0) },
		"zero value":        func(h *History) { h.Append(0, 1, Producer{}, []uint64{0}) },
		"value twice":       func(h *History) { h.Append(0, 1, Producer{}, []uint64{2, 2}) },
		"value in two batches": func(h *History) {
			h.Append(0, 1, Producer{}, []uint64{2, 3})
			h.Append(0, 1, Producer{}, []uint64{2, 4})
		},
		"one sequence, two batches": func(h *History) {
			h.Append(0, 1, Producer{ID: 1}, []uint64{2})
			h.Append(0, 1, Producer{ID: 1}, []uint64{3})
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := new(History)
			h.SetLog(0, log)
			record(h)
			if err := Check(h); !errors.Is(err, ErrMisuse) {
				t.Errorf("Check: %v", err)
			}
			if _, err := Porcupine(h, Limits{}); !errors.Is(err, ErrMisuse) {
				t.Errorf("Porcupine: %v", err)
			}
		})
	}
}

func TestAWindowThatIsGivenUpIsUndecidedAndNotAViolation(t *testing.T) {
	h := generate(1, 4, 300).h
	cover, err := Porcupine(h, Limits{SearchStepsMax: 40})
	if err != nil {
		t.Fatal(err)
	}
	if cover.Windows < 2 || cover.Undecided == 0 {
		t.Errorf("with 40 steps a window, all is decided: %+v", cover)
	}
	full, err := Porcupine(h, Limits{})
	if err != nil || full.Undecided != 0 || full.Windows != cover.Windows || full.StepsMax <= 40 {
		t.Errorf("%+v, %v", full, err)
	}
}

func TestAWindowSaysOfARunOfWindowsWhereItStopped(t *testing.T) {
	h := generate(3, 4, 600).h
	whole, err := Porcupine(h, Limits{WindowAnswers: 20})
	if err != nil {
		t.Fatal(err)
	}
	i := 0
	for h.ops[i].Kind != End || h.ops[i].Outcome != Done {
		i++
	}
	h.ops[i].HighWatermark = math.MaxInt64
	cover, err := Porcupine(h, Limits{WindowAnswers: 20})
	if err == nil || cover.Windows+cover.NeverStarted != whole.Windows || cover.NeverStarted == 0 {
		t.Errorf("%+v of %+v: %v", cover, whole, err)
	}
}
