package transport

import (
	"testing"
	"time"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/proto/trace"
	"google.golang.org/protobuf/proto"
)

// ended counts the spans that have ended, and how many of them failed.
type ended struct{ all, failed int }

func (e *ended) Ended(s *trace.Span) {
	e.all++
	if s.Failure != "" {
		e.failed++
	}
}

func (e *ended) carried(n int) (all []trace.Carried) {
	at := trace.Context{TraceID: [16]byte{1}, SpanID: [8]byte{2}}
	for i := range n {
		all = append(all, trace.Carried{Index: uint64(i + 1), Context: at, Sending: trace.New("send", at, [8]byte{}, time.Time{}, e)})
	}
	return all
}

func anAppend(bytes int) *raftv1.Envelope {
	return &raftv1.Envelope{GroupId: 7, Type: raftv1.MessageType_MESSAGE_TYPE_APPEND, Entries: []*raftv1.LogEntry{{Data: make([]byte, bytes)}}}
}

func TestContextsRideInTheFrameOfTheirEnvelopeAndNotInIt(t *testing.T) {
	for _, size := range []int{10, bulkEnvelopeBytesMin} {
		var e ended
		o := NewOutbox(Limits{})
		o.Open()
		o.Up()
		plain := proto.Size(anAppend(size))
		if fate := o.AddCarrying(anAppend(size), e.carried(2)); fate != Queued || e.all != 0 {
			t.Fatalf("%v, %d spans ended", fate, e.all)
		}
		f := o.TakeFrame(frameFillBytesMax)
		if len(f.Traces) != 2 || f.Traces[1].GetGroupId() != 7 || f.Traces[1].GetIndex() != 2 || f.Traces[1].GetTraceparent() == "" || proto.Size(f.Envelopes[0]) != plain {
			t.Errorf("%d bytes: the frame has contexts %v, and an envelope of %d bytes, want %d", size, f.Traces, proto.Size(f.Envelopes[0]), plain)
		}
		if e != (ended{2, 0}) {
			t.Errorf("%d bytes: %+v", size, e)
		}
	}
}

func TestAFrameHasABoundedNumberOfContextsAndLosesNoMessageForThem(t *testing.T) {
	var e ended
	o := NewOutbox(Limits{})
	o.Open()
	o.Up()
	for range 3 {
		o.AddCarrying(anAppend(10), e.carried(TracesPerFrameMax/2+1))
	}
	f := o.TakeFrame(frameFillBytesMax)
	if len(f.Traces) != TracesPerFrameMax || len(f.Envelopes) != 3 || e.all != 3*(TracesPerFrameMax/2+1) {
		t.Errorf("%d contexts, %d envelopes, %d spans ended", len(f.Traces), len(f.Envelopes), e.all)
	}
	traces := proto.Size(&raftv1.Frame{Traces: f.Traces})
	if traces > frameOverheadBytes-1024 {
		t.Errorf("the contexts of a frame take %d bytes, and there is room for %d", traces, frameOverheadBytes)
	}
}

func TestTheSendingOfWhatIsDroppedEndsAsFailed(t *testing.T) {
	var e ended
	o := NewOutbox(Limits{EnvelopeBytesMax: bulkEnvelopeBytesMin, QueueBytesMax: bulkEnvelopeBytesMin})
	o.AddCarrying(anAppend(10), e.carried(1)) // not connected
	o.Open()
	o.Up()
	o.AddCarrying(anAppend(2*bulkEnvelopeBytesMin), e.carried(1)) // too large
	o.AddCarrying(nil, e.carried(1))
	o.AddCarrying(anAppend(10), e.carried(1)) // waits when the connection ends
	if o.Fail(); e != (ended{4, 4}) {
		t.Errorf("%+v, want four that failed", e)
	}
}
