package measure

import (
	"math"
	"testing"
)

func TestAnObservationIsCountedUnderTheFirstBoundThatIsNotBelowIt(t *testing.T) {
	for _, c := range []struct {
		nanos int64
		under int // index of its bound
	}{{-5, 0}, {0, 0}, {10e3, 0}, {10e3 + 1, 1}, {1e6, 6}, {1e6 + 1, 7}, {30e9, 19}, {30e9 + 1, 20}, {math.MaxInt64, 20}} {
		var d Durations
		d.Observe(c.nanos)
		r := d.Read()
		for i, n := range r.Counts {
			if want := i == c.under; (n == 1) != want {
				t.Errorf("%d ns: %d in bucket %d, want it in %d", c.nanos, n, i, c.under)
			}
		}
	}
}

func TestReadingsAreInBaseUnits(t *testing.T) {
	var d Durations
	d.ObserveN(2e6, 3)
	if r := d.Read(); r.Unit != "s" || r.Sum != 0.006 || r.Count() != 3 || r.Bounds[6] != 0.001 {
		t.Errorf("got %+v", r)
	}
	var n Counts
	n.Observe(7)
	if r := n.Read(); r.Unit != "" || r.Sum != 7 || r.Count() != 1 || r.Counts[5] != 1 {
		t.Errorf("got %+v", r)
	}
	var b Bytes
	b.Observe(1 << 20)
	if r := b.Read(); r.Unit != "By" || r.Sum != 1<<20 || r.Counts[14] != 1 {
		t.Errorf("got %+v", r)
	}
}

func TestBoundsRise(t *testing.T) {
	var d Durations
	var n Counts
	var b Bytes
	for _, r := range []Reading{d.Read(), n.Read(), b.Read()} {
		for i := 1; i < len(r.Bounds); i++ {
			if r.Bounds[i] <= r.Bounds[i-1] {
				t.Errorf("unit %q: bound %v after %v", r.Unit, r.Bounds[i], r.Bounds[i-1])
			}
		}
	}
}

func TestRecordingAllocatesNothing(t *testing.T) {
	var d Durations
	if n := testing.AllocsPerRun(100, func() { d.ObserveN(12345, 2) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	var d Durations
	for i := int64(0); b.Loop(); i += 997 {
		d.Observe(i)
	}
}
