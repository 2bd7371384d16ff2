package partition

import (
	"errors"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/multiraftd/multiraftd/proto/recordbatch"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// truncation is what a leader would propose at a time.
func (w *world) truncation(r Retention, nowMillis int64) (Truncation, bool) {
	w.t.Helper()
	v := w.view()
	trunc, ok, err := r.Truncation(v, testPrefix, nowMillis)
	if err != nil {
		w.t.Fatalf("Truncation: %v", err)
	}
	if err := v.Close(); err != nil {
		w.t.Fatalf("Close: %v", err)
	}
	return trunc, ok
}

// anyTruncation puts what a leader might propose, and sometimes nonsense, at some place among the payloads.
func anyTruncation(t *rapid.T, w *world, payloads [][]byte) [][]byte {
	trunc, ok := w.truncation(Retention{
		Millis: rapid.SampledFrom([]int64{0, 0, 1, 2, sessionMillisMax}).Draw(t, "retention"),
		Bytes:  rapid.SampledFrom([]int64{0, 1, 200, 700}).Draw(t, "bytes"),
	}, rapid.SampledFrom([]int64{1, 2, 3, 2 * sessionMillisMax}).Draw(t, "now"))
	if rapid.IntRange(0, 9).Draw(t, "nonsense") == 0 {
		trunc, ok = Truncation{math.MaxInt64, 5, 7}, true
	}
	if !ok {
		return payloads
	}
	return slices.Insert(payloads, rapid.IntRange(0, len(payloads)).Draw(t, "place"), trunc.AppendTo(nil))
}

func TestATruncationDropsTheRowsBeforeItAndReadsBelowItNameBothEnds(t *testing.T) {
	w := newWorld(t)
	w.apply(10, plain(2))
	w.apply(20, plain(3))
	w.apply(30, plain(4))
	trunc, ok := w.truncation(Retention{Millis: 10}, 30)
	if want := (Truncation{To: 2, Bytes: uint64(len(plain(2))), Discard: 4}); !ok || trunc != want {
		t.Fatalf("%+v, %v, want %+v", trunc, ok, want)
	}
	expect(t, w.apply(31, plain(1), trunc.AppendTo(nil), plain(1)), "accepted 9", "accepted 2", "accepted 10")
	w.reopen()
	if start, high := w.m.Bounds(); start != 2 || high != 11 || w.m.Discarded() != 4 {
		t.Fatalf("bounds %d, %d, discarded %d", start, high, w.m.Discarded())
	}
	if got, want := w.m.Bytes(), int64(len(plain(3))+len(plain(4))+2*len(plain(1))); got != want {
		t.Fatalf("%d bytes, want %d", got, want)
	}
	if o := offsets(must(w.read(2, math.MaxInt))); !slices.Equal(o, []int64{2, 5, 9, 10}) {
		t.Fatalf("batches at %v", o)
	}
	var e *OutOfRangeError
	if _, err := w.read(1, 1); !errors.As(err, &e) || e.LogStart != 2 || e.HighWatermark != 11 {
		t.Fatalf("a read below the log start: %v", err)
	}
}

func must(c Chunk, err error) Chunk {
	if err != nil {
		panic(err)
	}
	return c
}

func TestATruncationOfAllRecordsKeepsTheOffsets(t *testing.T) {
	w := newWorld(t)
	w.apply(10, plain(2))
	w.apply(20, from(7, 0, 3))
	trunc, ok := w.truncation(Retention{Millis: 1}, 1000)
	if want := (Truncation{To: 5, Bytes: uint64(len(plain(2)) + len(plain(3))), Discard: 5}); !ok || trunc != want {
		t.Fatalf("%+v, %v, want %+v", trunc, ok, want)
	}
	w.apply(1000, trunc.AppendTo(nil))
	w.reopen()
	if start, high := w.m.Bounds(); start != 5 || high != 5 || w.m.Bytes() != 0 {
		t.Fatalf("bounds %d, %d, %d bytes", start, high, w.m.Bytes())
	}
	if c, err := w.read(5, 1); err != nil || len(c.Batches) != 0 {
		t.Fatalf("a read at the end: %v, %v", c, err)
	}
	if again, ok := w.truncation(Retention{Millis: 1, Bytes: 1}, 5000); ok {
		t.Fatalf("nothing is left to drop, yet %+v", again)
	}
	expect(t, w.apply(1001, from(7, 0, 3), from(7, 3, 1)), "duplicate 2", "accepted 5")
	w.reopen()
	if o := offsets(must(w.read(5, 1))); !slices.Equal(o, []int64{5}) {
		t.Fatalf("batches at %v", o)
	}
}

func TestATruncationThatNoLeaderCanMeanChangesNothing(t *testing.T) {
	size := uint64(len(plain(2)))
	for name, trunc := range map[string]Truncation{
		"past the high watermark":         {To: 7, Bytes: 3 * size, Discard: 7},
		"at its own entry":                {To: 6, Bytes: 3 * size, Discard: 9},
		"of an entry still to come":       {To: 4, Bytes: 2 * size, Discard: 11},
		"back to before the log start":    {To: 1, Bytes: size, Discard: 8},
		"without bytes that are gone":     {To: 4, Bytes: size - 1, Discard: 5},
		"of more bytes than there are":    {To: 4, Bytes: 4 * size, Discard: 5},
		"of fewer entries than discarded": {To: 4, Bytes: 2 * size, Discard: 2},
		"with a negative offset":          {To: -1, Bytes: 2 * size, Discard: 8},
		"of the records beside it":        {To: 8, Bytes: 3 * size, Discard: 8},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			for range 3 {
				w.apply(5, plain(2))
			}
			first := Truncation{To: 2, Bytes: size, Discard: 4}
			w.m.truncate(first, 8, 6)
			before := w.m.bounds
			var b store.Batch
			e := raftcore.Entry{Time: 5, Payloads: [][]byte{trunc.AppendTo(nil)}}
			if outcome := w.m.Apply(raftcore.Position{Index: 9, Term: 3}, &e, &b)[0]; outcome.Verdict != raftcore.Invalid {
				t.Fatalf("%v", outcome)
			}
			if w.m.bounds != before || len(b.Ops()) != 0 {
				t.Fatalf("it changed %+v to %+v in %d operations", before, w.m.bounds, len(b.Ops()))
			}
			e.Payloads[0] = first.AppendTo(nil)
			if outcome := w.m.Apply(raftcore.Position{Index: 9, Term: 3}, &e, &b)[0]; outcome.Verdict != raftcore.Duplicate || w.m.bounds != before {
				t.Fatalf("the same one again: %v, %+v", outcome, w.m.bounds)
			}
		})
	}
}

