package prometheus

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// dashboard is what is checked of Grafana's model here; deploy/tools/manifests checks all of it.
type dashboard struct {
	UID, Title string
	Panels     []panel
	Links      []struct{ URL string }
	Templating struct{ List []struct{ Name string } }
}

type panel struct {
	ID          int
	Type, Title string
	GridPos     struct{ X, Y, W, H int }
	Datasource  struct{ UID string }
	Targets     []struct{ Expr, RefID string }
}

func dashboards(t *testing.T) map[string]dashboard {
	t.Helper()
	files, err := filepath.Glob("../grafana/dashboards/*.json")
	must(t, err)
	all := map[string]dashboard{}
	for _, file := range files {
		var d dashboard
		if err := json.NewDecoder(bytes.NewReader(read(t, file))).Decode(&d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all[filepath.Base(file)] = d
	}
	if len(all) == 0 {
		t.Fatal("no dashboards")
	}
	return all
}

var variable = regexp.MustCompile(`\$\{?([a-z_]+)`)

// Built in, or of the data source.
var builtIn = map[string]bool{"__rate_interval": true}

func TestPanelsOfADashboardHaveTheirOwnIDAndPlaceAndKnownVariables(t *testing.T) {
	uids := map[string]bool{}
	for _, d := range dashboards(t) {
		uids[d.UID] = true
	}
	for name, d := range dashboards(t) {
		vars, ids := map[string]bool{}, map[int]bool{}
		for _, v := range d.Templating.List {
			vars[v.Name] = true
		}
		for i, p := range d.Panels {
			if ids[p.ID] || p.ID == 0 {
				t.Errorf("%s: %q: id %d", name, p.Title, p.ID)
			}
			ids[p.ID] = true
			if p.Type != "row" && len(p.Targets) == 0 {
				t.Errorf("%s: %q asks nothing", name, p.Title)
			}
			for _, other := range d.Panels[:i] {
				if overlap(p, other) {
					t.Errorf("%s: %q lies over %q", name, p.Title, other.Title)
				}
			}
			for _, q := range p.Targets {
				for _, v := range variable.FindAllStringSubmatch(q.Expr+p.Datasource.UID, -1) {
					if !vars[v[1]] && !builtIn[v[1]] {
						t.Errorf("%s: %q uses $%s, which the dashboard does not have", name, p.Title, v[1])
					}
				}
			}
		}
		for _, l := range d.Links {
			if uid, ok := strings.CutPrefix(l.URL, "/d/"); !ok || !uids[uid] {
				t.Errorf("%s: the link to %s leads nowhere", name, l.URL)
			}
		}
	}
}

func overlap(a, b panel) bool {
	p, q := a.GridPos, b.GridPos
	return p.X < q.X+q.W && q.X < p.X+p.W && p.Y < q.Y+q.H && q.Y < p.Y+p.H || p.X+p.W > 24
}

// metricName finds the metrics in an expression.
var metricName = regexp.MustCompile(`\bmultiraft_[a-z_]+`)

func TestDashboardsAndAlertsAskOnlyForMetricsThatAreInTheTable(t *testing.T) {
	table := string(read(t, "../../docs/metrics.md"))
	check := func(where, expr string) {
		for _, m := range metricName.FindAllString(expr, -1) {
			plain := m
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				plain = strings.TrimSuffix(plain, suffix)
			}
			if !strings.Contains(table, "| `"+m+"` |") && !strings.Contains(table, "| `"+plain+"` |") {
				t.Errorf("%s asks for %s, which docs/metrics.md does not have", where, m)
			}
		}
	}
	for name, d := range dashboards(t) {
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				check(name+": "+p.Title, q.Expr)
			}
		}
	}
	var r rules
	strictly(t, "alerts.yaml", &r)
	for _, rule := range r.Groups[0].Rules {
		check(rule.Alert, rule.Expr)
	}
}
