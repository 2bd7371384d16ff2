package main

import (
	"errors"
	"time"

	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

var (
	errIO   = errors.New("injected: input/output error")
	errDown = errors.New("the node is down")
)

// disk is a node's disk in one life: a store.MemKV with faults. The countdowns are armed by faults.go; 0 is
// not armed.
type disk struct {
	n    *node
	life int
	mem  *store.MemKV

	writesLeft int // the k-th commit fails
	readsLeft  int // the k-th read fails
	crashLeft  int // the k-th commit is cut short by a power loss
	slowness   time.Duration
	stalled    time.Duration // until when nothing is written
	quiet      time.Duration // since when it has been sound
	parked     []func()      // the log writer, while the disk is stalled
	// waiting is since when a leader here has had entries that the stalled disk does not take.
	waiting map[raftcore.GroupID]time.Duration
}

// fires counts a countdown down and says whether it has run out.
func fires(left *int) bool {
	if *left == 0 {
		return false
	}
	*left--
	return *left == 0
}

// View is part of store.KV.
func (d *disk) View() (store.View, error) {
	if !d.n.alive(d.life) {
		return nil, errDown
	}
	if err := d.read(); err != nil {
		return nil, err
	}
	v, err := d.mem.View()
	if err != nil || d.readsLeft == 0 {
		return v, err
	}
	return &failingView{v, d}, nil
}

func (d *disk) read() error {
	if !fires(&d.readsLeft) {
		return nil
	}
	d.n.doomed = true
	d.n.w.fire(readError, "node %d: a read fails", d.n.id)
	return errIO
}

// failingView counts its reads.
type failingView struct {
	store.View
	d *disk
}

// Get is part of store.View.
func (v *failingView) Get(key []byte) ([]byte, error) {
	if err := v.d.read(); err != nil {
		return nil, err
	}
	return v.View.Get(key)
}

// Scan is part of store.View.
func (v *failingView) Scan(lo, hi []byte, reverse bool, f func(key, value []byte) bool) error {
	if err := v.d.read(); err != nil {
		return err
	}
	return v.View.Scan(lo, hi, reverse, f)
}

// Commit is part of store.KV.
func (d *disk) Commit(b *store.Batch, sync bool) error {
	if !d.n.alive(d.life) {
		return errDown
	}
	switch {
	case d.n.doomed && d.writesLeft < 0:
		d.n.w.violate("fail-stop", "node %d writes again after a write that failed", d.n.id)
		return errIO
	case fires(&d.writesLeft):
		d.writesLeft = -1
		d.n.doomed = true
		d.n.w.fire(writeError, "node %d: a write fails", d.n.id)
		if d.n.w.chance(500) { // some of it may have reached the disk all the same
			if err := d.mem.Commit(b, false); err != nil {
				return err
			}
		}
		return errIO
	case fires(&d.crashLeft):
		if err := d.mem.Commit(b, false); err != nil {
			return err
		}
		kept, unsynced := d.n.crash()
		d.n.w.fire(crashInCommit, "node %d loses power in a commit, %d of %d unsynced commits stay", d.n.id, kept, unsynced)
		d.n.restartLater(2 * time.Second)
		return errDown
	}
	return d.mem.Commit(b, sync)
}

// Close is part of store.KV.
func (d *disk) Close() error { return nil }

// run lets the log writer run, as late as the disk is slow.
func (d *disk) run(f func()) {
	w := d.n.w
	if d.stalled > w.now {
		d.parked = append(d.parked, f)
		return
	}
	w.after(w.between(0, max(d.slowness, w.shape.disk[int(d.n.id-1)%len(w.shape.disk)])), func() { dispatcher{d.n, d.life}.Schedule(f) })
}

// stall stops the disk for a while.
func (d *disk) stall(heal time.Duration) {
	d.stalled = d.n.w.now + heal
	d.n.w.after(heal, d.unstall)
}

// unstall lets the disk go on, unless it has been stalled again meanwhile.
func (d *disk) unstall() {
	if d.stalled > d.n.w.now {
		return
	}
	parked := d.parked
	d.parked, d.waiting, d.quiet = nil, nil, d.n.w.now
	for _, f := range parked {
		d.run(f)
	}
}
