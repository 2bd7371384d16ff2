package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/multiraftd/multiraftd/client/clienttest"
	"github.com/multiraftd/multiraftd/node"
)

func TestATraceIsDrawnAsATreeWithTheTimeOfEachSpan(t *testing.T) {
	tree := &traceTree{ID: strings.Repeat("ab", 16), Spans: []traceSpan{
		{ID: "5", Parent: "1", Name: "commit", Process: "node 1", Start: 1_000, Duration: 500_000, Attributes: map[string]any{"multiraft.quorum": "1,3"}},
		{ID: "1", Parent: "ff", Name: "append receive", Process: "node 1", Start: 0, Duration: 1_000_000},
		{ID: "2", Parent: "1", Name: "replicate", Process: "node 1", Start: 500_000, Duration: 500_000, Failure: "not acknowledged in time"},
		{ID: "3", Parent: "2", Name: "log write", Process: "node 12", Start: 600_000, Duration: 100, Links: []traceLink{{strings.Repeat("cd", 16), "1"}}},
		{ID: "4", Parent: "2", Name: "answer", Process: "node 12", Start: 700_000, Duration: -5},
		{ID: "8", Parent: "9", Name: "circle", Process: "node 1", Start: 700_000, Duration: 1},
		{ID: "9", Parent: "8", Name: "circle", Process: "node 1", Start: 700_000, Duration: 1},
	}}
	tree.sort()
	var out bytes.Buffer
	if err := tree.draw(&out, 20); err != nil {
		t.Fatal(err)
	}
	want := `trace abababababababababababababababab: 1ms, 7 spans, node 1, node 12
began 1970-01-01T00:00:00Z
append receive  node 1     1ms |████████████████████|
├ commit        node 1   500µs |██████████          | quorum=1,3
└ replicate     node 1   500µs |          ██████████| FAILED: not acknowledged in time
  ├ log write   node 12  100ns |            ▏       | see trace cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd
  └ answer      node 12   -5ns |              ▏     |
circle          node 1     1ns |              ▏     |
└ circle        node 1     1ns |              ▏     |
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &out, want)
	}
}

func TestATracedAppendIsFoundOnTheNodesThatRememberIt(t *testing.T) {
	alone, err := node.ParseBootstrap("1=127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n, err := node.Start(t.Context(), node.Config{ID: 1, DataDir: t.TempDir(), ClientAddr: "127.0.0.1:0", PeerAddr: "127.0.0.1:0", Bootstrap: alone})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if err := n.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctl := func(stdin string, args ...string) result {
		var out, errs bytes.Buffer
		code := run(t.Context(), append([]string{"--addr", n.ClientAddr()}, args...), strings.NewReader(stdin), &out, &errs)
		return result{code, out.String(), errs.String()}
	}
	if r := ctl("", "topic", "create", "t", "--partitions", "1", "--replicas", "1"); r.code != exitDone {
		t.Fatal(r)
	}
	if r := ctl("v\n", "append", "t"); strings.Contains(r.stderr, "trace") {
		t.Errorf("traced without --trace: %+v", r)
	}
	r := ctl("v\n", "append", "t", "--trace")
	id := regexp.MustCompile(`(?m)^trace ([0-9a-f]{32})$`).FindStringSubmatch(r.stderr)
	if r.code != exitDone || id == nil || r.stdout != "" {
		t.Fatalf("%+v", r)
	}
	r = ctl("", "trace", strings.ToUpper(id[1]))
	for _, name := range []string{"append receive", "mailbox wait", "log write", "fsync", "commit", "quorum=1", "node 1"} {
		if !strings.Contains(r.stdout, name) {
			t.Errorf("no %q in\n%s", name, r.stdout)
		}
	}
	var tree traceTree
	if r = ctl("", "trace", id[1], "-o", "json"); json.Unmarshal([]byte(r.stdout), &tree) != nil || tree.ID != id[1] || len(tree.Spans) < 9 {
		t.Errorf("as JSON %+v", r)
	}
	for _, c := range []struct {
		id   string
		code int
	}{{strings.Repeat("1", 32), exitFailed}, {"abc", exitUsage}, {strings.Repeat("0", 32), exitUsage}} {
		if r := ctl("", "trace", c.id); r.code != c.code || r.stdout != "" || r.stderr == "" {
			t.Errorf("trace %s: %+v, want exit %d", c.id, r, c.code)
		}
	}
}

func TestOnlyTheFirstBatchesOfACommandAreTraced(t *testing.T) {
	c := start(t, 1)
	c.must("", "topic", "create", "t", "--partitions", "1", "--replicas", "1")
	r := c.run(strings.NewReader(strings.Repeat("x\n", 200)), "append", "t", "--trace", "--batch-bytes", "70")
	if n := strings.Count(r.stderr, "trace "); r.code != exitDone || n != tracesMax {
		t.Errorf("%d traces, want %d: %+v", n, tracesMax, r)
	}
	if r := c.run(strings.NewReader(""), "append", "t", "--otlp-endpoint", "h:1"); r.code != exitUsage {
		t.Errorf("--otlp-endpoint without --trace: %+v", r)
	}
	if r := c.run(strings.NewReader(""), "append", "t", "--trace", "--otlp-endpoint", "nowhere"); r.code != exitUsage {
		t.Errorf("an endpoint without a port: %+v", r)
	}
}

func TestATraceComesFromJaegerWithItsClientsSpans(t *testing.T) {
	id := strings.Repeat("ab", 16)
	jaeger := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/base/api/traces/" + id:
			w.Write([]byte(`{"data":[{"spans":[
				{"spanID":"2","operationName":"append receive","references":[{"refType":"CHILD_OF","traceID":"` + id + `","spanID":"1"},{"refType":"FOLLOWS_FROM","traceID":"ee","spanID":"7"}],
				 "startTime":1500,"duration":1000,"processID":"p2","tags":[{"key":"multiraft.offset","value":7},{"key":"otel.status_description","value":"broken"}]},
				{"spanID":"1","operationName":"append","references":[],"startTime":1000,"duration":2000,"processID":"p1","tags":[]}],
				"processes":{"p1":{"serviceName":"mrctl","tags":[]},"p2":{"serviceName":"multiraftd","tags":[{"key":"multiraft.node","value":3}]}}}]}`))
		case "/base/api/traces/" + strings.Repeat("1", 32):
			http.NotFound(w, r)
		default:
			http.Error(w, "busy", http.StatusServiceUnavailable)
		}
	}))
	defer jaeger.Close()
	defer http.DefaultClient.CloseIdleConnections()
	c := &ctl{t, &clienttest.Cluster{}}
	ask := func(id string) result {
		var out, errs bytes.Buffer
		code := run(c.Context(), []string{"--addr", "127.0.0.1:1", "trace", id, "--jaeger", jaeger.URL + "/base"}, strings.NewReader(""), &out, &errs)
		return result{code, out.String(), errs.String()}
	}
	r := ask(id)
	for _, want := range []string{"2 spans, mrctl, node 3", "append            mrctl", "└ append receive  node 3", "offset=7 see trace ee FAILED: broken"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("no %q in\n%s%s", want, r.stdout, r.stderr)
		}
	}
	for _, id := range []string{strings.Repeat("1", 32), strings.Repeat("2", 32)} {
		if r := ask(id); r.code != exitFailed || r.stdout != "" {
			t.Errorf("%+v", r)
		}
	}
}
