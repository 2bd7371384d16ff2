package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

func config(dir string) Config {
	return Config{ID: 1, DataDir: dir, ClientAddr: "127.0.0.1:0", PeerAddr: "127.0.0.1:0", Bootstrap: map[raftcore.NodeID]string{1: "127.0.0.1:0"}}
}

func TestANewerFormatIsRefusedAndLeftAlone(t *testing.T) {
	dir := t.TempDir()
	open := func() store.KV {
		kv, err := store.OpenPebble(store.PebbleOptions{Dir: filepath.Join(dir, storeDir)})
		if err != nil {
			t.Fatal(err)
		}
		return kv
	}
	kv := open()
	b := new(store.Batch)
	store.PutNode(b, store.Node{Format: store.FormatVersion + 1, NodeID: 1})
	if err := errors.Join(kv.Commit(b, true), kv.Close()); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time proves that the first has changed nothing
		_, err := Start(t.Context(), config(dir))
		var data *DataError
		if !errors.As(err, &data) || !strings.Contains(err.Error(), fmt.Sprintf("format %d", store.FormatVersion+1)) {
			t.Fatalf("%v, want a refusal that names the format", err)
		}
	}
}

func TestEveryStartHasTheNextNumber(t *testing.T) {
	dir := t.TempDir()
	for want := uint64(1); want <= 3; want++ {
		n, err := Start(t.Context(), config(dir))
		if err != nil {
			t.Fatal(err)
		}
		if n.self.Start != want || n.self.NodeID != 1 {
			t.Errorf("start %d of node %d, want start %d", n.self.Start, n.self.NodeID, want)
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEveryFaultOfAConfigIsReportedAtOnce(t *testing.T) {
	_, err := Start(t.Context(), Config{ClientAddr: "nowhere", PeerAddr: "10.0.0.1:99999", ElectionTimeout: 1, RecordBytesMax: -1,
		Bootstrap: map[raftcore.NodeID]string{1: "a:1", 2: "a:1"}})
	var usage *UsageError
	if !errors.As(err, &usage) {
		t.Fatal(err)
	}
	for _, want := range []string{"--data-dir", "--client-addr", "--peer-addr", "--insecure", "--election-timeout", "--record-bytes-max", "--node-id", "same address"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("nothing about %s in: %v", want, err)
		}
	}
}

func TestANodeThatFailsToStartLeavesNothingBehind(t *testing.T) {
	first, err := Start(t.Context(), config(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	cfg := config(t.TempDir())
	cfg.HTTPAddr = first.ClientAddr() // taken
	if _, err := Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "--http-addr") {
		t.Fatalf("%v", err)
	}
	cfg.HTTPAddr = ""
	second, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatalf("what the first attempt left: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestADamagedStoreIsAStorageFailureAndNotTakenForEmpty(t *testing.T) {
	dir := t.TempDir()
	n, err := Start(t.Context(), config(dir))
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	manifests, err := filepath.Glob(filepath.Join(dir, storeDir, "MANIFEST-*"))
	if err != nil || len(manifests) == 0 {
		t.Fatalf("manifests %v, %v", manifests, err)
	}
	for _, m := range manifests {
		if err := os.WriteFile(m, []byte("garbage"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var storage *StorageError
	if _, err := Start(t.Context(), config(dir)); !errors.As(err, &storage) {
		t.Fatalf("%v, want a storage failure", err)
	}
}

func TestANodeThatWaitsForOthersLivesAndIsNotReady(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.HTTPAddr, cfg.PeerAddr, cfg.ClientAddr = freeAddr(t), freeAddr(t), freeAddr(t)
	cfg.Bootstrap = map[raftcore.NodeID]string{1: cfg.PeerAddr, 2: freeAddr(t)}
	ctx, cancel := context.WithCancel(t.Context())
	cfg.Logger = slog.New(slog.NewTextHandler(cancelOn{"does not answer", func() {
		for path, want := range map[string]int{"/livez": 200, "/readyz": 503, "/metrics": 200} {
			resp, err := http.Get("http://" + cfg.HTTPAddr + path)
			if err != nil {
				t.Error(err)
				continue
			}
			resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("%s: %d, want %d", path, resp.StatusCode, want)
			}
		}
		if conn, err := net.Dial("tcp", cfg.ClientAddr); err == nil {
			conn.Close()
			t.Error("clients are let in and nobody answers them")
		}
		cancel()
	}}, nil))
	if _, err := Start(ctx, cfg); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}
