package store

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/multiraftd/multiraftd/raftcore"
)

const testGroup raftcore.GroupID = 7

var testMembers = map[raftcore.ReplicaID]raftcore.NodeID{1: 11, 2: 12, 3: 13}

func birth(t rapid.TB, kv KV) {
	t.Helper()
	b := new(Batch)
	PutBirth(b, Birth{Group: testGroup, Replica: 2, Members: testMembers})
	must(t, kv.Commit(b, true))
}

func openLog(t rapid.TB, kv KV, cacheBytes int) *Log {
	t.Helper()
	l, err := OpenLog(kv, testGroup, cacheBytes)
	must(t, err)
	return l
}

func newEntry(i, term uint64, data []byte) *raftpb.Entry {
	return &raftpb.Entry{Index: new(i), Term: new(term), Type: raftpb.EntryNormal.Enum(), Data: data}
}

// entriesFrom makes n entries from index first on.
func entriesFrom(first, term uint64, n, dataBytes int) []*raftpb.Entry {
	ents := make([]*raftpb.Entry, n)
	for i := range ents {
		data := make([]byte, dataBytes)
		copy(data, fmt.Sprintf("%d.%d", term, first+uint64(i)))
		ents[i] = newEntry(first+uint64(i), term, data)
	}
	return ents
}

func appendMsg(ents ...*raftpb.Entry) *raftpb.Message { return &raftpb.Message{Entries: ents} }

func commitAppend(t rapid.TB, kv KV, l *Log, m *raftpb.Message, sync bool) {
	t.Helper()
	b := new(Batch)
	l.Append(b, m)
	must(t, kv.Commit(b, sync))
}

func commitState(t rapid.TB, kv KV, l *Log, change func(*State)) {
	t.Helper()
	s := l.State().Clone()
	change(&s)
	b := new(Batch)
	l.PutState(b, s)
	must(t, kv.Commit(b, false))
}

func wantPanic(t *testing.T, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Fatal("no panic")
		}
	}()
	f()
}

func TestABornGroupStartsAfterIndexOneWithAllMembersAsVoters(t *testing.T) {
	eachKV(t, func(t *testing.T, open func(rapid.TB) *crasher) {
		kv := open(t)
		birth(t, kv)
		kv = kv.crash(t)
		l := openLog(t, kv, 0)
		hs, cs, err := l.InitialState()
		must(t, err)
		if hs.GetTerm() != 1 || hs.GetVote() != 0 || hs.GetCommit() != 1 {
			t.Fatalf("hard state %v", hs)
		}
		if !slices.Equal(cs.GetVoters(), []uint64{1, 2, 3}) || len(cs.GetLearners()) != 0 {
			t.Fatalf("ConfState %v", cs)
		}
		first, _ := l.FirstIndex()
		last, _ := l.LastIndex()
		term, err := l.Term(1)
		if first != 2 || last != 1 || term != 1 || err != nil {
			t.Fatalf("first %d, last %d, term of 1: %d, %v", first, last, term, err)
		}
		s := l.State()
		if l.Replica() != 2 || l.Generation() != 1 || s.Applied != 1 || s.AppliedTerm != 1 || !maps.Equal(s.Members, testMembers) {
			t.Fatalf("replica %d, generation %d, state %+v", l.Replica(), l.Generation(), s)
		}
		if snap, err := l.Snapshot(); err != nil || snap.GetMetadata().GetIndex() != 1 || len(snap.GetData()) != 0 {
			t.Fatalf("Snapshot: %v, %v", snap, err)
		}
		must(t, kv.Close())
	})
}

func TestAReplicaOfEtcdRaftStartsOnABornLog(t *testing.T) {
	kv := NewMem()
	birth(t, kv)
	_, err := raft.NewRawNode(&raft.Config{
		ID: 2, ElectionTick: 10, HeartbeatTick: 1, Storage: openLog(t, kv, 0), Applied: 1,
		MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 16, AsyncStorageWrites: true,
		Logger: &raft.DefaultLogger{Logger: discard},
	})
	must(t, err)
}

