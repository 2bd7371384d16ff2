package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/multiraftd/multiraftd/client/clienttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ctl runs mrctl against a cluster.
type ctl struct {
	*testing.T
	cluster *clienttest.Cluster
}

type result struct {
	code           int
	stdout, stderr string
}

func start(t *testing.T, nodes int) *ctl {
	t.Helper()
	cluster, err := clienttest.Start(nodes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return &ctl{t, cluster}
}

func (c *ctl) run(stdin io.Reader, args ...string) result {
	var out, err bytes.Buffer
	code := run(c.Context(), append([]string{"--addr", strings.Join(c.cluster.Addrs(), ",")}, args...), stdin, &out, &err)
	return result{code, out.String(), err.String()}
}

// must runs mrctl, wants exit 0, and returns its stdout.
func (c *ctl) must(stdin string, args ...string) string {
	c.Helper()
	r := c.run(strings.NewReader(stdin), args...)
	if r.code != exitDone {
		c.Fatalf("mrctl %v exits with %d: %s", args, r.code, r.stderr)
	}
	return r.stdout
}

func TestLinesComeBackByteForByte(t *testing.T) {
	c := start(t, 3)
	c.must("", "topic", "create", "t", "--partitions", "1", "--replicas", "3")
	long := strings.Repeat("x", 1_400_000)
	for _, in := range []string{"a\n\nb\r\n\x00\xff\n" + long + "\n\n", "last line without an end"} {
		r := c.run(strings.NewReader(in), "append", "t")
		if want := fmt.Sprintf("appended %d records\n", strings.Count(in, "\n")+btoi(!strings.HasSuffix(in, "\n"))); r.code != 0 || !strings.HasSuffix(r.stderr, want) || r.stdout != "" {
			t.Fatalf("append: %+v, want %q", r, want)
		}
	}
	want := "a\n\nb\r\n\x00\xff\n" + long + "\n\nlast line without an end\n"
	if got := c.must("", "read", "t", "--partition", "0", "--from", "start", "--to", "end"); got != want {
		t.Fatalf("read %d bytes, want %d", len(got), len(want))
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func numbers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintln(&b, i)
	}
	return b.String()
}

func TestAppendsKeepTheirOrderWhileAnswersAreLost(t *testing.T) {
	c := start(t, 3)
	c.cluster.CreateTopic("t", 3)
	calls := 0
	c.cluster.SetFault(func(clienttest.Call) clienttest.Fault {
		calls++
		return []clienttest.Fault{clienttest.None, clienttest.UnknownStored, clienttest.None, clienttest.BreakAfter}[calls%4]
	})
	in := numbers(5000)
	c.must(in, "append", "t", "--partition", "1", "--batch-bytes", "10000", "--rate", "1000000")
	c.cluster.SetFault(nil)
	if got := c.must("", "read", "t", "--partition", "1"); got != in {
		t.Fatalf("read back %d bytes of %d", len(got), len(in))
	}
	if got := c.must("", "read", "t"); got != in {
		t.Fatalf("all partitions: %d bytes of %d", len(got), len(in))
	}
}

func TestReceiptsNameEveryRecordOnce(t *testing.T) {
	c := start(t, 1)
	c.cluster.CreateTopic("t", 1)
	out := c.must(numbers(3000), "append", "t", "--receipt", "--batch-bytes", "5000")
	next := 0
	for line := range strings.Lines(out) {
		var partition, offset, count, term, index, fsynced int
		if n, err := fmt.Sscanf(line, "%d\t%d\t%d\t%d\t%d\t%d\n", &partition, &offset, &count, &term, &index, &fsynced); n != 6 || offset != next || fsynced != 2 {
			t.Fatalf("receipt %q at offset %d: %v", line, next, err)
		}
		next += count
	}
	if next != 3000 {
		t.Fatalf("receipts for %d records", next)
	}
	var j receiptLine
	if err := json.Unmarshal([]byte(c.must("x", "append", "t", "--receipt", "-o", "json")), &j); err != nil || j.Offset != 3000 || j.Count != 1 {
		t.Fatalf("%+v, %v", j, err)
	}
}

func TestKeysComeFromTheLineOrTheCommand(t *testing.T) {
	c := start(t, 1)
	c.cluster.CreateTopic("t", 1)
	c.must("k:v:w\nplain\n", "append", "t", "--key-separator", ":")
	c.must("x\n", "append", "t", "--key", "")
	want := "0\tk\tv:w\n1\t\tplain\n2\t\tx\n"
	if got := c.must("", "read", "t", "--print", "offset,key,value"); got != want {
		t.Errorf("got %q", got)
	}
	var got []map[string]any
	for line := range strings.Lines(c.must("", "read", "t", "-o", "json")) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		got = append(got, m)
	}
	if len(got) != 3 || got[0]["key"] != "k" || got[1]["key"] != nil || got[2]["key"] != "" {
		t.Errorf("json %v", got)
	}
}

