package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.uber.org/goleak"
)

// faultFS fails the operations that fault chooses, once it is armed.
func faultFS(inner vfs.FS, fault func(op errorfs.Op) bool) (fs vfs.FS, arm func()) {
	armed := new(atomic.Bool)
	return errorfs.Wrap(inner, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if armed.Load() && fault(op) {
			return errorfs.ErrInjected
		}
		return nil
	})), func() { armed.Store(true) }
}

func isWAL(op errorfs.Op) bool { return strings.HasSuffix(op.Path, ".log") }

// failures records what OnFatal was told.
type failures struct {
	mu   sync.Mutex
	errs []error
	told chan struct{}
}

func newFailures() *failures { return &failures{told: make(chan struct{})} }

func (f *failures) onFatal(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.errs = append(f.errs, err); len(f.errs) == 1 {
		close(f.told)
	}
}

// wantDead proves that kv has told once, and that nothing is durable any more.
func (f *failures) wantDead(t *testing.T, kv KV) {
	t.Helper()
	<-f.told
	for range 2 {
		if err := kv.Commit(new(Batch), true); !errors.Is(err, ErrFailed) {
			t.Fatalf("a commit after the failure: %v", err)
		}
	}
	if _, err := kv.View(); !errors.Is(err, ErrFailed) {
		t.Fatalf("a view after the failure: %v", err)
	}
	if err := kv.Close(); !errors.Is(err, ErrFailed) {
		t.Fatalf("Close: %v", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.errs) != 1 {
		t.Fatalf("OnFatal was told %d times: %v", len(f.errs), f.errs)
	}
}

func openFaulty(t *testing.T, fs vfs.FS) (KV, *failures) {
	t.Helper()
	f := newFailures()
	kv, err := OpenPebble(PebbleOptions{Dir: "store", FS: fs, OnFatal: f.onFatal})
	must(t, err)
	put(t, kv, true, "a", "1")
	return kv, f
}

func TestACommitWhoseFsyncFailsReturnsAnErrorAndNothingCommitsAfterwards(t *testing.T) {
	fs, arm := faultFS(vfs.NewMem(), func(op errorfs.Op) bool {
		return isWAL(op) && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData)
	})
	kv, f := openFaulty(t, fs)
	arm()
	b := new(Batch)
	b.Set([]byte("b"), []byte("2"))
	if err := kv.Commit(b, true); !errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), "injected") {
		t.Fatalf("got %v, want a failure that names its cause", err)
	}
	f.wantDead(t, kv)
}

func TestAFailedWriteToTheLogFailsACommitThatFollowsEvenUnsynced(t *testing.T) {
	fs, arm := faultFS(vfs.NewMem(), func(op errorfs.Op) bool { return isWAL(op) && op.Kind == errorfs.OpFileWrite })
	kv, f := openFaulty(t, fs)
	arm()
	b := new(Batch)
	b.Set([]byte("b"), make([]byte, 1<<20)) // each rotates the log, while the memtable is still small
	var err error
	for range 100 {
		if err = kv.Commit(b, false); err != nil {
			break
		}
	}
	if err == nil {
		err = kv.Commit(b, true)
	}
	if !errors.Is(err, ErrFailed) {
		t.Fatalf("got %v, want ErrFailed", err)
	}
	f.wantDead(t, kv)
}

func TestAFailedFlushEndsTheStore(t *testing.T) {
	fs, arm := faultFS(vfs.NewMem(), func(op errorfs.Op) bool { return op.Kind == errorfs.OpCreate && strings.HasSuffix(op.Path, ".sst") })
	kv, f := openFaulty(t, fs)
	arm()
	if _, err := kv.(*pebbleKV).db.AsyncFlush(); err != nil {
		t.Fatal(err)
	}
	f.wantDead(t, kv)
}

func TestAFailureWhileOpeningIsReturned(t *testing.T) {
	inner := vfs.NewMem()
	kv, err := OpenPebble(PebbleOptions{Dir: "store", FS: inner})
	must(t, err)
	must(t, kv.Close())
	fs, arm := faultFS(inner, func(op errorfs.Op) bool {
		return strings.Contains(op.Path, "MANIFEST") && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData)
	})
	arm()
	if _, err := OpenPebble(PebbleOptions{Dir: "store", FS: fs}); err == nil {
		t.Fatal("opened though its manifest cannot be synced")
	}
}

