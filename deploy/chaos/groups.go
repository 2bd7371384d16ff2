package main

import (
	"context"
	"fmt"
	"time"
)

const (
	createTime    = "120s" // for one topic
	partitionsMax = 1000   // of one topic
)

// groups makes many groups on one machine, and measures how soon they go quiet and what they cost then, how long all
// nodes take to start again, and how long groups are without a leader when one node is killed.
func groups(ctx context.Context, st *stage) (figures string, err error) {
	c, err := st.newCluster(3, 0)
	if err != nil {
		return "", err
	}
	defer c.close(&err)
	if err := c.start(ctx); err != nil {
		return "", err
	}
	before, err := c.resident(3)
	if err != nil {
		return "", err
	}
	began := time.Now()
	for left := st.groups; left > 0; left -= partitionsMax {
		if _, err := c.ctl(ctx, "topic", "create", fmt.Sprintf("many-%d", left), "--partitions", fmt.Sprint(min(left, partitionsMax)), "--replicas", "3", "--timeout", createTime); err != nil {
			return "", err
		}
	}
	created := time.Since(began)
	progress("created in %s", seconds(created))
	if err := c.quiet(ctx, st.groups); err != nil {
		return "", err
	}
	quiet := time.Since(began) - created
	progress("quiet after %s", seconds(quiet))
	cores, err := c.idle(ctx, st.idle)
	if err != nil {
		return "", err
	}
	after, err := c.resident(3)
	if err != nil {
		return "", err
	}
	restarted, err := c.restartAll(ctx)
	if err != nil {
		return "", err
	}
	if err := c.quiet(ctx, st.groups); err != nil {
		return "", err
	}
	led, most, err := c.ledAfterKill(ctx, st.groups)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d groups x 3 replicas: created in %s, quiet %s later; %.1f KiB of memory per group and node; idle over %s: %.3f cores per node; all 3 nodes restarted and healthy after %s; "+
		"kill -9 of a node that led %d: all led by others after %s", st.groups, seconds(created), seconds(quiet), float64(after-before)/float64(3*st.groups)/1024, seconds(st.idle), cores/3, seconds(restarted), most, seconds(led)), nil
}

// quiet waits until all replicas of so many groups are.
func (c *cluster) quiet(ctx context.Context, groups int) error {
	return until(ctx, "all groups are quiet", func() (bool, error) {
		n, err := c.sum(ctx, "multiraft_replicas_quiet", 1, 2, 3)
		return int(n) >= 3*groups, err
	})
}

// resident is the memory of nodes 1 to n together.
func (c *cluster) resident(n int) (sum int64, err error) {
	for id := 1; id <= n; id++ {
		bytes, err := residentBytes(c.PID(id))
		if err != nil {
			return 0, err
		}
		sum += bytes
	}
	return sum, nil
}

// idle is how many cores the three nodes use together while nothing happens.
func (c *cluster) idle(ctx context.Context, d time.Duration) (cores float64, err error) {
	if err := c.healthy(ctx); err != nil {
		return 0, err
	}
	before, err := c.cpu(3)
	if err != nil {
		return 0, err
	}
	if err := pause(ctx, d); err != nil {
		return 0, err
	}
	after, err := c.cpu(3)
	progress("idle: %.3f cores", float64(after-before)/float64(d))
	return float64(after-before) / float64(d), err
}

func (c *cluster) cpu(n int) (sum time.Duration, err error) {
	for id := 1; id <= n; id++ {
		t, err := cpuTime(c.PID(id))
		if err != nil {
			return 0, err
		}
		sum += t
	}
	return sum, nil
}

// restartAll stops all nodes, and returns how long they take from their start until the cluster is healthy.
func (c *cluster) restartAll(ctx context.Context) (time.Duration, error) {
	for id := 1; id <= 3; id++ {
		if _, err := c.Kill(id); err != nil {
			return 0, err
		}
	}
	began := time.Now()
	err := c.start(ctx)
	progress("restarted in %s", seconds(time.Since(began)))
	return time.Since(began), err
}

// ledAfterKill kills the node that leads most groups, and returns how many that were, and how long it takes until the
// other two lead all n and the metadata group.
func (c *cluster) ledAfterKill(ctx context.Context, n int) (time.Duration, int, error) {
	s, err := c.status(ctx)
	if err != nil {
		return 0, 0, err
	}
	victim, most := 0, 0
	for _, node := range s.Nodes {
		if node.Leaders > most {
			victim, most = node.ID, node.Leaders
		}
	}
	killed, err := c.Kill(victim)
	if err != nil {
		return 0, 0, err
	}
	var led time.Duration
	err = until(ctx, "all groups are led again", func() (bool, error) {
		leading := 0.0
		for id := 1; id <= 3; id++ {
			if id == victim {
				continue
			}
			v, err := c.sum(ctx, "multiraft_replicas_leading", id)
			if err != nil {
				return false, err
			}
			leading += v
		}
		led = time.Since(killed)
		return int(leading) >= n+1, nil
	})
	progress("node %d, which led %d groups, killed: all led after %s", victim, most, seconds(led))
	return led, most, err
}
