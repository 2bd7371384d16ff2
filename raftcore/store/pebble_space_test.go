package store

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/multiraftd/multiraftd/raftcore"
)

const (
	spaceEntries     = 1024
	spaceEntryBytes  = 64 << 10
	spaceGroupBytes  = spaceEntries * spaceEntryBytes
	spaceReturnLimit = 2 * time.Minute // ends what hangs; seen: some 12 s, of which FlushDelayDeleteRange is 10
)

// tableBytes is the size of what holds the store's data; the files of the log are apart: up to
// memtablesMax+1 of them are kept, to be written again.
func tableBytes(t *testing.T, dir string) (bytes int64) {
	t.Helper()
	for _, pattern := range []string{"*.sst", "*.blob"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if info, err := os.Stat(name); err == nil { // else it has just been deleted
				bytes += info.Size()
			}
		}
	}
	return bytes
}

// spaceGroup gives a new group entries of noise, which nothing compresses, all of them applied.
func spaceGroup(t *testing.T, kv KV, g raftcore.GroupID) *Log {
	t.Helper()
	b := new(Batch)
	PutBirth(b, Birth{Group: g, Replica: 1, Members: map[raftcore.ReplicaID]raftcore.NodeID{1: 1}})
	if err := kv.Commit(b, true); err != nil {
		t.Fatal(err)
	}
	l, err := OpenLog(kv, g, 0)
	if err != nil {
		t.Fatal(err)
	}
	noise := rand.NewChaCha8([32]byte{byte(g)})
	for i := range uint64(spaceEntries) {
		data := make([]byte, spaceEntryBytes)
		noise.Read(data)
		b := new(Batch)
		l.Append(b, &raftpb.Message{Term: new(uint64(1)), Vote: new(uint64(1)), Commit: new(i + 2),
			Entries: []*raftpb.Entry{{Term: new(uint64(1)), Index: new(i + 2), Data: data}}})
		if err := kv.Commit(b, i%16 == 15); err != nil {
			t.Fatal(err)
		}
	}
	b = new(Batch)
	s := l.State().Clone()
	s.Applied, s.AppliedTerm = spaceEntries+1, 1
	l.PutState(b, s)
	if err := kv.Commit(b, true); err != nil {
		t.Fatal(err)
	}
	return l
}

// awaitBytes waits until no more than so many bytes are in use.
func awaitBytes(t *testing.T, dir string, before, want int64) {
	t.Helper()
	began, look := time.Now(), time.NewTicker(100*time.Millisecond)
	defer look.Stop()
	for tableBytes(t, dir) > want {
		if time.Since(began) > spaceReturnLimit {
			t.Fatalf("%d MiB of %d are in use, want at most %d", tableBytes(t, dir)>>20, before>>20, want>>20)
		}
		<-look.C
	}
	t.Logf("%d MiB before, %d MiB %v after the deletion", before>>20, tableBytes(t, dir)>>20, time.Since(began).Round(100*time.Millisecond))
}

// Many groups that write at the same time share tables: a deletion covers none of them whole.
func TestTheSpaceOfManyLogsThatGrewTogetherComesBackOnAnIdleStore(t *testing.T) {
	const groups, entries, entryBytes = 24, 1024, 4 << 10
	dir := filepath.Join(t.TempDir(), "store")
	counters := new(Counters)
	kv, err := OpenPebble(PebbleOptions{Dir: dir, Counters: counters, reclaimDelay: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	noise := rand.NewChaCha8([32]byte{1})
	key := func(g raftcore.GroupID, i raftcore.Index) []byte {
		return entryKey(nil, dataKey(g, firstGeneration, kindEntry), i)
	}
	for i := range raftcore.Index(entries) {
		b := new(Batch)
		for g := range raftcore.GroupID(groups) {
			data := make([]byte, entryBytes)
			noise.Read(data)
			b.Set(key(g+2, i), data)
		}
		if err := kv.Commit(b, i%32 == 31); err != nil {
			t.Fatal(err)
		}
	}
	if err := kv.(*pebbleKV).db.Flush(); err != nil {
		t.Fatal(err)
	}
	before := tableBytes(t, dir)
	for g := range raftcore.GroupID(groups) { // each by itself, as replicas do
		b := new(Batch)
		b.DeleteRange(key(g+2, 0), key(g+2, entries*3/4))
		if err := kv.Commit(b, false); err != nil {
			t.Fatal(err)
		}
	}
	// A file of values goes when all in it are gone, or is rewritten when a fifth is (after five minutes).
	awaitBytes(t, dir, before, groups*entries*entryBytes/4*15/10)
	if n := counters.Reclaims.Load(); n == 0 || n > groups {
		t.Errorf("%d ranges compacted", n)
	}
	if err := kv.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestDeletedRangesThatTouchAreCompactedAsOneAndNotManyAtOnce(t *testing.T) {
	r := newReclaimer(time.Hour)
	k := func(i int) []byte { return []byte{byte(i >> 8), byte(i)} }
	for _, pair := range [][2]int{{10, 20}, {20, 30}, {5, 12}, {40, 41}, {7, 7}} {
		b := new(Batch)
		b.Set(k(50), nil)
		b.DeleteRange(k(pair[0]), k(pair[1]))
		r.note(b)
	}
	if got := r.take(); len(got) != 2 || !bytes.Equal(got[0].lo, k(5)) || !bytes.Equal(got[0].hi, k(30)) || !bytes.Equal(got[1].lo, k(40)) {
		t.Fatalf("%v", got)
	}
	for i := range 2 * reclaimPendingMax {
		r.add(keyRange{k(4 * i), k(4*i + 1)})
	}
	taken := 0
	for n := len(r.take()); n > 0; n = len(r.take()) {
		if taken += n; n > reclaimRangesMax {
			t.Fatalf("%d ranges in one go", n)
		}
	}
	if taken != reclaimPendingMax {
		t.Fatalf("%d ranges were remembered, want %d", taken, reclaimPendingMax)
	}
}

func TestTheSpaceOfWhatIsTruncatedOrDeletedComesBackOnAnIdleStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	kv, err := OpenPebble(PebbleOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	truncated := spaceGroup(t, kv, 2)
	spaceGroup(t, kv, 3)
	spaceGroup(t, kv, 4)
	if err := kv.(*pebbleKV).db.Flush(); err != nil {
		t.Fatal(err)
	}
	before := tableBytes(t, dir)
	if before < 3*spaceGroupBytes {
		t.Fatalf("%d MiB in tables for %d MiB of entries", before>>20, 3*spaceGroupBytes>>20)
	}
	b := new(Batch)
	s := truncated.State().Clone()
	s.Truncated = raftcore.Position{Index: spaceEntries * 9 / 10, Term: 1}
	truncated.PutState(b, s)
	PutTombstone(b, 3, 1)
	if err := kv.Commit(b, true); err != nil {
		t.Fatal(err)
	}
	// What is left to live, and a fifth: a table at the edge of what is gone goes only when it is rewritten.
	const want = (spaceGroupBytes + spaceGroupBytes/10) * 12 / 10
	awaitBytes(t, dir, before, want)
	v, err := kv.View()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []raftcore.Index{spaceEntries*9/10 + 1, spaceEntries + 1} {
		if _, data, err := EntryData(v, 2, 1, i); err != nil || len(data) != spaceEntryBytes {
			t.Errorf("entry %d, which is still there: %d bytes, %v", i, len(data), err)
		}
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if err := kv.Close(); err != nil {
		t.Fatal(err)
	}
}
