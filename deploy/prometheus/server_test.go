package prometheus

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/multiraftd/multiraftd/deploy/localcluster"
)

// server is a real Prometheus of the test's own.
type server struct {
	base string
	log  string
}

// poll is how often the test looks whether what it waits for is there.
const poll = 100 * time.Millisecond

func startServer(ctx context.Context, t *testing.T, config string) *server {
	t.Helper()
	port, err := localcluster.FreePorts(1)
	must(t, err)
	dir, addr := t.TempDir(), fmt.Sprintf("127.0.0.1:%d", port)
	s := &server{base: "http://" + addr, log: filepath.Join(dir, "log")}
	out, err := os.Create(s.log)
	must(t, err)
	cmd := exec.Command("prometheus", "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+addr)
	cmd.Stdout, cmd.Stderr = out, out
	must(t, cmd.Start())
	t.Cleanup(func() {
		must(t, cmd.Process.Signal(syscall.SIGTERM))
		if err := cmd.Wait(); err != nil {
			t.Errorf("prometheus: %v\n%s", err, s.said())
		}
		must(t, out.Close())
	})
	s.wait(ctx, t, "Prometheus is ready", func() bool {
		resp, err := http.Get(s.base + "/-/ready")
		if err != nil {
			return false
		}
		must(t, resp.Body.Close())
		return resp.StatusCode == http.StatusOK
	})
	return s
}

func (s *server) said() string {
	text, err := os.ReadFile(s.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-4096):])
}

// wait waits until something is so.
func (s *server) wait(ctx context.Context, t *testing.T, what string, is func() bool) (took time.Duration) {
	t.Helper()
	tick, begin := time.NewTicker(poll), time.Now()
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("after %v, it is not so that %s; Prometheus says:\n%s", time.Since(begin), what, s.said())
		}
	}
	return time.Since(begin)
}

// get asks Prometheus's API.
func (s *server) get(t *testing.T, path string, params url.Values, data any) error {
	t.Helper()
	resp, err := http.Get(s.base + path + "?" + params.Encode())
	must(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(t, err)
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.Unmarshal(text, &answer); err != nil {
		t.Fatalf("%s: %v: %s", path, err, text)
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s", answer.Error)
	}
	return nil
}

// state is that of the alert of a name, and of an instance where there is one: pending, firing or empty.
func (s *server) state(t *testing.T, name, instance string) string {
	t.Helper()
	var data struct {
		Alerts []struct {
			Labels map[string]string
			State  string
		}
	}
	must(t, s.get(t, "/api/v1/alerts", nil, &data))
	for _, a := range data.Alerts {
		if a.Labels["alertname"] == name && a.Labels["instance"] == instance {
			return a.State
		}
	}
	return ""
}

// samples counts the numbers that an expression has had since a time; NaN is none.
func (s *server) samples(t *testing.T, expr string, since time.Time) (n int, err error) {
	t.Helper()
	var data struct {
		Result []struct{ Values [][2]any }
	}
	stamp := func(at time.Time) string { return strconv.FormatFloat(float64(at.UnixMilli())/1000, 'f', 3, 64) }
	if err := s.get(t, "/api/v1/query_range", url.Values{"query": {expr}, "start": {stamp(since)}, "end": {stamp(time.Now())}, "step": {"1"}}, &data); err != nil {
		return 0, err
	}
	for _, series := range data.Result {
		for _, v := range series.Values {
			if v[1] != "NaN" {
				n++
			}
		}
	}
	return n, nil
}
