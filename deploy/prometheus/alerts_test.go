package prometheus

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// needed skips a test that `make test-deploy` runs, and fails there when a tool is missing.
func needed(t *testing.T, tools ...string) {
	t.Helper()
	if os.Getenv("TEST_DEPLOY") == "" {
		t.Skip("make test-deploy runs this")
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatal(err)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	return text
}

// strictly decodes YAML into v, and refuses keys that v does not have.
func strictly(t *testing.T, file string, v any) {
	t.Helper()
	d := yaml.NewDecoder(bytes.NewReader(read(t, file)))
	d.KnownFields(true)
	if err := d.Decode(v); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

type rules struct {
	Groups []struct {
		Name  string
		Rules []struct {
			Alert, Expr, For    string
			Labels, Annotations map[string]string
		}
	}
}

// alerts are the names of the rules, in order.
func alerts(t *testing.T) (names []string) {
	t.Helper()
	var r rules
	strictly(t, "alerts.yaml", &r)
	for _, g := range r.Groups {
		for _, rule := range g.Rules {
			names = append(names, rule.Alert)
			if s := rule.Labels["severity"]; s != "warning" && s != "critical" {
				t.Errorf("%s: severity %q", rule.Alert, s)
			}
			if rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" {
				t.Errorf("%s has no summary or no description", rule.Alert)
			}
		}
	}
	if len(names) == 0 {
		t.Fatal("no alerts")
	}
	return names
}

// unitTests are promtool's own.
var unitTests = []string{"alerts_test.yaml", "alerts_hours_test.yaml"}

type units struct {
	RuleFiles []string `yaml:"rule_files"`
	Interval  string   `yaml:"evaluation_interval"`
	Tests     []struct {
		Name, Interval string
		Series         []struct{ Series, Values string } `yaml:"input_series"`
		Checks         []struct {
			At    string `yaml:"eval_time"`
			Alert string `yaml:"alertname"`
			Want  []any  `yaml:"exp_alerts"`
		} `yaml:"alert_rule_test"`
	}
}

func TestEachAlertFiresInAUnitTestAndIsQuietInAnother(t *testing.T) {
	fires, quiet := map[string]bool{}, map[string]bool{}
	for _, file := range unitTests {
		var u units
		strictly(t, file, &u)
		for _, test := range u.Tests {
			for _, c := range test.Checks {
				if len(c.Want) > 0 {
					fires[c.Alert] = true
				} else {
					quiet[c.Alert] = true
				}
			}
		}
	}
	for _, name := range alerts(t) {
		if !fires[name] || !quiet[name] {
			t.Errorf("%s: fires in a test: %v, is quiet in one: %v", name, fires[name], quiet[name])
		}
	}
}

func TestEachAlertIsExplainedToOperatorsAndNoOther(t *testing.T) {
	page, known := string(read(t, "../../docs/operations.md")), map[string]bool{}
	for _, name := range alerts(t) {
		known[name] = true
		if !strings.Contains(page, "| `"+name+"` |") {
			t.Errorf("docs/operations.md has no row for %s", name)
		}
	}
	for line := range strings.Lines(page) {
		if name, _, ok := strings.Cut(strings.TrimPrefix(line, "| `"), "` |"); ok && strings.HasPrefix(name, "Multiraftd") && !known[name] {
			t.Errorf("docs/operations.md has a row for %s, which is no alert", name)
		}
	}
}

func promtool(args ...string) (string, error) {
	out, err := exec.Command("promtool", args...).CombinedOutput()
	return string(out), err
}

func TestPromtoolFindsNoFaultInTheRulesTheirTestsAndTheConfiguration(t *testing.T) {
	needed(t, "promtool")
	for _, args := range [][]string{
		{"check", "rules", "--lint=all", "--lint-fatal", "alerts.yaml"}, append([]string{"test", "rules"}, unitTests...), {"check", "config", "prometheus.yaml"},
	} {
		if out, err := promtool(args...); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}

// Every expression is turned into one that never holds: promtool must miss each alert then.
func TestTheUnitTestsNoticeAlertsThatNeverFire(t *testing.T) {
	needed(t, "promtool")
	var r rules
	text := read(t, "alerts.yaml")
	must(t, yaml.Unmarshal(text, &r))
	dir := t.TempDir()
	args := []string{"test", "rules"}
	for _, file := range unitTests {
		at := filepath.Join(dir, file)
		must(t, os.WriteFile(at, read(t, file), 0o644))
		args = append(args, at)
	}
	for _, rule := range r.Groups[0].Rules {
		line := []byte("expr: " + rule.Expr + "\n")
		if bytes.Count(text, line) != 1 {
			t.Fatalf("%s: its expression is not on a line of its own", rule.Alert)
		}
		text = bytes.Replace(text, line, []byte("expr: vector(0) > 1\n"), 1)
	}
	must(t, os.WriteFile(filepath.Join(dir, "alerts.yaml"), text, 0o644))
	out, err := promtool(args...)
	if err == nil {
		t.Error("promtool finds no fault")
	}
	for _, rule := range r.Groups[0].Rules {
		if !strings.Contains(out, "alertname: "+rule.Alert+",") {
			t.Errorf("%s never fires, and no unit test notices", rule.Alert)
		}
	}
}
