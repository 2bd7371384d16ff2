package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/multiraftd/multiraftd/client"
	"github.com/multiraftd/multiraftd/deploy/localcluster"
)

// bin is where the binaries are that the end-to-end tests run. Built once, by the first of them: a fuzz target
// starts this process over and over.
var bin string

var buildBinaries = sync.OnceValue(func() (err error) {
	if bin, err = os.MkdirTemp("", "multiraftd-e2e-"); err != nil {
		return err
	}
	build := exec.Command("go", "build", "-o", bin+"/", "../multiraftd", "../mrctl", "../mrbench")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building the binaries: %w\n%s", err, out)
	}
	return nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if bin != "" {
		if err := os.RemoveAll(bin); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// e2eTimeout bounds each test's waiting: it ends what hangs, it is no measure of speed.
const e2eTimeout = 3 * time.Minute

func startCluster(t *testing.T, flags ...string) (*localcluster.Cluster, context.Context) {
	t.Helper()
	must(t, buildBinaries())
	ctx, cancel := context.WithTimeout(t.Context(), e2eTimeout)
	t.Cleanup(cancel)
	c, err := localcluster.New(localcluster.Config{Bin: bin, Dir: t.TempDir(), Flags: flags})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	must(t, c.StartAll())
	must(t, c.Healthy(ctx))
	return c, ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func connect(t *testing.T, c *localcluster.Cluster) *client.Client {
	t.Helper()
	cl, err := client.Open(client.Config{Addrs: strings.Split(c.Addr(), ",")})
	must(t, err)
	t.Cleanup(func() { must(t, cl.Close()) })
	return cl
}

func mustCreate(t *testing.T, ctx context.Context, cl *client.Client, name string, partitions uint32) {
	t.Helper()
	_, ready, err := cl.CreateTopic(ctx, name, partitions, 3)
	if err != nil || !ready {
		t.Fatalf("creating %s: ready %v, %v", name, ready, err)
	}
}

// load appends numbered records to partition 0 until stopped, and notes how many were acknowledged.
type load struct {
	mu    sync.Mutex
	acked int
	wg    sync.WaitGroup
	stop  chan struct{}
	err   error
}

func startLoad(ctx context.Context, t *testing.T, cl *client.Client, topic string) *load {
	t.Helper()
	l := &load{stop: make(chan struct{})}
	p, err := cl.NewProducer(ctx, topic, client.ProducerConfig{BatchBytes: 4096, BufferBytes: 256 << 10, OnAck: func(a client.Ack) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if a.Err == nil {
			l.acked += a.Records
		}
	}})
	must(t, err)
	l.wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-l.stop:
				l.err = p.Close(ctx)
				return
			default:
			}
			if _, err := p.Append(ctx, 0, client.Record{Value: fmt.Appendf(nil, "record %d", i)}); err != nil {
				l.err = errors.Join(err, p.Close(ctx))
				return
			}
		}
	})
	return l
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acked
}

// waitFor waits until n more records than now are acknowledged.
func (l *load) waitFor(ctx context.Context, t *testing.T, n int) {
	t.Helper()
	want := l.count() + n
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for l.count() < want {
		select {
		case <-ctx.Done():
			t.Fatalf("%d of %d records acknowledged when the time was over", l.count(), want)
		case <-tick.C:
		}
	}
}

func (l *load) end(t *testing.T) int {
	t.Helper()
	close(l.stop)
	l.wg.Wait()
	must(t, l.err)
	return l.count()
}

// wantRecords reads partition 0 and wants exactly the first n records, in order.
func wantRecords(ctx context.Context, t *testing.T, cl *client.Client, topic string, n int) {
	t.Helper()
	r, err := cl.NewReader(ctx, topic, client.ReadConfig{})
	must(t, err)
	defer r.Close()
	for i := 0; ; i++ {
		rec, err := r.Next(ctx)
		if errors.Is(err, io.EOF) {
			if i != n {
				t.Fatalf("%d records, want %d", i, n)
			}
			return
		}
		must(t, err)
		if want := fmt.Sprintf("record %d", i); string(rec.Value) != want || rec.Offset != int64(i) {
			t.Fatalf("at offset %d: %q, want %q at %d", rec.Offset, rec.Value, want, i)
		}
	}
}

