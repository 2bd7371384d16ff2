package store

import "errors"

// ErrNotFound is returned by View.Get for a key that is not there.
var ErrNotFound = errors.New("store: key not found")

// KV is an ordered key-value store with atomic batches: all that this package asks of a disk.
//
// Contract: Commit is called from one goroutine at a time. Batches become visible in the order of the
// commits, whole. With sync = true everything committed so far survives a crash when Commit has returned
// nil; after a crash a prefix of the commits is there that includes the last synced one. An error from
// Commit is final: nothing may be acknowledged afterwards, and no later Commit succeeds.
type KV interface {
	View() (View, error)
	Commit(b *Batch, sync bool) error
	Close() error
}

// View is a consistent image of a KV, taken when View was called. Safe for one goroutine. Close it.
type View interface {
	// Get returns a copy of the value that the caller may keep, or ErrNotFound.
	Get(key []byte) ([]byte, error)
	// Scan calls f for the keys in [lo, hi), ascending, or descending with reverse, until f returns false.
	// key and value are valid only during the call.
	Scan(lo, hi []byte, reverse bool, f func(key, value []byte) bool) error
	Close() error
}

// Kind is what one operation of a Batch does.
type Kind uint8

// The operations.
const (
	Set         Kind = iota // Key, Value
	Delete                  // Key
	DeleteRange             // [Key, Value)
)

// Op is one operation of a Batch. The value of a Set is Head followed by Value.
type Op struct {
	Kind       Kind
	Key, Value []byte
	Head       []byte
}

// Batch is a list of operations, applied in order and atomically by KV.Commit. It keeps the slices that it
// is given, without copying: callers leave them alone until the commit has returned.
// The zero value is an empty batch.
type Batch struct {
	ops   []Op
	bytes int
}

// Set stores value under key.
func (b *Batch) Set(key, value []byte) { b.add(Op{Kind: Set, Key: key, Value: value}) }

// SetParts stores head followed by value under key: a large value needs no copy to get a header.
func (b *Batch) SetParts(key, head, value []byte) {
	b.add(Op{Kind: Set, Key: key, Head: head, Value: value})
}

// Delete removes key.
func (b *Batch) Delete(key []byte) { b.add(Op{Kind: Delete, Key: key}) }

// DeleteRange removes the keys in [lo, hi).
func (b *Batch) DeleteRange(lo, hi []byte) { b.add(Op{Kind: DeleteRange, Key: lo, Value: hi}) }

// Merge appends the operations of other, which shares its slices with b from then on.
func (b *Batch) Merge(other *Batch) {
	b.ops = append(b.ops, other.ops...)
	b.bytes += other.bytes
}

// Ops returns the operations in order. The slice belongs to b.
func (b *Batch) Ops() []Op { return b.ops }

// Bytes returns the size of all keys and values.
func (b *Batch) Bytes() int { return b.bytes }

// Reset empties b and keeps its memory.
func (b *Batch) Reset() {
	clear(b.ops)
	b.ops, b.bytes = b.ops[:0], 0
}

func (b *Batch) add(op Op) {
	b.ops = append(b.ops, op)
	b.bytes += len(op.Key) + len(op.Head) + len(op.Value)
}