func TestLargeValuesGoToBlobFilesAndSmallOnesDoNot(t *testing.T) {
	fs := vfs.NewMem()
	kv, err := OpenPebble(PebbleOptions{Dir: "store", FS: fs})
	must(t, err)
	db := kv.(*pebbleKV).db
	put(t, kv, true, "small", strings.Repeat("s", separatedValueBytes-1))
	must(t, db.Flush())
	if n := countBlobs(t, fs); n != 0 {
		t.Fatalf("%d blob files for small values", n)
	}
	put(t, kv, true, "large", strings.Repeat("l", separatedValueBytes))
	must(t, db.Flush())
	if n := countBlobs(t, fs); n == 0 {
		t.Fatal("no blob file: value separation is off")
	}
	v := viewOf(t, kv)
	value, err := v.Get([]byte("large"))
	must(t, err)
	if !bytes.Equal(value, bytes.Repeat([]byte("l"), separatedValueBytes)) {
		t.Fatal("a separated value reads differently")
	}
	must(t, v.Close())
	must(t, kv.Close())
}

func countBlobs(t *testing.T, fs vfs.FS) (n int) {
	names, err := fs.List("store")
	must(t, err)
	for _, name := range names {
		if strings.HasSuffix(name, ".blob") {
			n++
		}
	}
	return n
}

// TestABitFlippedInTheLogBeforeALaterSyncFailsOpen runs over sizes for which Pebble alone finds the damage, or
// does not: within a block of its log, far into it, and over the end of one.
func TestABitFlippedInTheLogBeforeALaterSyncFailsOpen(t *testing.T) {
	for _, size := range []int{0, 1000, 33 << 10, 100 << 10} {
		for _, damaged := range []int{0, 15, 28} {
			fs := vfs.NewCrashableMem()
			kv, err := OpenPebble(PebbleOptions{Dir: "store", FS: fs})
			must(t, err)
			for i := range 30 {
				put(t, kv, true, fmt.Sprintf("k%02d", i), fmt.Sprintf("damage-me-%02d%s", i, strings.Repeat(".", size)))
			}
			after := fs.CrashClone(vfs.CrashCloneCfg{})
			must(t, kv.Close())
			if n := flipBit(t, after, fmt.Sprintf("damage-me-%02d", damaged)); n != 1 {
				t.Fatalf("the record is in %d log files", n)
			}
			kv, err = OpenPebble(PebbleOptions{Dir: "store", FS: after})
			if err == nil {
				t.Fatalf("opened with %d of 30 synced records of %d bytes after damage to record %d", len(dumpAll(t, kv)), size, damaged)
			}
			if errors.Is(err, ErrForeign) || errors.Is(err, ErrLocked) {
				t.Fatalf("damage is reported as %v", err)
			}
		}
	}
}

// TestATornTailIsCut flips a bit that nothing synced comes after: nobody was told that the record is stored.
func TestATornTailIsCut(t *testing.T) {
	fs := vfs.NewCrashableMem()
	kv, err := OpenPebble(PebbleOptions{Dir: "store", FS: fs})
	must(t, err)
	put(t, kv, true, "a", "1")
	put(t, kv, false, "b", "damage-me")
	put(t, kv, false, "c", "3")
	must(t, kv.(*pebbleKV).db.LogData(nil, pebble.Sync)) // it is on the disk, but no commit has noted that
	after := fs.CrashClone(vfs.CrashCloneCfg{})
	must(t, kv.Close())
	if n := flipBit(t, after, "damage-me"); n != 1 {
		t.Fatalf("the record is in %d log files", n)
	}
	for range 2 { // also when the cut log is still there
		kv, err = OpenPebble(PebbleOptions{Dir: "store", FS: after})
		must(t, err)
		wantDump(t, dumpAll(t, kv), "a=1")
		crashed := after.CrashClone(vfs.CrashCloneCfg{})
		must(t, kv.Close())
		after = crashed
	}
}

// TestABatchTooLargeForAMemtableIsStored: Pebble keeps one of more than half of it as a table of its own.
func TestABatchTooLargeForAMemtableIsStored(t *testing.T) {
	fs := vfs.NewMem()
	kv, err := OpenPebble(PebbleOptions{Dir: "store", FS: fs})
	must(t, err)
	put(t, kv, true, "large", strings.Repeat("x", memtableBytes/2+1))
	must(t, kv.Close())
	kv, err = OpenPebble(PebbleOptions{Dir: "store", FS: fs})
	must(t, err)
	v := viewOf(t, kv)
	value, err := v.Get([]byte("large"))
	must(t, err)
	if len(value) != memtableBytes/2+1 {
		t.Fatalf("%d bytes are left", len(value))
	}
	must(t, v.Close())
	must(t, kv.Close())
}

