package node

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// producer gives a node's metrics to OpenTelemetry's SDK. Its own instruments would take a lock and look attributes
// up for every record, and know no histogram that is read when asked for.
type producer struct{ metrics func() []*metric }

// instrumentationScope names who measured.
const instrumentationScope = "github.com/multiraftd/multiraftd/node"

// Produce is part of the SDK's Producer.
func (p producer) Produce(context.Context) ([]metricdata.ScopeMetrics, error) {
	now := time.Now()
	all := p.metrics()
	out := make([]metricdata.Metrics, len(all))
	for i, m := range all {
		out[i] = metricdata.Metrics{Name: m.otelName(), Description: m.help, Unit: m.unit(), Data: m.aggregation(now)}
	}
	return []metricdata.ScopeMetrics{{Scope: instrumentation.Scope{Name: instrumentationScope}, Metrics: out}}, nil
}

func (m *metric) aggregation(now time.Time) metricdata.Aggregation {
	switch m.kind {
	case histogram:
		h := metricdata.Histogram[float64]{Temporality: metricdata.CumulativeTemporality}
		for _, p := range m.points {
			h.DataPoints = append(h.DataPoints, metricdata.HistogramDataPoint[float64]{
				Attributes: m.attributes(p), Time: now, Count: p.reading.Count(), Bounds: p.reading.Bounds, BucketCounts: p.reading.Counts, Sum: p.reading.Sum,
			})
		}
		return h
	case counter:
		return metricdata.Sum[float64]{DataPoints: m.values(now), Temporality: metricdata.CumulativeTemporality, IsMonotonic: true}
	default:
		return metricdata.Gauge[float64]{DataPoints: m.values(now)}
	}
}

func (m *metric) values(now time.Time) []metricdata.DataPoint[float64] {
	points := make([]metricdata.DataPoint[float64], len(m.points))
	for i, p := range m.points {
		points[i] = metricdata.DataPoint[float64]{Attributes: m.attributes(p), Time: now, Value: p.value}
	}
	return points
}

func (m *metric) attributes(p point) attribute.Set {
	if len(m.labels) == 0 {
		return *attribute.EmptySet()
	}
	kvs := make([]attribute.KeyValue, len(m.labels))
	for i, l := range m.labels {
		kvs[i] = attribute.String(l, p.values[i])
	}
	return attribute.NewSet(kvs...)
}
