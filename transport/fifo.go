package transport

// fifo is a queue. Every item keeps its number, counted from the first one ever pushed.
type fifo[T any] struct {
	items  []T
	head   int
	popped uint64
}

func (q *fifo[T]) len() int { return len(q.items) - q.head }

// push appends v and returns its number.
func (q *fifo[T]) push(v T) uint64 {
	q.items = append(q.items, v)
	return q.popped + uint64(q.len()) - 1
}

// at returns the item with the number, which must be waiting.
func (q *fifo[T]) at(number uint64) *T { return &q.items[q.head+int(number-q.popped)] }

// front returns the oldest item of a queue that is not empty.
func (q *fifo[T]) front() *T { return &q.items[q.head] }

func (q *fifo[T]) pop() T {
	var zero T
	v := q.items[q.head]
	q.items[q.head] = zero
	q.head++
	q.popped++
	q.compact()
	return v
}

// compact gives memory back: all of it after a burst, the passed half of a queue that never runs empty.
func (q *fifo[T]) compact() {
	switch {
	case q.len() == 0 && cap(q.items) > fifoKeepItemsMax:
		q.items, q.head = nil, 0
	case q.len() == 0:
		q.items, q.head = q.items[:0], 0
	case q.head >= fifoCompactItemsMin && q.head > q.len():
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
}

// latest is a queue in which a new value takes the place of the waiting one with the same key.
type latest[K comparable, V any] struct {
	queue   fifo[keyed[K, V]]
	numbers map[K]uint64
}

type keyed[K comparable, V any] struct {
	key   K
	value V
}

func (q *latest[K, V]) len() int { return q.queue.len() }

func (q *latest[K, V]) has(key K) bool {
	_, ok := q.numbers[key]
	return ok
}

// put stores v and returns the waiting value that it replaced, if any.
func (q *latest[K, V]) put(key K, v V) (old V, replaced bool) {
	if number, ok := q.numbers[key]; ok {
		item := q.queue.at(number)
		old, item.value = item.value, v
		return old, true
	}
	if q.numbers == nil {
		q.numbers = make(map[K]uint64)
	}
	q.numbers[key] = q.queue.push(keyed[K, V]{key, v})
	return old, false
}

// pop deletes the key alone: clearing a map that was large once would cost its whole size each frame.
func (q *latest[K, V]) pop() V {
	item := q.queue.pop()
	delete(q.numbers, item.key)
	return item.value
}
