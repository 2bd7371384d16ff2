package partition

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

func TestReplayingTheLogAfterACrashGivesTheSameAnswersAndTheSameState(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		var given [][]string // by entry
		for range rapid.IntRange(1, 15).Draw(t, "entries") {
			var payloads [][]byte
			for range rapid.IntRange(0, 4).Draw(t, "batches") {
				payloads = append(payloads, batchOf(anyBatch(t)))
			}
			payloads = anyTruncation(t, w, payloads)
			now := rapid.SampledFrom([]int64{1, 2, sessionMillisMax, 2 * sessionMillisMax}).Draw(t, "time")
			given = append(given, summary(w.apply(now, payloads...)))
		}
		before, kept := summaryOfState(w.m), 0
		w.kv = w.kv.Crash(func(n int) int {
			kept = rapid.IntRange(0, n).Draw(t, "commits kept")
			return kept
		})
		w.reopen()
		for i, want := range given[kept:] {
			if got := w.replay(raftcore.Index(1 + 2*(kept+i+1))); !slices.Equal(got, want) {
				t.Fatalf("entry %d: %v, before the crash %v", kept+i, got, want)
			}
		}
		if after := summaryOfState(w.m); !slices.Equal(before, after) {
			t.Fatalf("state %v, before the crash %v", after, before)
		}
	})
}

// replay applies an entry of the log again.
func (w *world) replay(i raftcore.Index) []string {
	w.t.Helper()
	e, err := raftcore.DecodeEntry(w.entries[i])
	if err != nil {
		w.t.Fatalf("entry %d: %v", i, err)
	}
	var b store.Batch
	outcomes := w.m.Apply(raftcore.Position{Index: i, Term: w.term}, &e, &b)
	if err := w.kv.Commit(&b, false); err != nil {
		w.t.Fatalf("Commit: %v", err)
	}
	return summary(outcomes)
}
