package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// pebbleKV is the KV on disk. One goroutine of its own makes the calls of Pebble that write, since a failure
// stops whatever goroutine finds it, and callers have to hear of it. Another one compacts what was deleted.
//
// Invariant: when failure is set, no Commit returns nil, and Pebble is not called any more: a mutex in it may
// be held for ever. The directory stays locked until the process ends, since goroutines of Pebble may still
// write to it.
type pebbleKV struct {
	counters *Counters
	onFatal  func(error)
	logf     func(format string, args ...any)
	work     chan func()
	opened   atomic.Bool // false: failures are returned by OpenPebble, not told to onFatal
	failure  atomic.Pointer[error]
	dead     chan struct{} // closed with failure
	note     atomic.Pointer[syncNote]

	reclaimer  *reclaimer
	unreclaim  context.CancelFunc // ends it
	reclaimEnd chan struct{}      // closed when it has ended

	mu     sync.RWMutex // held for writing by Close, for reading by everything else
	closed bool
	db     *pebble.DB
	lock   *pebble.Lock  // nil if Pebble has locked the directory itself
	batch  *pebble.Batch // used again by each Commit
}

// OpenPebble opens the store in o.Dir, or creates it. ErrLocked, ErrForeign and ErrNewerFormat say that it
// was refused; any other error, that it cannot be trusted or read. It is never repaired or emptied.
func OpenPebble(o PebbleOptions) (KV, error) {
	o.setDefaults()
	k := &pebbleKV{
		counters: o.Counters, onFatal: o.OnFatal, logf: o.Logf,
		work: make(chan func()), dead: make(chan struct{}), reclaimer: newReclaimer(o.reclaimDelay), reclaimEnd: make(chan struct{}),
	}
	var ctx context.Context
	ctx, k.unreclaim = context.WithCancel(context.Background())
	go k.run()
	err := k.open(o)
	k.opened.Store(true)
	if err := errors.Join(err, k.failed()); err != nil {
		k.unreclaim()
		return nil, fmt.Errorf("open store %s: %w", o.Dir, err)
	}
	go func() {
		defer close(k.reclaimEnd)
		k.reclaimer.run(ctx, k.compact)
	}()
	return k, nil
}

// compact makes Pebble delete what was deleted. Pebble gives the wait up when ctx ends, which is also when the
// store has failed: the compaction that it waits for may have been stopped.
func (k *pebbleKV) compact(ctx context.Context, r keyRange) error {
	err := k.db.Compact(ctx, r.lo, r.hi, false)
	if err != nil && ctx.Err() == nil {
		return k.fail("compaction: %w", err)
	}
	k.counters.Reclaims.Add(1)
	return err
}

func (k *pebbleKV) open(o PebbleOptions) error {
	err := k.call(func() (err error) {
		opts := k.pebbleOptions(o)
		if opts.Lock, err = lockExisting(o); err != nil {
			return err
		}
		if err = checkLog(o.Dir, o.FS); err == nil {
			k.db, err = pebble.Open(o.Dir, opts)
		}
		if err != nil && opts.Lock != nil {
			return errors.Join(err, opts.Lock.Close())
		}
		k.lock = opts.Lock
		return err
	})
	if err != nil {
		close(k.work)
		return openError(err)
	}
	k.batch = k.db.NewBatch(pebble.WithMaxRetainedSizeBytes(batchRetainedBytes))
	if err := k.checkFormat(); err != nil {
		return errors.Join(err, k.Close())
	}
	return nil
}

// lockExisting locks a directory that is there, so that its log can be read. Pebble creates and locks one that
// is not.
func lockExisting(o PebbleOptions) (*pebble.Lock, error) {
	if _, err := o.FS.Stat(o.Dir); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return pebble.LockDirectory(o.Dir, o.FS)
}

// checkFormat writes the format record into an empty store and checks it in any other.
func (k *pebbleKV) checkFormat() error {
	v, err := k.View()
	if err != nil {
		return err
	}
	format, err := loadFormat(v)
	empty := true
	if err == nil && format == 0 {
		err = v.Scan(nil, nil, false, func(_, _ []byte) bool { empty = false; return false })
	}
	if err := errors.Join(err, v.Close()); err != nil {
		return err
	}
	switch {
	case format != 0:
		return nil
	case !empty:
		return fmt.Errorf("%w: it has keys, but no format record", ErrForeign)
	}
	b := new(Batch)
	putFormat(b, FormatVersion)
	if err := k.Commit(b, true); err != nil {
		return err
	}
	// Pebble writes the first log of a new store before it raises the format, so without the sync chunks that
	// tell damage from its end. A flush starts the next log.
	return k.call(k.db.Flush)
}