func TestCommitIsAtLeastAppliedAfterARestart(t *testing.T) {
	kv := NewMem()
	birth(t, kv)
	l := openLog(t, kv, 0)
	commitAppend(t, kv, l, appendMsg(entriesFrom(2, 1, 3, 8)...), true)
	commitState(t, kv, l, func(s *State) { s.Applied, s.AppliedTerm = 4, 1 })
	hs, _, err := openLog(t, kv, 0).InitialState()
	must(t, err)
	if hs.GetCommit() != 4 {
		t.Fatalf("commit %d, want 4", hs.GetCommit())
	}
}

func TestTheHardStateIsStoredOnlyWhenTheMessageHasOne(t *testing.T) {
	kv := NewMem()
	birth(t, kv)
	l := openLog(t, kv, 0)
	m := appendMsg(entriesFrom(2, 5, 1, 8)...)
	m.Term, m.Vote, m.Commit = new(uint64(5)), new(uint64(3)), new(uint64(2))
	commitAppend(t, kv, l, m, true)
	commitAppend(t, kv, l, appendMsg(entriesFrom(3, 5, 1, 8)...), true)
	hs, _, err := openLog(t, kv, 0).InitialState()
	must(t, err)
	if hs.GetTerm() != 5 || hs.GetVote() != 3 || hs.GetCommit() != 2 {
		t.Fatalf("hard state %v", hs)
	}
}

func TestANewTailDeletesTheOldOneWithIt(t *testing.T) {
	eachKV(t, func(t *testing.T, open func(rapid.TB) *crasher) {
		kv := open(t)
		birth(t, kv)
		l := openLog(t, kv, 0)
		commitAppend(t, kv, l, appendMsg(entriesFrom(2, 1, 9, 8)...), true)
		commitAppend(t, kv, l, appendMsg(entriesFrom(4, 2, 1, 8)...), true)
		for _, l := range []*Log{l, openLog(t, kv, 0)} {
			if last, _ := l.LastIndex(); last != 4 {
				t.Fatalf("last %d, want 4", last)
			}
			if term, err := l.Term(4); term != 2 || err != nil {
				t.Fatalf("term of 4: %d, %v", term, err)
			}
		}
		must(t, kv.Close())
	})
}

func TestTruncationDeletesEntriesWithTheStateThatSaysSo(t *testing.T) {
	eachKV(t, func(t *testing.T, open func(rapid.TB) *crasher) {
		kv := open(t)
		birth(t, kv)
		l := openLog(t, kv, 1<<20)
		commitAppend(t, kv, l, appendMsg(entriesFrom(2, 1, 9, 8)...), true)
		commitState(t, kv, l, func(s *State) {
			s.Applied, s.AppliedTerm, s.Truncated = 8, 1, raftcore.Position{Index: 5, Term: 1}
		})
		for _, l := range []*Log{l, openLog(t, kv, 0)} {
			if first, _ := l.FirstIndex(); first != 6 {
				t.Fatalf("first %d, want 6", first)
			}
			if _, err := l.Entries(5, 7, 1<<20); err != raft.ErrCompacted {
				t.Fatalf("Entries(5): %v", err)
			}
			if ents, err := l.Entries(6, 11, 1<<20); err != nil || len(ents) != 5 {
				t.Fatalf("Entries(6, 11): %d, %v", len(ents), err)
			}
		}
		must(t, kv.Close())
	})
}

