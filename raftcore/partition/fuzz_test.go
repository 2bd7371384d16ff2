package partition

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/multiraftd/multiraftd/proto/decodetest"
	"github.com/multiraftd/multiraftd/proto/recordbatch"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// storedSession is a session as it is stored.
func storedSession(epoch int16, written uint64, timeMillis int64, window ...batch) []byte {
	s := &session{epoch: epoch, written: written, timeMillis: timeMillis}
	for _, b := range window {
		s.push(b)
	}
	return appendSession(nil, s)
}

// FuzzStoredValue: a value of the machine is corrupt, or the one encoding of what it and its key say.
func FuzzStoredValue(f *testing.F) {
	id := func(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }
	f.Add(uint8(recordSpace), []byte{}, appendRecord(nil, bounds{next: 300, logStart: 2, timeMillis: 1 << 40}))
	f.Add(uint8(recordSpace), []byte{}, appendRecord(nil, bounds{next: -1, timeMillis: -1}))
	f.Add(uint8(rowSpace), id(300), appendRow(nil, &row{index: 9, timeMillis: 5, records: 300, refused: []uint64{1, 200}}))
	f.Add(uint8(rowSpace), id(math.MaxInt64), appendRow(nil, &row{index: 9, records: math.MaxInt64}))
	f.Add(uint8(rowSpace), []byte{1, 2, 3}, appendRow(nil, &row{index: 9, records: 1, refused: []uint64{2, 1}}))
	f.Add(uint8(sessionSpace), id(7), storedSession(3, 1<<33, 5, batch{0, 1, 2}, batch{math.MaxInt32, 300, 1 << 40}))
	f.Add(uint8(sessionSpace), append(id(7), 1), storedSession(-1, 3, 5, batch{-1, -1, -1}))
	f.Fuzz(func(t *testing.T, space uint8, suffix, value []byte) {
		space %= sessionSpace + 1
		key := append(append(slices.Clone(testPrefix), space), suffix...)
		decodetest.Bounded(t, len(value), decodetest.PerByte, func() {
			againKey, again, err := throughFields(t, space, key, value)
			if err != nil {
				if !errors.Is(err, ErrCorrupt) {
					t.Errorf("got %v", err)
				}
			} else if value[0] < again[0] { // of an older version: what is written now says the same
				if _, once, err := throughFields(t, space, key, again); err != nil || !bytes.Equal(once, again) {
					t.Errorf("%x: %x became %x, and then %x (%v)", key, value, again, once, err)
				}
			} else if !bytes.Equal(again, value) || !bytes.Equal(againKey, key) {
				t.Errorf("%x: %x became %x: %x", key, value, againKey, again)
			}
		})
	})
}

// throughFields decodes a stored value and encodes it again.
func throughFields(t *testing.T, space byte, key, value []byte) (againKey, again []byte, err error) {
	switch space {
	case recordSpace:
		kv, b := store.NewMem(), new(store.Batch)
		b.Set(recordKey(testPrefix), value)
		if err := kv.Commit(b, false); err != nil {
			t.Fatal(err)
		}
		v, err := kv.View()
		if err != nil {
			t.Fatal(err)
		}
		loaded, err := loadBounds(v, testPrefix)
		return key, appendRecord(nil, loaded), errors.Join(err, v.Close())
	case rowSpace:
		r, err := decodeRow(testPrefix, key, value)
		return rowKey(testPrefix, r.first), appendRow(nil, &r), err
	default:
		s, err := decodeSession(testPrefix, key, value)
		if err != nil {
			return nil, nil, err
		}
		return appendID(nil, testPrefix, sessionSpace, uint64(s.id)), appendSession(nil, s), nil
	}
}

