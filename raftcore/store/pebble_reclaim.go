package store

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"
)

// Pebble deletes what a range deletion covers when it compacts the tables that hold it. Tables that a deletion
// covers whole go soon; those with keys of several groups, as a flush makes them when many groups write, stay until
// something else makes Pebble compact them, on an idle store for ever (seen: 48 groups truncated to a tenth, and
// 280 of 280 MiB still there after seven minutes; 0.3 s of compaction gave back 250). So ranges that were deleted
// are compacted, a while later and not many at a time: that moves keys and references, hardly any values.

const (
	reclaimDelayDefault = 20 * time.Second
	reclaimRangesMax    = 64   // compacted in one go
	reclaimPendingMax   = 4096 // the rest is left to Pebble
)

// keyRange is [lo, hi).
type keyRange struct{ lo, hi []byte }

// reclaimer remembers deleted ranges and compacts them. It decides nothing about data.
type reclaimer struct {
	delay time.Duration
	wake  chan struct{} // holds one

	mu      sync.Mutex
	pending []keyRange // by first mention; neighbours are one
}

func newReclaimer(delay time.Duration) *reclaimer {
	return &reclaimer{delay: delay, wake: make(chan struct{}, 1)}
}

// note remembers the deletions of a batch.
func (r *reclaimer) note(b *Batch) {
	noted := false
	for _, op := range b.Ops() {
		if op.Kind == DeleteRange && bytes.Compare(op.Key, op.Value) < 0 {
			r.add(keyRange{op.Key, op.Value})
			noted = true
		}
	}
	if !noted {
		return
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// add joins a range with one that it touches, or remembers it on its own.
func (r *reclaimer) add(k keyRange) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, p := range r.pending {
		if bytes.Compare(k.lo, p.hi) <= 0 && bytes.Compare(p.lo, k.hi) <= 0 {
			if bytes.Compare(k.lo, p.lo) < 0 {
				r.pending[i].lo = bytes.Clone(k.lo)
			}
			if bytes.Compare(k.hi, p.hi) > 0 {
				r.pending[i].hi = bytes.Clone(k.hi)
			}
			return
		}
	}
	if len(r.pending) < reclaimPendingMax {
		r.pending = append(r.pending, keyRange{bytes.Clone(k.lo), bytes.Clone(k.hi)})
	}
}

// take returns the ranges of one go.
func (r *reclaimer) take() []keyRange {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := min(len(r.pending), reclaimRangesMax)
	taken := slices.Clone(r.pending[:n])
	r.pending = slices.Delete(r.pending, 0, n)
	return taken
}

// run compacts what was deleted until ctx ends. A failure of a compaction ends the store by itself.
func (r *reclaimer) run(ctx context.Context, compact func(context.Context, keyRange) error) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		}
		for again := true; again; {
			late := time.NewTimer(r.delay)
			select {
			case <-ctx.Done():
				late.Stop()
				return
			case <-late.C:
			}
			ranges := r.take()
			for _, k := range ranges {
				if compact(ctx, k) != nil {
					return
				}
			}
			again = len(ranges) == reclaimRangesMax
		}
	}
}
