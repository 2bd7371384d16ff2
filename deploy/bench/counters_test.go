package main

import (
	"strings"
	"testing"
)

func TestSamplesAreSummedByNameOverLabelsAndNodes(t *testing.T) {
	sums := make(map[string]float64)
	for range 2 {
		err := addSamples(strings.NewReader("# HELP a_total Words.\n# TYPE a_total counter\na_total{reason=\"x y\"} 1\na_total{reason=\"z\"} 2\nb_total 1e3\n"), sums)
		if err != nil {
			t.Fatal(err)
		}
	}
	if sums["a_total"] != 6 || sums["b_total"] != 2000 {
		t.Errorf("got %v", sums)
	}
	if err := addSamples(strings.NewReader("a_total many\n"), sums); err == nil {
		t.Error("a value that is no number passes")
	}
}

func TestARatioIsOfWhatHappenedInBetween(t *testing.T) {
	r := ratio{"appends per entry", "a", "b"}
	got := r.line(map[string]float64{"a": 10, "b": 5}, map[string]float64{"a": 40, "b": 15})
	if want := "appends per entry: 3.0 (30 / 10)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := r.line(nil, nil); got != "appends per entry: b did not move" {
		t.Errorf("got %q", got)
	}
}
