package node

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/multiraftd/multiraftd/client"
)

// scrapeBytesMax bounds what a node shows, however many groups it has.
const scrapeBytesMax = 512 << 10

// thousand is a node that hosts a thousand partitions.
func thousand(t testing.TB) *Node {
	t.Helper()
	n := single(t)
	must(t, n.Ready(t.Context()))
	c, err := client.Open(client.Config{Addrs: []string{n.ClientAddr()}})
	must(t, err)
	_, ready, err := c.CreateTopic(t.Context(), "wide", 1000, 1)
	if err != nil || !ready {
		t.Fatalf("ready %v, %v", ready, err)
	}
	must(t, c.Close())
	return n
}

func TestAScrapeOfAThousandGroupsIsBoundedAndCleanByConvention(t *testing.T) {
	n := thousand(t)
	began := time.Now()
	_, text := page(t, n, "/metrics")
	t.Logf("%d groups: %d bytes, %d samples, in %v", len(n.core.Table().Groups()), len(text), strings.Count(text, "\n")-strings.Count(text, "\n#"), time.Since(began))
	if len(text) > scrapeBytesMax {
		t.Errorf("%d bytes, at most %d", len(text), scrapeBytesMax)
	}
	if got := strings.Count(text, "\nmultiraft_group_term{"); got != groupSeriesMax {
		t.Errorf("%d groups have series, want %d", got, groupSeriesMax)
	}
	if want := "\nmultiraft_groups_without_series 745\n"; !strings.Contains(text, want) {
		t.Errorf("%q is not there", want)
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	must(t, err)
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, metricPrefix) {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		return // promlint is what it would have said
	}
	check := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	check.Stdin = strings.NewReader(text)
	if said, err := check.CombinedOutput(); err != nil {
		t.Errorf("promtool: %v: %s", err, said)
	}
}

func BenchmarkScrape(b *testing.B) {
	n := thousand(b)
	b.ReportAllocs()
	for b.Loop() {
		_, text := page(b, n, "/metrics")
		b.ReportMetric(float64(len(text)), "bytes/scrape")
	}
}
