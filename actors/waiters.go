package actors

// waiterQueue holds the replies of proposals that are in the log and not yet applied, in the order of their
// sequences, which are contiguous: one leader proposes them one after the other in one term.
type waiterQueue struct {
	first   uint64 // sequence of replies[head]
	replies []waiter
	head    int
}

// waiter is a reply and when its proposal was made.
type waiter struct {
	ProposeReply
	proposed int64
}

func (q *waiterQueue) push(seq uint64, r waiter) {
	if q.head == len(q.replies) {
		q.replies, q.head, q.first = q.replies[:0], 0, seq
	}
	q.replies = append(q.replies, r)
}

// take returns the reply that waits for seq, if there is one. Replies before it were passed over by the log: their
// proposals can no longer be told from lost ones, and they end.
func (q *waiterQueue) take(seq uint64) (w waiter, ok bool) {
	if seq < q.first {
		return w, false
	}
	for q.head < len(q.replies) && q.first < seq {
		q.pop().Proposed(ProposeResult{Err: ErrOutcomeUnknown})
	}
	if q.head == len(q.replies) {
		return w, false
	}
	return q.pop(), true
}

func (q *waiterQueue) pop() waiter {
	r := q.replies[q.head]
	q.replies[q.head] = waiter{}
	q.head++
	q.first++
	if q.head == len(q.replies) {
		q.replies, q.head = q.replies[:0], 0
	} else if q.head > 1024 && q.head*2 > len(q.replies) {
		n := copy(q.replies, q.replies[q.head:])
		clear(q.replies[n:])
		q.replies, q.head = q.replies[:n], 0
	}
	return r
}

func (q *waiterQueue) endAll(err error) {
	for q.head < len(q.replies) {
		q.pop().Proposed(ProposeResult{Err: err})
	}
}

func (q *waiterQueue) len() int { return len(q.replies) - q.head }
