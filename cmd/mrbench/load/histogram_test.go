package load

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestEveryValueIsInABucketLessThanOne128thWide(t *testing.T) {
	for shift := range valueBits + 4 {
		for _, v := range []uint64{1 << shift, 1<<shift + 1, 1<<shift - 1, 3 << shift / 2} {
			b := bucketOf(v)
			if b == buckets-1 {
				if v < 1<<valueBits {
					t.Errorf("%d shares the last bucket", v)
				}
				continue
			}
			if edge := upperEdge(b); edge < v || float64(edge-v) > float64(v)/128 {
				t.Errorf("%d is in bucket %d up to %d", v, b, edge)
			}
			if b > 0 && upperEdge(b-1) >= v {
				t.Errorf("%d is in bucket %d, but the one before goes up to %d", v, b, upperEdge(b-1))
			}
		}
	}
}

func TestQuantilesAreNeverUnderstatedAndAtMost1In128Over(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	a, b := newHistogram(), newHistogram()
	var values []time.Duration
	for i := range 20000 {
		d := time.Duration(math.Exp(rng.Float64() * 22))
		values = append(values, d)
		[]*histogram{a, b}[i%2].record(d)
	}
	a.add(b)
	slices.Sort(values)
	for _, q := range []float64{0, 0.001, 0.5, 0.9, 0.99, 0.999, 1} {
		want := values[max(int(math.Ceil(q*float64(len(values))))-1, 0)]
		if got := a.quantile(q); got < want || float64(got-want) > float64(want)/128 {
			t.Errorf("quantile %g is %d, want %d", q, got, want)
		}
	}
	if a.max != values[len(values)-1] || a.total != 20000 {
		t.Errorf("max %v, total %d", a.max, a.total)
	}
}

func TestAnEmptyHistogramAndExtremeValuesHaveQuantiles(t *testing.T) {
	h := newHistogram()
	if h.quantile(0.99) != 0 {
		t.Error("nothing has a quantile")
	}
	h.record(-1)
	h.record(time.Hour)
	if h.quantile(0.5) != 0 || h.quantile(0.99) != time.Hour {
		t.Errorf("%v, %v", h.quantile(0.5), h.quantile(0.99))
	}
}
