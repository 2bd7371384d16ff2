package tracing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	oteltrace "go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/encoding"

	"github.com/multiraftd/multiraftd/proto/trace"
)

func newTracer(t *testing.T, c Config) *Tracer {
	t.Helper()
	tr, err := New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tr.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return tr
}

var parent = trace.Context{TraceID: [16]byte{1}, SpanID: [8]byte{2}}

func TestTheRatioDecidesAboutAppendsWithoutAContextAndNothingElse(t *testing.T) {
	const tries = 20_000
	for ratio, bounds := range map[float64][2]int{0: {0, 0}, 0.01: {100, 320}, 0.5: {9_500, 10_500}, 1: {tries, tries}} {
		tr, n := newTracer(t, Config{Ratio: ratio}), 0
		for range tries {
			if tr.Start(trace.SpanAppend, trace.Context{}) != nil {
				n++
			}
		}
		if n < bounds[0] || n > bounds[1] {
			t.Errorf("ratio %v: %d of %d sampled", ratio, n, tries)
		}
		if tr.Start(trace.SpanAppend, parent) == nil || tr.Start(trace.SpanElection, trace.Context{}) == nil {
			t.Errorf("ratio %v: a context, or an election, is not sampled", ratio)
		}
		if tr.Samples() != (ratio > 0) {
			t.Errorf("ratio %v: samples %v", ratio, tr.Samples())
		}
	}
	for _, ratio := range []float64{-0.1, 1.1} {
		if _, err := New(t.Context(), Config{Ratio: ratio}); err == nil {
			t.Errorf("ratio %v is taken", ratio)
		}
	}
}

func TestAnAppendThatIsNotSampledCostsNoAllocation(t *testing.T) {
	for _, ratio := range []float64{0, 1e-18} {
		tr := newTracer(t, Config{Ratio: ratio})
		if per := testing.AllocsPerRun(1000, func() { tr.Start(trace.SpanAppend, trace.Context{}).End() }); per != 0 {
			t.Errorf("ratio %v: %v allocations", ratio, per)
		}
	}
}

func TestWhatIsRareIsSampledAFewTimesASecond(t *testing.T) {
	tr, n := newTracer(t, Config{}), 0
	for range 100 {
		if tr.sampleRare(7) {
			n++
		}
	}
	if n != rareTracesPerSecondMax || !tr.sampleRare(8) {
		t.Errorf("%d sampled in a second", n)
	}
}

func TestTheRingForgetsWholeTracesTheOldestFirst(t *testing.T) {
	tr := newTracer(t, Config{RingSpansMax: 10})
	var ids []trace.Context
	for range 6 {
		root := tr.Start(trace.SpanElection, trace.Context{})
		ids = append(ids, root.At())
		tr.Start(trace.SpanVote, root.At()).End()
		tr.Start(trace.SpanVote, root.At()).End()
		root.End()
	}
	for i, at := range ids {
		spans := tr.Trace(at.TraceID)
		if want := map[bool]int{true: 3}[i >= 3]; len(spans) != want {
			t.Errorf("trace %d of 6 has %d spans, want %d", i+1, len(spans), want)
		}
	}
	if tr.ring.spans != 9 || len(tr.ring.traces) != 3 {
		t.Errorf("%d spans of %d traces", tr.ring.spans, len(tr.ring.traces))
	}
	for range 2 * traceSpansMax { // one that is larger than the ring drives itself out too
		tr.Start(trace.SpanVote, parent).End()
	}
	if tr.ring.spans > 10 {
		t.Errorf("%d spans remembered, at most 10", tr.ring.spans)
	}
}