func TestEverythingAcknowledgedIsThereAfterAllNodesAreKilledAtOnce(t *testing.T) {
	c, ctx := startCluster(t)
	cl := connect(t, c)
	mustCreate(t, ctx, cl, "t", 1)
	l := startLoad(ctx, t, cl, "t")
	const rounds = 10
	for range rounds {
		l.waitFor(ctx, t, 500)
		for id := 1; id <= 3; id++ {
			_, err := c.Kill(id)
			must(t, err)
		}
		must(t, c.StartAll())
	}
	l.waitFor(ctx, t, 500)
	wantRecords(ctx, t, cl, "t", l.end(t))
}

func TestKillingTheLeaderLosesAndDoublesNothing(t *testing.T) {
	c, ctx := startCluster(t)
	cl := connect(t, c)
	mustCreate(t, ctx, cl, "t", 1)
	l := startLoad(ctx, t, cl, "t")
	for range 4 {
		l.waitFor(ctx, t, 500)
		leader := leaderOf(ctx, t, c, "t")
		_, err := c.Kill(leader)
		must(t, err)
		l.waitFor(ctx, t, 500)
		must(t, c.Start(leader))
	}
	wantRecords(ctx, t, cl, "t", l.end(t))
}

// leaderOf waits until the partition has a leader.
func leaderOf(ctx context.Context, t *testing.T, c *localcluster.Cluster, topic string) int {
	t.Helper()
	for {
		leader, _, err := c.Leader(ctx, topic, 0)
		if err == nil && leader != 0 {
			return leader
		}
		if ctx.Err() != nil {
			t.Fatalf("no leader: %v", err)
		}
	}
}

func TestTopicsCreatedWhileTheMetadataLeaderIsKilledExistOnceOrNotAtAll(t *testing.T) {
	c, ctx := startCluster(t)
	cl := connect(t, c)
	var mu sync.Mutex
	created := map[string]uint64{}
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			name := fmt.Sprintf("topic-%d", i)
			id, _, err := cl.CreateTopic(ctx, name, 1, 3)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			created[name] = id
		})
		if i == 4 {
			st, err := cl.ClusterStatus(ctx)
			must(t, err)
			leader := int(st.GetMetadataLeader())
			_, err = c.Kill(leader)
			must(t, err)
			defer func() { must(t, c.Start(leader)) }()
		}
	}
	wg.Wait()
	topics, err := cl.ListTopics(ctx)
	must(t, err)
	if len(topics) != len(created) {
		t.Fatalf("%d topics, %d were created", len(topics), len(created))
	}
	for _, topic := range topics {
		if created[topic.GetName()] != topic.GetTopicId() {
			t.Errorf("%s has id %d, but the answer said %d", topic.GetName(), topic.GetTopicId(), created[topic.GetName()])
		}
	}
}

func TestWipedNodesFindNoSecondClusterAndNothingIsLost(t *testing.T) {
	c, ctx := startCluster(t)
	cl := connect(t, c)
	mustCreate(t, ctx, cl, "t", 1)
	l := startLoad(ctx, t, cl, "t")
	l.waitFor(ctx, t, 500)
	n := l.end(t)
	before, err := cl.ClusterStatus(ctx)
	must(t, err)

	wipe(t, c, 3)
	if out := endOf(ctx, t, c, 3); !strings.Contains(out, before.GetClusterId()) || !strings.Contains(out, "wiped") && !strings.Contains(out, "lost its data") {
		t.Fatalf("node 3 says:\n%s", out)
	}
	wantRecords(ctx, t, cl, "t", n)

	// The second one wiped as well: no majority has the data, so nothing may be served, and nothing founded.
	wipe(t, c, 2)
	if out := endOf(ctx, t, c, 2); !strings.Contains(out, before.GetClusterId()) {
		t.Fatalf("node 2 says:\n%s", out)
	}
}

