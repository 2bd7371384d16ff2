package store

import "errors"

// Errors of opening a store.
var (
	// ErrLocked: another process, or this one, has the directory open.
	ErrLocked = errors.New("store: in use")
	// ErrForeign: the directory holds a store that is not ours. It was not changed.
	ErrForeign = errors.New("store: not a multiraftd store")
	// ErrNewerFormat: a newer version of multiraftd wrote the store. The wrapping error names both formats.
	ErrNewerFormat = errors.New("store: newer format")
)

// Errors of a store in use.
var (
	// ErrClosed: Close was called, or, of a MemKV, Crash.
	ErrClosed = errors.New("store: closed")
	// ErrFailed: an earlier write, fsync or background job failed. Nothing is durable from then on.
	ErrFailed = errors.New("store: failed")
)

// Errors of reading groups.
var (
	// ErrNoGroup: the store holds no replica of the group.
	ErrNoGroup = errors.New("store: no such group")
	// ErrTombstone: the replica was deleted, and only the record of that is left.
	ErrTombstone = errors.New("store: replica deleted")
	// ErrDamaged: what is stored contradicts itself or cannot be decoded. The replica must not run.
	ErrDamaged = errors.New("store: damaged")
)

// Errors of receiving a snapshot.
var (
	// ErrSnapshotContent: what was received cannot be a snapshot, or not the one that was announced. The
	// wrapping error says why. Nothing of it is in force.
	ErrSnapshotContent = errors.New("store: not the content of this snapshot")
)
