package prometheus

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/multiraftd/multiraftd/deploy/localcluster"
)

// The live test's time runs faster than an operator's: the durations in the rules and dashboards are divided by
// quicker, and so is the interval between scrapes.
const (
	quicker        = 30
	scrapeInterval = 15 * time.Second / quicker
	rateWindow     = 5 * time.Minute / quicker
	liveTimeout    = 4 * time.Minute // ends what hangs; no measure of speed
)

var span = regexp.MustCompile(`(for: |\[)(\d+[smh])\b`)

// faster divides the durations in rules or in a query.
func faster(t *testing.T, text string) string {
	t.Helper()
	return span.ReplaceAllStringFunc(text, func(m string) string {
		parts := span.FindStringSubmatch(m)
		d, err := time.ParseDuration(parts[2])
		must(t, err)
		return fmt.Sprintf("%s%dms", parts[1], (d / quicker).Milliseconds())
	})
}

// watched is a cluster under load that a Prometheus watches.
func watched(ctx context.Context, t *testing.T) (*localcluster.Cluster, *server) {
	t.Helper()
	bin, dir := t.TempDir(), t.TempDir()
	if out, err := exec.Command("go", "build", "-o", bin+"/", "../../cmd/multiraftd", "../../cmd/mrctl", "../../cmd/mrbench").CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	c, err := localcluster.New(localcluster.Config{Bin: bin, Dir: t.TempDir()})
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	must(t, c.StartAll())
	must(t, c.Healthy(ctx))
	var targets []string
	for id := 1; id <= 3; id++ {
		targets = append(targets, c.HTTPAddr(id))
	}
	must(t, os.WriteFile(filepath.Join(dir, "alerts.yaml"), []byte(faster(t, string(read(t, "alerts.yaml")))), 0o644))
	config := filepath.Join(dir, "prometheus.yaml")
	must(t, os.WriteFile(config, fmt.Appendf(nil, "global: {scrape_interval: %dms, evaluation_interval: %[1]dms}\nrule_files: [alerts.yaml]\n"+
		"scrape_configs: [{job_name: multiraftd, static_configs: [{targets: [%s]}]}]\n", scrapeInterval.Milliseconds(), strings.Join(targets, ", ")), 0o644))
	return c, startServer(ctx, t, config)
}

// underLoad appends and reads until the test ends.
func underLoad(ctx context.Context, t *testing.T, c *localcluster.Cluster) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	load := c.Command(ctx, "mrbench", "mixed", "--addr", c.Addr(), "--topic", "events", "--create", "--partitions", "6", "--replicas", "3",
		"--duration", liveTimeout.String(), "--size", "100", "--clients", "2", "--window", "50", "--rate", "200")
	load.WaitDelay = time.Second
	must(t, load.Start())
	t.Cleanup(func() {
		cancel()
		if err := load.Wait(); err == nil {
			t.Error("the load ended before the test did")
		}
	})
}

func TestAnAlertFiresWhenANodeIsKilledAndResolvesWhenItIsBackAndTheDashboardsHaveData(t *testing.T) {
	needed(t, "prometheus", "promtool")
	ctx, cancel := context.WithTimeout(t.Context(), liveTimeout)
	defer cancel()
	c, prom := watched(ctx, t)
	begin := time.Now()
	underLoad(ctx, t, c)
	prom.wait(ctx, t, "all nodes are scraped and appends are counted", func() bool {
		n, err := prom.samples(t, "(sum(up) == 3) and (sum(rate(multiraft_router_appends_admitted_total[5s])) > 1)", time.Now().Add(-time.Second))
		must(t, err)
		return n > 0
	})
	shown := readFromALeader(ctx, t, c)
	// Of another node that a busy machine keeps from answering in time, nothing is asked.
	watch := []struct{ name, instance string }{{"MultiraftdNodeDown", c.HTTPAddr(3)}, {"MultiraftdUnderReplicated", ""}}
	for _, a := range watch {
		prom.wait(ctx, t, a.name+" is quiet before anything happens", func() bool { return prom.state(t, a.name, a.instance) == "" })
	}
	_, err := c.Kill(3)
	must(t, err)
	for _, a := range watch {
		took := prom.wait(ctx, t, a.name+" fires", func() bool { return prom.state(t, a.name, a.instance) == "firing" })
		t.Logf("%s fired after another %v", a.name, took.Round(poll))
	}
	must(t, c.Start(3))
	for _, a := range watch {
		took := prom.wait(ctx, t, a.name+" has resolved", func() bool { return prom.state(t, a.name, a.instance) == "" })
		t.Logf("%s had resolved after another %v", a.name, took.Round(poll))
	}
	everyQueryHasData(t, prom, c.HTTPAddr(shown), begin)
	metricsAreClean(ctx, t, c.HTTPAddr(shown))
}

// readFromALeader reads to the end of a partition from the node that leads it, and returns that node: not 3, which will
// be killed. The dashboard of one node shows reads as well.
func readFromALeader(ctx context.Context, t *testing.T, c *localcluster.Cluster) int {
	t.Helper()
	for p := range 6 {
		id, _, err := c.Leader(ctx, "events", p)
		must(t, err)
		if id != 1 && id != 2 {
			continue
		}
		read := c.Command(ctx, "mrctl", "--addr", c.ClientAddr(id), "read", "events", "--partition", fmt.Sprint(p), "--from", "start", "--to", "end")
		if out, err := read.CombinedOutput(); err != nil {
			t.Fatalf("reading from node %d: %v\n%s", id, err, out)
		}
		return id
	}
	t.Fatal("nodes 1 and 2 lead nothing")
	return 0
}

func everyQueryHasData(t *testing.T, prom *server, instance string, since time.Time) {
	t.Helper()
	values := strings.NewReplacer("$__rate_interval", fmt.Sprintf("%dms", rateWindow.Milliseconds()), "$job", "multiraftd", "$instance", instance)
	asked, answered := 0, 0
	for name, d := range dashboards(t) {
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				asked++
				n, err := prom.samples(t, values.Replace(faster(t, q.Expr)), since)
				if err != nil || n == 0 {
					t.Errorf("%s: %q has no data: %v: %s", name, p.Title, err, q.Expr)
					continue
				}
				answered++
			}
		}
	}
	t.Logf("%d of %d dashboard queries have data", answered, asked)
}

func metricsAreClean(ctx context.Context, t *testing.T, addr string) {
	t.Helper()
	cmd := exec.CommandContext(ctx, "sh", "-ec", `curl -sf "http://$0/metrics" | promtool check metrics`, addr)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}
