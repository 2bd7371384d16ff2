package main

import (
	"math"
	"testing"
)

func TestTheRatioOfPairsComesWithItsInterval(t *testing.T) {
	base := []float64{100, 200, 400, 100}
	ratio, low, high := ratioOf([]float64{90, 180, 360, 90}, base)
	if math.Abs(ratio-0.9) > 1e-9 || math.Abs(low-0.9) > 1e-6 || math.Abs(high-0.9) > 1e-6 {
		t.Errorf("pairs that all have the ratio 0.9: %v, %v to %v", ratio, low, high)
	}
	// Log ratios +-0.1: standard deviation 0.11547, its mean's 0.057735, t 3.182.
	up, down := math.Exp(0.1), math.Exp(-0.1)
	ratio, low, high = ratioOf([]float64{100 * up, 200 * down, 400 * up, 100 * down}, base)
	if math.Abs(ratio-1) > 1e-9 || math.Abs(math.Log(high)-0.18371) > 1e-4 || math.Abs(math.Log(low)+0.18371) > 1e-4 {
		t.Errorf("%v, %v to %v", ratio, low, high)
	}
	if a, b, c := studentT(19), studentT(20), studentT(1000); a < b || b < c || c < 1.960 || b < 2.086 {
		t.Errorf("quantiles %v %v %v", a, b, c)
	}
}

func TestAnArmIsANameAFolderAndFlags(t *testing.T) {
	var a arms
	if err := a.Set("one=bin --trace-ratio 0.01"); err != nil || a[0].name != "one" || a[0].bin != "bin" || len(a[0].flags) != 2 {
		t.Errorf("%+v, %v", a, err)
	}
	for _, bad := range []string{"", "one", "=bin", "one="} {
		if a.Set(bad) == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
