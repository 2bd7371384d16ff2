package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	peakTime      = 5 * time.Second
	replaceAfter  = 10 * time.Second
	movesAtOnce   = 4
	operationTime = "120s" // --timeout of an operation: without progress
)

// life takes a cluster from three nodes to five and back to three, with only one of the first left, and then kills
// one for good; all under at least half of the peak.
func life(ctx context.Context, st *stage) (figures string, err error) {
	c, err := st.newCluster(3, 3, "--replace-after", replaceAfter.String())
	if err != nil {
		return "", err
	}
	defer c.close(&err)
	if err := c.start(ctx); err != nil {
		return "", err
	}
	peak, err := c.peak(ctx, st.partitions, peakTime)
	if err != nil {
		return "", err
	}
	progress("peak: %.0f records/s", peak)
	l, err := c.startLoad(ctx, "life", st.partitions, "--size", "16", "--rate", fmt.Sprint(int(peak/2)), "--window", "65536")
	if err != nil {
		return "", err
	}
	steps, err := c.threeFiveThree(ctx, st.partitions)
	if err != nil {
		return "", err
	}
	r, err := l.finish()
	if err != nil {
		return "", err
	}
	replaced, err := c.replaced(ctx, st.partitions)
	if err != nil {
		return "", err
	}
	worst := r.Stops.Partitions[0]
	return fmt.Sprintf("peak %.0f records/s of 16 B; 3 -> 5 -> 3 nodes under %.0f/s (%.0f %% of it): %s; %d records verified, 0 missing, doubled, changed or reordered; "+
		"longest stop: all %.0f ms, one partition %.0f ms; %s", peak, r.Append.PerSecond, 100*r.Append.PerSecond/peak, told(steps, r.Stops.Listed),
		r.Verify.Acknowledged, r.Stops.All.Millis, worst.Millis, replaced), nil
}

// step is one thing that was done while the load went on.
type step struct {
	what     string
	from, to time.Time
}

// threeFiveThree lets two nodes join, moves every partition, and takes two of the first nodes out.
func (c *cluster) threeFiveThree(ctx context.Context, partitions int) (steps []step, err error) {
	for _, s := range []struct {
		what string
		do   func() error
	}{
		{"two joined", func() error { return errors.Join(c.join(ctx, 4, 1), c.join(ctx, 5, 1)) }},
		{fmt.Sprintf("%d partitions moved", partitions), func() error { return c.moveAll(ctx, "life", partitions) }},
		{"two of the first drained, stopped and removed", func() error { return c.shrink(ctx) }},
	} {
		from := time.Now()
		if err := s.do(); err != nil {
			return nil, err
		}
		steps = append(steps, step{s.what, from, time.Now()})
		progress("%s", s.what)
	}
	return steps, nil
}

// told says how long each step took, and the longest stop of a partition that began in it.
func told(steps []step, stops []stop) string {
	var all []string
	for _, s := range steps {
		longest := 0.0
		for _, one := range stops {
			if !one.At.Before(s.from) && one.At.Before(s.to) {
				longest = max(longest, one.Millis)
			}
		}
		all = append(all, fmt.Sprintf("%s in %s (a partition stood still for up to %.0f ms)", s.what, seconds(s.to.Sub(s.from)), longest))
	}
	return strings.Join(all, ", ")
}

// moveAll moves every partition so that nodes 4 and 5 have replicas, a few at a time.
func (c *cluster) moveAll(ctx context.Context, topic string, partitions int) error {
	moves := make(chan int, partitions)
	for p := range partitions {
		moves <- p
	}
	close(moves)
	ends := make(chan error, movesAtOnce)
	for range movesAtOnce {
		go func() {
			var err error
			for p := range moves {
				err = errors.Join(err, c.moveOn(ctx, topic, p))
			}
			ends <- err
		}()
	}
	var err error
	for range movesAtOnce {
		err = errors.Join(err, <-ends)
	}
	return err
}

// join starts a node, and waits until it is a member.
func (c *cluster) join(ctx context.Context, id, at int) error {
	if err := c.Join(id, c.PeerAddr(at)); err != nil {
		return err
	}
	err := c.waitLog(ctx, id, fmt.Sprintf("as node %d", id))
	progress("node %d has joined", id)
	return err
}

// moveOn moves a partition to other nodes than it was on: one or two of its three replicas go to nodes 4 and 5.
func (c *cluster) moveOn(ctx context.Context, topic string, p int) error {
	old, new := []int{1, 2, 3}, []int{4, 5}
	to := []int{new[p%2], old[p%3], old[(p+1)%3]}
	if p%3 == 0 {
		to[1] = new[(p+1)%2]
	}
	_, err := c.ctl(ctx, "partition", "move", topic, fmt.Sprint(p), "--to", commas(to), "--timeout", operationTime)
	return err
}

// shrink drains and removes the nodes 1 and 2.
func (c *cluster) shrink(ctx context.Context) error {
	for id := 1; id <= 2; id++ {
		if err := c.leave(ctx, id); err != nil {
			return err
		}
	}
	if err := c.onlyOn(ctx, "life", 3, 3, 4, 5); err != nil {
		return err
	}
	return c.healthy(ctx)
}

// leave takes a node out as the documentation says.
func (c *cluster) leave(ctx context.Context, id int) error {
	n := fmt.Sprint(id)
	if _, err := c.ctl(ctx, "node", "drain", n, "--timeout", operationTime); err != nil {
		return err
	}
	progress("node %d is drained", id)
	if _, err := c.ctl(ctx, "node", "can-stop", n); err != nil {
		return err
	}
	if code, err := c.Stop(id); code != 0 || err != nil {
		return fmt.Errorf("node %d ended with %d: %w:\n%s", id, code, err, c.Tail(id))
	}
	_, err := c.ctl(ctx, "node", "remove", n)
	progress("node %d is removed", id)
	return err
}

// replaced kills node 3 for good, where node 6 has joined, and waits until the controller has given its replicas away.
func (c *cluster) replaced(ctx context.Context, partitions int) (string, error) {
	if err := c.join(ctx, 6, 4); err != nil {
		return "", err
	}
	l, err := c.startLoad(ctx, "after", partitions, "--size", "16", "--rate", fmt.Sprint(rollingRate), "--window", fmt.Sprint(rollingWindow))
	if err != nil {
		return "", err
	}
	killed, err := c.Kill(3)
	if err != nil {
		return "", err
	}
	progress("node 3 is killed for good")
	for _, topic := range []string{"life", "after"} {
		if err := c.onlyOn(ctx, topic, 3, 4, 5, 6); err != nil {
			return "", err
		}
	}
	took := time.Since(killed)
	progress("its replicas are replaced")
	r, err := l.finish()
	if err != nil {
		return "", err
	}
	if _, err := c.ctl(ctx, "node", "remove", "3", "--force"); err != nil {
		return "", err
	}
	return fmt.Sprintf("a node killed for good was replaced without an operator %s after the kill (--replace-after %s), %d more records verified, longest stop of a partition %.0f ms",
		seconds(took), replaceAfter, r.Verify.Acknowledged, r.Stops.Partitions[0].Millis), c.healthy(ctx)
}
