package store

import (
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
	began, look := time.Now(), time.NewTicker(100*time.Millisecond)
	defer look.Stop()
	for tableBytes(t, dir) > want {
		if time.Since(began) > spaceReturnLimit {
			t.Fatalf("%d MiB of %d are in use, want at most %d", tableBytes(t, dir)>>20, before>>20, int64(want)>>20)
		}
		<-look.C
	}
	t.Logf("%d MiB before, %d MiB %v after the deletion", before>>20, tableBytes(t, dir)>>20, time.Since(began).Round(100*time.Millisecond))
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
