package node

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// counterSource is a package's counters, by name.
type counterSource interface {
	Each(f func(name, label, value, help string, v uint64))
}

// collector shows counters that the packages keep as plain atomics: counting costs the hot path one add, and
// nothing is formatted until somebody asks.
type collector struct {
	sources []counterSource
	gauges  func(f func(name, help string, v float64))
}

const metricPrefix = "multiraft_"

// Describe sends nothing: the set of metrics is known only when it is collected.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect is part of prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	for _, s := range c.sources {
		s.Each(func(name, label, value, help string, v uint64) {
			var labels, values []string
			if label != "" {
				labels, values = []string{label}, []string{value}
			}
			desc := prometheus.NewDesc(metricPrefix+name, help, labels, nil)
			ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(v), values...)
		})
	}
	c.gauges(func(name, help string, v float64) {
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(metricPrefix+name, help, nil, nil), prometheus.GaugeValue, v)
	})
}

func (n *Node) metricsHandler() (http.Handler, error) {
	reg := prometheus.NewRegistry()
	if err := reg.Register(&collector{sources: n.counterSources(), gauges: n.gauges}); err != nil {
		return nil, err
	}
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{}), nil
}

// gauges shows what the boards of the replicas say now.
func (n *Node) gauges(f func(name, help string, v float64)) {
	if !n.started.Load() {
		return
	}
	var leaders, leaderless, failed, replicas float64
	t := n.core.Table()
	for _, g := range t.Groups() {
		h, _ := t.Hosted(g)
		replicas++
		s := h.Board.Load()
		switch {
		case s == nil:
			leaderless++
		case s.Failure != "":
			failed++
		case s.Leader == n.self.NodeID:
			leaders++
		case s.Leader == 0:
			leaderless++
		}
	}
	f("replicas", "Replicas on this node.", replicas)
	f("replicas_leading", "Groups that this node leads.", leaders)
	f("replicas_without_leader", "Replicas here that know no leader.", leaderless)
	f("replicas_failed", "Replicas here that have failed.", failed)
	f("topics", "Topics in the metadata that this node has applied.", float64(len(t.Meta.Topics())))
	f("nodes", "Nodes in the metadata that this node has applied.", float64(len(t.Meta.Nodes())))
	if free, total := n.space.Bytes(); total > 0 {
		f("disk_bytes", "Bytes of the data directory's disk.", float64(total))
		f("disk_free_bytes", "Bytes free for the node on it.", float64(free))
		f("disk_space_level", "0 = enough, 1 = low: appends are refused, 2 = short: appends of leaders are not taken either.", float64(n.space.Level()))
	}
	f("held_for_clients_bytes", "Records and results made for clients that have not taken them.", float64(n.services.HeldBytes()))
	f("node_start_number", "How often this node has started on its store.", float64(n.self.Start))
}
