package store

import (
	"fmt"
	"testing"
)

func TestACrashKeepsAnyPrefixOfTheUnsyncedCommits(t *testing.T) {
	for keep := range 5 {
		kv := NewMem()
		put(t, kv, true, "a", "1")
		put(t, kv, false, "a", "2", "b", "2")
		put(t, kv, false, "c", "3")
		b := new(Batch)
		b.DeleteRange([]byte("a"), []byte("c"))
		must(t, kv.Commit(b, false))
		asked := -1
		after := kv.Crash(func(n int) int { asked = n; return keep })
		if asked != 3 {
			t.Fatalf("%d unsynced commits, want 3", asked)
		}
		want := [][]string{{"a=1"}, {"a=2", "b=2"}, {"a=2", "b=2", "c=3"}, {"c=3"}, {"c=3"}}[keep]
		t.Run(fmt.Sprint(keep), func(t *testing.T) {
			wantDump(t, dumpAll(t, after), want...)
			// What has survived one crash is on the disk, and survives the next.
			put(t, after, false, "d", "4")
			wantDump(t, dumpAll(t, after.Crash(nil)), want...)
		})
	}
}

func TestACrashedMemStoreServesNothing(t *testing.T) {
	kv := NewMem()
	v := viewOf(t, kv)
	kv.Crash(nil)
	if err := kv.Commit(new(Batch), true); err != ErrClosed {
		t.Fatalf("Commit: %v", err)
	}
	if _, err := kv.View(); err != ErrClosed {
		t.Fatalf("View: %v", err)
	}
	must(t, v.Close())
	if _, err := v.Get([]byte("a")); err != ErrClosed {
		t.Fatalf("Get on a closed view: %v", err)
	}
}
