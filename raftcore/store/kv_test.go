package store

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"
)

// crasher is a KV under test and what a power loss makes of it. crash keeps nothing that was not synced.
type crasher struct {
	KV
	crash func(t rapid.TB) *crasher
}

func memCrasher(k *MemKV) *crasher {
	return &crasher{k, func(rapid.TB) *crasher { return memCrasher(k.Crash(nil)) }}
}

func pebbleCrasher(t rapid.TB, fs *vfs.MemFS) *crasher {
	kv, err := OpenPebble(PebbleOptions{Dir: "dir/store", FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	return &crasher{kv, func(t rapid.TB) *crasher {
		after := fs.CrashClone(vfs.CrashCloneCfg{})
		must(t, kv.Close())
		return pebbleCrasher(t, after)
	}}
}

// eachKV runs f over both stores.
func eachKV(t *testing.T, f func(t *testing.T, open func(rapid.TB) *crasher)) {
	t.Run("mem", func(t *testing.T) {
		f(t, func(rapid.TB) *crasher { return memCrasher(NewMem()) })
	})
	t.Run("pebble", func(t *testing.T) {
		f(t, func(t rapid.TB) *crasher { return pebbleCrasher(t, vfs.NewCrashableMem()) })
	})
}

func must(t rapid.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func viewOf(t rapid.TB, kv KV) View {
	t.Helper()
	v, err := kv.View()
	must(t, err)
	return v
}

// dump returns the keys and values from lo on as "key=value"; lo starts above the format record of Pebble.
func dump(t rapid.TB, v View, lo, hi string, reverse bool) (kvs []string) {
	t.Helper()
	must(t, v.Scan([]byte(lo), []byte(hi), reverse, func(key, value []byte) bool {
		kvs = append(kvs, fmt.Sprintf("%s=%s", key, value))
		return true
	}))
	return kvs
}

func dumpAll(t rapid.TB, kv KV) []string {
	t.Helper()
	v := viewOf(t, kv)
	defer func() { must(t, v.Close()) }()
	return dump(t, v, "a", "z", false)
}

func put(t rapid.TB, kv KV, sync bool, kvs ...string) {
	t.Helper()
	b := new(Batch)
	for i := 0; i < len(kvs); i += 2 {
		b.Set([]byte(kvs[i]), []byte(kvs[i+1]))
	}
	must(t, kv.Commit(b, sync))
}

func wantDump(t rapid.TB, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func TestOperationsOfABatchApplyInOrder(t *testing.T) {
	eachKV(t, func(t *testing.T, open func(rapid.TB) *crasher) {
		kv := open(t)
		put(t, kv, false, "a", "1", "b", "1", "c", "1", "d", "1")
		b := new(Batch)
		b.Set([]byte("bb"), []byte("2"))
		b.DeleteRange([]byte("b"), []byte("d"))
		b.Set([]byte("c"), []byte("3"))
		b.Delete([]byte("a"))
		b.DeleteRange([]byte("x"), []byte("d")) // empty: deletes nothing
		must(t, kv.Commit(b, true))
		wantDump(t, dumpAll(t, kv), "c=3", "d=1")
		must(t, kv.Close())
	})
}

func TestAScanIsBoundedStopsAndRunsBothWays(t *testing.T) {
	eachKV(t, func(t *testing.T, open func(rapid.TB) *crasher) {
		kv := open(t)
		put(t, kv, false, "a", "", "b", "1", "c", "2", "d", "3")
		v := viewOf(t, kv)
		wantDump(t, dump(t, v, "b", "d", false), "b=1", "c=2")
		wantDump(t, dump(t, v, "a", "d", true), "c=2", "b=1", "a=")
		wantDump(t, dump(t, v, "d", "a", false))
		n := 0
		must(t, v.Scan([]byte("a"), []byte("z"), true, func(_, _ []byte) bool { n++; return n < 2 }))
		if n != 2 {
			t.Fatalf("%d keys after the scan was stopped at 2", n)
		}
		must(t, v.Close())
		must(t, kv.Close())
	})
}

func TestAViewDoesNotSeeLaterCommits(t *testing.T) {
	eachKV(t, func(t *testing.T, open func(rapid.TB) *crasher) {
		kv := open(t)
		put(t, kv, false, "a", "1", "b", "1")
		v, same := viewOf(t, kv), viewOf(t, kv)
		b := new(Batch)
		b.DeleteRange([]byte("a"), []byte("b"))
		b.Set([]byte("b"), []byte("2"))
		must(t, kv.Commit(b, true))
		must(t, same.Close())
		wantDump(t, dump(t, v, "a", "z", false), "a=1", "b=1")
		wantDump(t, dumpAll(t, kv), "b=2")
		must(t, v.Close())
		must(t, kv.Close())
	})
}

func TestGetReturnsACopyOrNotFound(t *testing.T) {
	eachKV(t, func(t *testing.T, open func(rapid.TB) *crasher) {
		kv := open(t)
		put(t, kv, false, "a", "1", "e", "")
		v := viewOf(t, kv)
		value, err := v.Get([]byte("a"))
		must(t, err)
		value[0] = 'x'
		wantDump(t, dump(t, v, "a", "b", false), "a=1")
		if value, err := v.Get([]byte("e")); err != nil || value == nil || len(value) != 0 {
			t.Fatalf("empty value: %v, %v", value, err)
		}
		if _, err := v.Get([]byte("b")); !errors.Is(err, ErrNotFound) {
			t.Fatalf("got %v, want ErrNotFound", err)
		}
		must(t, v.Close())
		must(t, kv.Close())
	})
}

func TestTheCallerMayChangeItsSlicesAfterTheCommit(t *testing.T) {
	eachKV(t, func(t *testing.T, open func(rapid.TB) *crasher) {
		kv := open(t)
		key, value := []byte("a"), []byte("1")
		b := new(Batch)
		b.Set(key, value)
		must(t, kv.Commit(b, false))
		key[0], value[0] = 'q', '9'
		wantDump(t, dumpAll(t, kv), "a=1")
		must(t, kv.Close())
	})
}

func TestAClosedStoreRefusesEverything(t *testing.T) {
	eachKV(t, func(t *testing.T, open func(rapid.TB) *crasher) {
		kv := open(t)
		must(t, kv.Close())
		must(t, kv.Close())
		if err := kv.Commit(new(Batch), true); !errors.Is(err, ErrClosed) {
			t.Fatalf("Commit: %v", err)
		}
		if _, err := kv.View(); !errors.Is(err, ErrClosed) {
			t.Fatalf("View: %v", err)
		}
	})
}

func TestASyncMakesAllEarlierCommitsSurviveACrash(t *testing.T) {
	eachKV(t, func(t *testing.T, open func(rapid.TB) *crasher) {
		kv := open(t)
		put(t, kv, false, "a", "1")
		put(t, kv, false, "b", "1")
		put(t, kv, true, "c", "1")
		put(t, kv, false, "d", "1")
		kv = kv.crash(t)
		wantDump(t, dumpAll(t, kv), "a=1", "b=1", "c=1")
		put(t, kv, false, "e", "1")
		kv = kv.crash(t)
		wantDump(t, dumpAll(t, kv), "a=1", "b=1", "c=1")
		must(t, kv.Close())
	})
}

func TestViewsMayBeTakenWhileCommitsRun(t *testing.T) {
	eachKV(t, func(t *testing.T, open func(rapid.TB) *crasher) {
		const commits, readers = 200, 4
		kv := open(t)
		put(t, kv, false, "a", "000", "b", "000")
		var wg sync.WaitGroup
		done := make(chan struct{})
		for range readers {
			wg.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
					}
					kvs := dumpAll(t, kv)
					if len(kvs) != 2 || kvs[0][2:] != kvs[1][2:] {
						t.Errorf("half a batch is visible: %v", kvs)
						return
					}
				}
			})
		}
		for i := range commits {
			put(t, kv, i%50 == 0, "a", fmt.Sprintf("%03d", i), "b", fmt.Sprintf("%03d", i))
		}
		close(done)
		wg.Wait()
		must(t, kv.Close())
	})
}