// FuzzOpen: a machine opens from whatever is stored, or it is corrupt. One that has opened reads or says that
// it is corrupt, goes on, and opens again from what it then stores, in the same state.
func FuzzOpen(f *testing.F) {
	one := appendRow(nil, &row{index: 3, timeMillis: 5, records: 3})
	seed := func(next raftcore.Offset, firstRow, secondRow uint64, second []byte, session []byte) {
		f.Add(appendRecord(nil, bounds{next: next, timeMillis: 5}), firstRow, one, secondRow, second, uint64(7), session, uint64(8), session)
	}
	seed(3, 0, 0, nil, storedSession(0, 3, 5, batch{0, 3, 0}))
	seed(4, 0, 3, appendRow(nil, &row{index: 5, timeMillis: 5, records: 1, refused: []uint64{1}}), storedSession(2, math.MaxUint64, 5, batch{math.MaxInt32, 3, 0}))
	seed(math.MaxInt64, 0, math.MaxInt64-1, appendRow(nil, &row{index: 5, records: 1}), nil)
	f.Fuzz(func(t *testing.T, record []byte, first1 uint64, row1 []byte, first2 uint64, row2 []byte, id1 uint64, session1 []byte, id2 uint64, session2 []byte) {
		w := &world{t: t, kv: store.NewMem(), entries: map[raftcore.Index][]byte{}, index: 11, term: 3}
		for i, payloads := range map[raftcore.Index][][]byte{3: {plain(3)}, 5: {plain(1), plain(2), plain(1)}, 7: {{}}} {
			e := raftcore.Entry{Payloads: payloads}
			w.entries[i] = e.AppendTo(nil)
		}
		var b store.Batch
		for _, kv := range []struct{ key, value []byte }{
			{recordKey(testPrefix), record},
			{rowKey(testPrefix, raftcore.Offset(first1)), row1}, {rowKey(testPrefix, raftcore.Offset(first2)), row2},
			{appendID(nil, testPrefix, sessionSpace, id1), session1}, {appendID(nil, testPrefix, sessionSpace, id2), session2},
		} {
			if len(kv.value) > 0 {
				b.Set(kv.key, kv.value)
			}
		}
		if err := w.kv.Commit(&b, false); err != nil {
			t.Fatal(err)
		}
		decodetest.Bounded(t, len(record)+len(row1)+len(row2)+len(session1)+len(session2), decodetest.PerByte, func() {
			m, err := Open(w.view(), testPrefix)
			if err != nil {
				if !errors.Is(err, ErrCorrupt) {
					t.Errorf("got %v", err)
				}
				return
			}
			w.m = m
			checkReads(t, w)
			w.apply(6, plain(1), from(int64(id1&math.MaxInt64), 0, 2), from(7, 3, 1), from(8, 0, 1))
			w.apply(6+sessionMillisMax, plain(2))
			want := summaryOfState(w.m)
			w.reopen()
			if got := summaryOfState(w.m); !slices.Equal(got, want) {
				t.Errorf("reopened as %q, was %q", got, want)
			}
			checkReads(t, w)
		})
	})
}

