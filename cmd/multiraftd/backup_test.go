//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/multiraftd/multiraftd/client"
	"github.com/multiraftd/multiraftd/deploy/localcluster"
	"github.com/multiraftd/multiraftd/proto/recordbatch"
)

// mrctl runs the command line against a cluster.
func mrctl(ctx context.Context, t *testing.T, c *localcluster.Cluster, args ...string) string {
	t.Helper()
	out, says, err := tryCtl(ctx, c, args...)
	if err != nil {
		t.Fatalf("mrctl %v: %v\n%s", args, err, says)
	}
	return out
}

func tryCtl(ctx context.Context, c *localcluster.Cluster, args ...string) (stdout, stderr string, err error) {
	var out, says strings.Builder
	cmd := c.Ctl(ctx, args...)
	cmd.Stdout, cmd.Stderr = &out, &says
	err = cmd.Run()
	return out.String(), says.String(), err
}

// allRecords is what a partition holds up to an offset, as JSON lines with offsets, times, keys, values and headers.
func allRecords(ctx context.Context, t *testing.T, c *localcluster.Cluster, topic string, partition int, to string) string {
	t.Helper()
	return mrctl(ctx, t, c, "read", topic, "--partition", fmt.Sprint(partition), "--from", "start", "--to", to, "--print", "json")
}

// everyKind appends records with and without keys, values and headers, at all sorts of times, in small batches.
func everyKind(ctx context.Context, t *testing.T, cl *client.Client, topic string, partitions, n int) {
	t.Helper()
	p, err := cl.NewProducer(ctx, topic, client.ProducerConfig{BatchBytes: 2000})
	must(t, err)
	for i := range n {
		batch, err := recordbatch.Encode(nil, recordbatch.None, []client.Record{
			{Key: fmt.Appendf(nil, "key %d", i), Value: fmt.Appendf(nil, "value %d", i), TimestampMillis: int64(1_600_000_000_000 + i)},
			{Key: []byte{}, Value: nil, TimestampMillis: 0},
			{Value: []byte{0xff, 0, '\n'}, TimestampMillis: -1, Headers: []client.Header{{Key: "trace", Value: []byte{1, 2}}, {Key: "trace"}}},
		})
		must(t, err)
		_, err = p.AppendBatch(ctx, i%partitions, batch)
		must(t, err)
	}
	must(t, p.Close(ctx))
}

// bulk appends records of 1000 bytes to a topic of two partitions.
func bulk(ctx context.Context, t *testing.T, c *localcluster.Cluster, topic string, records int) {
	t.Helper()
	bench := c.Command(ctx, "mrbench", "append", "--addr", c.Addr(), "--topic", topic, "--partitions", "2", "--records", fmt.Sprint(records), "--size", "1000")
	if out, err := bench.CombinedOutput(); err != nil {
		t.Fatalf("mrbench: %v\n%s", err, out)
	}
}

// killLeaders kills whoever leads a partition, again and again, until stopped, and starts it again. It counts those that
// were dead before the stop.
func killLeaders(ctx context.Context, t *testing.T, c *localcluster.Cluster, topic string, stop <-chan struct{}) (kills int) {
	t.Helper()
	for {
		leader := leaderOf(ctx, t, c, topic)
		_, err := c.Kill(leader)
		must(t, err)
		select {
		case <-stop:
		default:
			kills++
		}
		must(t, c.Start(leader))
		must(t, c.Healthy(ctx))
		select {
		case <-stop:
			return kills
		default:
		}
	}
}

// during runs mrctl while leaders are killed, and returns how many were.
func during(ctx context.Context, t *testing.T, c *localcluster.Cluster, topic string, args ...string) int {
	t.Helper()
	done := make(chan struct{})
	var says string
	var err error
	go func() {
		defer close(done)
		_, says, err = tryCtl(ctx, c, args...)
	}()
	kills := killLeaders(ctx, t, c, topic, done)
	if err != nil {
		t.Fatalf("mrctl %v: %v\n%s", args, err, says)
	}
	t.Logf("mrctl %s: %d leaders were killed; %s", args[0], kills, says[strings.LastIndex(strings.TrimSpace(says), "\n")+1:])
	return kills
}