func TestNoRecordBatchIsTakenForATruncation(t *testing.T) {
	w := newWorld(t)
	w.apply(1, plain(1))
	b := plain(1)
	copy(b, Truncation{To: 1, Bytes: 1, Discard: 3}.AppendTo(nil)[:12]) // the CRC does not cover these bytes
	if _, err := recordbatch.Validate(b, recordbatch.Limits{RecordBytesMax: 10, BatchBytesMax: 1000}); err == nil {
		t.Fatal("the length in it is wrong")
	}
	copy(b[8:12], plain(1)[8:12])
	if _, err := recordbatch.Validate(b, recordbatch.Limits{RecordBytesMax: 10, BatchBytesMax: 1000}); err != nil {
		t.Fatalf("a batch with the mark of a truncation as its base offset: %v", err)
	}
	expect(t, w.apply(1, b), "accepted 1")
	if truncationBytesMax >= recordbatch.HeaderBytes {
		t.Fatalf("a truncation of %d bytes can be as long as a batch", truncationBytesMax)
	}
	if start, _ := w.m.Bounds(); start != 0 {
		t.Fatalf("log start %d", start)
	}
}

func TestRetentionByBytesNeverGoesBelowWhatIsToBeKept(t *testing.T) {
	w := newWorld(t)
	for range 10 {
		w.apply(1, plain(1))
	}
	size := int64(len(plain(1)))
	for _, c := range []struct {
		bytes int64
		to    raftcore.Offset // 0 = nothing to do
	}{{0, 0}, {10 * size, 0}, {10*size - 1, 0}, {9 * size, 1}, {9*size - 1, 1}, {size, 9}, {1, 9}, {math.MaxInt64, 0}} {
		if trunc, ok := w.truncation(Retention{Bytes: c.bytes}, 0); ok != (c.to > 0) || trunc.To != c.to {
			t.Errorf("keeping %d of %d bytes: %+v, %v, want %d", c.bytes, 10*size, trunc, ok, c.to)
		}
	}
}

