package history

import (
	"fmt"
	"math"
	"strings"
)

// Kind is what a client asked for.
type Kind uint8

// The kinds of operation.
const (
	Append    Kind = iota // of a batch
	End                   // the linearizable bounds: log start and high watermark
	Read                  // from an offset on any replica; may be behind
	ReadToEnd             // from an offset to the linearizable end
)

// Outcome is what is known about an append, or whether a read was answered.
type Outcome uint8

// The outcomes. An append that is never answered stays Unknown, as does one whose client was told so.
const (
	Unknown   Outcome = iota // never answered: it may have taken effect at any time since its call, or may yet
	Done                     // read and answered, or appended and acknowledged at Offset
	Failed                   // definitely not stored by this append
	Duplicate                // stored by an earlier attempt; where is not known any more
)

// Moment is when a call or an answer was recorded.
//
// Invariant: Seq and Time have the same order; History refuses times that run backwards.
type Moment struct {
	Time int64 // simulated ns, for people
	Seq  int64 // 1, 2, ... over all events of the history; this decides
}

// Forever is the Return of an operation without an answer.
var Forever = Moment{Time: math.MaxInt64, Seq: math.MaxInt64}

// Before says whether m was recorded before o.
func (m Moment) Before(o Moment) bool { return m.Seq < o.Seq }

func (m Moment) String() string { return fmt.Sprintf("%dns #%d", m.Time, m.Seq) }

// Producer is the session and sequence of an idempotent append. The zero Producer is none: each call of a plain
// append may store the batch once more. Appends with equal Producers are attempts at one batch, which together
// store it at most once.
type Producer struct {
	ID       int64 // from 1
	Sequence int64 // of the batch's first record; the first of an epoch is 0, and it does not wrap
	Epoch    int16
}

// Op is one operation of a client. It holds no pointers, so that millions cost the garbage collector nothing;
// History.Values returns the records.
type Op struct {
	Kind          Kind
	Outcome       Outcome
	Client        int
	Producer      Producer
	Call, Return  Moment
	Offset        int64 // Append, once Done: of its first record. Read, ReadToEnd: the first asked for
	LogStart      int64 // End
	HighWatermark int64 // End
	from, to      int   // in History.values
}

// end is the first offset after the records that a Done operation tells of.
func (op *Op) end() int64 {
	if op.Kind == End {
		return op.HighWatermark
	}
	return op.Offset + int64(op.to-op.from)
}

// linearizable says whether the answer is a statement about the whole log at one time.
func (op *Op) linearizable() bool {
	return op.Outcome == Done && (op.Kind == End || op.Kind == ReadToEnd)
}

func (op *Op) text(values []uint64) string {
	var b strings.Builder
	fmt.Fprintf(&b, "{client %d ", op.Client)
	switch op.Kind {
	case Append:
		fmt.Fprintf(&b, "appends %s", valuesText(values))
		if op.Producer.ID != 0 {
			fmt.Fprintf(&b, " as producer %d epoch %d sequence %d", op.Producer.ID, op.Producer.Epoch, op.Producer.Sequence)
		}
	case End:
		b.WriteString("asks for the end")
	case Read:
		fmt.Fprintf(&b, "reads from %d", op.Offset)
	case ReadToEnd:
		fmt.Fprintf(&b, "reads from %d to the end", op.Offset)
	}
	fmt.Fprintf(&b, " at %v, %s", op.Call, op.answerText(values))
	if op.Outcome != Unknown {
		fmt.Fprintf(&b, " at %v", op.Return)
	}
	return b.String() + "}"
}

func (op *Op) answerText(values []uint64) string {
	switch {
	case op.Outcome == Unknown:
		return "never answered"
	case op.Outcome == Failed:
		return "told that it is not stored"
	case op.Outcome == Duplicate:
		return "told that it was stored before"
	case op.Kind == Append:
		return fmt.Sprintf("acknowledged as [%d, %d)", op.Offset, op.end())
	case op.Kind == End:
		return fmt.Sprintf("told [%d, %d)", op.LogStart, op.HighWatermark)
	default:
		return fmt.Sprintf("got %s up to %d", valuesText(values), op.end())
	}
}

// valuesTextMax keeps sentences readable.
const valuesTextMax = 12

func valuesText(values []uint64) string {
	if len(values) <= valuesTextMax {
		return fmt.Sprint(values)
	}
	head := fmt.Sprint(values[:valuesTextMax-2])
	return fmt.Sprintf("%s ... %d] (%d values)", head[:len(head)-1], values[len(values)-1], len(values))
}