func TestRecentEntriesAreServedAsTheyWereHandedOver(t *testing.T) {
	kv := NewMem()
	birth(t, kv)
	l := openLog(t, kv, 1<<20)
	ents := entriesFrom(2, 1, 10, 100)
	commitAppend(t, kv, l, appendMsg(ents...), true)
	views := kv.Counters().Views.Load()
	got, err := l.Entries(4, 12, 1<<20)
	must(t, err)
	if !slices.Equal(got, ents[2:]) { // the same pointers
		t.Fatal("entries were decoded")
	}
	if kv.Counters().Views.Load() != views {
		t.Fatal("the store was read")
	}
	// What the caller appends to its slice is not seen by others.
	mine := append(got[:2:2], newEntry(99, 9, nil))
	_ = append(got, mine...)
	if again, err := l.Entries(4, 12, 1<<20); err != nil || !slices.Equal(again, ents[2:]) {
		t.Fatalf("the cache changed: %v", err)
	}
	l.DropCache()
	if got, err = l.Entries(4, 12, 1<<20); err != nil || len(got) != 8 || kv.Counters().Views.Load() == views {
		t.Fatalf("after DropCache: %d entries, %v", len(got), err)
	}
}

func TestTheTermOfTheLastEntryIsReadOnceAndKnownWithoutTheCache(t *testing.T) {
	kv := NewMem()
	birth(t, kv)
	l := openLog(t, kv, 1<<20)
	commitAppend(t, kv, l, appendMsg(entriesFrom(2, 3, 4, 10)...), true)
	term := func(l *Log, want, reads uint64) {
		t.Helper()
		before := kv.Counters().Views.Load()
		last, err := l.LastIndex()
		must(t, err)
		if got, err := l.Term(last); err != nil || got != want {
			t.Fatalf("term %d, %v", got, err)
		}
		if got := kv.Counters().Views.Load() - before; got != reads {
			t.Fatalf("the store was read %d times, not %d", got, reads)
		}
	}
	l.DropCache()
	term(l, 3, 0)
	again := openLog(t, kv, 1<<20)
	term(again, 3, 1)
	term(again, 3, 0)
	// Another tail at the same index has another term.
	commitAppend(t, kv, again, appendMsg(entriesFrom(5, 4, 1, 10)...), true)
	again.cache.drop()
	term(again, 4, 1)
}

func TestTheCacheIsBoundedInBytes(t *testing.T) {
	const limit, data = 64 << 10, 1000
	kv := NewMem()
	birth(t, kv)
	l := openLog(t, kv, limit)
	for i := uint64(2); i < 1000; i++ {
		commitAppend(t, kv, l, appendMsg(entriesFrom(i, 1, 1, data)...), false)
		c := &l.cache
		if c.bytes > limit || c.stale > limit || c.bytes != len(c.ents)*(data+cachedEntryBytes) {
			t.Fatalf("at %d: %d bytes cached in %d entries, %d stale", i, c.bytes, len(c.ents), c.stale)
		}
	}
	if n := len(l.cache.ents); n < limit/(data+cachedEntryBytes) {
		t.Fatalf("only %d entries are cached", n)
	}
	commitAppend(t, kv, l, appendMsg(entriesFrom(1000, 1, 1, limit)...), false)
	if len(l.cache.ents) != 0 || l.cache.bytes != 0 {
		t.Fatal("an entry larger than the cache is in it")
	}
}

func TestAnAppendCopiesDataOnceAndAllocatesOnce(t *testing.T) {
	kv := NewMem()
	birth(t, kv)
	l := openLog(t, kv, 0)
	ents := entriesFrom(2, 1, 64, 4<<10)
	b := new(Batch)
	l.setEntries(b, ents)
	allocs := testing.AllocsPerRun(20, func() {
		b.Reset()
		l.setEntries(b, ents)
	})
	if allocs > 1 {
		t.Fatalf("%v allocations for the values of 64 entries", allocs)
	}
}

