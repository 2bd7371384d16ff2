package tracing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/multiraftd/multiraftd/proto/trace"
)

// exporter hands ended spans to OpenTelemetry's SDK, which batches, bounds and sends them, as the OTEL_* variables say.
type exporter struct {
	provider *sdktrace.TracerProvider
	tracer   oteltrace.Tracer
}

// scope names the instrumentation.
const scope = "github.com/multiraftd/multiraftd"

// exportInterval is how long a span waits for others: people look for a trace right after the append.
const exportInterval = 500 * time.Millisecond

func newExporter(ctx context.Context, c Config) (*exporter, error) {
	to := c.Exporter
	if to == nil {
		if !exports(c.Endpoint) {
			return nil, nil
		}
		var err error
		if to, err = otlptracegrpc.New(ctx, endpoint(c.Endpoint)...); err != nil {
			return nil, fmt.Errorf("exporting traces: %w", err)
		}
	}
	res, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(identity(c)...), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	var batch []sdktrace.BatchSpanProcessorOption
	if os.Getenv("OTEL_BSP_SCHEDULE_DELAY") == "" {
		batch = append(batch, sdktrace.WithBatchTimeout(exportInterval))
	}
	p := sdktrace.NewTracerProvider(sdktrace.WithResource(res), sdktrace.WithSampler(sdktrace.AlwaysSample()),
		sdktrace.WithIDGenerator(ids{}), sdktrace.WithBatcher(to, batch...))
	return &exporter{p, p.Tracer(scope, oteltrace.WithInstrumentationVersion(c.Version))}, nil
}

// LogErrors makes what goes wrong with exports lines of a log: the first of its kind a warning, the same again only at
// debug level. It is for the whole process.
func LogErrors(l *slog.Logger) {
	var last atomic.Pointer[string]
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		text, level := err.Error(), slog.LevelDebug
		if before := last.Swap(&text); before == nil || *before != text {
			level = slog.LevelWarn
		}
		l.Log(context.Background(), level, "exporting traces", "err", err)
	}))
}

// exports says whether there is an endpoint.
func exports(flag string) bool {
	if disabled, err := strconv.ParseBool(os.Getenv("OTEL_SDK_DISABLED")); err == nil && disabled {
		return false
	}
	if flag == "" && os.Getenv("OTEL_TRACES_EXPORTER") == "none" {
		return false
	}
	return cmp.Or(flag, os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT")) != ""
}

// CheckEndpoint says what is wrong with an endpoint; empty is none, and right.
func CheckEndpoint(endpoint string) error {
	if endpoint == "" {
		return nil
	}
	if !strings.Contains(endpoint, "://") {
		endpoint = "http://" + endpoint
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Port() == "" {
		return errors.New("want http://host:port, https://host:port or host:port")
	}
	return nil
}

// endpoint turns the flag into options; without it the SDK reads the environment.
func endpoint(flag string) []otlptracegrpc.Option {
	switch {
	case flag == "":
		return nil
	case strings.Contains(flag, "://"):
		return []otlptracegrpc.Option{otlptracegrpc.WithEndpointURL(flag)}
	default:
		return []otlptracegrpc.Option{otlptracegrpc.WithEndpoint(flag), otlptracegrpc.WithInsecure()}
	}
}

// identity says which process it is. What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say goes before it.
func identity(c Config) []attribute.KeyValue {
	all := []attribute.KeyValue{
		attribute.String("service.name", c.Service), attribute.String("service.instance.id", c.Instance), attribute.String("service.version", c.Version),
	}
	if c.Node != 0 {
		all = append(all, attribute.Int64(trace.AttrNode, int64(c.Node)))
	}
	return all
}

// ids makes the SDK take the ids that a span has.
type ids struct{}

type idKey struct{}

// NewIDs is part of sdktrace.IDGenerator.
func (ids) NewIDs(ctx context.Context) (oteltrace.TraceID, oteltrace.SpanID) {
	c := ctx.Value(idKey{}).(trace.Context)
	return c.TraceID, c.SpanID
}

// NewSpanID is part of sdktrace.IDGenerator.
func (ids) NewSpanID(ctx context.Context, _ oteltrace.TraceID) oteltrace.SpanID {
	return ctx.Value(idKey{}).(trace.Context).SpanID
}

// add gives a span that has ended to the SDK, which queues it or, when its queue is full, drops it.
func (e *exporter) add(s *trace.Span) {
	ctx := context.WithValue(context.Background(), idKey{}, s.Context)
	if s.Parent != [8]byte{} {
		ctx = oteltrace.ContextWithRemoteSpanContext(ctx, spanContext(s.Above()))
	}
	links := make([]oteltrace.Link, len(s.Links))
	for i, l := range s.Links {
		links[i].SpanContext = spanContext(l)
	}
	_, span := e.tracer.Start(ctx, s.Name, oteltrace.WithTimestamp(s.Began), oteltrace.WithSpanKind(kind(s.Kind)),
		oteltrace.WithLinks(links...), oteltrace.WithAttributes(attributes(s.Attrs)...))
	if s.Failure != "" {
		span.SetStatus(codes.Error, s.Failure)
	}
	span.End(oteltrace.WithTimestamp(s.Over))
}

func spanContext(c trace.Context) oteltrace.SpanContext {
	return oteltrace.NewSpanContext(oteltrace.SpanContextConfig{TraceID: c.TraceID, SpanID: c.SpanID, TraceFlags: oteltrace.FlagsSampled, Remote: true})
}

func kind(k trace.Kind) oteltrace.SpanKind { return oteltrace.SpanKindInternal + oteltrace.SpanKind(k) }

func attributes(list []trace.Attr) []attribute.KeyValue {
	all := make([]attribute.KeyValue, len(list))
	for i, a := range list {
		if a.IsText {
			all[i] = attribute.String(a.Key, a.Text)
		} else {
			all[i] = attribute.Int64(a.Key, a.Number)
		}
	}
	return all
}