func TestJSONIsSafeForBytesThatAreNotText(t *testing.T) {
	c := start(t, 1)
	c.cluster.CreateTopic("t", 1)
	c.must("\xff\x00\n", "append", "t")
	got := c.must("", "read", "t", "--print", "json")
	if !strings.Contains(got, `"value_base64":"/wA="`) || strings.Contains(got, `"value":`) {
		t.Errorf("got %s", got)
	}
}

func TestReadsStopAtMaxAndAtOffsets(t *testing.T) {
	c := start(t, 2)
	c.cluster.CreateTopic("t", 2)
	c.must(numbers(100), "append", "t", "--partition", "0")
	for want, args := range map[string][]string{
		"0\n1\n2\n":    {"--max", "3"},
		"50\n51\n":     {"--partition", "0", "--from", "50", "--to", "52"},
		"":             {"--from", "end"},
		"0\n1\n":       {"--follow", "--max", "2"},
		"98\n99\n":     {"--partition", "0", "--from", "98", "--follow", "--max", "2"},
		"0\t0\n1\t1\n": {"--from", "@2001-01-01T00:00:00Z", "--max", "2", "--print", "offset,value"},
	} {
		if got := c.must("", append([]string{"read", "t"}, args...)...); got != want {
			t.Errorf("read %v: %q, want %q", args, got, want)
		}
	}
}

func TestExitCodesSayWhatHappened(t *testing.T) {
	c := start(t, 2)
	c.cluster.CreateTopic("t", 1)
	for _, tt := range []struct {
		want int
		args []string
	}{
		{exitUsage, []string{}},
		{exitUsage, []string{"topic"}},
		{exitUsage, []string{"nonsense"}},
		{exitUsage, []string{"--nonsense"}},
		{exitUsage, []string{"topic", "create", "x"}},
		{exitUsage, []string{"topic", "list", "extra"}},
		{exitUsage, []string{"topic", "list", "-o", "xml"}},
		{exitUsage, []string{"append", "t", "--key", "a", "--key-separator", ":"}},
		{exitUsage, []string{"append", "t", "--rate", "fast"}},
		{exitUsage, []string{"read", "t", "--from", "yesterday"}},
		{exitUsage, []string{"read", "t", "--print", "colour"}},
		{exitUsage, []string{"group", "describe", "one"}},
		{exitUsage, []string{"topic", "list", "--addr", "nowhere"}},
		{exitFailed, []string{"topic", "describe", "nope"}},
		{exitFailed, []string{"append", "nope"}},
		{exitFailed, []string{"append", "t", "--partition", "7"}},
		{exitFailed, []string{"read", "t", "--partition", "7"}},
		{exitFailed, []string{"read", "t", "--from", "7"}},
		{exitFailed, []string{"topic", "create", "u", "--partitions", "1", "--replicas", "3"}},
		{exitUnreachable, []string{"topic", "list", "--timeout", "1s", "--addr", "127.0.0.1:1"}},
		{exitDone, []string{"cluster", "health"}},
		{exitDone, []string{"--help"}},
		{exitDone, []string{"completion", "bash"}},
		{exitDone, []string{"version"}},
	} {
		if r := c.run(strings.NewReader("x\n"), tt.args...); r.code != tt.want || r.code > 0 && r.stderr == "" {
			t.Errorf("mrctl %v: exit %d, want %d: %s", tt.args, r.code, tt.want, r.stderr)
		}
	}
	c.cluster.StopNode(2)
	if r := c.run(nil, "cluster", "health", "-o", "json"); r.code != exitNo || !strings.HasPrefix(r.stdout, `{"healthy":false,"reasons":[{"what":`) {
		t.Errorf("unhealthy: %+v", r)
	}
}

func TestAnAppendWhoseFateIsOpenExitsWith3(t *testing.T) {
	c := start(t, 1)
	c.cluster.CreateTopic("t", 1)
	c.cluster.SetFault(func(clienttest.Call) clienttest.Fault { return clienttest.UnknownLost })
	if r := c.run(strings.NewReader("x\n"), "append", "t", "--timeout", "1s"); r.code != exitUnknown || !strings.Contains(r.stderr, "appended 0 records") {
		t.Errorf("%+v", r)
	}
	c.cluster.SetFault(func(clienttest.Call) clienttest.Fault { return clienttest.NoLeader })
	if r := c.run(strings.NewReader("x\n"), "append", "t", "--timeout", "1s"); r.code != exitFailed {
		t.Errorf("%+v", r)
	}
}

