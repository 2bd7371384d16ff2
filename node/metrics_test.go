package node

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

var update = flag.Bool("update", false, "rewrite the pages in docs that are made from code")

const metricsPage = "../docs/metrics.md"

const metricsIntro = `# Metrics

What a node shows on ` + "`/metrics`" + ` of its HTTP address, beside what the Go runtime and the system say of the process
(` + "`go_*`, `process_*`" + `) and ` + "`target_info`" + `. This page is made from the code (` + "`make gen`" + `), and a test holds it there.

All metrics are per node, and cost as many series as their labels say. Those named ` + "`multiraft_group_*`" + ` are per group, of at
most %d groups per node: those with the lowest ids (` + "`multiraft_groups_without_series`" + ` counts the rest; ` + "`/debug/groups`" + `
shows all). Every figure is kept where it happens, in counters of its own, and passes through OpenTelemetry on its way out;
the name there is in the fourth column, with its unit. Histograms have 20 fixed buckets: 10 us to 30 s for times.

| Metric | Type | Labels | OpenTelemetry (unit) | What it says |
|---|---|---|---|---|
`

// metricsDoc is the page on what a node shows.
func metricsDoc(all []*metric) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, metricsIntro, groupSeriesMax)
	for _, m := range all {
		unit := ""
		if u := m.unit(); u != "" {
			unit = " (" + u + ")"
		}
		fmt.Fprintf(&b, "| `%s%s` | %s | %s | `%s`%s | %s |\n", metricPrefix, m.name, m.kind, inCode(m.labels), m.otelName(), unit, m.help)
	}
	b.WriteString("\n## Values of labels\n\n`group`, `topic`, `partition` and `peer` are ids and names of what the cluster has. The others:\n\n| Metric | Label | Values |\n|---|---|---|\n")
	for _, m := range all {
		if len(m.labels) != 1 || m.kind == gauge {
			continue
		}
		var values []string
		for _, p := range m.points {
			values = append(values, p.values[0])
		}
		fmt.Fprintf(&b, "| `%s%s` | `%s` | %s |\n", metricPrefix, m.name, m.labels[0], inCode(values))
	}
	return b.Bytes()
}

func inCode(names []string) string {
	q := make([]string, len(names))
	for i, n := range names {
		q[i] = "`" + n + "`"
	}
	return strings.Join(q, ", ")
}

func TestThePageOnMetricsIsWhatTheCodeSays(t *testing.T) {
	n := single(t)
	holdPage(t, metricsPage, metricsDoc(n.metrics()))
}

// holdPage compares a committed page with what the code makes of it.
func holdPage(t *testing.T, path string, want []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, want) {
		t.Errorf("%s is not what the code says: make gen, and commit it", path)
	}
}

// single is a node that is a cluster of its own.
func single(t testing.TB) *Node {
	t.Helper()
	addr := freeAddr(t)
	n, err := Start(t.Context(), Config{
		ID: 1, KV: store.NewMem(), ClientAddr: "127.0.0.1:0", PeerAddr: addr, HTTPAddr: "127.0.0.1:0", Bootstrap: map[raftcore.NodeID]string{1: addr}, Version: "test",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func TestEveryMetricHasANameATypeAndAHelpOfItsOwn(t *testing.T) {
	var names []string
	for _, m := range single(t).metrics() {
		if m.help == "" || slices.Contains(names, m.name) {
			t.Errorf("%s: help %q, known already %v", m.name, m.help, slices.Contains(names, m.name))
		}
		if strings.HasSuffix(m.name, "_total") != (m.kind == counter) {
			t.Errorf("%s is a %s", m.name, m.kind)
		}
		names = append(names, m.name)
	}
}