func TestABackupUnderLoadAndWithoutLeadersComesBackByteForByteInAnotherCluster(t *testing.T) {
	const partitions = 3
	from, ctx := startCluster(t)
	to, _ := startCluster(t)
	cl := connect(t, from)
	mustCreate(t, ctx, cl, "kinds", partitions)
	mustCreate(t, ctx, cl, "load", 1)
	mustCreate(t, ctx, cl, "bulk", 2)
	everyKind(ctx, t, cl, "kinds", partitions, 600)
	bulk(ctx, t, from, "bulk", 200_000)
	l := startLoad(ctx, t, cl, "load")
	l.waitFor(ctx, t, 500)

	dir := filepath.Join(t.TempDir(), "backup")
	if during(ctx, t, from, "load", "backup", dir) == 0 {
		t.Error("no leader was killed before the backup had come to its end")
	}
	l.waitFor(ctx, t, 500)
	during(ctx, t, from, "load", "backup", dir, "--incremental")
	mrctl(ctx, t, from, "backup", "verify", dir)
	l.end(t)

	during(ctx, t, to, "kinds2", "restore", dir, "--topic", "kinds", "--as", "kinds2")
	if during(ctx, t, to, "kinds2", "restore", dir) == 0 {
		t.Error("no leader was killed before the restore had come to its end")
	}
	for topic, n := range map[string]int{"kinds": partitions, "bulk": 2, "load": 1} {
		for p := range n {
			got := allRecords(ctx, t, to, topic, p, "end")
			end := fmt.Sprint(strings.Count(got, "\n")) // the load went on after the backup
			if want := allRecords(ctx, t, from, topic, p, end); got != want || got == "" {
				t.Errorf("%s/%d: %d bytes of records came back as %d", topic, p, len(want), len(got))
			}
			if topic == "kinds" && got != allRecords(ctx, t, from, topic, p, "end") {
				t.Errorf("%s/%d: something was appended after it was complete, and is not in the backup", topic, p)
			}
		}
	}
	if out := mrctl(ctx, t, to, "restore", dir, "-o", "json"); strings.Count(out, `"records":0,`) != 3 {
		t.Errorf("restored again: %s", out)
	}
}

func TestARestoreThatIsKilledGoesOnWithTheSameCommand(t *testing.T) {
	c, ctx := startCluster(t)
	cl := connect(t, c)
	mustCreate(t, ctx, cl, "t", 2)
	everyKind(ctx, t, cl, "t", 2, 1000)
	bulk(ctx, t, c, "t", 150_000)
	dir := filepath.Join(t.TempDir(), "backup")
	mrctl(ctx, t, c, "backup", dir)
	args := []string{"restore", dir, "--topic", "t", "--as", "again"}
	for _, signal := range []os.Signal{syscall.SIGKILL, syscall.SIGINT} {
		cmd := c.Ctl(ctx, args...)
		must(t, cmd.Start())
		before := heldBy(ctx, cl, "again")
		until(ctx, t, "more of the restored topic is there", func() bool { return heldBy(ctx, cl, "again") > before })
		must(t, cmd.Process.Signal(signal))
		err := cmd.Wait()
		t.Logf("%v after %d of 153000 records: %v", signal, heldBy(ctx, cl, "again"), err)
		if err == nil {
			t.Error("it was not interrupted: it had come to its end")
		}
	}
	mrctl(ctx, t, c, args...)
	for p := range 2 {
		if want, got := allRecords(ctx, t, c, "t", p, "end"), allRecords(ctx, t, c, "again", p, "end"); got != want || got == "" {
			t.Errorf("partition %d: %d bytes of records came back as %d", p, len(want), len(got))
		}
	}
}

// heldBy is how many records a topic has; 0 when there is none.
func heldBy(ctx context.Context, cl *client.Client, topic string) (n int64) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	desc, err := cl.Describe(ctx, topic, true)
	if err != nil {
		return 0
	}
	for _, p := range desc.GetPartitions() {
		n += max(0, p.GetHighWatermark())
	}
	return n
}

func TestABackupToAFullDiskLeavesNothingThatLooksWhole(t *testing.T) {
	disk := smallDisk(t, 20)
	c, ctx := startCluster(t)
	cl := connect(t, c)
	mustCreate(t, ctx, cl, "small", 1)
	everyKind(ctx, t, cl, "small", 1, 100)
	dir := filepath.Join(disk, "backup")
	mrctl(ctx, t, c, "backup", dir)
	mustCreate(t, ctx, cl, "large", 1)
	fill(ctx, t, cl, "large", 30)
	for _, args := range [][]string{{"backup", dir + "2"}, {"backup", dir, "--incremental"}} {
		_, says, err := tryCtl(ctx, c, args...)
		if err == nil || !strings.Contains(says, "no space left on device") || !strings.Contains(says, args[1]+" is as it was before") {
			t.Errorf("mrctl %v: %v: %s", args, err, says)
		}
	}
	if _, err := os.Stat(dir + "2"); err == nil {
		t.Error("the folder is still there")
	}
	if out := mrctl(ctx, t, c, "backup", "verify", dir); !strings.Contains(out, "small") || strings.Contains(out, "large") {
		t.Errorf("the older backup is now\n%s", out)
	}
}