func TestBrokenInvariantsPanic(t *testing.T) {
	kv := NewMem()
	birth(t, kv)
	l := openLog(t, kv, 0)
	commitAppend(t, kv, l, appendMsg(entriesFrom(2, 1, 4, 8)...), true)
	commitState(t, kv, l, func(s *State) { s.Applied, s.AppliedTerm = 3, 1 })
	b := new(Batch)
	wantPanic(t, func() { l.Append(b, appendMsg(entriesFrom(7, 1, 1, 8)...)) })
	wantPanic(t, func() { l.Append(b, appendMsg(entriesFrom(3, 2, 1, 8)...)) })
	wantPanic(t, func() { l.Append(b, appendMsg(newEntry(6, 1, nil), newEntry(8, 1, nil))) })
	wantPanic(t, func() { l.Append(b, &raftpb.Message{Snapshot: &raftpb.Snapshot{}}) })
	for _, change := range []func(*State){
		func(s *State) { s.Applied = 2 },
		func(s *State) { s.Applied = 6 },
		func(s *State) { s.Truncated.Index = 4 },
		func(s *State) { s.Truncated.Index = 0 },
	} {
		s := l.State().Clone()
		change(&s)
		wantPanic(t, func() { l.PutState(b, s) })
	}
}

func TestALogThatContradictsItselfDoesNotOpen(t *testing.T) {
	entries := dataKey(testGroup, firstGeneration, kindEntry)
	for name, damage := range map[string]func(b *Batch){
		"no hard state":           func(b *Batch) { b.Delete(groupKey(testGroup, kindHard)) },
		"no applied state":        func(b *Batch) { b.Delete(dataKey(testGroup, firstGeneration, kindApplied)) },
		"a torn applied state":    func(b *Batch) { b.Set(dataKey(testGroup, firstGeneration, kindApplied), []byte{valueVersion, 1}) },
		"an unknown version":      func(b *Batch) { b.Set(groupKey(testGroup, kindHard), []byte{valueVersion + 1, 1, 0, 1}) },
		"committed past the end":  func(b *Batch) { b.Set(groupKey(testGroup, kindHard), encodeHardState(1, 0, 9)) },
		"a gap after truncation":  func(b *Batch) { b.Delete(entryKey(nil, entries, 2)) },
		"entries before it":       func(b *Batch) { b.Set(entryKey(nil, entries, 1), []byte{valueVersion, 0, 1}) },
		"a foreign key among all": func(b *Batch) { b.Set(append(entryKey(nil, entries, 9), 0), nil) },
	} {
		t.Run(name, func(t *testing.T) {
			kv := NewMem()
			birth(t, kv)
			commitAppend(t, kv, openLog(t, kv, 0), appendMsg(entriesFrom(2, 1, 4, 8)...), true)
			b := new(Batch)
			damage(b)
			must(t, kv.Commit(b, true))
			if _, err := OpenLog(kv, testGroup, 0); !errors.Is(err, ErrDamaged) {
				t.Fatalf("got %v, want ErrDamaged", err)
			}
		})
	}
}

func TestAMissingEntryIsAnErrorAndNotTheEndOfTheLog(t *testing.T) {
	kv := NewMem()
	birth(t, kv)
	l := openLog(t, kv, 0)
	commitAppend(t, kv, l, appendMsg(entriesFrom(2, 1, 8, 8)...), true)
	b := new(Batch)
	b.Delete(entryKey(nil, dataKey(testGroup, firstGeneration, kindEntry), 5))
	must(t, kv.Commit(b, true))
	if ents, err := l.Entries(2, 10, 1<<20); !errors.Is(err, ErrDamaged) {
		t.Fatalf("got %d entries, %v", len(ents), err)
	}
	if _, err := l.Term(5); !errors.Is(err, ErrDamaged) {
		t.Fatalf("Term: %v", err)
	}
	if ents, err := l.Entries(2, 5, 1<<20); err != nil || len(ents) != 3 {
		t.Fatalf("before it: %d entries, %v", len(ents), err)
	}
}

func TestSizesAgreeWithProtobuf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := &raftpb.Entry{}
		if rapid.Bool().Draw(t, "fields") {
			e = newEntry(rapid.Uint64().Draw(t, "index"), rapid.Uint64().Draw(t, "term"), nil)
		}
		if n := rapid.IntRange(-1, 300).Draw(t, "bytes"); n >= 0 {
			e.Data = make([]byte, n)
		}
		if got, want := entrySize(e), uint64(proto.Size(e)); got != want {
			t.Fatalf("size %d, want %d", got, want)
		}
	})
}
