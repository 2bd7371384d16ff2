package store

import (
	"bytes"
	"sync"

	"github.com/RaduBerinde/btreemap"
)

// memDegree is the branching of the tree: a view makes later commits copy nodes of that size once.
const memDegree = 16

type memTree = btreemap.BTreeMap[[]byte, []byte]

// MemKV is a KV in memory that forgets as a disk does: Crash keeps any prefix of the commits that includes
// the last synced one. It starts no goroutine and depends on nothing but the calls made, so that a simulated
// run can be repeated. Any goroutine may take a View.
//
// Views are copy-on-write clones of the tree; views taken with no commit between them share one.
type MemKV struct {
	counters *Counters

	mu       sync.Mutex
	closed   bool
	tree     *memTree
	view     *memTree // clone of tree for views, nil after a commit
	synced   *memTree // tree as of the last synced commit
	unsynced [][]Op   // commits since then
}

var _ KV = (*MemKV)(nil)

// NewMem returns an empty store.
func NewMem() *MemKV {
	tree := btreemap.New[[]byte, []byte](memDegree, bytes.Compare)
	return &MemKV{tree: tree, synced: tree.Clone(), counters: new(Counters)}
}

// Counters returns what the store counts.
func (k *MemKV) Counters() *Counters { return k.counters }

// View is part of KV.
func (k *MemKV) View() (View, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil, ErrClosed
	}
	k.counters.Views.Add(1)
	if k.view == nil {
		k.view = k.tree.Clone()
	}
	return &memView{k.view}, nil
}

// Synced returns an image of what every crash from now on leaves: the commits up to the last synced one.
func (k *MemKV) Synced() View {
	k.mu.Lock()
	defer k.mu.Unlock()
	return &memView{k.synced}
}

// Commit is part of KV.
func (k *MemKV) Commit(b *Batch, sync bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		k.counters.committed(b, sync, ErrClosed)
		return ErrClosed
	}
	ops := copyOps(b.Ops())
	applyOps(k.tree, ops)
	k.view = nil
	k.unsynced = append(k.unsynced, ops)
	if sync {
		k.synced, k.unsynced = k.tree.Clone(), nil
	}
	k.counters.committed(b, sync, nil)
	return nil
}

// Close is part of KV. Views taken before stay readable.
func (k *MemKV) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	return nil
}

// Crash closes k as a power loss would and returns what is then on the disk. keep is told how many commits
// have not been synced and says how many of them, from the first, have survived; nil means none.
func (k *MemKV) Crash(keep func(n int) int) *MemKV {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	n := 0
	if keep != nil {
		n = min(max(keep(len(k.unsynced)), 0), len(k.unsynced))
	}
	tree := k.synced.Clone()
	for _, ops := range k.unsynced[:n] {
		applyOps(tree, ops)
	}
	return &MemKV{tree: tree, synced: tree.Clone(), counters: new(Counters)}
}

// copyOps copies keys and values: a Batch's slices belong to the caller again after the commit.
func copyOps(ops []Op) []Op {
	copied := make([]Op, len(ops))
	for i, op := range ops {
		buf := make([]byte, 0, len(op.Key)+len(op.Head)+len(op.Value))
		buf = append(append(append(buf, op.Key...), op.Head...), op.Value...)
		n := len(op.Key)
		copied[i] = Op{Kind: op.Kind, Key: buf[:n:n], Value: buf[n:]}
	}
	return copied
}

func applyOps(tree *memTree, ops []Op) {
	for _, op := range ops {
		switch op.Kind {
		case Set:
			tree.ReplaceOrInsert(op.Key, op.Value)
		case Delete:
			tree.Delete(op.Key)
		case DeleteRange:
			deleteRange(tree, op.Key, op.Value)
		}
	}
}

func deleteRange(tree *memTree, lo, hi []byte) {
	var keys [][]byte
	for key := range tree.Ascend(btreemap.GE(lo), btreemap.LT(hi)) {
		keys = append(keys, key)
	}
	for _, key := range keys {
		tree.Delete(key)
	}
}

type memView struct{ tree *memTree }

func (v *memView) Get(key []byte) ([]byte, error) {
	if v.tree == nil {
		return nil, ErrClosed
	}
	_, value, ok := v.tree.Get(key)
	if !ok {
		return nil, ErrNotFound
	}
	return append([]byte{}, value...), nil
}

func (v *memView) Scan(lo, hi []byte, reverse bool, f func(key, value []byte) bool) error {
	if v.tree == nil {
		return ErrClosed
	}
	if reverse {
		v.tree.DescendFunc(btreemap.LT(hi), btreemap.GE(lo), f)
	} else {
		v.tree.AscendFunc(btreemap.GE(lo), btreemap.LT(hi), f)
	}
	return nil
}

func (v *memView) Close() error {
	v.tree = nil
	return nil
}
