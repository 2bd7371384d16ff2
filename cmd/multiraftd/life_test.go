package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/multiraftd/multiraftd/client"
	"github.com/multiraftd/multiraftd/deploy/localcluster"
)

// lifeCluster is three nodes and room for more that join.
func lifeCluster(t *testing.T, joiners int, flags ...string) (*localcluster.Cluster, context.Context) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), e2eTimeout)
	t.Cleanup(cancel)
	c, err := localcluster.New(localcluster.Config{Bin: bin, Dir: t.TempDir(), Joiners: joiners, Flags: flags})
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	must(t, c.StartAll())
	must(t, c.Healthy(ctx))
	for id := 4; id < 4+joiners; id++ {
		must(t, c.Start(id))
		waitLog(ctx, t, c, id, fmt.Sprintf("as node %d", id))
	}
	return c, ctx
}

// poll asks until the answer is yes.
func poll(ctx context.Context, t *testing.T, what string, yes func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !yes() {
		select {
		case <-ctx.Done():
			t.Fatalf("not in time: %s", what)
		case <-tick.C:
		}
	}
}

func waitLog(ctx context.Context, t *testing.T, c *localcluster.Cluster, id int, what string) {
	t.Helper()
	poll(ctx, t, fmt.Sprintf("%q in the log of node %d:\n%s", what, id, c.Tail(id)), func() bool { return strings.Contains(c.Tail(id), what) })
}

