package history

import (
	"fmt"
	"math"
)

// History is what the clients of one partition asked and were told. The zero History is ready. It is not safe for
// concurrent use: record from the simulator's goroutine, in the order in which things happen.
//
// A mistake in recording does not stop the simulator; the checkers return the first one as ErrMisuse.
type History struct {
	ops    []Op
	values []uint64 // of appends and of what reads returned, one after another
	last   Moment

	log      []uint64 // from logStart
	logStart int64
	hasLog   bool

	misuse error
}

// Ref names an operation of a History, from its call to its answer.
type Ref int

// Append records the call of an append. It copies values. Without an answer its outcome stays unknown.
func (h *History) Append(at int64, client int, p Producer, values []uint64) Ref {
	if len(values) == 0 || p.ID < 0 || p.Sequence < 0 {
		h.refuse("append of %d values by producer %+v", len(values), p)
	}
	r := h.call(at, Op{Kind: Append, Client: client, Producer: p, Offset: -1})
	h.attach(r, values)
	return r
}

// End records that a client asks for the linearizable bounds. Unanswered, it means nothing; the same holds for
// reads.
func (h *History) End(at int64, client int) Ref {
	return h.call(at, Op{Kind: End, Client: client})
}

// Read records the call of a read from offset on, by any replica.
func (h *History) Read(at int64, client int, offset int64) Ref {
	return h.call(at, Op{Kind: Read, Client: client, Offset: offset})
}

// ReadToEnd records the call of a read from offset to the linearizable end.
func (h *History) ReadToEnd(at int64, client int, offset int64) Ref {
	return h.call(at, Op{Kind: ReadToEnd, Client: client, Offset: offset})
}

// Acked: the append stands at offset and the offsets after it.
func (h *History) Acked(r Ref, at, offset int64) {
	op := h.answer(r, at, Done, 1<<Append)
	op.Offset = offset
}

// Failed: the append is definitely not stored. Earlier attempts at the same batch may be.
func (h *History) Failed(r Ref, at int64) { h.answer(r, at, Failed, 1<<Append) }

// Duplicate: an earlier attempt has stored the batch; the answer has no offset.
func (h *History) Duplicate(r Ref, at int64) { h.answer(r, at, Duplicate, 1<<Append) }

// Bounds answers an End. A ReadToEnd that was refused with both ends (OUT_OF_RANGE) becomes an End.
func (h *History) Bounds(r Ref, at, logStart, highWatermark int64) {
	op := h.answer(r, at, Done, 1<<End|1<<ReadToEnd)
	op.Kind, op.LogStart, op.HighWatermark = End, logStart, highWatermark
}

// Records answers a Read or ReadToEnd with the values from its offset on. It copies them.
func (h *History) Records(r Ref, at int64, values []uint64) {
	h.answer(r, at, Done, 1<<Read|1<<ReadToEnd)
	h.attach(r, values)
}

// SetLog gives the log as the replicas have it in the end: values[i] stands at offset logStart+i. It keeps
// values. That the replicas agree on it is the caller's to check.
func (h *History) SetLog(logStart int64, values []uint64) {
	if logStart < 0 {
		h.refuse("the final log starts at %d", logStart)
		logStart = 0
	}
	h.log, h.logStart, h.hasLog = values, logStart, true
}

// Len is how many operations were recorded. Refs count from 0.
func (h *History) Len() int { return len(h.ops) }

// Op returns a copy of an operation.
func (h *History) Op(r Ref) Op { return h.ops[r] }

// Values returns what an append appends or a read returned. The caller must not change it.
func (h *History) Values(r Ref) []uint64 { return h.values[h.ops[r].from:h.ops[r].to:h.ops[r].to] }

// Describe says in words what an operation asked and was told.
func (h *History) Describe(r Ref) string { return h.ops[r].text(h.Values(r)) }

func (h *History) call(at int64, op Op) Ref {
	op.Call, op.Return = h.tick(at), Forever
	if op.Offset < 0 && op.Kind != Append {
		h.refuse("operation %d reads from offset %d", len(h.ops), op.Offset)
	}
	h.ops = append(h.ops, op)
	return Ref(len(h.ops) - 1)
}

func (h *History) attach(r Ref, values []uint64) {
	h.ops[r].from = len(h.values)
	h.values = append(h.values, values...)
	h.ops[r].to = len(h.values)
}

// answer returns the operation to fill in; kinds is a set of those that the answer is for.
func (h *History) answer(r Ref, at int64, outcome Outcome, kinds uint) *Op {
	op := &h.ops[r]
	if kinds>>op.Kind&1 == 0 || op.Return != Forever {
		h.refuse("operation %d has no use for outcome %d: %s", r, outcome, h.Describe(r))
	}
	op.Outcome, op.Return = outcome, h.tick(at)
	return op
}

func (h *History) tick(at int64) Moment {
	if at < h.last.Time || at == math.MaxInt64 {
		h.refuse("an event at %dns comes after %v", at, h.last)
	}
	h.last = Moment{Time: at, Seq: h.last.Seq + 1}
	return h.last
}

func (h *History) refuse(format string, args ...any) {
	if h.misuse == nil {
		h.misuse = fmt.Errorf("%w: %s", ErrMisuse, fmt.Sprintf(format, args...))
	}
}

// events returns the events by Moment.Seq, from 1: calls as the operation's Ref, answers as its complement.
func (h *History) events() []Ref {
	events := make([]Ref, h.last.Seq+1)
	for i := range h.ops {
		events[h.ops[i].Call.Seq] = Ref(i)
		if h.ops[i].Return != Forever {
			events[h.ops[i].Return.Seq] = ^Ref(i)
		}
	}
	return events
}
