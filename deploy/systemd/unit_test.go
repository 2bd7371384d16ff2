package systemd

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/multiraftd/multiraftd/deploy/localcluster"
)

const (
	unit       = "multiraftd.service"
	configured = "/usr/local/bin/multiraftd" // where the unit has the daemon
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

func build(t *testing.T) (daemon string) {
	t.Helper()
	daemon = filepath.Join(t.TempDir(), "multiraftd")
	if out, err := exec.Command("go", "build", "-o", daemon, "../../cmd/multiraftd").CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	return daemon
}

// installed is the unit as it would be if the daemon were where this one is.
func installed(t *testing.T, daemon string) (file string) {
	t.Helper()
	text, err := os.ReadFile(unit)
	must(t, err)
	if !bytes.Contains(text, []byte("ExecStart="+configured+" ")) {
		t.Fatalf("%s does not start %s", unit, configured)
	}
	file = filepath.Join(t.TempDir(), unit)
	must(t, os.WriteFile(file, bytes.Replace(text, []byte(configured), []byte(daemon), 1), 0o644))
	return file
}

func TestSystemdFindsNoFaultInTheUnit(t *testing.T) {
	needed(t, "systemd-analyze")
	file := installed(t, build(t))
	out, err := exec.Command("systemd-analyze", "verify", "--man=no", file).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	// The same command finds a fault that is there.
	text, err := os.ReadFile(file)
	must(t, err)
	must(t, os.WriteFile(file, bytes.Replace(text, []byte("ProtectSystem="), []byte("ProtectSistem="), 1), 0o644))
	if out, err := exec.Command("systemd-analyze", "verify", "--man=no", file).CombinedOutput(); err == nil && len(out) == 0 {
		t.Error("systemd-analyze verify finds nothing in a unit with a misspelt key")
	}
}

// exposureMax is systemd's score of what a unit leaves open, times ten; 100 is an unprotected root. What is left is
// that the daemon talks to the network.
const exposureMax = 15

func TestTheUnitLeavesLittleOpen(t *testing.T) {
	needed(t, "systemd-analyze")
	file := installed(t, build(t))
	out, err := exec.Command("systemd-analyze", "security", "--offline=true", fmt.Sprintf("--threshold=%d", exposureMax), "--no-pager", file).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}

// filters reads the system calls that the unit's SystemCallFilter lines allow, set by set.
func filters(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(unit)
	must(t, err)
	allowed := callsOf(t, "@default")
	for line := range strings.Lines(string(text)) {
		sets, ok := strings.CutPrefix(strings.TrimSpace(line), "SystemCallFilter=")
		if !ok {
			continue
		}
		sets, denied := strings.CutPrefix(sets, "~")
		for _, set := range strings.Fields(sets) {
			for call := range callsOf(t, set) {
				if denied {
					delete(allowed, call)
				} else {
					allowed[call] = true
				}
			}
		}
	}
	return allowed
}

// callsOf lists the system calls of a set of systemd's, and of the sets in it.
func callsOf(t *testing.T, set string) map[string]bool {
	t.Helper()
	out, err := exec.Command("systemd-analyze", "syscall-filter", "--no-pager", set).Output()
	must(t, err)
	calls := map[string]bool{}
	for _, word := range strings.Fields(regexp.MustCompile(`(?m)#.*$`).ReplaceAllString(string(out), "")) {
		if word == set {
			continue
		}
		if !strings.HasPrefix(word, "@") {
			calls[word] = true
			continue
		}
		for call := range callsOf(t, word) {
			calls[call] = true
		}
	}
	return calls
}

func TestTheDaemonStartsFromTheSampleConfigurationAndMakesNoCallThatTheUnitForbids(t *testing.T) {
	needed(t, "systemd-analyze", "strace")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	daemon, dir := build(t), t.TempDir()
	trace, log := filepath.Join(dir, "trace"), filepath.Join(dir, "log")
	stderr, err := os.Create(log)
	must(t, err)
	defer stderr.Close()
	// Flags win over the file: free ports and a directory of the test's. Without http-addr there would be nobody to ask.
	port, err := localcluster.FreePorts(2)
	must(t, err)
	peer, web := fmt.Sprintf("127.0.0.1:%d", port), fmt.Sprintf("127.0.0.1:%d", port+1)
	cmd := exec.CommandContext(ctx, "strace", "-f", "-qq", "-o", trace, daemon, "start", "--config", "multiraftd.yaml",
		"--data-dir", filepath.Join(dir, "data"), "--client-addr", "127.0.0.1:0", "--peer-addr", peer, "--http-addr", web, "--bootstrap", "1="+peer)
	cmd.Stderr = stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // strace does not pass a signal on: the group gets it
	must(t, cmd.Start())
	defer syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	waitReady(ctx, t, "http://"+web+"/readyz", log)
	must(t, syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM))
	if err := cmd.Wait(); err != nil {
		said, _ := os.ReadFile(log)
		t.Fatalf("%v\n%s", err, said)
	}
	made, allowed := callsMade(t, trace), filters(t)
	if len(made) < 20 {
		t.Errorf("strace saw only %v", made)
	}
	for _, call := range made {
		if !allowed[call] {
			t.Errorf("the daemon calls %s, which the unit forbids", call)
		}
	}
}

var callName = regexp.MustCompile(`(?m)^\d+ +([a-z_0-9]+)\(`)

func callsMade(t *testing.T, trace string) []string {
	t.Helper()
	text, err := os.ReadFile(trace)
	must(t, err)
	var calls []string
	for _, m := range callName.FindAllStringSubmatch(string(text), -1) {
		calls = append(calls, m[1])
	}
	slices.Sort(calls)
	return slices.Compact(calls)
}

// waitReady asks until the node is ready.
func waitReady(ctx context.Context, t *testing.T, url, log string) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		must(t, err)
		if resp, err := http.DefaultClient.Do(req); err == nil {
			must(t, resp.Body.Close())
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			said, _ := os.ReadFile(log)
			t.Fatalf("not ready: %v\n%s", ctx.Err(), said)
		}
	}
}
