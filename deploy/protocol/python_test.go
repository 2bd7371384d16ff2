package protocol

import (
	"bufio"
	"bytes"
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

const (
	python  = "/usr/bin/python3" // Debian's, which finds Debian's grpc
	records = 3000
	timeout = 3 * time.Minute // ends what hangs; no measure of speed
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// block is the page's only block of a language.
func block(t *testing.T, page, language string) string {
	t.Helper()
	found := regexp.MustCompile("(?s)```"+language+"\n(.*?)```\n").FindAllStringSubmatch(page, -1)
	if len(found) != 1 {
		t.Fatalf("the page has %d blocks of %s", len(found), language)
	}
	return found[0][1]
}

// installed generates the stubs and writes the client into a folder.
func installed(t *testing.T) (dir string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/protocol.md")
	must(t, err)
	dir = t.TempDir()
	_, protoc, ok := strings.Cut(block(t, string(text), "sh"), "\nprotoc ")
	if !ok {
		t.Fatal("the page does not run protoc")
	}
	definitions, err := filepath.Abs("../../proto")
	must(t, err)
	cmd := exec.Command("sh", "-ec", "protoc "+strings.Replace(protoc, "-I proto ", "-I "+definitions+" ", 1))
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("protoc: %v\n%s", err, out)
	}
	must(t, os.WriteFile(filepath.Join(dir, "client.py"), []byte(block(t, string(text), "python")), 0o644))
	return dir
}

func TestThePythonClientOfThePageAppendsExactlyOnceThroughTheLossOfALeader(t *testing.T) {
	if os.Getenv("TEST_DEPLOY") == "" {
		t.Skip("make test-deploy runs this")
	}
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	bin, dir := t.TempDir(), installed(t)
	if out, err := exec.Command("go", "build", "-o", bin+"/", "../../cmd/multiraftd", "../../cmd/mrctl").CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	c, err := localcluster.New(localcluster.Config{Bin: bin, Dir: t.TempDir()})
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	must(t, c.StartAll())
	must(t, c.Healthy(ctx))

	var stderr bytes.Buffer
	client := exec.CommandContext(ctx, python, "client.py", c.Addr(), "numbers", fmt.Sprint(records))
	client.Dir, client.Stderr = dir, &stderr
	stdout, err := client.StdoutPipe()
	must(t, err)
	must(t, client.Start())
	lines, killed, last := bufio.NewScanner(stdout), 0, ""
	for n := 1; lines.Scan(); n++ {
		if last = lines.Text(); n == 20 {
			killed, _, err = c.Leader(ctx, "numbers", 0)
			must(t, err)
			_, err = c.Kill(killed)
			must(t, err)
		}
	}
	must(t, lines.Err())
	if err := client.Wait(); err != nil {
		t.Fatalf("%v after %q\n%s", err, last, stderr.String())
	}
	var read, retries int
	if _, err := fmt.Sscanf(last, "read %d after %d retries", &read, &retries); err != nil || read != records || retries == 0 || killed == 0 {
		t.Errorf("the client ends with %q; node %d was killed", last, killed)
	}
	t.Logf("node %d killed; the client: %s", killed, last)
	out, err := c.Ctl(ctx, "read", "numbers", "--partition", "0", "--from", "start", "--to", "end").Output()
	must(t, err)
	for i, value := range strings.Fields(string(out)) {
		if value != fmt.Sprint(i) {
			t.Fatalf("record %d is %q", i, value)
		}
	}
	if n := len(strings.Fields(string(out))); n != records {
		t.Errorf("mrctl reads %d records", n)
	}
}
