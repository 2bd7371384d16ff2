package load

import (
	"sync"
	"time"
)

// none ends a list of slots.
const none = -1

// slot is a record in flight.
type slot struct {
	sequence uint64
	start    time.Duration // when Append was called, since the load began
	next     int32         // slot of the next record of the same partition, or next free one
}

// window holds the records of one client that are in flight. Its slots are allocated once: a record that
// finds none free has to wait. Acknowledgements of a partition come in order, or nearly so: each partition has a queue.
type window struct {
	mu          sync.Mutex
	slots       []slot
	free        int32
	first, last []int32       // per partition
	room        chan struct{} // holds one: some slot has become free
}

func newWindow(size, partitions int) *window {
	w := &window{slots: make([]slot, size), first: make([]int32, partitions), last: make([]int32, partitions), room: make(chan struct{}, 1)}
	for i := range w.slots {
		w.slots[i].next = int32(i + 1)
	}
	w.slots[size-1].next = none
	for p := range w.first {
		w.first[p], w.last[p] = none, none
	}
	return w
}

// full says that no record may be taken in. Only the generator adds, so the answer no stands for it.
func (w *window) full() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.free == none
}

// add notes a record, and says whether it is the only one of its partition. The caller has asked full.
func (w *window) add(partition int, sequence uint64, start time.Duration) (only bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := w.free
	s := &w.slots[i]
	w.free = s.next
	*s = slot{sequence: sequence, start: start, next: none}
	if last := w.last[partition]; last != none {
		w.slots[last].next = i
	} else {
		w.first[partition] = i
		only = true
	}
	w.last[partition] = i
	return only
}

// settle takes the first n records of a partition out and shows each to see, which must be quick. It returns
// how many there were, and whether none is left.
func (w *window) settle(partition, n int, see func(*slot)) (taken int, empty bool) {
	w.mu.Lock()
	head, tail := w.first[partition], int32(none)
	for i := head; i != none && taken < n; i = w.slots[i].next {
		see(&w.slots[i])
		tail = i
		taken++
	}
	if taken > 0 {
		w.first[partition] = w.slots[tail].next
		if w.first[partition] == none {
			w.last[partition] = none
		}
		w.slots[tail].next, w.free = w.free, head
	}
	empty = w.first[partition] == none
	w.mu.Unlock()
	w.tellRoom()
	return taken, empty
}

// settleOne is settle for the record with a sequence, wherever in its partition's queue it is.
func (w *window) settleOne(partition int, sequence uint64, see func(*slot)) (taken int, empty bool) {
	w.mu.Lock()
	before := int32(none)
	i := w.first[partition]
	for i != none && w.slots[i].sequence != sequence {
		before, i = i, w.slots[i].next
	}
	if i != none {
		see(&w.slots[i])
		taken = 1
		w.unlink(partition, before, i)
		w.slots[i].next, w.free = w.free, i
	}
	empty = w.first[partition] == none
	w.mu.Unlock()
	w.tellRoom()
	return taken, empty
}

// unlink takes slot i, which follows before, out of its partition's queue.
func (w *window) unlink(partition int, before, i int32) {
	if before == none {
		w.first[partition] = w.slots[i].next
	} else {
		w.slots[before].next = w.slots[i].next
	}
	if w.last[partition] == i {
		w.last[partition] = before
	}
}

func (w *window) tellRoom() {
	select {
	case w.room <- struct{}{}:
	default:
	}
}
