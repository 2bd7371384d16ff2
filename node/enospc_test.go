//go:build linux

package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/multiraftd/multiraftd/client"
	"github.com/multiraftd/multiraftd/raftcore"
)

// A disk that fills up unnoticed, as by another process between two looks.
func TestADiskThatIsFullBeforeAnybodyNoticesEndsTheNodeAndLosesNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts a small tmpfs")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=320m"); err != nil {
		t.Fatalf("mounting a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil { // a failed store keeps its files open
			t.Errorf("unmounting: %v", err)
		}
	})
	peer := freeAddr(t)
	dir := filepath.Join(disk, "data")
	n, c := startUnaware(ctx, t, dir, peer)
	if _, _, err := c.CreateTopic(ctx, "t", 1, 1); err != nil {
		t.Fatal(errors.Join(err, n.Close()))
	}
	acked := fillUp(ctx, t, n, c)
	var failed *StorageError
	if !errors.As(n.Err(), &failed) || !errors.Is(n.Err(), syscall.ENOSPC) {
		t.Errorf("the node ended with %v, want a storage failure for lack of space", n.Err())
	}
	if err := errors.Join(c.Close(), ignoreInUse(n.Close())); err != nil {
		t.Error(err)
	}
	if acked < 32 {
		t.Fatalf("only %d records were stored: %v", acked, failed)
	}
	// The failed store holds its directory until the process ends: what it left is looked at in a copy.
	copied := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	n, c = startUnaware(ctx, t, copied, peer)
	r, err := c.NewReader(ctx, "t", client.ReadConfig{})
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	for _, err := range r.All(ctx) {
		if err != nil {
			t.Error(err)
			break
		}
		read++
	}
	if read < acked {
		t.Errorf("%d records are left of %d that were acknowledged", read, acked)
	}
	if err := errors.Join(r.Close(), c.Close(), n.Close()); err != nil {
		t.Error(err)
	}
}

// startUnaware starts a node that takes its disk for an empty one; small, so that its reserve is.
func startUnaware(ctx context.Context, t *testing.T, dir, peer string) (*Node, *client.Client) {
	t.Helper()
	plenty := func(string) (uint64, uint64, error) { return 1 << 40, 1 << 20, nil }
	n, err := Start(ctx, Config{ID: 1, DataDir: dir, Bootstrap: map[raftcore.NodeID]string{1: peer}, ClientAddr: freeAddr(t), PeerAddr: peer,
		ElectionTimeout: 100 * time.Millisecond, FreeSpace: plenty})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Ready(ctx); err != nil {
		t.Fatal(errors.Join(err, n.Close()))
	}
	c, err := client.Open(client.Config{Addrs: []string{n.ClientAddr()}, UnreachableTimeout: time.Second})
	if err != nil {
		t.Fatal(errors.Join(err, n.Close()))
	}
	return n, c
}

// fillUp appends until the node has failed, and returns how many records were acknowledged.
func fillUp(ctx context.Context, t *testing.T, n *Node, c *client.Client) (acked int) {
	t.Helper()
	for n.Err() == nil {
		attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
		receipt, err := c.AppendOnce(attempt, "t", 0, client.Record{Value: make([]byte, 1<<20)})
		cancel()
		if err == nil {
			if receipt.Offset != int64(acked) {
				t.Fatalf("record %d has offset %d", acked, receipt.Offset)
			}
			acked++
		} else if n.Err() == nil {
			select {
			case <-n.Done():
			case <-ctx.Done():
				t.Fatalf("an append failed, the node goes on: %v", err)
			}
		}
	}
	return acked
}

// ignoreInUse lets pass that something still hung on the failed store.
func ignoreInUse(err error) error {
	if errors.Is(err, ErrStoreInUse) {
		return nil
	}
	return err
}
