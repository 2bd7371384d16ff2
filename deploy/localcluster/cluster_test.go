package localcluster

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// scripted is a cluster whose binaries are shell scripts.
func scripted(t *testing.T, multiraftd, mrctl string) *Cluster {
	t.Helper()
	bin := t.TempDir()
	for name, script := range map[string]string{"multiraftd": multiraftd, "mrctl": mrctl} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c, err := New(Config{Bin: bin, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestANodeIsKilledAndStartedAgainWithTheSameCommandLine(t *testing.T) {
	c := scripted(t, `echo "$@"; exec sleep 1000`, "exit 0")
	if err := c.StartAll(); err != nil {
		t.Fatal(err)
	}
	if err := c.Healthy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Kill(2); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Kill(2); err == nil {
		t.Error("a node that does not run can be killed")
	}
	if err := c.Err(); err != nil {
		t.Errorf("a killed node counts as ended by itself: %v", err)
	}
	if err := c.StartAll(); err != nil {
		t.Fatal(err)
	}
	for id := 1; id <= 3; id++ {
		if !c.running[id].Running() {
			t.Errorf("node %d does not run", id)
		}
	}
}

func TestANodeIsDialledWhereItIsAdvertised(t *testing.T) {
	c := scripted(t, `echo "$@"; exec sleep 1000`, "exit 0")
	const addr = "127.0.0.1:1"
	c.AdvertisePeer(3, addr)
	if err := c.StartAll(); err != nil {
		t.Fatal(err)
	}
	for id := 1; id <= 3; id++ {
		said := waitForLog(t, c, id, "--bootstrap")
		if !strings.Contains(strings.ReplaceAll(said, "\n", " "), ",3="+addr+" ") {
			t.Errorf("node %d is told %q", id, said)
		}
		if got := strings.HasSuffix(strings.TrimSpace(said), "--advertise-peer "+addr); got != (id == 3) {
			t.Errorf("node %d is started with %q", id, said)
		}
		if pid := c.PID(id); pid <= 0 {
			t.Errorf("node %d has the process id %d", id, pid)
		}
	}
	if _, err := c.Kill(3); err != nil {
		t.Fatal(err)
	}
	if pid := c.PID(3); pid != 0 {
		t.Errorf("node 3 was killed and has the process id %d", pid)
	}
}

// waitForLog waits until a node has said something, and returns all that it said.
func waitForLog(t *testing.T, c *Cluster, id int, what string) string {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if said := c.Tail(id); strings.Contains(said, what) {
			return said
		}
		select {
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		case <-tick.C:
		}
	}
}

func TestANodeThatEndsByItselfIsReportedWithTheEndOfItsLog(t *testing.T) {
	c := scripted(t, "echo no space left >&2; exit 4", "exit 1")
	if err := c.Start(1); err != nil {
		t.Fatal(err)
	}
	<-c.running[1].ended
	err := c.Healthy(t.Context())
	if err == nil || !strings.Contains(err.Error(), "node 1") || !strings.Contains(err.Error(), "exit status 4") || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("got %v", err)
	}
}

func TestWaitingForHealthEndsWithTheContextAndSaysWhatIsWrong(t *testing.T) {
	c := scripted(t, "exec sleep 1000", "echo no leader; exit 10")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Healthy(ctx); err == nil {
		t.Error("healthy")
	}
}

func TestTheLeaderIsReadFromTheDescriptionOfTheTopic(t *testing.T) {
	c := scripted(t, "exit 0", `echo '{"name":"t","id":3,"partitions":[{"partition":0,"leader":1,"term":2},{"partition":1,"group":4,"leader":3,"term":7}]}'`)
	node, term, err := c.Leader(t.Context(), "t", 1)
	if err != nil || node != 3 || term != 7 {
		t.Errorf("got %d, %d, %v", node, term, err)
	}
	if _, _, err := c.Leader(t.Context(), "t", 2); err == nil {
		t.Error("a partition that does not exist has a leader")
	}
}

func TestPortsAreFreeAndBelowTheEphemeralRange(t *testing.T) {
	base, err := freePorts(10)
	if err != nil {
		t.Fatal(err)
	}
	if base < portMin || base+10 > portMax {
		t.Errorf("base %d", base)
	}
	l, err := net.Listen("tcp", loopback(base))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if allFree(base, 1) {
		t.Error("a port in use counts as free")
	}
}
