package partition

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/multiraftd/multiraftd/proto/recordbatch"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// offsets lists the base offsets of a chunk's batches.
func offsets(c Chunk) (o []int64) {
	for _, b := range c.Batches {
		info, err := recordbatch.ParseHeader(b)
		if err != nil {
			panic(err)
		}
		o = append(o, info.BaseOffset)
	}
	return o
}

func TestAReadSkipsWhatWasNotAcceptedAndSetsOffsetAndEpochInCopies(t *testing.T) {
	w := newWorld(t)
	w.apply(1, from(7, 0, 2), from(7, 0, 2), plain(3))
	w.apply(1, []byte("rubbish"), plain(1))
	before := bytes.Clone(w.entries[w.index])
	c, err := w.read(0, math.MaxInt)
	if err != nil || c.Next != 6 || c.HighWatermark != 6 || c.LogStart != 0 || len(c.Batches) != 3 {
		t.Fatalf("%+v, %v", c, err)
	}
	for i, want := range []int64{0, 2, 5} {
		info, err := recordbatch.Validate(c.Batches[i], recordbatch.Limits{RecordBytesMax: 10, BatchBytesMax: 1000})
		if err != nil || info.BaseOffset != want || info.LeaderEpoch != 3 {
			t.Fatalf("batch %d: %+v, %v", i, info, err)
		}
	}
	if !bytes.Equal(before, w.entries[w.index]) {
		t.Fatal("the stored entry was changed")
	}
}

func TestAReadBeginsWithTheBatchThatHoldsItsOffset(t *testing.T) {
	w := newWorld(t)
	w.apply(1, plain(2), plain(3))
	w.apply(1, plain(4))
	for from, want := range []int64{0, 0, 2, 2, 2, 5, 5, 5, 5} {
		if c, err := w.read(raftcore.Offset(from), 1); err != nil || len(c.Batches) != 1 || offsets(c)[0] != want {
			t.Fatalf("from %d: %v, %v, want one batch at %d", from, offsets(c), err, want)
		}
	}
	if c, err := w.read(9, 1); err != nil || len(c.Batches) != 0 || c.Next != 9 {
		t.Fatalf("at the end: %+v, %v", c, err)
	}
}

func TestAReadOutsideTheBoundsNamesBothEnds(t *testing.T) {
	w := newWorld(t)
	w.apply(1, plain(5))
	w.apply(1, plain(5))
	var b store.Batch
	b.Set(recordKey(testPrefix), appendRecord(nil, bounds{next: 10, logStart: 7, endBytes: 200, startBytes: uint64(len(plain(5)))}))
	b.Delete(rowKey(testPrefix, 0))
	if err := w.kv.Commit(&b, false); err != nil {
		t.Fatal(err)
	}
	w.reopen() // log start may be inside a batch
	for _, from := range []raftcore.Offset{-1, 0, 6, 11, math.MaxInt64} {
		_, err := w.read(from, 1)
		var e *OutOfRangeError
		if !errors.Is(err, ErrOutOfRange) || !errors.As(err, &e) || e.Offset != from || e.LogStart != 7 || e.HighWatermark != 10 {
			t.Fatalf("from %d: %v", from, err)
		}
	}
	if c, err := w.read(7, 1); err != nil || offsets(c)[0] != 5 || c.LogStart != 7 {
		t.Fatalf("%+v, %v", c, err)
	}
	if o, err := OffsetAt(w.view(), testPrefix, 0); err != nil || o != 7 {
		t.Fatalf("the first time is at %d, %v", o, err)
	}
}

func TestAPartitionThatWasNeverWrittenReadsAsEmpty(t *testing.T) {
	w := newWorld(t)
	if c, err := w.read(0, 1); err != nil || len(c.Batches) != 0 || c.HighWatermark != 0 {
		t.Fatalf("%+v, %v", c, err)
	}
	if start, high, err := ReadBounds(w.view(), testPrefix); start != 0 || high != 0 || err != nil {
		t.Fatalf("%d, %d, %v", start, high, err)
	}
	if o, err := OffsetAt(w.view(), testPrefix, 5); o != 0 || err != nil {
		t.Fatalf("%d, %v", o, err)
	}
}

func TestAReadStaysInItsView(t *testing.T) {
	w := newWorld(t)
	w.apply(1, plain(1))
	v := w.view()
	w.apply(1, plain(1))
	c, err := Read(v, testPrefix, w.source, 0, math.MaxInt)
	if err != nil || c.Next != 1 || c.HighWatermark != 1 {
		t.Fatalf("%+v, %v", c, err)
	}
}

func TestReadsOfAnySizeAddUpToTheLog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		var want []int64
		next := int64(0)
		for range rapid.IntRange(1, 3*rowsPerScan).Draw(t, "entries") {
			var payloads [][]byte
			for _, count := range rapid.SliceOfN(rapid.IntRange(0, 4), 0, 4).Draw(t, "counts") {
				if count == 0 {
					payloads = append(payloads, nil)
					continue
				}
				payloads = append(payloads, plain(count))
				want = append(want, next)
				next += int64(count)
			}
			w.apply(1, payloads...)
		}
		var got []int64
		at, maxBytes := raftcore.Offset(0), rapid.IntRange(0, 2000).Draw(t, "max bytes")
		for at < raftcore.Offset(next) {
			c, err := w.read(at, maxBytes)
			if err != nil || c.Next <= at {
				t.Fatalf("from %d: %+v, %v", at, c, err)
			}
			got, at = append(got, offsets(c)...), c.Next
		}
		if len(got) != len(want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("got %v, want %v", got, want)
			}
		}
	})
}

func TestATimeIsFoundAtTheFirstRecordStoredThenOrLater(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		var times []int64 // of each record
		var clock int64
		for range rapid.IntRange(0, 30).Draw(t, "entries") {
			now, count := rapid.Int64Range(1, 20).Draw(t, "time"), rapid.IntRange(1, 5).Draw(t, "count")
			clock = max(clock, now)
			w.apply(now, plain(count))
			for range count {
				times = append(times, clock)
			}
		}
		at := rapid.Int64Range(0, 21).Draw(t, "asked for")
		want := 0
		for want < len(times) && times[want] < at {
			want++
		}
		if got, err := OffsetAt(w.view(), testPrefix, at); err != nil || got != raftcore.Offset(want) {
			t.Fatalf("got %d, %v, want %d", got, err, want)
		}
	})
}

func TestAnEntryThatIsNotWhatItsRowSaysIsReportedAsCorrupt(t *testing.T) {
	other := func(payloads ...[]byte) []byte { return (&raftcore.Entry{Payloads: payloads}).AppendTo(nil) }
	for name, data := range map[string][]byte{
		"not an entry":    []byte("?"),
		"fewer records":   other(plain(2)),
		"more records":    other(plain(4)),
		"not a batch":     other([]byte("rubbish")),
		"nothing in it":   other(),
		"the end is gone": other(plain(3))[:80],
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.apply(1, plain(3))
			w.entries[w.index] = data
			if _, err := w.read(0, math.MaxInt); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("got %v", err)
			}
		})
	}
	w := newWorld(t)
	w.apply(1, plain(3))
	delete(w.entries, w.index)
	if _, err := w.read(0, 1); err == nil || errors.Is(err, ErrCorrupt) {
		t.Fatalf("a source's error came back as %v", err)
	}
}
