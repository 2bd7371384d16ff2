package actors

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkAppend is what an append costs the leader's replica and LogWriter, over a log in memory, with two followers
// that acknowledge at once; untimed is without the clock of durations.
func BenchmarkAppend(b *testing.B) {
	epoch := time.Now()
	for name, clock := range map[string]func() int64{"untimed": nil, "timed": func() int64 { return int64(time.Since(epoch)) }} {
		for _, batch := range []int{1, 100} {
			b.Run(fmt.Sprintf("%s/%d-per-turn", name, batch), func(b *testing.B) {
				r := newRig(b, nil)
				r.counters.Nanos = clock
				r.elect()
				ms := make([]any, batch)
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					since := r.counters.now()
					for j := range ms {
						ms[j] = &Propose{Payload: []byte("a record batch"), Reply: ignored{}, Since: since}
					}
					r.passAll(0, ms...)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/append")
			})
		}
	}
}

type ignored struct{}

func (ignored) Proposed(ProposeResult) {}
