//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/multiraftd/multiraftd/client"
	"github.com/multiraftd/multiraftd/deploy/localcluster"
)

// smallDisk mounts a disk of some MiB. It needs root.
func smallDisk(t *testing.T, mib int) (dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts a small tmpfs")
	}
	dir = t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mib)); err != nil {
		t.Fatalf("mounting a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmounting %s: %v", dir, err)
		}
	})
	return dir
}

// freeOn is what is free on a disk.
func freeOn(t *testing.T, dir string) int64 {
	t.Helper()
	var st syscall.Statfs_t
	must(t, syscall.Statfs(dir, &st))
	return int64(st.Bavail) * st.Bsize
}

// fill appends records of a MiB to a topic until the disk is full, or n of them, and returns how many were
// acknowledged.
func fill(ctx context.Context, t *testing.T, cl *client.Client, topic string, n int) (acked int, full bool) {
	t.Helper()
	value := make([]byte, 1<<20)
	for range n {
		rand.Read(value) // never fails
		attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
		_, err := cl.AppendOnce(attempt, topic, 0, client.Record{Value: value})
		cancel()
		switch {
		case err == nil:
			acked++
		case errors.Is(err, client.DiskFull):
			return acked, true
		default:
			t.Fatalf("after %d records: %v", acked, err)
		}
	}
	return acked, false
}

// until waits for something that happens by itself.
func until(ctx context.Context, t *testing.T, what string, cond func() bool) time.Duration {
	t.Helper()
	began, tick := time.Now(), time.NewTicker(100*time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-ctx.Done():
			t.Fatalf("it never came true: %s", what)
		case <-tick.C:
		}
	}
	return time.Since(began)
}

func readable(ctx context.Context, t *testing.T, cl *client.Client, topic string, atLeast int) {
	t.Helper()
	r, err := cl.NewReader(ctx, topic, client.ReadConfig{})
	must(t, err)
	defer r.Close()
	n := 0
	for rec, err := range r.All(ctx) {
		must(t, err)
		if len(rec.Value) != 1<<20 {
			t.Fatalf("a record of %d bytes at offset %d", len(rec.Value), rec.Offset)
		}
		n++
	}
	if n < atLeast {
		t.Fatalf("%d records, want at least %d", n, atLeast)
	}
}

func TestAFullDiskRefusesAppendsServesReadsAndRecovers(t *testing.T) {
	const disk = 1024 // MiB: of it, 256 are the low mark
	dir := smallDisk(t, disk)
	ctx, cancel := context.WithTimeout(t.Context(), e2eTimeout)
	defer cancel()
	c, err := localcluster.New(localcluster.Config{Bin: bin, Dir: dir, Nodes: 1})
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	must(t, c.StartAll())
	must(t, c.Healthy(ctx))
	cl := connect(t, c)
	for _, topic := range []string{"a", "b"} {
		if _, _, err := cl.CreateTopic(ctx, topic, 1, 1); err != nil {
			t.Fatal(err)
		}
	}
	inA, full := fill(ctx, t, cl, "a", disk)
	if !full || inA < disk/4 {
		t.Fatalf("%d records of a MiB stored on a disk of %d MiB; full: %v", inA, disk, full)
	}
	t.Logf("full after %d MiB, %d MiB are free", inA, freeOn(t, dir)>>20)
	for range 3 {
		if n, full := fill(ctx, t, cl, "b", 1); n != 0 || !full {
			t.Fatal("an append got through")
		}
	}
	readable(ctx, t, cl, "a", inA)
	out, err := c.Ctl(ctx, "cluster", "health").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "the disk of node 1 is nearly full") || !strings.Contains(string(out), "mrctl topic alter") {
		t.Fatalf("health: %v, %s", err, out)
	}

	out, err = c.Ctl(ctx, "topic", "alter", "a", "--retention-bytes", "64MiB").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	took := until(ctx, t, "retention makes room", func() bool { n, _ := fill(ctx, t, cl, "b", 1); return n == 1 })
	t.Logf("appends go on %v after topic alter, %d MiB are free", took.Round(100*time.Millisecond), freeOn(t, dir)>>20)
	readable(ctx, t, cl, "a", 64)

	inB, full := fill(ctx, t, cl, "b", disk)
	if !full {
		t.Fatalf("%d more MiB stored, and the disk is not full", inB)
	}
	t.Logf("full again after %d MiB", inB)

	_, err = c.Kill(1)
	must(t, err)
	must(t, c.StartAll())
	until(ctx, t, "the node serves after a restart on a full disk", func() bool {
		_, err := cl.Describe(ctx, "a", true)
		return err == nil
	})
	readable(ctx, t, cl, "b", inB)
	more, full := fill(ctx, t, cl, "b", disk) // a start gives back what the store kept for its log
	if !full {
		t.Fatalf("%d more MiB stored after the restart, and the disk is not full", more)
	}
	out, err = c.Ctl(ctx, "topic", "delete", "b").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	took = until(ctx, t, "a deleted topic makes room", func() bool { n, _ := fill(ctx, t, cl, "a", 1); return n == 1 })
	t.Logf("appends go on %v after topic delete, %d MiB are free", took.Round(100*time.Millisecond), freeOn(t, dir)>>20)
	must(t, c.Healthy(ctx))
}
