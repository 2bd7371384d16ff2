package partition

import (
	"encoding/binary"
	"errors"
	"math"
	"testing"

	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

func TestBatchesOfOneEntryAreJudgedInOrderAndEachOnItsOwn(t *testing.T) {
	w := newWorld(t)
	expect(t, w.apply(100, plain(3), from(7, 0, 2), from(7, 0, 2), []byte("rubbish"), from(7, 5, 1), from(7, 2, 1), from(8, 1, 1), plain(1)),
		"accepted 0", "accepted 3", "duplicate 3", "invalid -1", "sequence gap -1", "accepted 5", "unknown producer -1", "accepted 6")
	if start, high := w.m.Bounds(); start != 0 || high != 7 {
		t.Fatalf("bounds %d, %d", start, high)
	}
}

func TestAnEntryInWhichNothingIsAcceptedLeavesNoRow(t *testing.T) {
	w := newWorld(t)
	w.apply(100, plain(1))
	expect(t, w.apply(100, nil, from(1, 9, 1)), "invalid -1", "unknown producer -1")
	w.apply(100)
	rows := 0
	if err := w.view().Scan(rowKey(testPrefix, 0), rowKey(testPrefix, -1), false, func(_, _ []byte) bool { rows++; return true }); err != nil || rows != 1 {
		t.Fatalf("%d rows, %v", rows, err)
	}
}

func TestWhatAnEntryStoresIsOneRowOneRecordAndItsSessions(t *testing.T) {
	w := newWorld(t)
	var b store.Batch
	e := raftcore.Entry{Time: 1, Payloads: [][]byte{plain(1), from(1, 0, 1), from(1, 1, 1), from(2, 0, 1), plain(9)}}
	w.m.Apply(raftcore.Position{Index: 5, Term: 1}, &e, &b)
	if len(b.Ops()) != 4 {
		t.Fatalf("%d operations, want row, two sessions, record", len(b.Ops()))
	}
}

func TestACompressedBatchPassesByItsHeader(t *testing.T) {
	w := newWorld(t)
	b := plain(2)
	b[22] = 3
	expect(t, w.apply(1, b, plain(1)), "accepted 0", "accepted 2")
}

func TestLimitsOfApplyDoNotDependOnConfiguration(t *testing.T) {
	w := newWorld(t)
	huge := make([]byte, BatchBytesMax+1)
	many := plain(1)
	many[22] = 1 // compressed: its size says nothing about how many records it holds
	binary.BigEndian.PutUint32(many[57:], BatchRecordsMax+1)
	binary.BigEndian.PutUint32(many[23:], BatchRecordsMax)
	expect(t, w.apply(1, huge, many), "too large -1", "too large -1")
}

func TestAMachineOpensOnlyFromStateThatAgreesWithItself(t *testing.T) {
	for name, damage := range map[string]func(b *store.Batch){
		"record of a version to come": func(b *store.Batch) { b.Set(recordKey(testPrefix), []byte{3, 3, 0, 0, 0, 0, 0}) },
		"row of a version to come":    func(b *store.Batch) { b.Set(rowKey(testPrefix, 0), []byte{3, 3, 2, 3, 0, 0}) },
		"record cut short":            func(b *store.Batch) { b.Set(recordKey(testPrefix), []byte{1, 3}) },
		"log start after the end":     func(b *store.Batch) { b.Set(recordKey(testPrefix), appendRecord(nil, bounds{next: 3, logStart: 4})) },
		"record behind the rows":      func(b *store.Batch) { b.Set(recordKey(testPrefix), appendRecord(nil, bounds{next: 2})) },
		"record gone":                 func(b *store.Batch) { b.Delete(recordKey(testPrefix)) },
		"row with other bytes":        func(b *store.Batch) { b.Set(rowKey(testPrefix, 0), []byte{2, 3, 2, 3, 9, 0}) },
		"row of a discarded entry":    func(b *store.Batch) { b.Set(recordKey(testPrefix), appendRecord(nil, bounds{next: 3, discarded: 3})) },
		"row gone":                    func(b *store.Batch) { b.Delete(rowKey(testPrefix, 0)) },
		"row unreadable":              func(b *store.Batch) { b.Set(rowKey(testPrefix, 0), []byte{1}) },
		"row that refuses endlessly":  func(b *store.Batch) { b.Set(rowKey(testPrefix, 0), []byte{1, 3, 2, 3, 0xff, 0xff, 0xff, 0x7f}) },
		"session unreadable":          func(b *store.Batch) { b.Set(appendID(nil, testPrefix, sessionSpace, 7), []byte{1, 0, 3, 2, 6}) },
		"record near overflow": func(b *store.Batch) {
			b.Set(recordKey(testPrefix), appendRecord(nil, bounds{next: math.MaxInt64}))
			b.Set(rowKey(testPrefix, 0), appendRow(nil, &row{index: 3, records: math.MaxInt64}))
		},
		"number in two bytes": func(b *store.Batch) { b.Set(recordKey(testPrefix), []byte{1, 0x83, 0, 0, 2}) },
		"row under a long key": func(b *store.Batch) {
			b.Set(append(rowKey(testPrefix, 0), 0, 0, 0, 0, 0, 0, 0, 0), appendRow(nil, &row{index: 3, records: 3}))
		},
		"row that refuses backwards": func(b *store.Batch) {
			b.Set(rowKey(testPrefix, 0), appendRow(nil, &row{index: 3, records: 3, refused: []uint64{2, 1}}))
		},
		"session of no producer": func(b *store.Batch) {
			b.Set(appendID(nil, testPrefix, sessionSpace, math.MaxUint64), storedSession(0, 1, 1, batch{0, 1, 0}))
		},
		"session of a negative epoch": func(b *store.Batch) {
			b.Set(appendID(nil, testPrefix, sessionSpace, 7), storedSession(-1, 1, 1, batch{0, 1, 0}))
		},
		"session of an empty batch": func(b *store.Batch) {
			b.Set(appendID(nil, testPrefix, sessionSpace, 7), storedSession(0, 1, 1, batch{0, 0, 0}))
		},
		"session beyond the records": func(b *store.Batch) {
			b.Set(appendID(nil, testPrefix, sessionSpace, 8), storedSession(0, 1, 1, batch{0, 1, 3}))
		},
		"two sessions with one's batch": func(b *store.Batch) {
			b.Set(appendID(nil, testPrefix, sessionSpace, 8), storedSession(0, 3, 1, batch{0, 3, 0}))
		},
		"session cut short": func(b *store.Batch) { b.Set(appendID(nil, testPrefix, sessionSpace, 7), []byte{1, 0, 3, 2, 1, 0}) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.apply(1, from(7, 0, 3))
			var b store.Batch
			damage(&b)
			if err := w.kv.Commit(&b, false); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(w.view(), testPrefix); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func TestTwoMachinesUnderDifferentPrefixesDoNotMeet(t *testing.T) {
	w := newWorld(t)
	w.apply(1, from(7, 0, 3))
	other, err := Open(w.view(), store.MachinePrefix(5, 2))
	if err != nil {
		t.Fatal(err)
	}
	if _, high := other.Bounds(); high != 0 || len(other.sessions.byID) != 0 {
		t.Fatalf("it sees %d records and %d sessions", high, len(other.sessions.byID))
	}
}

func TestApplyAllocatesItsOutcomesAndTheBytesToStoreAndNothingElse(t *testing.T) {
	w := newWorld(t)
	payloads := make([][]byte, 8)
	for i := range payloads {
		payloads[i] = from(int64(i+1), 0, 10)
	}
	e := raftcore.Entry{Time: 5, Payloads: payloads}
	w.apply(5, payloads...)
	b, next := new(store.Batch), int32(10)
	n := testing.AllocsPerRun(50, func() {
		for _, p := range payloads {
			binary.BigEndian.PutUint32(p[53:], uint32(next))
		}
		next += 10
		w.m.Apply(raftcore.Position{Index: 9, Term: 1}, &e, b)
		b.Reset()
	})
	if n > 2 {
		t.Fatalf("%v allocations", n)
	}
}

func BenchmarkApplyEightBatches(b *testing.B) {
	w := newWorld(b)
	payloads := make([][]byte, 8)
	for i := range payloads {
		payloads[i] = from(int64(i+1), 0, 10)
	}
	e := raftcore.Entry{Time: 5, Payloads: payloads}
	batch, next := new(store.Batch), uint32(0)
	for b.Loop() {
		for _, p := range payloads {
			binary.BigEndian.PutUint32(p[53:], next)
		}
		next = (next + 10) & math.MaxInt32
		w.m.Apply(raftcore.Position{Index: 9, Term: 1}, &e, batch)
		batch.Reset()
	}
}
