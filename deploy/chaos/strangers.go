package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"time"
)

const (
	normalShare    = 0.25 // of the peak: what a cluster is loaded with on a common day
	strangersTopic = "others"
	floodSampling  = 200 * time.Millisecond
)

// floodKinds are those of deploy/flood, in the order of what they are made of.
var floodKinds = []string{
	"silence", "connections", "streams", "resets", "pings", "headers", "garbage", "elements", "unfinished", "slow-readers", "deaf-appends",
	"unknown-groups", "refused-frames", "empty-frames",
}

// flooded is what a flood of one kind did to one node, and to those who mean well.
type flooded struct {
	kind          string
	did           uint64  // by the flood
	alone, beside report  // the load before and during the flood
	cores         float64 // of the node that is flooded, beyond what it takes without the flood
	resident      int64   // of that node, at most
}

// goodput is the share of what the load asks for that it got within its time.
func (f flooded) goodput() float64 { return f.beside.Append.PerSecond / f.alone.Append.PerSecond }

// strangers floods one node in every way that there is while others append at a normal rate, to all nodes. The floods
// have the lowest priority: a stranger brings processors of his own, and here gets those that are left.
func strangers(ctx context.Context, st *stage) (figures string, err error) {
	c, err := st.newCluster(3, 0)
	if err != nil {
		return "", err
	}
	defer c.close(&err)
	if err := c.start(ctx); err != nil {
		return "", err
	}
	peak, err := c.peak(ctx, st.partitions, 3*st.flooding)
	if err != nil {
		return "", err
	}
	at, err := c.floodTarget(ctx)
	if err != nil {
		return "", err
	}
	var worst flooded
	for i, kind := range st.floods {
		f, err := c.flood(ctx, st, kind, append(at, "-from", fmt.Sprintf("127.0.1.%d", i+1)), normalShare*peak)
		if err != nil {
			return "", fmt.Errorf("%s: %w", kind, err)
		}
		progress("%-14s %9d times: others got %5.1f %%, p99 %6.1f ms (%.1f alone); the node took %+.2f cores, %d MiB at most",
			f.kind, f.did, 100*f.goodput(), f.beside.Append.Latency.P99, f.alone.Append.Latency.P99, f.cores, f.resident>>20)
		if worst.kind == "" || f.goodput() < worst.goodput() {
			worst = f
		}
	}
	if err := c.healthy(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d floods of one node beside %.0f records/s (%.0f %% of the peak): others got at least %.1f %% (%s)",
		len(st.floods), normalShare*peak, 100*normalShare, 100*worst.goodput(), worst.kind), nil
}

// floodTarget makes what floods need to know of: node 1, a topic of some MiB, a group.
func (c *cluster) floodTarget(ctx context.Context) (args []string, err error) {
	var cl struct {
		ID string `json:"cluster_id"`
	}
	if err := c.ask(ctx, &cl, "cluster", "status"); err != nil {
		return nil, err
	}
	if _, err := c.ctl(ctx, "topic", "create", "big", "--partitions", "1", "--replicas", "3"); err != nil {
		return nil, err
	}
	if err := c.Command(ctx, "mrbench", "append", "--addr", c.Addr(), "--topic", "big", "--size", "65536", "--records", "320").Run(); err != nil {
		return nil, fmt.Errorf("filling a topic: %w", err)
	}
	var topic struct {
		ID         uint64 `json:"id"`
		Partitions []partition
	}
	if err := c.ask(ctx, &topic, "topic", "describe", "big"); err != nil {
		return nil, err
	}
	return []string{"-client", c.ClientAddr(1), "-peer", c.PeerAddr(1), "-node", "1", "-cluster", cl.ID,
		"-topic", fmt.Sprint(topic.ID), "-group", fmt.Sprint(topic.Partitions[0].Group)}, nil
}

// flood loads the cluster twice, the second time beside a flood.
func (c *cluster) flood(ctx context.Context, st *stage, kind string, args []string, rate float64) (f flooded, err error) {
	f.kind = kind
	cores, err := c.steady(ctx, st, rate, &f.alone, nil)
	if err != nil {
		return f, err
	}
	cmd := exec.CommandContext(ctx, "nice", append([]string{"-n", fmt.Sprint(st.floodNice), filepath.Join(st.bin, "flood"), "-kind", kind}, args...)...)
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	in, err := cmd.StdinPipe()
	if err != nil {
		return f, fmt.Errorf("making a pipe: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return f, fmt.Errorf("starting the flood: %w", err)
	}
	during, err := c.steady(ctx, st, rate, &f.beside, &f.resident)
	err = errors.Join(err, end(cmd, in))
	if err != nil {
		return f, fmt.Errorf("%w: %s", err, complaints.Bytes())
	}
	f.cores = during - cores
	var did struct{ Did uint64 }
	if err := json.Unmarshal(out.Bytes(), &did); err != nil {
		return f, fmt.Errorf("reading what the flood did, %q: %w", out.Bytes(), err)
	}
	if f.did = did.Did; f.did == 0 {
		return f, errors.New("the flood did nothing")
	}
	return f, nil
}

func end(cmd *exec.Cmd, in io.Closer) error { return errors.Join(in.Close(), cmd.Wait()) }

// steady loads the cluster for a while at a rate, and says how many cores node 1 took, and how much memory at most.
func (c *cluster) steady(ctx context.Context, st *stage, rate float64, into *report, resident *int64) (cores float64, err error) {
	before, err := cpuTime(c.PID(1))
	if err != nil {
		return 0, err
	}
	began := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	highest := make(chan int64, 1)
	go func() { highest <- c.highest(ctx, 1) }()
	out, err := c.Command(ctx, "mrbench", "append", "--addr", c.Addr(), "--topic", strangersTopic, "--create", "--partitions", fmt.Sprint(st.partitions),
		"--replicas", "3", "--size", "16", "--rate", fmt.Sprint(rate), "--duration", st.flooding.String(), "--verify", "-o", "json").Output()
	if err != nil {
		return 0, fmt.Errorf("mrbench: %w", err)
	}
	r, err := readReport(out)
	if err != nil {
		return 0, err
	}
	*into = *r
	after, err := cpuTime(c.PID(1))
	cores = float64(after-before) / float64(time.Since(began))
	cancel()
	if most := <-highest; resident != nil {
		*resident = most
	}
	return cores, err
}

// highest watches how much of a node is in memory until ctx ends.
func (c *cluster) highest(ctx context.Context, id int) (most int64) {
	pid := c.PID(id)
	for {
		if n, err := residentBytes(pid); err == nil { // a node that has ended is found by others
			most = max(most, n)
		}
		if pause(ctx, floodSampling) != nil {
			return most
		}
	}
}
