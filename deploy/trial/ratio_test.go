package trial

import (
	"errors"
	"math"
	"slices"
	"testing"
)

func TestTheRatioOfPairsComesWithItsInterval(t *testing.T) {
	base := []float64{100, 200, 400, 100}
	ratio, low, high := Ratio([]float64{90, 180, 360, 90}, base)
	if math.Abs(ratio-0.9) > 1e-9 || math.Abs(low-0.9) > 1e-6 || math.Abs(high-0.9) > 1e-6 {
		t.Errorf("pairs that all have the ratio 0.9: %v, %v to %v", ratio, low, high)
	}
	// Log ratios +-0.1: standard deviation 0.11547, its mean's 0.057735, t 3.182.
	up, down := math.Exp(0.1), math.Exp(-0.1)
	ratio, low, high = Ratio([]float64{100 * up, 200 * down, 400 * up, 100 * down}, base)
	if math.Abs(ratio-1) > 1e-9 || math.Abs(math.Log(high)-0.18371) > 1e-4 || math.Abs(math.Log(low)+0.18371) > 1e-4 {
		t.Errorf("%v, %v to %v", ratio, low, high)
	}
	if a, b, c := studentT(19), studentT(20), studentT(1000); a < b || b < c || c < 1.960 || b < 2.086 {
		t.Errorf("quantiles %v %v %v", a, b, c)
	}
}

func TestOnePairHasNoInterval(t *testing.T) {
	if ratio, low, high := Ratio([]float64{3}, []float64{2}); math.Abs(ratio-1.5) > 1e-9 || low != 0 || !math.IsInf(high, 1) {
		t.Errorf("%v, %v to %v", ratio, low, high)
	}
}

func TestEveryArmHasItsTurnInEveryRoundAndNoneIsAlwaysFirst(t *testing.T) {
	var turns [][2]int
	if err := Rounds(3, 3, func(round, arm int) error {
		turns = append(turns, [2]int{round, arm})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if want := [][2]int{{0, 0}, {0, 1}, {0, 2}, {1, 1}, {1, 2}, {1, 0}, {2, 2}, {2, 0}, {2, 1}}; !slices.Equal(turns, want) {
		t.Errorf("turns %v", turns)
	}
	failed, turn := errors.New("failed"), 0
	if err := Rounds(3, 3, func(int, int) error {
		turn++
		return failed
	}); !errors.Is(err, failed) || turn != 1 {
		t.Errorf("%v after %d turns", err, turn)
	}
}
