package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

// load is a running `mrbench append --verify`, which reads everything back at its end.
type load struct {
	stdin          io.Closer
	stdout, stderr bytes.Buffer  // to be read after ended
	ended          chan struct{} // closed at the end of mrbench; err is set before
	err            error
}

// report is what mrbench prints with -o json.
type report struct {
	Append struct {
		Records   uint64
		PerSecond float64 `json:"records_per_s"`
		Errors    uint64
		Latency   struct{ P99, Max float64 } `json:"latency_ms"`
	}
	Stops struct {
		All        stop
		Partitions []stop
		Listed     []stop
	}
	Verify *struct{ Acknowledged, Missing, Doubled, Changed, Reordered uint64 }
}

type stop struct {
	Partition int
	Millis    float64 `json:"ms"`
	At        time.Time
}

func (s stop) length() time.Duration { return time.Duration(s.Millis * float64(time.Millisecond)) }

// startLoad appends to a topic, which is made, until finish; it returns when records are being stored.
func (c *cluster) startLoad(ctx context.Context, topic string, partitions int, args ...string) (*load, error) {
	all := append([]string{"append", "--addr", c.Addr(), "--topic", topic, "--create", "--partitions", fmt.Sprint(partitions), "--replicas", "3",
		"--until-eof", "--verify", "-o", "json"}, args...)
	l := &load{ended: make(chan struct{})}
	cmd := c.Command(ctx, "mrbench", all...)
	cmd.Stdout, cmd.Stderr = &l.stdout, &l.stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("making a pipe: %w", err)
	}
	l.stdin = in
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting mrbench: %w", err)
	}
	go l.wait(cmd)
	return l, l.begun(ctx, c, topic)
}

func (l *load) wait(cmd *exec.Cmd) {
	l.err = cmd.Wait()
	close(l.ended)
}

var errLoadEnded = errors.New("the load ended by itself")

// begun waits until every partition has records.
func (l *load) begun(ctx context.Context, c *cluster, topic string) error {
	return until(ctx, "the load is under way", func() (bool, error) {
		select {
		case <-l.ended:
			return false, fmt.Errorf("%w: %w: %s", errLoadEnded, l.err, l.stderr.String())
		default:
		}
		parts, err := c.describe(ctx, topic)
		if err != nil && ctx.Err() == nil && strings.Contains(err.Error(), "UNKNOWN_TOPIC") {
			return false, nil // it is being made
		}
		for _, p := range parts {
			if p.HighWatermark == 0 {
				return false, err
			}
		}
		return len(parts) > 0, err
	})
}

// finish ends the load and returns its figures. Every acknowledged record was read back, once and in order.
func (l *load) finish() (*report, error) {
	select {
	case <-l.ended:
		return nil, fmt.Errorf("%w: %w: %s", errLoadEnded, l.err, l.stderr.String())
	default:
	}
	if err := l.stdin.Close(); err != nil {
		return nil, fmt.Errorf("ending mrbench: %w", err)
	}
	<-l.ended
	r, err := readReport(l.stdout.Bytes())
	switch {
	case l.err != nil:
		return nil, fmt.Errorf("mrbench: %w: %s%s", l.err, l.stdout.Bytes(), l.stderr.Bytes())
	case err != nil:
		return nil, err
	case r.Verify == nil || r.Verify.Acknowledged == 0 || r.Verify.Acknowledged != r.Append.Records || len(r.Stops.Partitions) == 0:
		return nil, fmt.Errorf("mrbench verified nothing, or not all: %s", l.stdout.Bytes())
	case r.Verify.Missing+r.Verify.Doubled+r.Verify.Changed+r.Verify.Reordered > 0:
		return nil, fmt.Errorf("mrbench found faults and ended with 0: %s", l.stdout.Bytes())
	}
	return r, nil
}

func readReport(out []byte) (*report, error) {
	r := new(report)
	if err := json.Unmarshal(out, r); err != nil {
		return nil, fmt.Errorf("reading mrbench's report %q: %w", out, err)
	}
	return r, nil
}

// peak is how many records of 16 B per second the cluster takes for a few seconds.
func (c *cluster) peak(ctx context.Context, partitions int, d time.Duration) (float64, error) {
	out, err := c.Command(ctx, "mrbench", "append", "--addr", c.Addr(), "--topic", "peak", "--create", "--partitions", fmt.Sprint(partitions),
		"--replicas", "3", "--size", "16", "--duration", d.String(), "-o", "json").Output()
	if err != nil {
		return 0, fmt.Errorf("mrbench: %w", err)
	}
	r, err := readReport(out)
	if err != nil {
		return 0, err
	}
	_, err = c.ctl(ctx, "topic", "delete", "peak")
	return r.Append.PerSecond, err
}