func TestWhatIsToGoIsFoundAsIfEveryRowHadBeenLookedAt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		type entry struct {
			first        raftcore.Offset
			index        raftcore.Index
			millis, size int64
		}
		var kept []entry
		now := int64(0)
		for range rapid.IntRange(1, 20).Draw(t, "entries") {
			now += rapid.Int64Range(0, 5).Draw(t, "later")
			count := rapid.IntRange(1, 30).Draw(t, "records")
			_, high := w.m.Bounds()
			w.apply(now, plain(count))
			kept = append(kept, entry{high, w.index, now, int64(len(plain(count)))})
			r := Retention{Millis: rapid.Int64Range(0, 12).Draw(t, "millis"), Bytes: rapid.Int64Range(0, 2000).Draw(t, "bytes")}
			total := int64(0)
			for _, e := range kept {
				total += e.size
			}
			drop := 0
			for left := total; drop < len(kept); drop++ {
				e := kept[drop]
				if left -= e.size; (r.Bytes == 0 || left < r.Bytes) && (r.Millis == 0 || e.millis >= now-r.Millis) {
					break
				}
			}
			trunc, ok := w.truncation(r, now)
			if w.m.Bytes() != total || ok != (drop > 0) {
				t.Fatalf("%d bytes, want %d; %v for %+v, want %d entries to go", w.m.Bytes(), total, ok, r, drop)
			}
			v := w.view()
			oldest, err := LoadOldest(v, testPrefix)
			if err != nil || oldest != (Oldest{kept[0].first, kept[0].millis}) {
				t.Fatalf("oldest %+v, %v, want %+v", oldest, err, kept[0])
			}
			if r.Due(oldest, total, now) && !ok && (r.Bytes == 0 || total <= r.Bytes) {
				t.Fatal("it is due by age, yet nothing is to go")
			}
			if !ok {
				continue
			}
			to := high + raftcore.Offset(count)
			if drop < len(kept) {
				to = kept[drop].first
			}
			if trunc.To != to {
				t.Fatalf("%+v, want %d entries to go, up to offset %d", trunc, drop, to)
			}
			if rapid.Bool().Draw(t, "propose") && drop < len(kept) {
				w.apply(now, trunc.AppendTo(nil))
				kept = kept[drop:]
				w.reopen()
			}
		}
	})
}

func TestAStoreOfVersion1OpensAndItsRecordsGoByTimeAndThenByBytes(t *testing.T) {
	w := newWorld(t)
	w.apply(10, plain(2))
	w.apply(20, plain(2))
	var b store.Batch
	b.Set(recordKey(testPrefix), []byte{1, 4, 0, 40}) // as version 1 wrote them
	b.Set(rowKey(testPrefix, 0), []byte{1, 3, 20, 2, 0})
	b.Set(rowKey(testPrefix, 2), []byte{1, 5, 40, 2, 0})
	if err := w.kv.Commit(&b, false); err != nil {
		t.Fatal(err)
	}
	w.reopen()
	w.apply(30, plain(2))
	w.reopen()
	if got, want := w.m.Bytes(), int64(len(plain(2))); got != want {
		t.Fatalf("%d bytes, want %d: those of old rows are not known", got, want)
	}
	if trunc, ok := w.truncation(Retention{Millis: 15}, 30); !ok || trunc.To != 2 || trunc.Discard != 4 {
		t.Fatalf("by time: %+v, %v", trunc, ok)
	}
	w.apply(31, plain(2))
	trunc, ok := w.truncation(Retention{Bytes: 1}, 31)
	if !ok || trunc.To != 6 {
		t.Fatalf("by bytes: %+v, %v", trunc, ok)
	}
	w.apply(32, trunc.AppendTo(nil))
	w.reopen()
	if o := offsets(must(w.read(6, 1))); !slices.Equal(o, []int64{6}) {
		t.Fatalf("batches at %v", o)
	}
}

func FuzzNoTruncationPanicsOrBreaksTheMachine(f *testing.F) {
	f.Add(Truncation{To: 2, Bytes: uint64(len(plain(2))), Discard: 4}.AppendTo(nil))
	f.Add(Truncation{To: math.MaxInt64, Bytes: math.MaxUint64, Discard: math.MaxUint64}.AppendTo(nil))
	f.Add([]byte(truncationMagic))
	f.Fuzz(func(t *testing.T, payload []byte) {
		w := newWorld(t)
		w.apply(1, plain(2))
		w.apply(1, plain(2))
		w.apply(1, payload)
		start, high := w.m.Bounds()
		if start < 0 || start > high || w.m.Bytes() < 0 || w.m.Discarded() >= w.index {
			t.Fatalf("bounds %d, %d, %d bytes, discarded %d", start, high, w.m.Bytes(), w.m.Discarded())
		}
	})
}

func TestATruncationIsDueALittleAfterItCouldBe(t *testing.T) {
	for _, c := range []struct {
		r             Retention
		oldest, bytes int64
		due           bool
	}{
		{Retention{}, 0, math.MaxInt64, false},
		{Retention{Millis: 3200}, 10_000 - 3300, 0, false},
		{Retention{Millis: 3200}, 10_000 - 3301, 0, true},
		{Retention{Millis: 1}, math.MaxInt64, 0, false}, // no records
		{Retention{Millis: math.MaxInt64}, 0, 0, false},
		{Retention{Bytes: 3200}, 0, 3300, false},
		{Retention{Bytes: 3200}, 0, 3301, true},
		{Retention{Millis: 3200, Bytes: 3200}, 10_000, 3301, true},
	} {
		if got := c.r.Due(Oldest{TimeMillis: c.oldest}, c.bytes, 10_000); got != c.due {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
