package node

import (
	"cmp"
	"net/http"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/attribute"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"

	"github.com/multiraftd/multiraftd/raftcore/measure"
)

// counterSource is a package's counters, by name. One that is a histogramSource too measures more than counts.
type counterSource interface {
	Each(f func(name, label, value, help string, v uint64))
}

type histogramSource interface {
	EachHistogram(f func(name, label, value, help string, r measure.Reading))
}

const metricPrefix = "multiraft_"

// kind is how a metric behaves.
type kind string

const (
	counter   kind = "counter"
	gauge     kind = "gauge"
	histogram kind = "histogram"
)

// metric is one named measurement with what it shows at one moment. The rooms keep plain atomics: recording costs
// the hot path an add or two, and nothing is put together until somebody asks.
type metric struct {
	name   string // as Prometheus shows it, without metricPrefix
	kind   kind
	help   string
	labels []string
	points []point
}

// point is one series of a metric: the values of its labels, and what it shows.
type point struct {
	values  []string
	value   float64
	reading measure.Reading // of a histogram
}

// unit is the metric's unit as OpenTelemetry writes it.
func (m *metric) unit() string {
	switch {
	case strings.HasSuffix(m.name, "_seconds"):
		return "s"
	case strings.Contains(m.name, "_bytes"):
		return "By"
	default:
		return ""
	}
}

// otelName is the metric's name in OpenTelemetry: the room, a dot, and the rest without what Prometheus puts there
// to say unit and kind.
func (m *metric) otelName() string {
	name := strings.TrimSuffix(m.name, "_total")
	for _, suffix := range []string{"_seconds", "_bytes"} {
		name = strings.TrimSuffix(name, suffix)
	}
	return strings.Replace(metricPrefix, "_", ".", 1) + strings.Replace(name, "_", ".", 1)
}

// metricSet gathers points under their metrics.
type metricSet struct {
	all    []*metric
	byName map[string]*metric
}

func newMetricSet() *metricSet { return &metricSet{byName: map[string]*metric{}} }

// declare makes a metric known, with or without points.
func (s *metricSet) declare(k kind, name, help string, labels []string) *metric {
	m := s.byName[name]
	if m == nil {
		m = &metric{name: name, kind: k, help: help, labels: labels}
		s.byName[name] = m
		s.all = append(s.all, m)
	}
	return m
}

func (s *metricSet) add(k kind, name, help string, labels []string, p point) {
	m := s.declare(k, name, help, labels)
	m.points = append(m.points, p)
}

func (s *metricSet) addSource(c counterSource) {
	c.Each(func(name, label, value, help string, v uint64) {
		labels, values := oneLabel(label, value)
		s.add(counter, name, help, labels, point{values: values, value: float64(v)})
	})
	h, ok := c.(histogramSource)
	if !ok {
		return
	}
	h.EachHistogram(func(name, label, value, help string, r measure.Reading) {
		labels, values := oneLabel(label, value)
		s.add(histogram, name, help, labels, point{values: values, reading: r})
	})
}

func oneLabel(label, value string) (labels, values []string) {
	if label == "" {
		return nil, nil
	}
	return []string{label}, []string{value}
}

// metrics returns all that the node measures, by name, as it is now.
func (n *Node) metrics() []*metric {
	s := newMetricSet()
	for _, c := range n.counterSources() {
		s.addSource(c)
	}
	n.addGauges(s)
	slices.SortFunc(s.all, func(a, b *metric) int { return cmp.Compare(a.name, b.name) })
	return s.all
}

// metricsHandler serves what the node measures, and what the Go runtime and the system say of the process. All of
// ours passes through OpenTelemetry, so that another of its exporters shows the same.
func (n *Node) metricsHandler() (http.Handler, error) {
	reg := prometheus.NewRegistry()
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(reg), otelprometheus.WithProducer(producer{n.metrics}), otelprometheus.WithoutScopeInfo())
	if err != nil {
		return nil, err
	}
	about := resource.NewSchemaless(attribute.String("service.name", "multiraftd"), attribute.String("service.version", n.cfg.Version))
	n.meters = sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter), sdkmetric.WithResource(about))
	for _, c := range []prometheus.Collector{collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{}), nil
}
