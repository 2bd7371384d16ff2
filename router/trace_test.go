package router

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/proto/recordbatch"
	"github.com/multiraftd/multiraftd/proto/trace"
)

// samples is a tracer that samples traces as it is told, and every context.
type samples struct {
	roots bool
	spans int
}

func (s *samples) Start(name string, parent trace.Context) *trace.Span {
	if !parent.Valid() && !s.roots {
		return nil
	}
	s.spans++
	return trace.New(name, trace.Context{TraceID: [16]byte{1}, SpanID: [8]byte{byte(s.spans)}}, parent.SpanID, time.Time{}, nil)
}

func TestAnAppendThatNobodySamplesCostsNoAllocation(t *testing.T) {
	n := single(t)
	s := n.services
	s.cfg.Tracing.Tracer = &samples{}
	it := &multiraftv1.AppendItem{TopicId: 1, Content: &multiraftv1.AppendItem_Batch{Batch: make([]byte, 1024)}}
	if per := testing.AllocsPerRun(100, func() {
		if s.startDispatch(s.traceAppend(it, "Append")) != nil {
			t.Error("sampled")
		}
	}); per != 0 {
		t.Errorf("%v allocations", per)
	}
}

const (
	sampledA = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	sampledB = "00-1bf7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	dropped  = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
)

func TestTheContextOfAnAppendIsItsOwnElseThatOfItsRecords(t *testing.T) {
	header := func(values ...string) []recordbatch.Record {
		var records []recordbatch.Record
		for _, v := range values {
			records = append(records, recordbatch.Record{Headers: []recordbatch.Header{{Key: "other", Value: []byte(sampledB)}, {Key: traceparentKey, Value: []byte(v)}}})
		}
		return records
	}
	for _, c := range []struct {
		name, own string
		records   []recordbatch.Record
		headers   bool
		sampled   bool
		parent    string
		links     int
	}{
		{"none", "", nil, true, false, "", 0},
		{"its own", sampledA, header(sampledB), true, true, sampledA, 0},
		{"its own, which is not sampled", dropped, header(sampledB), true, false, "", 0},
		{"a record's", "", header(sampledB), true, true, sampledB, 0},
		{"two records'", "", header(sampledB, sampledA, sampledA), true, true, sampledB, 2},
		{"a record's that is not sampled", "", header(dropped), true, false, "", 0},
		{"one record's of two", "", header(dropped, sampledA), true, true, sampledA, 0},
		{"a record's, which nobody looks for", "", header(sampledB), false, false, "", 0},
		{"what can't be read", "00-0", header("junk"), true, false, "", 0},
	} {
		for _, encoded := range []bool{true, false} {
			it := &multiraftv1.AppendItem{TopicId: 1, Traceparent: c.own}
			setContent(t, it, c.records, encoded)
			s := single(t).services
			s.cfg.Tracing = TracingConfig{Tracer: &samples{}, Headers: c.headers}
			span := s.traceAppend(it, "Append")
			if (span != nil) != c.sampled {
				t.Errorf("%s, encoded %v: sampled %v", c.name, encoded, span != nil)
				continue
			}
			want, _ := trace.Parse(c.parent)
			if span != nil && (span.Parent != want.SpanID || len(span.Links) != c.links) {
				t.Errorf("%s, encoded %v: below %x, links %v", c.name, encoded, span.Parent, span.Links)
			}
		}
	}
}

func setContent(t *testing.T, it *multiraftv1.AppendItem, records []recordbatch.Record, encoded bool) {
	if !encoded || len(records) == 0 {
		list := &multiraftv1.RecordList{}
		for _, r := range records {
			w := &multiraftv1.Record{}
			for _, h := range r.Headers {
				w.Headers = append(w.Headers, &multiraftv1.Header{Key: h.Key, Value: h.Value})
			}
			list.Records = append(list.Records, w)
		}
		it.Content = &multiraftv1.AppendItem_Records{Records: list}
		return
	}
	batch, err := recordbatch.Encode(nil, recordbatch.None, records)
	if err != nil {
		t.Fatal(err)
	}
	it.Content = &multiraftv1.AppendItem_Batch{Batch: batch}
}

func TestContextsFromAPeerThatCannotBeReadOrAreTooManyAreIgnored(t *testing.T) {
	s := &samples{}
	junk := []*raftv1.TraceContext{nil, {}, {Traceparent: "00-junk"}, {Traceparent: dropped}, {GroupId: 7, Index: 9, Traceparent: sampledA}}
	if got := receive(s, 2, junk); len(got) != 1 || got[0].group != 7 || got[0].index != 9 {
		t.Errorf("%+v", got)
	}
	var many []*raftv1.TraceContext
	for range 100_000 {
		many = append(many, &raftv1.TraceContext{Traceparent: sampledA})
	}
	if got := receive(s, 2, many); len(got) != tracesPerFrameMax {
		t.Errorf("%d contexts of one frame are traced", len(got))
	}
}

func FuzzReceive(f *testing.F) {
	for _, c := range []*raftv1.Frame{{Traces: []*raftv1.TraceContext{{GroupId: 7, Index: 1, Traceparent: sampledA}}}, {}} {
		b, err := proto.Marshal(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var frame raftv1.Frame
		if proto.Unmarshal(b, &frame) != nil {
			return
		}
		for _, r := range receive(&samples{}, 2, frame.GetTraces()) {
			if !r.span.Above().Valid() {
				t.Fatalf("a span below nothing, of group %d", r.group)
			}
		}
	})
}
