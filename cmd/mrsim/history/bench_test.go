package history

import (
	"fmt"
	"testing"
)

func BenchmarkCheck(b *testing.B) {
	for _, n := range []int{10_000, 100_000, 1_000_000} {
		h := generate(1, 8, n).h
		b.Run(fmt.Sprintf("ops=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := Check(h); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(h.Len())*float64(b.N)/b.Elapsed().Seconds(), "ops/s")
		})
	}
}

func BenchmarkPorcupine(b *testing.B) {
	for _, clients := range []int{8, 32} {
		h := generate(1, clients, 20_000).h
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			var cover Coverage
			for b.Loop() {
				var err error
				if cover, err = Porcupine(h, Limits{}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(h.Len())*float64(b.N)/b.Elapsed().Seconds(), "ops/s")
			b.ReportMetric(float64(cover.Windows), "windows")
			b.ReportMetric(float64(cover.Undecided), "undecided")
			b.ReportMetric(float64(cover.StepsMax), "steps-max")
			b.ReportMetric(float64(cover.AtOnceMax), "at-once-max")
		})
	}
}

// BenchmarkRecord is one append of two records and its acknowledgement.
func BenchmarkRecord(b *testing.B) {
	b.ReportAllocs()
	h, at, values := new(History), int64(0), []uint64{1, 2}
	for b.Loop() {
		at++
		h.Acked(h.Append(at, 1, Producer{ID: 1}, values), at, at)
		if len(h.ops) == 1<<20 {
			h = new(History)
		}
	}
}
