package node

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/uuid"

	"github.com/multiraftd/multiraftd/proto/lineage"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// storeDir is where Pebble lives in the data directory.
const storeDir = "store"

// openStore opens the data directory, or refuses it with a *DataError.
func openStore(cfg Config, onFatal func(error), counters *store.Counters) (store.KV, error) {
	if cfg.KV != nil {
		return cfg.KV, nil
	}
	if err := checkDataDir(cfg.DataDir); err != nil {
		return nil, err
	}
	if err := makeDurableDir(cfg.DataDir); err != nil {
		return nil, &DataError{fmt.Sprintf("data directory: %v", err)}
	}
	kv, err := store.OpenPebble(store.PebbleOptions{
		Dir: filepath.Join(cfg.DataDir, storeDir), OnFatal: onFatal, Counters: counters,
		Logf: func(format string, args ...any) { cfg.Logger.Warn("store", "says", fmt.Sprintf(format, args...)) },
	})
	switch {
	case errors.Is(err, store.ErrLocked):
		return nil, &DataError{fmt.Sprintf("data directory %s is in use by another process", cfg.DataDir)}
	case errors.Is(err, store.ErrForeign), errors.Is(err, store.ErrNewerFormat):
		return nil, &DataError{fmt.Sprintf("data directory %s: %v", cfg.DataDir, err)}
	case err != nil:
		return nil, &StorageError{fmt.Errorf("the store in %s does not open, and the node stays out: %w", cfg.DataDir, err)}
	}
	return kv, nil
}

// makeDurableDir creates dir and what is missing above it, for this user alone, and syncs each parent: a
// directory that a power loss takes away takes everything in it, however often that was synced.
func makeDurableDir(dir string) error {
	var parents []string
	for d := filepath.Clean(dir); ; d = filepath.Dir(d) {
		if _, err := os.Stat(d); err == nil {
			break
		} else if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		parents = append(parents, filepath.Dir(d))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, p := range parents {
		f, err := os.Open(p)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// checkDataDir refuses a directory that holds something else than a store: a mistyped path must not be
// written to.
func checkDataDir(dir string) error {
	names, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &DataError{fmt.Sprintf("data directory: %v", err)}
	}
	for _, n := range names {
		if n.Name() != storeDir && n.Name() != reserveFile {
			return &DataError{fmt.Sprintf("%s is not a data directory: it holds %q; name an empty or a new directory", dir, n.Name())}
		}
	}
	return nil
}

// loadIdentity reads who the store says this node is, checks it against cfg, and makes a new identity for an
// empty store. Nothing is written.
func loadIdentity(kv store.KV, cfg Config) (store.Node, error) {
	v, err := kv.View()
	if err != nil {
		return store.Node{}, err
	}
	self, ok, err := store.LoadNode(v)
	if err := errors.Join(err, v.Close()); err != nil {
		return store.Node{}, &DataError{err.Error()}
	}
	set := FormatBootstrap(cfg.Bootstrap)
	if !ok {
		if set == "" && len(cfg.Join) == 0 {
			return store.Node{}, &UsageError{[]string{"the data directory is empty: --bootstrap must list the nodes that found the cluster, or --join name members of one that exists"}}
		}
		return store.Node{
			Format: store.FormatVersion, StoreID: uuid.NewString(), NodeID: cfg.ID,
			State: raftv1.StoreState_STORE_STATE_EMPTY, Bootstrap: set,
		}, nil
	}
	if self.NodeID == 0 && len(cfg.Join) == 0 { // EMPTY, with a store id: it had begun to join
		return store.Node{}, &UsageError{[]string{"this node had begun to join a cluster: --join must name members of it"}}
	}
	if cfg.ID != 0 && self.NodeID != 0 && cfg.ID != self.NodeID {
		return store.Node{}, &DataError{fmt.Sprintf("this data directory belongs to node %d, not to node %d: start it with --node-id %d, or name the right directory", self.NodeID, cfg.ID, self.NodeID)}
	}
	if set != "" && set != self.Bootstrap {
		return store.Node{}, &DataError{fmt.Sprintf("this data directory was founded with --bootstrap %s, not %s: start it with that set, or without --bootstrap", self.Bootstrap, set)}
	}
	return self, nil
}

// NextStart syncs the node's next start number (rule 19), and draws the boot id that goes with it.
func NextStart(kv store.KV, self store.Node) (store.Node, error) {
	bootID := make([]byte, lineage.IDBytes)
	if _, err := rand.Read(bootID); err != nil {
		return self, err
	}
	self.SetStart(self.LatestStart().Next(bootID))
	b := new(store.Batch)
	store.PutNode(b, self)
	return self, kv.Commit(b, true)
}
