package history

import "testing"

// checkPorcupine wants all windows to be decided.
func checkPorcupine(t *testing.T, h *History) error {
	t.Helper()
	cover, err := Porcupine(h, Limits{})
	if cover.Undecided > 0 {
		t.Errorf("%d of %d windows undecided after %d steps", cover.Undecided, cover.Windows, cover.StepsMax)
	}
	return err
}

func TestCorrectHistoriesPassBothCheckers(t *testing.T) {
	fired := map[string]int{}
	for seed := range uint64(400) {
		toy := generate(seed, 2+int(seed%7), 300)
		if err := Check(toy.h); err != nil {
			t.Fatalf("seed %d: Check: %v", seed, err)
		}
		if err := checkPorcupine(t, toy.h); err != nil {
			t.Fatalf("seed %d: Porcupine: %v", seed, err)
		}
		for what, n := range toy.fired {
			fired[what] += n
		}
	}
	for _, what := range []string{"leader", "unknown", "lost", "late", "retry", "gap", "duplicate", "forgotten", "truncate"} {
		if fired[what] < 100 {
			t.Errorf("%q happened only %d times", what, fired[what])
		}
	}
	t.Log(fired)
}