// flipBit changes one bit of each log file where needle starts, and returns in how many it was found.
func flipBit(t *testing.T, fs *vfs.MemFS, needle string) (n int) {
	names, err := fs.List("store")
	must(t, err)
	for _, name := range names {
		if !strings.HasSuffix(name, ".log") {
			continue
		}
		f, err := fs.OpenReadWrite("store/"+name, vfs.WriteCategoryUnspecified)
		must(t, err)
		data, err := io.ReadAll(f)
		must(t, err)
		if at := bytes.Index(data, []byte(needle)); at >= 0 {
			_, err = f.WriteAt([]byte{data[at] ^ 1}, int64(at))
			must(t, err)
			n++
		}
		must(t, f.Close())
	}
	return n
}

// TestACrashKeepsAPrefix runs over what a real disk may keep of unsynced pages: nothing, all, or some. Blocks
// that survive out of order leave a torn tail, which recovery cuts.
func TestACrashKeepsAPrefix(t *testing.T) {
	for seed := range uint64(40) {
		fs := vfs.NewCrashableMem()
		kv, err := OpenPebble(PebbleOptions{Dir: "store", FS: fs})
		must(t, err)
		const commits = 12
		synced := int(seed % commits)
		for i := range commits {
			key := string(rune('a' + i))
			put(t, kv, i == synced, key, strings.Repeat(key, 3000))
		}
		after := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: int(seed*29) % 101, RNG: rand.New(rand.NewPCG(seed, 1))})
		must(t, kv.Close())
		kv, err = OpenPebble(PebbleOptions{Dir: "store", FS: after})
		must(t, err)
		kvs := dumpAll(t, kv)
		if len(kvs) < synced+1 {
			t.Fatalf("seed %d: %d commits survived, %d were synced", seed, len(kvs), synced+1)
		}
		for i, pair := range kvs {
			if key := string(rune('a' + i)); pair != key+"="+strings.Repeat(key, 3000) {
				t.Fatalf("seed %d: commit %d is missing or torn, though a later one is there", seed, i)
			}
		}
		must(t, kv.Close())
	}
}

func TestADirectoryInUseIsRefused(t *testing.T) {
	for name, o := range map[string]PebbleOptions{
		"disk": {Dir: t.TempDir() + "/store"},
		"mem":  {Dir: "store", FS: vfs.NewMem()},
	} {
		t.Run(name, func(t *testing.T) {
			kv, err := OpenPebble(o)
			must(t, err)
			if _, err := OpenPebble(o); !errors.Is(err, ErrLocked) {
				t.Fatalf("got %v, want ErrLocked", err)
			}
			put(t, kv, true, "a", "1")
			must(t, kv.Close())
			kv, err = OpenPebble(o)
			must(t, err)
			wantDump(t, dumpAll(t, kv), "a=1")
			must(t, kv.Close())
		})
	}
}

func TestAForeignPebbleDirectoryIsRefusedAndNotChanged(t *testing.T) {
	fs := vfs.NewMem()
	db, err := pebble.Open("store", &pebble.Options{FS: fs, Logger: quiet{}})
	must(t, err)
	must(t, db.Set([]byte("theirs"), []byte("1"), pebble.Sync))
	must(t, db.Close())
	before, err := fs.List("store")
	must(t, err)
	if _, err := OpenPebble(PebbleOptions{Dir: "store", FS: fs}); !errors.Is(err, ErrForeign) {
		t.Fatalf("got %v, want ErrForeign", err)
	}
	after, err := fs.List("store")
	must(t, err)
	slices.Sort(before)
	slices.Sort(after)
	if !slices.Equal(before, after) {
		t.Fatalf("files were %v, are %v", before, after)
	}
	db, err = pebble.Open("store", &pebble.Options{FS: fs, Logger: quiet{}})
	must(t, err)
	must(t, db.Close())
}

// quiet is the logger of somebody else's Pebble.
type quiet struct{}

func (quiet) Infof(string, ...any)      {}
func (quiet) Errorf(string, ...any)     {}
func (quiet) Fatalf(f string, a ...any) { panic(f) }

func TestAClosedOrRefusedStoreLeavesNoGoroutine(t *testing.T) {
	ignore := goleak.IgnoreCurrent() // those that failures in other tests have stopped
	fs := vfs.NewMem()
	kv, err := OpenPebble(PebbleOptions{Dir: "store", FS: fs})
	must(t, err)
	if _, err := OpenPebble(PebbleOptions{Dir: "store", FS: fs}); !errors.Is(err, ErrLocked) {
		t.Fatal(err)
	}
	put(t, kv, true, "a", "1")
	must(t, kv.Close())
	goleak.VerifyNone(t, ignore)
}
