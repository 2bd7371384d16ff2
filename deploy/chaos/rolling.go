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
	// apart lies between the end of a node and its start, and between its return and the end of the next: so that it is
	// known what stands still because of what.
	apart = time.Second
)

// restart is when a node was told to end, was started, and was back.
type restart struct{ ended, started, back time.Time }

// worst is the longest stop of a partition in one rolling restart: because a node ended, because one started, and,
// for comparison, while nothing happened at all.
type worst struct{ end, start, calm time.Duration }

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
	var term, kill []worst
	for i := range st.pairs {
		t, err := c.rollOnce(ctx, fmt.Sprintf("term-%d", i), st.partitions, c.endSoftly)
		if err != nil {
			return "", err
		}
		k, err := c.rollOnce(ctx, fmt.Sprintf("kill-%d", i), st.partitions, c.endHard)
		if err != nil {
			return "", err
		}
		term, kill = append(term, t), append(kill, k)
	}
	return fmt.Sprintf("3 nodes restarted one after the other, %d partitions, %d records/s; longest stop of a partition: SIGTERM %s; SIGKILL %s",
		st.partitions, rollingRate, summary(term), summary(kill)), nil
}

// rollOnce restarts all nodes once.
func (c *cluster) rollOnce(ctx context.Context, topic string, partitions int, end func(context.Context, int) error) (w worst, err error) {
	l, err := c.startLoad(ctx, topic, partitions, "--size", "16", "--rate", fmt.Sprint(rollingRate), "--window", fmt.Sprint(rollingWindow))
	if err != nil {
		return w, err
	}
	var all []restart
	for id := 1; id <= 3; id++ {
		r, err := c.restart(ctx, id, end)
		if err != nil {
			return w, err
		}
		all = append(all, r)
	}
	if err := pause(ctx, apart); err != nil {
		return w, err
	}
	r, err := l.finish()
	if err != nil {
		return w, err
	}
	w = attribute(r.Stops.Listed, all)
	progress("%s: longest stop at a node's end %v, at its start %v, else %v", topic, w.end, w.start, w.calm)
	_, err = c.ctl(ctx, "topic", "delete", topic)
	return w, err
}

func (c *cluster) restart(ctx context.Context, id int, end func(context.Context, int) error) (r restart, err error) {
	if err := pause(ctx, apart); err != nil {
		return r, err
	}
	r.ended = time.Now()
	if err := end(ctx, id); err != nil {
		return r, err
	}
	if err := pause(ctx, apart); err != nil {
		return r, err
	}
	r.started = time.Now()
	if err := c.Start(id); err != nil {
		return r, err
	}
	err = c.healthy(ctx)
	r.back = time.Now()
	return r, err
}

func (c *cluster) endSoftly(_ context.Context, id int) error {
	code, err := c.Stop(id)
	if err != nil {
		return err
	}
	if code != 0 || !strings.Contains(c.Tail(id), "leadership handed over") {
		return fmt.Errorf("node %d ended with %d:\n%s", id, code, c.Tail(id))
	}
	return nil
}

func (c *cluster) endHard(_ context.Context, id int) error {
	_, err := c.Kill(id)
	return err
}

// attribute finds the longest stops. One that touches a node's end counts there, whatever else it touches.
func attribute(stops []stop, restarts []restart) (w worst) {
	for _, s := range stops {
		longest := &w.calm
		for _, r := range restarts {
			switch until := s.At.Add(s.length()); {
			case s.At.Before(r.started) && until.After(r.ended):
				longest = &w.end
			case s.At.Before(r.back) && until.After(r.started) && longest == &w.calm:
				longest = &w.start
			}
		}
		*longest = max(*longest, s.length())
	}
	return w
}

func summary(all []worst) string {
	var ends, starts, calms []time.Duration
	for _, w := range all {
		ends, starts, calms = append(ends, w.end), append(starts, w.start), append(calms, w.calm)
	}
	return fmt.Sprintf("at a node's end %s, median %.0f ms (at its start %s, while nothing happens %s)", millis(ends), median(ends), millis(starts), millis(calms))
}

// millis lists durations; those below 20 ms were not listed by mrbench.
func millis(ds []time.Duration) string {
	var all []string
	for _, d := range ds {
		if d == 0 {
			all = append(all, "<20")
		} else {
			all = append(all, fmt.Sprint(d.Milliseconds()))
		}
	}
	return strings.Join(all, "/") + " ms"
}

// median of durations, in milliseconds.
func median(ds []time.Duration) float64 {
	ds = slices.Sorted(slices.Values(ds))
	return float64(ds[(len(ds)-1)/2]+ds[len(ds)/2]) / 2 / float64(time.Millisecond)
}
