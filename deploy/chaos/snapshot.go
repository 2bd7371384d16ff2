package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	snapshotRate = "32MiB" // per second
	fastElection = "500ms" // retention looks every ten
	awayNode     = 3       // the node that stays away
)

// absence is how much happens while the node is away, and on its way back.
type absence struct {
	keeps       int // --retention-bytes: so large is a snapshot
	lines       int // appended meanwhile: more than is kept
	cuts, flips int
}

var (
	longAbsence   = absence{keeps: 32 << 20, lines: 60000, cuts: 20, flips: 3}
	littleAbsence = absence{keeps: 4 << 20, lines: 6000, cuts: 2, flips: 1}
)

// behind is one time that node 3 was away for too long.
type behind struct {
	cluster *cluster
	proxy   *proxy
	topic   string
	so      int // lines so far
	absence
}

// snapshot lets a follower stay away until the log that it needs is gone, and come back through InstallSnapshot: as
// it is, with the stream cut, and with bits flipped.
func snapshot(ctx context.Context, st *stage) (figures string, err error) {
	c, err := st.newCluster(3, 0, "--election-timeout", fastElection, "--snapshot-rate", snapshotRate)
	if err != nil {
		return "", err
	}
	defer c.close(&err)
	p, err := newProxy(c.PeerAddr(awayNode), lineMark)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	c.AdvertisePeer(awayNode, p.addr())
	if err := c.start(ctx); err != nil {
		return "", err
	}
	b := &behind{cluster: c, proxy: p, topic: "snap", absence: longAbsence}
	if st.small {
		b.absence = littleAbsence
	}
	if _, err := c.ctl(ctx, "topic", "create", b.topic, "--partitions", "1", "--replicas", "3", "--retention-bytes", fmt.Sprint(b.keeps)); err != nil {
		return "", err
	}
	if st.small {
		return b.comeBack(ctx, b.cuts, b.flips)
	}
	plain, err := b.comeBack(ctx, 0, 0)
	if err != nil {
		return "", fmt.Errorf("undisturbed: %w", err)
	}
	cut, err := b.comeBack(ctx, b.cuts, 0)
	if err != nil {
		return "", fmt.Errorf("cut: %w", err)
	}
	flipped, err := b.comeBack(ctx, 0, b.flips)
	if err != nil {
		return "", fmt.Errorf("bits flipped: %w", err)
	}
	return fmt.Sprintf("a follower whose log was gone came back: %s; cut: %s; flipped: %s", plain, cut, flipped), nil
}

// comeBack kills node 3, appends more than is kept, starts the node, spoils its snapshot, and checks that it has
// everything in the end.
func (b *behind) comeBack(ctx context.Context, cuts, flips int) (string, error) {
	c := b.cluster
	if err := b.away(ctx); err != nil {
		return "", err
	}
	before, err := b.counts(ctx)
	if err != nil {
		return "", err
	}
	b.proxy.spoil(b.keeps, cuts, flips)
	began := time.Now()
	if err := c.Start(awayNode); err != nil {
		return "", err
	}
	if err := b.caughtUp(ctx); err != nil {
		return "", err
	}
	took := time.Since(began)
	cutsDone, flipsDone := b.proxy.done()
	after, err := b.counts(ctx)
	if err != nil {
		return "", err
	}
	installed, err := c.sum(ctx, "multiraft_replica_snapshots_installed_total", awayNode)
	if err != nil {
		return "", err
	}
	refused, err := c.sum(ctx, "multiraft_replica_snapshot_chunks_refused_total", awayNode)
	if err != nil {
		return "", err
	}
	read, err := c.checkLines(ctx, b.topic, awayNode, b.so)
	if err != nil {
		return "", err
	}
	resumed := after.resumed - before.resumed
	if cutsDone != cuts || flipsDone != flips || installed < 1 || refused < float64(flips) || resumed < float64(cuts) {
		return "", fmt.Errorf("%d of %d cuts, %d of %d flips, %v snapshots installed, %v chunks refused, %v streams resumed",
			cutsDone, cuts, flipsDone, flips, installed, refused, resumed)
	}
	progress("%d cuts, %d flips: caught up after %s", cuts, flips, seconds(took))
	return fmt.Sprintf("%d cuts, %d flips, %.0f streams resumed, %.0f chunks refused, %.0f sent, %.0f snapshots installed, %s, %d lines read there as appended",
		cutsDone, flipsDone, resumed, refused, after.chunks-before.chunks, installed, seconds(took), read), nil
}

// away kills node 3 and appends until what it has not is gone.
func (b *behind) away(ctx context.Context) error {
	c := b.cluster
	if _, err := c.Kill(awayNode); err != nil {
		return err
	}
	has := b.so
	b.so += b.lines
	if err := c.appendLines(ctx, b.topic, has, b.so); err != nil {
		return err
	}
	return until(ctx, "the follower's log is truncated away", func() (bool, error) {
		parts, err := c.describe(ctx, b.topic)
		return err == nil && parts[0].LogStart > int64(has), err
	})
}

// sent is what the other nodes have sent.
type sent struct{ resumed, chunks float64 }

func (b *behind) counts(ctx context.Context) (s sent, err error) {
	if s.resumed, err = b.cluster.sum(ctx, "multiraft_transport_snapshot_streams_resumed_total", 1, 2); err != nil {
		return s, err
	}
	s.chunks, err = b.cluster.sum(ctx, "multiraft_transport_snapshot_chunks_sent_total", 1, 2)
	return s, err
}

// caughtUp waits until the replica on node 3 has applied what the leader has.
func (b *behind) caughtUp(ctx context.Context) error {
	if err := b.cluster.healthy(ctx); err != nil {
		return err
	}
	parts, err := b.cluster.describe(ctx, b.topic)
	if err != nil {
		return err
	}
	return b.cluster.sameEverywhere(ctx, parts[0].Group, 3)
}

// sameEverywhere waits until n replicas of a group have applied the same, by index and hash.
func (c *cluster) sameEverywhere(ctx context.Context, group uint64, n int) error {
	return until(ctx, fmt.Sprintf("%d replicas of group %d are equal", n, group), func() (bool, error) {
		var g struct {
			Replicas []struct {
				Applied uint64
				Hash    string
			}
		}
		err := c.ask(ctx, &g, "group", "describe", fmt.Sprint(group))
		if err != nil || len(g.Replicas) != n {
			return false, err
		}
		for _, r := range g.Replicas {
			if r != g.Replicas[0] {
				return false, nil
			}
		}
		return true, nil
	})
}
