package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/multiraftd/multiraftd/client"
	"github.com/multiraftd/multiraftd/cmd/mrbench/load"
)

// job is one run of a command.
type job struct {
	*options
	name           string
	stdin          io.Reader
	stdout, stderr io.Writer
	client         *client.Client // for all but the load
	topic          *topicInfo
	report         report
}

// runJob prepares the topic, runs f and reports, also on what a failed f has done.
func runJob(ctx context.Context, j *job, f func(context.Context, *job) error) (err error) {
	if j.client, err = j.open(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, j.client.Close()) }()
	if err := j.bounded(ctx, func(ctx context.Context) (err error) {
		j.topic, err = prepare(ctx, j.client, j.options, j.stderr)
		return err
	}); err != nil {
		return err
	}
	j.report = newReport(j)
	err = f(ctx, j)
	if j.report.empty() {
		return err
	}
	return errors.Join(err, j.report.print(j.stdout, j.output))
}

// bounded gives f the time limit of one call.
func (j *job) bounded(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, j.timeout)
	defer cancel()
	return f(ctx)
}

func runAppend(ctx context.Context, j *job) error {
	p := load.NewPayload(rand.Uint32(), j.size)
	l, err := j.load(ctx, p)
	if l == nil {
		return err
	}
	if !j.verify || ctx.Err() != nil {
		return err
	}
	check := newChecker(p, j.clients, j.topic.partitions)
	back := &tally{next: check.take}
	begun := time.Now()
	ranges, rerr := j.grown(ctx)
	if rerr == nil {
		rerr = readRanges(ctx, j.client, j.options, ranges, back.take)
	}
	if rerr != nil {
		return errors.Join(err, fmt.Errorf("reading back: %w", rerr))
	}
	j.report.read(back, time.Since(begun))
	return errors.Join(err, j.judge(check, l.Outcomes()))
}

// load runs the load and reports on it. Without a load there was none; its error says what was wrong with it.
func (j *job) load(ctx context.Context, p *load.Payload) (*clusterLoad, error) {
	var l *clusterLoad
	if err := j.bounded(ctx, func(ctx context.Context) (err error) {
		l, err = newLoad(ctx, j.options, j.topic.partitions, p)
		return err
	}); err != nil {
		return nil, err
	}
	res, cpu, err := l.run(ctx, j)
	err = errors.Join(err, l.close())
	j.report.load(j, res, cpu)
	switch {
	case res == nil || err != nil:
		return nil, err
	case ctx.Err() != nil:
		return l, errInterrupted
	case res.Err != nil || res.Errors > 0: // what was stored and what not is known; that nobody is there any more is not the point
		return l, fmt.Errorf("%w: %d records not acknowledged: %v", errLoad, res.Errors, res.Err)
	}
	return l, nil
}

// input is what ends the load when it ends; nil = nothing does.
func (j *job) input() io.Reader {
	if j.untilEOF {
		return j.stdin
	}
	return nil
}

// grown is what has come to the partitions since the job began.
func (j *job) grown(ctx context.Context) ([]bounds, error) {
	var now *topicInfo
	if err := j.bounded(ctx, func(ctx context.Context) (err error) {
		now, err = look(ctx, j.client, j.options.topic)
		return err
	}); err != nil {
		return nil, err
	}
	if now.partitions != j.topic.partitions {
		return nil, fmt.Errorf("the topic had %d partitions and has %d", j.topic.partitions, now.partitions)
	}
	ranges := make([]bounds, now.partitions)
	for p := range ranges {
		ranges[p] = bounds{j.topic.bounds[p].to, now.bounds[p].to}
	}
	return ranges, nil
}

func (j *job) judge(check *checker, outcomes []load.Outcome) error {
	j.report.Verify = check.finish(outcomes)
	if v := j.report.Verify; v.failed() {
		return fmt.Errorf("%w: %s", errVerify, v.Example)
	}
	return nil
}

func runMixed(ctx context.Context, j *job) error {
	p := load.NewPayload(rand.Uint32(), j.size)
	check := newChecker(p, j.clients, j.topic.partitions)
	followed := &tally{}
	if j.verify {
		followed.next = check.take
	}
	begun := time.Now()
	f := follow(ctx, j.client, j.options, j.topic.bounds, followed.take)
	l, err := j.load(f.ctx, p) // a follower that fails ends the load
	loadEnd := time.Now()
	switch {
	case l == nil || ctx.Err() != nil:
		f.abort(errDone)
		return err
	case f.ctx.Err() != nil:
		f.abort(errDone) // too late to be the cause
		return fmt.Errorf("following: %w", context.Cause(f.ctx))
	}
	ranges, rerr := j.grown(ctx)
	if rerr != nil {
		f.abort(rerr)
		return errors.Join(err, rerr)
	}
	late, ferr := f.finish(ranges, loadEnd)
	if ferr != nil {
		return errors.Join(err, fmt.Errorf("following: %w", ferr))
	}
	j.report.read(followed, time.Since(begun))
	j.report.Read.CaughtUpMillis = millis(late)
	if !j.verify {
		return err
	}
	return errors.Join(err, j.judge(check, l.Outcomes()))
}

func runRead(ctx context.Context, j *job) error {
	t := &tally{limit: j.records}
	limited := ctx
	if j.duration > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeoutCause(ctx, j.duration, errDone)
		defer cancel()
	}
	before, err := cpuTime()
	if err != nil {
		return err
	}
	begun := time.Now()
	err = readRanges(limited, j.client, j.options, j.topic.bounds, t.take)
	elapsed := time.Since(begun)
	ended := errors.Is(err, errDone)
	if ended {
		err = nil
	}
	after, cerr := cpuTime()
	j.report.read(t, elapsed)
	j.report.cpu(after-before, t.records.Load(), elapsed)
	if ctx.Err() != nil {
		err = errInterrupted
	}
	if err = errors.Join(err, cerr); err != nil || !j.verify || ended {
		return err
	}
	return j.judgeRead(t)
}

// judgeRead compares what was read with what the leaders said is there. The reader itself has checked that offsets
// continue and that checksums are right.
func (j *job) judgeRead(t *tally) error {
	v := &verdict{}
	for _, b := range j.topic.bounds {
		v.Acknowledged += uint64(b.to - b.from)
	}
	read := t.records.Load()
	v.Missing, v.Doubled = max(v.Acknowledged, read)-read, max(v.Acknowledged, read)-v.Acknowledged
	j.report.Verify = v
	if v.failed() {
		return fmt.Errorf("%w: %d records are there, %d were read", errVerify, v.Acknowledged, read)
	}
	return nil
}
