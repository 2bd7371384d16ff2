package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/multiraftd/multiraftd/deploy/localcluster"
)

const (
	healthWaitMax = 60 * time.Second // for a cluster to become healthy
	ackWaitMax    = 30 * time.Second // for the first acknowledgement after a kill
	leaderPoll    = 50 * time.Millisecond
)

// part is one run: append under kills, then read back.
type part struct {
	cluster    *localcluster.Cluster
	in         input
	dir        string
	topic      string
	partitions int
	kills      int
	every      time.Duration
	verify     func(context.Context, *part) error
}

func (p *part) String() string {
	if p.partitions == 1 {
		return "1 partition"
	}
	return fmt.Sprintf("%d partitions", p.partitions)
}

func (p *part) run(ctx context.Context) error {
	if err := p.healthy(ctx); err != nil {
		return err
	}
	if err := p.create(ctx); err != nil {
		return err
	}
	began := time.Now()
	gaps, err := p.appendUnderKills(ctx)
	if err != nil {
		return err
	}
	say("%s: %d records appended in %.1f s, through %d kills of the leader", p, p.in.lines, time.Since(began).Seconds(), len(gaps))
	if err := p.healthy(ctx); err != nil {
		return err
	}
	if err := p.verify(ctx, p); err != nil {
		return err
	}
	slices.Sort(gaps)
	say("%s: SIGKILL to first new acknowledgement: median %s, max %s", p, seconds(median(gaps)), seconds(gaps[len(gaps)-1]))
	return nil
}

func (p *part) create(ctx context.Context) error {
	out, err := p.cluster.Ctl(ctx, "topic", "create", p.topic, "--partitions", fmt.Sprint(p.partitions), "--replicas", "3").CombinedOutput()
	if err != nil {
		return fmt.Errorf("creating topic %s: %w: %s", p.topic, err, out)
	}
	return nil
}

func (p *part) healthy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, healthWaitMax)
	defer cancel()
	return p.cluster.Healthy(ctx)
}

// appendUnderKills appends the input, slowly enough that it lasts for all kills and two intervals more, and
// returns how long appends stood still after each kill.
func (p *part) appendUnderKills(ctx context.Context) ([]time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a, err := p.startAppend(ctx)
	if err != nil {
		return nil, err
	}
	gaps, killErr := p.killLoop(ctx, a)
	if killErr != nil {
		cancel()
	}
	<-a.ended
	switch {
	case killErr != nil:
		return nil, fmt.Errorf("%w (mrctl append said last: %s)", killErr, lastLine(a.stderr.String()))
	case a.err != nil:
		return nil, fmt.Errorf("mrctl append: %w: %s", a.err, lastLine(a.stderr.String()))
	}
	if want := fmt.Sprintf("appended %d records", p.in.lines); lastLine(a.stderr.String()) != want {
		return nil, fmt.Errorf("mrctl append ends with %q, not with %q", lastLine(a.stderr.String()), want)
	}
	return gaps, a.ledger.check(p.in.lines)
}

// appending is a running `mrctl append`.
type appending struct {
	ledger *ledger
	stderr bytes.Buffer  // to be read after ended
	ended  chan struct{} // closed at its end; err is set before
	err    error
}

func (p *part) startAppend(ctx context.Context) (*appending, error) {
	rate := float64(p.in.lines) / (float64(p.kills+2) * p.every.Seconds())
	args := []string{"append", p.topic, "--receipt", "--rate", fmt.Sprint(int(rate) + 1), "--timeout", ackWaitMax.String()}
	if p.partitions == 1 {
		args = append(args, "--partition", "0")
	}
	in, err := os.Open(p.in.path)
	if err != nil {
		return nil, fmt.Errorf("opening the input: %w", err)
	}
	defer in.Close() // mrctl has its own descriptor
	a := &appending{ledger: newLedger(), ended: make(chan struct{})}
	cmd := p.cluster.Ctl(ctx, args...)
	cmd.Stdin, cmd.Stderr = in, &a.stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("making a pipe: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting mrctl append: %w", err)
	}
	go a.follow(cmd, out)
	return a, nil
}

