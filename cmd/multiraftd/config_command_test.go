package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the pages in docs that are made from code")

// command runs multiraftd in this process.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

func written(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "node.yaml")
	must(t, os.WriteFile(name, []byte(text), 0o600))
	return name
}

func TestConfigCheckSaysOKOfWhatStartTakes(t *testing.T) {
	code, stdout, stderr := command(t, "config", "check", "--config", written(t, complete))
	if code != exitOK || stdout != "ok\n" || stderr != "" {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
}

func TestConfigCheckNamesEveryFaultAtOnceWithItsPlace(t *testing.T) {
	file := written(t, `# a comment
data-dir: /tmp/d
node-id: one
client-addr: 127.0.0.1
peer-addr: 10.0.0.1:7081
bootsrap: 1=127.0.0.1:7081
election-timeout: 1
record-bytes-max: 9GiB
rack: [a, b]
rack: c
rack: d
log-level: loud
`)
	t.Setenv("MULTIRAFT_SNAPSHOT_RATE", "none")
	t.Setenv("MULTIRAFT_RAKC", "x")
	code, stdout, stderr := command(t, "config", "check", "--config", file, "--log-format", "xml")
	if code != exitUsage || stdout != "" {
		t.Errorf("exit %d, stdout %q", code, stdout)
	}
	for _, want := range []string{
		`%s:6: unknown key "bootsrap"`, `%s:9: rack must have one value`, `%s:10: rack is set in line 9 already`, `%s:11: rack is set in line 9 already`,
		`environment: unknown setting MULTIRAFT_RAKC`,
		`--node-id (%s:3) "one": want a number`, `--client-addr (%s:4) "127.0.0.1": want host:port`, `--peer-addr (%s:5) 10.0.0.1:7081 is not a loopback address`,
		`--election-timeout (%s:7) "1": want a duration`, `--record-bytes-max (%s:8) 9663676416 is out of range`,
		`--snapshot-rate (environment MULTIRAFT_SNAPSHOT_RATE) "none": want a size`, `--log-level (%s:12) "loud": want debug`, `--log-format "xml": want text or json`,
	} {
		want = "multiraftd: " + strings.ReplaceAll(want, "%s", file)
		if strings.Count("\n"+stderr, "\n"+want) != 1 {
			t.Errorf("%q is not one line of\n%s", want, stderr)
		}
	}
	if n := strings.Count(stderr, "\n"); n != 14 {
		t.Errorf("%d lines, want 13 faults and a hint:\n%s", n, stderr)
	}
}

func TestConfigCheckRefusesWhatIsNoListOfSettings(t *testing.T) {
	for text, want := range map[string]string{"- a\n": ":1: want one setting per line", "a: [\n": "line ", "just text": ":1: want one setting per line"} {
		if code, _, stderr := command(t, "config", "check", "--config", written(t, text)); code != exitUsage || !strings.Contains(stderr, want) {
			t.Errorf("%q: exit %d, %s", text, code, stderr)
		}
	}
	if code, _, stderr := command(t, "config", "check", "--config", "no such file"); code != exitUsage || !strings.Contains(stderr, "--config no such file") {
		t.Errorf("exit %d, %s", code, stderr)
	}
}

func TestConfigShowSaysWhereEachValueComesFrom(t *testing.T) {
	file := written(t, complete+"rack: r1\nlog-level: warn\nlog-format: json\n")
	t.Setenv("MULTIRAFT_RACK", "r2")
	t.Setenv("MULTIRAFT_LOG_LEVEL", "error")
	args := []string{"config", "show", "--config", file, "--rack", "r3"}
	code, stdout, stderr := command(t, args...)
	for _, want := range []string{
		"KEY VALUE FROM", "rack r3 flag --rack", "log-level error environment MULTIRAFT_LOG_LEVEL", "log-format json " + file + ":8",
		"election-timeout 1s default", `http-addr "" default`, "node-id 1 " + file + ":2", "config " + file + " flag --config",
	} {
		if code != exitOK || !strings.Contains(strings.Join(strings.Fields(stdout), " "), want) {
			t.Errorf("exit %d, %q is not in\n%s%s", code, want, stdout, stderr)
		}
	}
	_, stdout, _ = command(t, append(args, "-o", "json")...)
	var all []shownSetting
	if err := json.Unmarshal([]byte(stdout), &all); err != nil || len(all) != len(allSettings) {
		t.Errorf("%d settings, %v: %s", len(all), err, stdout)
	}
}

func TestConfigShowPrintsWhatIsThereThoughSomethingIsWrong(t *testing.T) {
	code, stdout, stderr := command(t, "config", "show", "--config", written(t, complete+"election-timeout: soon\n"))
	if code != exitUsage || !strings.Contains(stdout, "soon") || !strings.Contains(stderr, `"soon": want a duration`) {
		t.Errorf("exit %d\n%s\n%s", code, stdout, stderr)
	}
}

func TestConfigNeedsACommand(t *testing.T) {
	if code, stdout, stderr := command(t, "config"); code != exitUsage || stdout != "" || !strings.Contains(stderr, "check or show") {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
	if code, _, stderr := command(t, "config", "show", "-o", "xml"); code != exitUsage || !strings.Contains(stderr, "-o is text or json") {
		t.Errorf("exit %d, %q", code, stderr)
	}
}

const configIntro = "# Configuration\n\n" +
	"Everything that `multiraftd start` can be told. Each setting is a flag (`--data-dir D`), a variable of the environment\n" +
	"(`MULTIRAFT_DATA_DIR=D`) and a key of the YAML file that `--config` names (`data-dir: D`). A flag wins over the environment,\n" +
	"the environment over the file, the file over the default. A key or variable that is not on this page is an error. Sizes are\n" +
	"numbers of bytes or end in KiB, MiB or GiB; durations end in ms, s, m or h.\n\n" +
	"`multiraftd config check --config FILE` says everything that is wrong at once, each with its line; `multiraftd config show\n" +
	"--config FILE` prints what counts, and where each value comes from. This page is made from the code (`make gen`).\n\n" +
	"| Key | Default | What it is |\n|---|---|---|\n"

func configurationDoc() []byte {
	var b bytes.Buffer
	b.WriteString(configIntro)
	for _, s := range allSettings {
		text := "none"
		if s.value != "" {
			text = "`" + s.value + "`"
		}
		usage := strings.ReplaceAll(s.usage, "`", "")
		fmt.Fprintf(&b, "| `%s` | %s | %s. %s |\n", s.name, text, strings.ToUpper(usage[:1])+usage[1:], s.about)
	}
	return b.Bytes()
}

func TestThePageOnConfigurationIsWhatTheCodeSays(t *testing.T) {
	const page = "../../docs/configuration.md"
	want := configurationDoc()
	if *update {
		must(t, os.WriteFile(page, want, 0o644))
	}
	have, err := os.ReadFile(page)
	must(t, err)
	if !bytes.Equal(have, want) {
		t.Errorf("%s is not what the code says: make gen, and commit it", page)
	}
}

func TestEverySettingSaysWhatItIs(t *testing.T) {
	for _, s := range allSettings {
		if s.usage == "" || s.about == "" || !strings.HasSuffix(s.about, ".") {
			t.Errorf("%s: usage %q, about %q", s.name, s.usage, s.about)
		}
	}
}