func TestASpanIsExportedAsItIs(t *testing.T) {
	to := tracetest.NewInMemoryExporter()
	tr := newTracer(t, Config{Service: "multiraftd", Node: 3, Exporter: to})
	s := tr.Start(trace.SpanAppend, parent).As(trace.Server).Set(trace.Text("t", "x"), trace.Number("n", 7))
	s.Link(trace.Context{TraceID: [16]byte{8}, SpanID: [8]byte{9}})
	s.Fail(fmt.Errorf("broken"))
	s.End()
	if err := tr.exporter.provider.ForceFlush(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := to.GetSpans()[0]
	node, _ := got.Resource.Set().Value(trace.AttrNode)
	switch {
	case got.SpanContext.SpanID() != oteltrace.SpanID(s.Context.SpanID), got.SpanContext.TraceID() != oteltrace.TraceID(parent.TraceID), got.Parent.SpanID() != oteltrace.SpanID(parent.SpanID):
		t.Errorf("%v below %v", got.SpanContext, got.Parent)
	case got.Name != trace.SpanAppend || got.SpanKind != oteltrace.SpanKindServer || !got.StartTime.Equal(s.Began) || !got.EndTime.Equal(s.Over):
		t.Errorf("%+v", got)
	case len(got.Attributes) != 2 || len(got.Links) != 1 || got.Status.Description != "broken" || node.AsInt64() != 3:
		t.Errorf("%+v", got)
	}
}

func TestTheSamplerIsWhatTheSettingSaysElseTheEnvironmentElseTheExport(t *testing.T) {
	for _, c := range []struct {
		setting, endpoint string
		env               map[string]string
		want              float64
		bad               bool
	}{
		{want: 0},
		{endpoint: "http://h:1", want: RatioDefault},
		{env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:1"}, want: RatioDefault},
		{env: map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://h:1", "OTEL_TRACES_EXPORTER": "none"}, want: 0},
		{endpoint: "http://h:1", env: map[string]string{"OTEL_SDK_DISABLED": "true"}, want: 0},
		{setting: "0.25", env: map[string]string{"OTEL_TRACES_SAMPLER": "always_on"}, want: 0.25},
		{env: map[string]string{"OTEL_TRACES_SAMPLER": "parentbased_always_on"}, want: 1},
		{endpoint: "http://h:1", env: map[string]string{"OTEL_TRACES_SAMPLER": "always_off"}, want: 0},
		{env: map[string]string{"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.5"}, want: 0.5},
		{env: map[string]string{"OTEL_TRACES_SAMPLER": "traceidratio"}, want: 1},
		{env: map[string]string{"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "half"}, bad: true},
		{env: map[string]string{"OTEL_TRACES_SAMPLER": "jaeger_remote"}, bad: true},
		{setting: "1.5", bad: true}, {setting: "NaN", bad: true},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_TRACES_EXPORTER", "OTEL_SDK_DISABLED", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"} {
				t.Setenv(name, c.env[name])
			}
			got, err := Ratio(c.setting, c.endpoint)
			if (err != nil) != c.bad || got != c.want {
				t.Errorf("%v, %v; want %v", got, err, c.want)
			}
		})
	}
}

func TestAnEndpointHasASchemeOrNoneAHostAndAPort(t *testing.T) {
	for e, ok := range map[string]bool{"": true, "http://h:4317": true, "https://h:4317": true, "h:4317": true, "[::1]:4317": true,
		"h": false, "http://h": false, "ftp://h:1": false, "http://:1": false, "http://h:port": false} {
		if err := CheckEndpoint(e); (err == nil) != ok {
			t.Errorf("%q: %v", e, err)
		}
	}
	if _, err := New(t.Context(), Config{Endpoint: "nowhere"}); err == nil {
		t.Error("an endpoint without a port is taken")
	}
}

func TestACollectorThatDoesNotAnswerHoldsUpNothingButTheEndAndThatNotForLong(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tr, err := New(t.Context(), Config{Ratio: 1, Endpoint: l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	for range 10_000 { // far more than the exporter's queue
		tr.Start(trace.SpanAppend, trace.Context{}).End()
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("10000 spans took %v", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := tr.Close(ctx); err == nil {
		t.Error("all was exported to nobody")
	}
}

func TestWhatGoesWrongWithExportsIsALineOfTheLogOnce(t *testing.T) {
	var out bytes.Buffer
	LogErrors(slog.New(slog.NewTextHandler(&out, nil)))
	for _, text := range []string{"refused", "refused", "late"} {
		otel.Handle(errors.New(text))
	}
	if got := strings.Count(out.String(), "level=WARN"); got != 2 || strings.Count(out.String(), "refused") != 1 {
		t.Errorf("%s", &out)
	}
}

func TestNothingIsInflatedThoughTheExporterLinksACompressor(t *testing.T) {
	c := encoding.GetCompressor("gzip")
	var squeezed bytes.Buffer
	w, err := c.Compress(&squeezed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 1000)); err != nil || w.Close() != nil || squeezed.Len() == 0 || squeezed.Len() > 500 {
		t.Fatalf("compressed to %d bytes, %v", squeezed.Len(), err)
	}
	if _, err := c.Decompress(&squeezed); !errors.Is(err, errInflate) {
		t.Errorf("inflated: %v", err)
	}
}