func (a *appending) follow(cmd *exec.Cmd, out io.Reader) {
	err := a.ledger.readAll(out)
	if err != nil {
		err = errors.Join(err, cmd.Process.Kill())
	}
	a.err = errors.Join(err, cmd.Wait())
	close(a.ended)
}

// killLoop kills the leader of each partition in turn, at fixed times, and starts it again.
func (p *part) killLoop(ctx context.Context, a *appending) ([]time.Duration, error) {
	var gaps []time.Duration
	next := time.Now()
	for k := range p.kills {
		next = next.Add(p.every)
		if err := pause(ctx, a, time.Until(next)); err != nil {
			return nil, fmt.Errorf("after %d of %d kills: %w", k, p.kills, err)
		}
		gap, err := p.killOnce(ctx, a, k%p.partitions)
		if err != nil {
			return nil, fmt.Errorf("kill %d of %d: %w", k+1, p.kills, err)
		}
		gaps = append(gaps, gap)
	}
	return gaps, nil
}

var errEndedEarly = errors.New("the append ended before all kills were done")

// pause waits, unless the append ends first.
func pause(ctx context.Context, a *appending, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-a.ended:
		return errors.Join(errEndedEarly, a.err)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *part) killOnce(ctx context.Context, a *appending, partition int) (time.Duration, error) {
	node, term, err := p.settledLeader(ctx, a, partition)
	if err != nil {
		return 0, err
	}
	seen := a.ledger.watch(partition, term)
	killed, err := p.cluster.Kill(node)
	if err != nil {
		return 0, err
	}
	gap, err := awaitAck(ctx, a, seen, killed)
	if err != nil {
		return 0, fmt.Errorf("node %d, which led partition %d in term %d: %w", node, partition, term, err)
	}
	progress("killed node %d, leader of partition %d in term %d: appends went on after %s in term %d (%d records acknowledged)",
		node, partition, term, seconds(gap), a.ledger.term(partition), a.ledger.acknowledged())
	if err := pause(ctx, a, time.Until(killed.Add(p.every*2/5))); err != nil {
		return 0, err
	}
	return gap, p.cluster.Start(node)
}

// settledLeader waits until the cluster is healthy and names the leader whose receipts are coming in.
func (p *part) settledLeader(ctx context.Context, a *appending, partition int) (node int, term uint64, err error) {
	if err := p.healthy(ctx); err != nil {
		return 0, 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, healthWaitMax)
	defer cancel()
	for {
		node, term, err = p.cluster.Leader(ctx, p.topic, partition)
		if err != nil {
			return 0, 0, err
		}
		if node != 0 && term == a.ledger.term(partition) {
			return node, term, nil
		}
		if err := pause(ctx, a, leaderPoll); err != nil {
			return 0, 0, fmt.Errorf("waiting for a leader (now node %d, term %d; receipts carry term %d): %w", node, term, a.ledger.term(partition), err)
		}
	}
}

func awaitAck(ctx context.Context, a *appending, seen <-chan time.Time, killed time.Time) (time.Duration, error) {
	t := time.NewTimer(ackWaitMax)
	defer t.Stop()
	select {
	case at := <-seen:
		if at.Before(killed) {
			return 0, errors.New("leadership moved by itself right before the kill: run it again")
		}
		return at.Sub(killed), nil
	case <-t.C:
		return 0, fmt.Errorf("no acknowledgement within %s", ackWaitMax)
	case <-a.ended:
		return 0, errors.Join(errEndedEarly, a.err)
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// median of sorted durations.
func median(ds []time.Duration) time.Duration {
	return (ds[(len(ds)-1)/2] + ds[len(ds)/2]) / 2
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f s", d.Seconds()) }

func lastLine(s string) string {
	s = strings.TrimRight(s, "\n")
	return s[strings.LastIndexAny(s, "\n\r")+1:]
}