// checkReads reads around the bounds: the records that are said to be there are, or the state is corrupt.
func checkReads(t *testing.T, w *world) {
	start, high := w.m.Bounds()
	for _, from := range []raftcore.Offset{start, start + (high-start)/2, high} {
		c, err := w.read(from, math.MaxInt)
		if err == nil && (c.Next != high || c.LogStart != start || c.HighWatermark != high) {
			t.Errorf("read from %d to %d of [%d, %d)", from, c.Next, start, high)
		}
		if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, errNoEntry) {
			t.Errorf("read from %d: %v", from, err)
		}
	}
	var out *OutOfRangeError
	if _, err := w.read(high+1, 1); high < math.MaxInt64 && !errors.As(err, &out) {
		t.Errorf("read behind the end %d: %v", high, err)
	}
	for _, at := range []int64{math.MinInt64, 0, 6, math.MaxInt64} {
		v := w.view()
		if o, err := OffsetAt(v, testPrefix, at); err == nil && (o < start || o > high) || err != nil && !errors.Is(err, ErrCorrupt) {
			t.Errorf("time %d is offset %d of [%d, %d), %v", at, o, start, high, err)
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// applying is a program of entries for two replicas, one of which restarts.
type applying struct {
	t                  *testing.T
	program, raw       []byte
	steady, restarting *world
	time               int64
	payloads           [][]byte
}

func (a *applying) byte() byte {
	if len(a.program) == 0 {
		return 0
	}
	b := a.program[0]
	a.program = a.program[1:]
	return b
}

func (a *applying) run() {
	for len(a.program) > 0 {
		switch a.byte() % 9 {
		case 0:
			a.restarting.reopen()
		case 1:
			a.payloads = append(a.payloads, a.raw)
		case 8:
			if e, err := raftcore.DecodeEntry(a.raw); err == nil {
				a.payloads = append(a.payloads, e.Payloads...)
			}
		case 2:
			a.payloads = append(a.payloads, compressed([]uint32{1, 2, BatchRecordsMax, BatchRecordsMax + 1, math.MaxInt32}[a.byte()%5]))
		case 3, 4:
			a.entry()
		default:
			p := recordbatch.Producer{ID: int64(a.byte()%4) - 1, Epoch: int16(a.byte() % 3), Sequence: int32(a.byte() % 16)}
			if p.ID < 0 {
				p = recordbatch.None
			}
			a.payloads = append(a.payloads, batchOf(p, 1+int(a.byte()%3)))
		}
	}
	a.entry()
}

// compressed is a batch whose size says nothing about how many records it holds.
func compressed(count uint32) []byte {
	b := plain(1)
	b[22] = 1
	binary.BigEndian.PutUint32(b[57:], count)
	binary.BigEndian.PutUint32(b[23:], count-1)
	return b
}

// entry applies what has gathered, on both replicas alike.
func (a *applying) entry() {
	steps := []int64{0, 1, sessionMillisMax, -5, math.MaxInt64 - a.time, math.MinInt64}
	a.time += steps[int(a.byte())%len(steps)]
	_, before := a.steady.m.Bounds()
	outcomes := a.steady.apply(a.time, a.payloads...)
	if got, want := summary(a.restarting.apply(a.time, a.payloads...)), summary(outcomes); !slices.Equal(got, want) {
		a.t.Fatalf("replicas differ: %v and %v", got, want)
	}
	if got, want := summaryOfState(a.restarting.m), summaryOfState(a.steady.m); !slices.Equal(got, want) {
		a.t.Fatalf("states differ: %q and %q", got, want)
	}
	next := before
	for i, o := range outcomes {
		switch {
		case o.Verdict == raftcore.Accepted && (o.Offset != next || o.Count == 0):
			a.t.Fatalf("payload %d is accepted at %d, next was %d", i, o.Offset, next)
		case o.Verdict == raftcore.Accepted:
			next += raftcore.Offset(o.Count)
		case o.Verdict != raftcore.Duplicate && o.Offset != -1:
			a.t.Fatalf("payload %d: %+v", i, o)
		}
	}
	if _, high := a.steady.m.Bounds(); high != next {
		a.t.Fatalf("the high watermark went from %d to %d, accepted is up to %d", before, high, next)
	}
	a.payloads = nil
}

// programBytesMax keeps the time of one program far from what fuzzing takes for a hang.
const programBytesMax = 4 << 10

// FuzzApply: no entry makes apply panic; replicas decide alike, restarted or not; offsets are dense, what is
// refused changes nothing, and everything that was accepted can be read.
func FuzzApply(f *testing.F) {
	f.Add([]byte{5, 1, 0, 0, 1, 3, 1, 0, 5, 1, 0, 2, 0, 3, 1}, from(3, 0, 2))
	f.Add([]byte{1, 3, 2, 2, 2, 2, 3, 3, 0, 1, 1, 3, 4, 1, 3, 5}, plain(1))
	f.Add([]byte{5, 1, 1, 0, 0, 5, 2, 1, 0, 0, 3, 2, 0, 5, 1, 2, 0, 0, 5, 1, 1, 1, 0, 3, 2}, batchOf(recordbatch.Producer{ID: 1, Epoch: 9, Sequence: 4}, 1))
	f.Add([]byte{1, 1, 1}, []byte{})
	e := raftcore.Entry{Payloads: [][]byte{plain(2), from(1, 0, 1), {}, from(1, 1, 2)}}
	f.Add([]byte{8, 3, 1, 8, 0, 3, 2}, e.AppendTo(nil))
	f.Fuzz(func(t *testing.T, program, raw []byte) {
		a := &applying{t: t, program: program[:min(len(program), programBytesMax)], raw: raw, steady: newWorld(t), restarting: newWorld(t)}
		a.run()
		checkReads(t, a.steady)
	})
}