// wipe kills a node, empties its data directory and starts it with the same line.
func wipe(t *testing.T, c *localcluster.Cluster, id int) {
	t.Helper()
	_, err := c.Kill(id)
	must(t, err)
	must(t, os.RemoveAll(c.DataDir(id)))
	must(t, c.Start(id))
}

// endOf waits until a node has ended with exit code 3, and returns the end of its log.
func endOf(ctx context.Context, t *testing.T, c *localcluster.Cluster, id int) string {
	t.Helper()
	code, err := c.Wait(ctx, id)
	must(t, err)
	if code != exitData {
		t.Fatalf("node %d ended with %d, want %d:\n%s", id, code, exitData, c.Tail(id))
	}
	return c.Tail(id)
}

func TestARefusedStartSaysWhyAndChangesNothing(t *testing.T) {
	c, ctx := startCluster(t)
	dir := func(name string) string { return filepath.Join(t.TempDir(), name) }
	foreign := dir("foreign")
	must(t, os.MkdirAll(foreign, 0o755))
	must(t, os.WriteFile(filepath.Join(foreign, "letter.txt"), []byte("dear all"), 0o644))
	config := filepath.Join(t.TempDir(), "config.yaml")
	must(t, os.WriteFile(config, []byte("data-dri: /tmp/x\n"), 0o644))
	addrs := []string{"--client-addr", "127.0.0.1:0", "--peer-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"}
	must(t, killed(c, 2))
	for _, tc := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"an unknown flag", []string{"start", "--data-dri", "x"}, exitUsage, "unknown flag: --data-dri"},
		{"an unknown command", []string{"strat"}, exitUsage, `unknown command "strat"`},
		{"an unknown config key", append([]string{"start", "--config", config, "--data-dir", dir("a")}, addrs...), exitUsage, `unknown key "data-dri"`},
		{"an empty directory without bootstrap", append([]string{"start", "--data-dir", dir("b")}, addrs...), exitUsage, "--bootstrap"},
		{"an id that bootstrap does not list", append([]string{"start", "--data-dir", dir("c"), "--node-id", "4", "--bootstrap", "1=127.0.0.1:1"}, addrs...), exitUsage, "--node-id 4 is not in --bootstrap"},
		{"a bootstrap that does not parse", append([]string{"start", "--data-dir", dir("d"), "--node-id", "1", "--bootstrap", "one"}, addrs...), exitUsage, "want ID=host:port"},
		{"a peer address beyond loopback", []string{"start", "--data-dir", dir("e"), "--client-addr", "127.0.0.1:0", "--peer-addr", "0.0.0.0:0"}, exitUsage, "--insecure"},
		{"a directory of something else", append([]string{"start", "--data-dir", foreign}, addrs...), exitData, "letter.txt"},
		{"the directory of another node", append([]string{"start", "--data-dir", c.DataDir(2), "--node-id", "3"}, addrs...), exitData, "belongs to node 2"},
		{"another bootstrap set", append([]string{"start", "--data-dir", c.DataDir(2), "--node-id", "2", "--bootstrap", "2=127.0.0.1:0"}, addrs...), exitData, "was founded with"},
		{"a directory in use", append([]string{"start", "--data-dir", c.DataDir(1)}, addrs...), exitData, "in use"},
		{"a port in use", []string{"start", "--data-dir", c.DataDir(2), "--client-addr", c.ClientAddr(1), "--peer-addr", "127.0.0.1:0"}, exitFailed, "address already in use"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, err := exec.CommandContext(ctx, filepath.Join(bin, "multiraftd"), tc.args...).CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != tc.code || !strings.Contains(string(out), tc.says) {
				t.Fatalf("exit %v, want %d and %q in:\n%s", err, tc.code, tc.says, out)
			}
		})
	}
	must(t, c.Start(2)) // nothing in its directory was changed
	must(t, c.Healthy(ctx))
}

func killed(c *localcluster.Cluster, id int) error {
	_, err := c.Kill(id)
	return err
}
