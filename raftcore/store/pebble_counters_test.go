package store

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// counted returns what a counter shows.
func counted(c *Counters, name string) (v uint64) {
	c.Each(func(n, _, _, _ string, now uint64) {
		if n == name {
			v = now
		}
	})
	return v
}

func TestAFailedCommitIsCounted(t *testing.T) {
	fs, arm := faultFS(vfs.NewMem(), func(op errorfs.Op) bool {
		return isWAL(op) && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData)
	})
	c, f := new(Counters), newFailures()
	kv, err := OpenPebble(PebbleOptions{Dir: "store", FS: fs, OnFatal: f.onFatal, Counters: c})
	must(t, err)
	arm()
	if err := kv.Commit(new(Batch), true); !errors.Is(err, ErrFailed) || counted(c, "store_commit_failures_total") != 1 {
		t.Errorf("%v, %d counted", err, counted(c, "store_commit_failures_total"))
	}
	f.wantDead(t, kv)
}

// Pebble stalls writes when memtables or sublevels pile up, which takes hundreds of megabytes. It says so through the
// listener that the store gives it.
func TestAWriteStallIsCounted(t *testing.T) {
	k := &pebbleKV{counters: new(Counters)}
	o := PebbleOptions{Dir: "store", FS: vfs.NewMem()}
	o.setDefaults()
	k.pebbleOptions(o).EventListener.WriteStallBegin(pebble.WriteStallBeginInfo{Reason: "memtable count limit reached"})
	if n := counted(k.counters, "store_write_stalls_total"); n != 1 {
		t.Errorf("%d counted", n)
	}
}

func TestADeletedRangeThatIsCompactedIsCounted(t *testing.T) {
	c := new(Counters)
	kv, err := OpenPebble(PebbleOptions{Dir: "store", FS: vfs.NewMem(), Counters: c, reclaimDelay: 10 * time.Millisecond})
	must(t, err)
	b := new(Batch)
	b.DeleteRange([]byte("a"), []byte("b"))
	must(t, kv.Commit(b, true))
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for counted(c, "store_reclaims_total") == 0 {
		select {
		case <-look.C:
		case <-t.Context().Done():
			t.Fatal("never")
		}
	}
	must(t, kv.Close())
}

func TestAStoreSaysHowMuchDiskItTakesUp(t *testing.T) {
	kv, err := OpenPebble(PebbleOptions{Dir: "store", FS: vfs.NewMem()})
	must(t, err)
	k := kv.(*pebbleKV)
	before := k.DiskBytes()
	value := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{1}).Read(value) // which does not compress
	b := new(Batch)
	b.Set([]byte("key"), value)
	must(t, kv.Commit(b, true))
	must(t, k.db.Flush())
	if now := k.DiskBytes(); before == 0 || now < before+1<<20 {
		t.Errorf("%d bytes before, %d after a megabyte", before, now)
	}
	must(t, kv.Close())
	if n := k.DiskBytes(); n != 0 {
		t.Errorf("a closed store takes up %d bytes", n)
	}
}