func TestALineAboveTheLimitIsRefusedAfterThoseBeforeIt(t *testing.T) {
	c := start(t, 1)
	c.cluster.SetRecordBytesMax(1000)
	c.cluster.CreateTopic("t", 1)
	for _, size := range []int{1001, lineBufferBytes + 1, 3 * lineBufferBytes} {
		r := c.run(strings.NewReader("ok\n"+strings.Repeat("x", size)+"\nnever\n"), "append", "t")
		if r.code != exitFailed || !strings.Contains(r.stderr, "line 2") || !strings.Contains(r.stderr, "appended 1 records") {
			t.Errorf("%d bytes: %+v", size, r)
		}
	}
}

// closedPipe is a stdout whose reader has gone.
type closedPipe struct{}

func (closedPipe) Write([]byte) (int, error) { return 0, syscall.EPIPE }

func TestABrokenPipeEndsQuietly(t *testing.T) {
	c := start(t, 1)
	c.cluster.CreateTopic("t", 1)
	c.must(numbers(10), "append", "t")
	var stderr bytes.Buffer
	if code := run(t.Context(), []string{"--addr", c.cluster.Addrs()[0], "read", "t"}, nil, closedPipe{}, &stderr); code != exitDone || stderr.Len() > 0 {
		t.Errorf("exit %d: %s", code, stderr.String())
	}
}

func TestAnInterruptEndsAnAppendThatWaitsForInput(t *testing.T) {
	c := start(t, 1)
	c.cluster.CreateTopic("t", 1)
	ctx, cancel := context.WithCancel(t.Context())
	in, feed := io.Pipe()
	defer feed.Close()
	go func() {
		fmt.Fprintln(feed, "one")
		cancel()
	}()
	var out, stderr bytes.Buffer
	code := run(ctx, []string{"--addr", c.cluster.Addrs()[0], "append", "t"}, in, &out, &stderr)
	if code != exitFailed && code != exitUnknown {
		t.Errorf("exit %d: %s", code, stderr.String())
	}
}

func TestTablesAndJSONHaveTheirColumns(t *testing.T) {
	c := start(t, 3)
	c.must("", "topic", "create", "orders", "--partitions", "2", "--replicas", "3")
	for columns, args := range map[string]string{
		"NAME PARTITIONS REPLICAS":                                        "topic list",
		"PARTITION LEADER EPOCH REPLICAS LOG-START-OFFSET HIGH-WATERMARK": "topic describe orders",
		"ID CLIENT-ADDR PEER-ADDR RACK ALIVE LEADERS REPLICAS":            "node list",
		"Under-replicated groups (0): []":                                 "cluster status",
		"NODE REPLICA ROLE LEADER RAFT-TERM RAFT-INDEX":                   "group describe 1",
		"NODE QUIET MAILBOX VOTE":                                         "group describe 1",
		"2 2 true replicate 9 10 true false 0 none":                       "group describe 1",
		"9 2 appends 3 120 2023-11-14T22:13:20.000Z":                      "group describe 1",
	} {
		if out := strings.Join(strings.Fields(c.must("", strings.Fields(args)...)), " "); !strings.Contains(out, columns) {
			t.Errorf("mrctl %s: %s", args, out)
		}
	}
	var desc topicDescription
	if err := json.Unmarshal([]byte(c.must("", "topic", "describe", "orders", "-o", "json")), &desc); err != nil || len(desc.Partitions) != 2 || len(desc.Partitions[1].Replicas) != 3 {
		t.Errorf("describe: %+v, %v", desc, err)
	}
	for args, want := range map[string]string{
		"cluster status":  `"leaderless":[],"under_replicated":[]`,
		"node list":       `[{"id":1,"client_addr":"127.0.0.1:`,
		"topic list":      `[{"name":"orders","id":1,"partitions":2,"replicas":3,"retention_ms":0,"retention_bytes":0}]`,
		"cluster health":  `{"healthy":true,"reasons":[]}`,
		"group describe":  `"hash":"0000000000000abc"`,
		"group describe ": `{"replica":3,"node":3,"voter":true,"state":"replicate","match":9,"next":10,"active":true,"paused":false,"inflight":0,"pending_snapshot":0}`,
	} {
		fields := append(strings.Fields(args), "-o", "json")
		if strings.HasPrefix(args, "group describe") {
			fields = append(fields, "1")
		}
		if out := c.must("", fields...); !strings.Contains(out, want) {
			t.Errorf("mrctl %s: %s", args, out)
		}
	}
}
