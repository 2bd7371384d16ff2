package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// rollingRate is low enough that no window fills up while a partition stands still: each stop is one partition's own.
const (
	rollingRate   = 20000
	rollingWindow = 1 << 20
	// apart lies between two restarts, so that each one's stop is its own.
	apart = time.Second
)

// rolling restarts three nodes, one after the other, under load: with SIGTERM, with SIGKILL, in turn.
func rolling(ctx context.Context, st *stage) (figures string, err error) {
	c, err := st.newCluster(3, 0)
	if err != nil {
		return "", err
	}
	defer c.close(&err)
	if err := c.start(ctx); err != nil {
		return "", err
	}
	var term, kill []time.Duration
	for i := range st.pairs {
		t, err := c.rollOnce(ctx, fmt.Sprintf("term-%d", i), st.partitions, c.restartSoftly)
		if err != nil {
			return "", err
		}
		k, err := c.rollOnce(ctx, fmt.Sprintf("kill-%d", i), st.partitions, c.restartHard)
		if err != nil {
			return "", err
		}
		term, kill = append(term, t), append(kill, k)
	}
	return fmt.Sprintf("longest stop of a partition in a rolling restart of 3 nodes, %d partitions, %d records/s: SIGTERM %s, median %.0f ms; SIGKILL %s, median %.0f ms",
		st.partitions, rollingRate, millis(term), median(term), millis(kill), median(kill)), nil
}

// rollOnce restarts all nodes once and returns the longest stop of a partition.
func (c *cluster) rollOnce(ctx context.Context, topic string, partitions int, restart func(context.Context, int) error) (time.Duration, error) {
	l, err := c.startLoad(ctx, topic, partitions, "--size", "16", "--rate", fmt.Sprint(rollingRate), "--window", fmt.Sprint(rollingWindow))
	if err != nil {
		return 0, err
	}
	for id := 1; id <= 3; id++ {
		if err := pause(ctx, apart); err != nil {
			return 0, err
		}
		if err := restart(ctx, id); err != nil {
			return 0, err
		}
	}
	r, err := l.finish()
	if err != nil {
		return 0, err
	}
	for _, s := range r.Stops.Partitions[:min(3, len(r.Stops.Partitions))] {
		progress("%s: partition %d stood still for %.1f ms from %s", topic, s.Partition, s.Millis, s.At.Local().Format("15:04:05.000"))
	}
	_, err = c.ctl(ctx, "topic", "delete", topic)
	return r.Stops.Partitions[0].length(), err
}

func (c *cluster) restartSoftly(ctx context.Context, id int) error {
	before := time.Now()
	code, err := c.Stop(id)
	if err != nil {
		return err
	}
	if code != 0 || !strings.Contains(c.Tail(id), "leadership handed over") {
		return fmt.Errorf("node %d ended with %d:\n%s", id, code, c.Tail(id))
	}
	progress("node %d stopped with SIGTERM in %s", id, seconds(time.Since(before)))
	return c.again(ctx, id)
}

func (c *cluster) restartHard(ctx context.Context, id int) error {
	if _, err := c.Kill(id); err != nil {
		return err
	}
	progress("node %d killed", id)
	return c.again(ctx, id)
}

func (c *cluster) again(ctx context.Context, id int) error {
	if err := pause(ctx, apart); err != nil {
		return err
	}
	progress("node %d is started", id)
	if err := c.Start(id); err != nil {
		return err
	}
	err := c.healthy(ctx)
	progress("node %d is back", id)
	return err
}

func millis(ds []time.Duration) string {
	var all []string
	for _, d := range ds {
		all = append(all, fmt.Sprint(d.Milliseconds()))
	}
	return strings.Join(all, "/") + " ms"
}

// median of durations, in milliseconds.
func median(ds []time.Duration) float64 {
	ds = slices.Sorted(slices.Values(ds))
	return float64(ds[(len(ds)-1)/2]+ds[len(ds)/2]) / 2 / float64(time.Millisecond)
}