// ctl runs mrctl, which must succeed, and returns what it says on stdout and stderr.
func ctl(ctx context.Context, t *testing.T, c *localcluster.Cluster, args ...string) string {
	t.Helper()
	out, err := c.Ctl(ctx, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("mrctl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// refusedCtl runs mrctl, which must end with a code, and returns what it says.
func refusedCtl(ctx context.Context, t *testing.T, c *localcluster.Cluster, code int, args ...string) string {
	t.Helper()
	out, err := c.Ctl(ctx, args...).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != code {
		t.Fatalf("mrctl %s: %v, want exit %d\n%s", strings.Join(args, " "), err, code, out)
	}
	return string(out)
}

// replicas returns the nodes of every partition of a topic.
func replicas(ctx context.Context, t *testing.T, c *localcluster.Cluster, topic string) (all [][]int) {
	t.Helper()
	out, err := c.Ctl(ctx, "topic", "describe", topic, "-o", "json").Output()
	must(t, err)
	var d struct{ Partitions []struct{ Replicas []int } }
	must(t, json.Unmarshal(out, &d))
	for _, p := range d.Partitions {
		all = append(all, p.Replicas)
	}
	return all
}

func metadataLeader(ctx context.Context, t *testing.T, cl *client.Client) int {
	t.Helper()
	var leader int
	poll(ctx, t, "a metadata leader", func() bool {
		st, err := cl.ClusterStatus(ctx)
		leader = int(st.GetMetadataLeader())
		return err == nil && leader != 0
	})
	return leader
}

func TestANodeJoinsTakesAPartitionAndADrainedNodeMayStop(t *testing.T) {
	c, ctx := lifeCluster(t, 1)
	cl := connect(t, c)
	mustCreate(t, ctx, cl, "t", 4)
	l := startLoad(ctx, t, cl, "t")
	l.waitFor(ctx, t, 500)
	said := ctl(ctx, t, c, "partition", "move", "t", "0", "--to", "2,3,4")
	if !strings.Contains(said, "MOVED") || !strings.Contains(said, "t/0: on nodes [2 3 4]") {
		t.Fatalf("mrctl says\n%s", said)
	}
	for _, stage := range []string{"msg=learner ", "learner -> caught up", "learner -> caught up -> voter"} {
		waitLog(ctx, t, c, 4, stage)
	}
	refusedCtl(ctx, t, c, 1, "partition", "move", "t", "0", "--to", "2,3,77")
	refusedCtl(ctx, t, c, 1, "node", "remove", "1")
	ctl(ctx, t, c, "partition", "transfer-leader", "t", "0", "--to", "4")
	if leader := leaderOf(ctx, t, c, "t"); leader != 4 {
		t.Fatalf("node %d leads", leader)
	}
	said = ctl(ctx, t, c, "node", "drain", "1")
	if !strings.Contains(said, "nothing is left on it") || !strings.Contains(said, "DRAINED") {
		t.Fatalf("mrctl says\n%s", said)
	}
	for p, nodes := range replicas(ctx, t, c, "t") {
		if slices.Contains(nodes, 1) {
			t.Errorf("partition %d is still on %v", p, nodes)
		}
	}
	ctl(ctx, t, c, "node", "can-stop", "1")
	must(t, killed(c, 1))
	l.waitFor(ctx, t, 500)
	wantRecords(ctx, t, cl, "t", l.end(t))
	ctl(ctx, t, c, "node", "remove", "1")
	must(t, c.Healthy(ctx))
	// Its data directory still says node 1: it is told what to do.
	must(t, c.Start(1))
	if says := endOf(ctx, t, c, 1); !strings.Contains(says, "was removed") || !strings.Contains(says, "--join") {
		t.Fatalf("node 1 says\n%s", says)
	}
}

func TestTheControllerGoesOnAfterItsNodeIsKilledInTheMiddleOfAMoveAndOfADrain(t *testing.T) {
	c, ctx := lifeCluster(t, 2)
	cl := connect(t, c)
	mustCreate(t, ctx, cl, "t", 12)
	poll(ctx, t, "five voters of the metadata group", func() bool {
		out, err := c.Ctl(ctx, "group", "describe", "1", "-o", "json").Output()
		return err == nil && bytes.Contains(out, []byte(`"voters":[1,2,3,4,5]`))
	})
	l := startLoad(ctx, t, cl, "t")
	l.waitFor(ctx, t, 2000)
	for round, args := range [][]string{
		{"partition", "move", "t", "0", "--to", "1,2,3"}, {"partition", "move", "t", "0", "--to", "3,4,5"},
		{"node", "drain", "5"},
	} {
		controller := metadataLeader(ctx, t, cl)
		if args[0] == "node" && controller == 5 {
			ctl(ctx, t, c, "node", "drain", "5", "--cancel")
			args[2] = "4"
		}
		cmd := c.Ctl(ctx, append(args, "--timeout", "60s")...)
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &said, &said
		must(t, cmd.Start())
		l.waitFor(ctx, t, 20) // it is under way
		must(t, killed(c, controller))
		if err := cmd.Wait(); err != nil {
			t.Fatalf("round %d, controller %d killed: mrctl %v: %v\n%s", round, controller, args, err, said.String())
		}
		l.waitFor(ctx, t, 200)
		must(t, c.Start(controller))
		must(t, c.Healthy(ctx))
	}
	wantRecords(ctx, t, cl, "t", l.end(t))
}

func TestADeadNodeIsReplacedWithoutAnOperatorAndMayComeBack(t *testing.T) {
	c, ctx := lifeCluster(t, 1, "--replace-after", "2s")
	cl := connect(t, c)
	mustCreate(t, ctx, cl, "t", 6)
	l := startLoad(ctx, t, cl, "t")
	l.waitFor(ctx, t, 500)
	begin := time.Now()
	must(t, killed(c, 3))
	poll(ctx, t, "node 3 is shown as dead", func() bool {
		st, err := cl.ClusterStatus(ctx)
		return err == nil && !st.GetNodes()[2].GetAlive()
	})
	t.Logf("shown as dead after %v", time.Since(begin))
	poll(ctx, t, "all replicas are elsewhere", func() bool {
		return !slices.ContainsFunc(replicas(ctx, t, c, "t"), func(nodes []int) bool { return slices.Contains(nodes, 3) || len(nodes) != 3 })
	})
	t.Logf("replaced after %v", time.Since(begin))
	must(t, c.Start(3)) // it deletes what was given to others, and is of use again
	must(t, c.Healthy(ctx))
	// The members are the new ones a moment before the controller has recorded that: until then the group is on its way.
	poll(ctx, t, "the replacement is settled, and the partition goes back", func() bool {
		said, err := c.Ctl(ctx, "partition", "move", "t", "0", "--to", "1,2,3").CombinedOutput()
		if err != nil && !strings.Contains(string(said), "MOVE_UNDER_WAY") {
			t.Fatalf("%v: %s", err, said)
		}
		return err == nil
	})
	wantRecords(ctx, t, cl, "t", l.end(t))
}

func TestAWipedNodeIsRefusedAndWhatItSaysToTypeWorks(t *testing.T) {
	c, ctx := startCluster(t)
	cl := connect(t, c)
	mustCreate(t, ctx, cl, "t", 2)
	l := startLoad(ctx, t, cl, "t")
	l.waitFor(ctx, t, 500)
	wipe(t, c, 3)
	says := endOf(ctx, t, c, 3)
	if !strings.Contains(says, "mrctl node remove 3 --force") || !strings.Contains(says, "--join "+c.PeerAddr(1)) {
		t.Fatalf("node 3 says\n%s", says)
	}
	health := refusedCtl(ctx, t, c, 10, "cluster", "health")
	if !strings.Contains(health, "node 3 is not alive") || !strings.Contains(health, "mrctl node remove 3 --force") || !strings.Contains(health, "--join") {
		t.Fatalf("health says\n%s", health)
	}
	refusedCtl(ctx, t, c, 1, "node", "remove", "3") // it has replicas
	ctl(ctx, t, c, "node", "remove", "3", "--force")
	must(t, os.RemoveAll(c.DataDir(3)))
	must(t, c.Join(3, c.ClientAddr(1)))
	waitLog(ctx, t, c, 3, "as node 4")
	must(t, c.Healthy(ctx))
	for p, nodes := range replicas(ctx, t, c, "t") {
		if !slices.Equal(nodes, []int{1, 2, 4}) {
			t.Errorf("partition %d is on %v", p, nodes)
		}
	}
	wantRecords(ctx, t, cl, "t", l.end(t))
}

// TestAnOldCopyOfADataDirectoryIsRefusedHoweverOftenItIsStarted: a supervisor starts again what has ended. The copy has no
// other start number than the original after one start, and a higher one after two.
func TestAnOldCopyOfADataDirectoryIsRefusedHoweverOftenItIsStarted(t *testing.T) {
	c, ctx := startCluster(t)
	cl := connect(t, c)
	mustCreate(t, ctx, cl, "t", 2)
	l := startLoad(ctx, t, cl, "t")
	l.waitFor(ctx, t, 200)
	code, err := c.Stop(3)
	if must(t, err); code != 0 {
		t.Fatalf("node 3 ended with %d", code)
	}
	copied := filepath.Join(t.TempDir(), "copy")
	must(t, os.CopyFS(copied, os.DirFS(c.DataDir(3))))
	must(t, c.Start(3))
	must(t, c.Healthy(ctx))
	l.waitFor(ctx, t, 200)
	must(t, killed(c, 3))
	must(t, os.RemoveAll(c.DataDir(3)))
	must(t, os.Rename(copied, c.DataDir(3)))
	for try := range 4 {
		if try == 2 { // what the others remember of node 3 ends with their processes, but not what is registered
			for id := 1; id <= 2; id++ {
				must(t, killed(c, id))
				must(t, c.Start(id))
			}
		}
		must(t, c.Start(3))
		if says := endOf(ctx, t, c, 3); !strings.Contains(says, "a copy of the node's store") || !strings.Contains(says, "mrctl node remove 3 --force") {
			t.Fatalf("start %d: node 3 says\n%s", try+1, says)
		}
	}
	ctl(ctx, t, c, "node", "remove", "3", "--force")
	must(t, os.RemoveAll(c.DataDir(3)))
	must(t, c.Join(3, c.ClientAddr(1)))
	waitLog(ctx, t, c, 3, "as node 4")
	must(t, c.Healthy(ctx))
	wantRecords(ctx, t, cl, "t", l.end(t))
}

func TestANodeComesBackWithAnotherAddressWithAndWithoutJoin(t *testing.T) {
	c, ctx := lifeCluster(t, 1)
	cl := connect(t, c)
	mustCreate(t, ctx, cl, "t", 4)
	ctl(ctx, t, c, "partition", "move", "t", "0", "--to", "2,3,4")
	for _, how := range [][]string{nil, {"--join", c.PeerAddr(2)}} {
		must(t, killed(c, 4))
		args := append([]string{"start", "--data-dir", c.DataDir(4), "--client-addr", "127.0.0.1:0", "--peer-addr", "127.0.0.1:0"}, how...)
		cmd := exec.CommandContext(ctx, filepath.Join(bin, "multiraftd"), args...)
		must(t, cmd.Start())
		must(t, c.Healthy(ctx))
		st, err := cl.ClusterStatus(ctx)
		must(t, err)
		if n := st.GetNodes()[3]; n.GetClientAddr() == c.ClientAddr(4) || !n.GetAlive() {
			t.Errorf("node 4 is %v", n)
		}
		must(t, cmd.Process.Kill())
		_ = cmd.Wait() // killed
		must(t, c.Start(4))
		must(t, c.Healthy(ctx))
	}
}