// model is the simplest KV: what it holds, and what of that is synced.
type model struct{ now, synced map[string]string }

func (m *model) commit(b *Batch, sync bool) {
	for _, op := range b.Ops() {
		switch op.Kind {
		case Set:
			m.now[string(op.Key)] = string(op.Head) + string(op.Value)
		case Delete:
			delete(m.now, string(op.Key))
		case DeleteRange:
			maps.DeleteFunc(m.now, func(k, _ string) bool {
				return bytes.Compare([]byte(k), op.Key) >= 0 && bytes.Compare([]byte(k), op.Value) < 0
			})
		}
	}
	if sync {
		m.synced = maps.Clone(m.now)
	}
}

func (m *model) dump() []string {
	var kvs []string
	for _, k := range slices.Sorted(maps.Keys(m.now)) {
		kvs = append(kvs, k+"="+m.now[k])
	}
	return kvs
}

func TestBothStoresBehaveAsAMapDoes(t *testing.T) {
	eachKV(t, func(t *testing.T, open func(rapid.TB) *crasher) {
		rapid.Check(t, func(t *rapid.T) {
			kv, m := open(t), &model{map[string]string{}, map[string]string{}}
			t.Repeat(map[string]func(*rapid.T){
				"commit": func(t *rapid.T) {
					b, sync := drawBatch(t), rapid.Bool().Draw(t, "sync")
					must(t, kv.Commit(b, sync))
					m.commit(b, sync)
				},
				"crash": func(t *rapid.T) {
					if rapid.IntRange(0, 4).Draw(t, "luck") > 0 { // opening Pebble takes most of the time
						t.Skip()
					}
					kv = kv.crash(t)
					m.now = maps.Clone(m.synced)
				},
				"": func(t *rapid.T) { wantDump(t, dumpAll(t, kv), m.dump()...) },
			})
			must(t, kv.Close())
		})
	})
}

func drawBatch(t *rapid.T) *Batch {
	b := new(Batch)
	key := rapid.StringMatching(`[a-f]{1,2}`)
	for range rapid.IntRange(0, 6).Draw(t, "ops") {
		k := []byte(key.Draw(t, "key"))
		switch Kind(rapid.IntRange(0, 2).Draw(t, "kind")) {
		case Set:
			b.Set(k, []byte(rapid.StringMatching(`[0-9]{0,3}`).Draw(t, "value")))
		case Delete:
			b.Delete(k)
		case DeleteRange:
			b.DeleteRange(k, []byte(key.Draw(t, "end")))
		}
	}
	return b
}