// View is part of KV. The view is a Pebble snapshot: it keeps space from being reclaimed until it is closed.
func (k *pebbleKV) View() (View, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if err := k.usable(); err != nil {
		return nil, err
	}
	k.counters.Views.Add(1)
	return &pebbleView{k.db.NewSnapshot()}, nil
}

// Commit is part of KV: one Pebble batch, committed inline. With sync, everything committed before is synced
// too, since it is in the same WAL or in one that was synced when it was closed.
func (k *pebbleKV) Commit(b *Batch, sync bool) error {
	k.mu.RLock()
	defer k.mu.RUnlock()
	err := k.usable()
	if err == nil {
		err = k.commit(b, sync)
	}
	k.counters.committed(b, sync, err)
	return err
}

func (k *pebbleKV) commit(b *Batch, sync bool) error {
	if !sync && len(b.Ops()) == 0 {
		return nil
	}
	k.batch.Reset()
	if err := k.addNote(); err != nil {
		return k.fail("batch: %w", err)
	}
	for _, op := range b.Ops() {
		if err := k.add(op); err != nil {
			return k.fail("batch: %w", err)
		}
	}
	err := k.call(func() error { return k.db.Apply(k.batch, &pebble.WriteOptions{Sync: sync}) })
	if err != nil {
		return k.fail("commit: %w", err)
	}
	k.reclaimer.note(b)
	return nil
}

// addNote puts the note that checkLog looks for at the start of the batch. It also makes sure that the batch
// is not empty: Pebble would take that for nothing to do, and not sync what was committed before.
func (k *pebbleKV) addNote() error {
	var buf [syncNoteBytes]byte
	var note syncNote
	if last := k.note.Load(); last != nil {
		note = *last
	}
	return k.batch.LogData(note.encode(buf[:0]), nil)
}

func (k *pebbleKV) add(op Op) error {
	switch op.Kind {
	case Set:
		into := k.batch.SetDeferred(len(op.Key), len(op.Head)+len(op.Value))
		copy(into.Key, op.Key)
		copy(into.Value[copy(into.Value, op.Head):], op.Value)
		return into.Finish()
	case Delete:
		return k.batch.Delete(op.Key, nil)
	case DeleteRange:
		if bytes.Compare(op.Key, op.Value) >= 0 {
			return nil
		}
		return k.batch.DeleteRange(op.Key, op.Value, nil)
	}
	return fmt.Errorf("operation of kind %d", op.Kind)
}

// DiskBytes returns how many bytes the store takes up on its disk; 0 when it is closed or has failed.
func (k *pebbleKV) DiskBytes() uint64 {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.usable() != nil {
		return 0
	}
	return k.db.Metrics().DiskSpaceUsage()
}

// Close is part of KV. It waits for calls that are under way; all views must have been closed. A failed store
// is left as it is.
func (k *pebbleKV) Close() error {
	k.unreclaim()
	if k.opened.Load() {
		select {
		case <-k.reclaimEnd:
		case <-k.dead: // it may be stopped for good
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil
	}
	if err := k.failed(); err != nil {
		return err
	}
	k.closed = true
	err := k.call(func() error {
		err := errors.Join(k.batch.Close(), k.db.Close())
		if k.lock != nil {
			err = errors.Join(err, k.lock.Close())
		}
		return err
	})
	close(k.work)
	return err
}

func (k *pebbleKV) usable() error {
	if k.closed {
		return ErrClosed
	}
	return k.failed()
}

type pebbleView struct{ snapshot *pebble.Snapshot }

func (v *pebbleView) Get(key []byte) ([]byte, error) {
	value, closer, err := v.snapshot.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	copied := append([]byte{}, value...)
	return copied, closer.Close()
}

func (v *pebbleView) Scan(lo, hi []byte, reverse bool, f func(key, value []byte) bool) error {
	it, err := v.snapshot.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		return err
	}
	start, step := it.First, it.Next
	if reverse {
		start, step = it.Last, it.Prev
	}
	for ok := start(); ok; ok = step() {
		value, err := it.ValueAndErr()
		if err != nil {
			return errors.Join(err, it.Close())
		}
		if !f(it.Key(), value) {
			break
		}
	}
	return it.Close()
}

// edge implements edger without a read of the value.
func (v *pebbleView) edge(lo, hi []byte, reverse bool) ([]byte, error) {
	it, err := v.snapshot.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		return nil, err
	}
	var key []byte
	if reverse && it.Last() || !reverse && it.First() {
		key = append(key, it.Key()...)
	}
	return key, it.Close()
}

func (v *pebbleView) Close() error { return v.snapshot.Close() }
