package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/multiraftd/multiraftd/deploy/localcluster"
)

const (
	pollInterval  = 50 * time.Millisecond
	healthWaitMax = 90 * time.Second
)

// cluster is a localcluster that is asked through mrctl.
type cluster struct {
	*localcluster.Cluster
	dir string
}

// newCluster makes one for nodes and joiners that has not been started.
func (st *stage) newCluster(nodes, joiners int, flags ...string) (*cluster, error) {
	c, err := localcluster.New(localcluster.Config{Bin: st.bin, Dir: st.dir, Nodes: nodes, Joiners: joiners, Flags: flags})
	if err != nil {
		return nil, err
	}
	return &cluster{c, st.dir}, nil
}

// start starts all nodes but the joiners, and waits for health.
func (c *cluster) start(ctx context.Context) error {
	if err := c.StartAll(); err != nil {
		return err
	}
	return c.healthy(ctx)
}

func (c *cluster) healthy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, healthWaitMax)
	defer cancel()
	return c.Healthy(ctx)
}

// close ends the nodes; err stands if it is set.
func (c *cluster) close(err *error) {
	if closed := c.Close(); *err == nil {
		*err = closed
	}
}

// ctl runs mrctl, which must succeed, and returns its stdout.
func (c *cluster) ctl(ctx context.Context, args ...string) (string, error) {
	out, err := c.ctlCode(ctx, 0, args...)
	return string(out), err
}

// ctlCode runs mrctl, which must end with one code, and returns its stdout.
func (c *cluster) ctlCode(ctx context.Context, code int, args ...string) ([]byte, error) {
	cmd := c.Ctl(ctx, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == code || err == nil && code == 0 {
		return out, nil
	}
	return out, fmt.Errorf("mrctl %s: %v, not exit %d: %s%s", strings.Join(args, " "), err, code, out, stderr.Bytes())
}

// ask runs mrctl with -o json and decodes what it prints.
func (c *cluster) ask(ctx context.Context, into any, args ...string) error {
	out, err := c.ctlCode(ctx, 0, append(args, "-o", "json")...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, into); err != nil {
		return fmt.Errorf("mrctl %s printed %q: %w", strings.Join(args, " "), out, err)
	}
	return nil
}

type partition struct {
	Partition     int    `json:"partition"`
	Group         uint64 `json:"group"`
	Leader        int    `json:"leader"`
	Term          uint64 `json:"term"`
	Replicas      []int  `json:"replicas"`
	Learners      []int  `json:"learners"`
	HighWatermark int64  `json:"high_watermark"`
	LogStart      int64  `json:"log_start"`
}

func (c *cluster) describe(ctx context.Context, topic string) ([]partition, error) {
	var d struct{ Partitions []partition }
	err := c.ask(ctx, &d, "topic", "describe", topic)
	return d.Partitions, err
}

type status struct {
	MetadataLeader int `json:"metadata_leader"`
	Nodes          []struct {
		ID       int
		Alive    bool
		Leaders  int
		Replicas int
	}
	Groups     int
	Leaderless []uint64
}

func (c *cluster) status(ctx context.Context) (s status, err error) {
	err = c.ask(ctx, &s, "cluster", "status")
	return s, err
}

// until asks until the answer is yes. An error ends it.
func until(ctx context.Context, what string, yes func() (bool, error)) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		ok, err := yes()
		if err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("it did not come to pass: %s: %w", what, ctx.Err())
		case <-tick.C:
		}
	}
}

// pause waits.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// onlyOn waits until every partition of a topic has exactly these many replicas, no learner, and all on nodes.
func (c *cluster) onlyOn(ctx context.Context, topic string, replicas int, nodes ...int) error {
	var last []partition
	err := until(ctx, fmt.Sprintf("topic %s has %d replicas of each partition on nodes %v", topic, replicas, nodes), func() (bool, error) {
		parts, err := c.describe(ctx, topic)
		if err != nil {
			return false, err
		}
		last = parts
		return !slices.ContainsFunc(parts, func(p partition) bool {
			return len(p.Replicas) != replicas || len(p.Learners) > 0 || p.Leader == 0 ||
				slices.ContainsFunc(p.Replicas, func(n int) bool { return !slices.Contains(nodes, n) })
		}), nil
	})
	if err != nil {
		return fmt.Errorf("%w; it is %+v", err, last)
	}
	return nil
}

func commas(ids []int) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(ids), " ", ","), "[]")
}

// waitLog waits until a node's log says something.
func (c *cluster) waitLog(ctx context.Context, id int, what string) error {
	return until(ctx, fmt.Sprintf("node %d logs %q", id, what), func() (bool, error) { return strings.Contains(c.Tail(id), what), nil })
}

// seconds is for people.
func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
