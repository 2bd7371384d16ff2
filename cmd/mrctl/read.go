package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/multiraftd/multiraftd/client"
)

const (
	readBufferBytes = 256 << 10
	// runRecordsMax bounds how many records of one partition are printed before another one's turn.
	runRecordsMax = 1024
	// contextCheckRecords is how often a loop over records that are there looks whether it is to end.
	contextCheckRecords = 1024
)

type readOptions struct {
	*options
	topic     string
	partition int64
	from, to  string
	max       int64
	follow    bool
	format    string

	config client.ReadConfig
	write  recordWriter
}

func newRead(o *options) *cobra.Command {
	r := &readOptions{options: o}
	cmd := &cobra.Command{
		Use:   "read TOPIC",
		Short: "Read records, of all partitions one after the other or of one",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.topic = args[0]
			if err := r.validate(cmd); err != nil {
				return err
			}
			return r.run(cmd)
		},
	}
	f := cmd.Flags()
	f.Int64Var(&r.partition, "partition", -1, "read this partition only")
	f.StringVar(&r.from, "from", "start", "start, end, an offset, or @TIME as in @2026-01-31T12:00:00Z")
	f.StringVar(&r.to, "to", "end", "end (as of now) or an offset, exclusive")
	f.Int64Var(&r.max, "max", 0, "stop after this many records; 0 = no limit")
	f.BoolVar(&r.follow, "follow", false, "wait for more records at the end")
	f.StringVar(&r.format, "print", "value", "value, json, or a list of partition, offset, timestamp, key, value")
	return cmd
}

func (r *readOptions) validate(cmd *cobra.Command) error {
	if err := r.options.validate(); err != nil {
		return err
	}
	f := cmd.Flags()
	if f.Changed("partition") && (r.partition < 0 || r.partition > 1<<31-1) {
		return usage(fmt.Errorf("no partition has the number %d", r.partition))
	}
	if r.follow && f.Changed("to") {
		return usage(errors.New("--follow and --to exclude each other"))
	}
	if r.max < 0 {
		return usage(errors.New("--max must not be negative"))
	}
	from, err := parseFrom(r.from)
	if err != nil {
		return usage(err)
	}
	to, err := parseTo(r.to)
	if err != nil {
		return usage(err)
	}
	if r.output == "json" && !f.Changed("print") {
		r.format = "json"
	}
	r.config = client.ReadConfig{From: from, To: to, Follow: r.follow, RetryTimeout: r.timeout}
	r.write, err = parseFormat(r.format)
	return usage(err)
}

func parseFrom(s string) (client.Position, error) {
	switch {
	case s == "start":
		return client.Start(), nil
	case s == "end":
		return client.End(), nil
	case strings.HasPrefix(s, "@"):
		t, err := time.Parse(time.RFC3339, s[1:])
		if err != nil {
			return client.Position{}, fmt.Errorf("--from: %q is not a time like @2026-01-31T12:00:00Z", s)
		}
		return client.Time(t), nil
	}
	return parseOffset("--from", s)
}

func parseTo(s string) (client.Position, error) {
	if s == "end" {
		return client.End(), nil
	}
	return parseOffset("--to", s)
}

func parseOffset(flag, s string) (client.Position, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return client.Position{}, fmt.Errorf("%s: %q is neither a position nor an offset", flag, s)
	}
	return client.Offset(n), nil
}

func (r *readOptions) run(cmd *cobra.Command) error {
	c, err := r.open()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	out := bufio.NewWriterSize(cmd.OutOrStdout(), readBufferBytes)
	err = r.read(ctx, c, out)
	if errors.Is(err, context.Canceled) && r.follow {
		err = nil // the way to end a read that follows
	}
	return errors.Join(err, out.Flush(), c.Close())
}

func (r *readOptions) read(ctx context.Context, c *client.Client, out *bufio.Writer) error {
	readers, err := r.readers(ctx, c)
	defer closeAll(readers)
	if err != nil {
		return err
	}
	left := r.max
	if left == 0 {
		left = -1
	}
	if r.follow && len(readers) > 1 {
		return r.merge(ctx, readers, out, left)
	}
	for _, pr := range readers {
		if left, err = r.copy(ctx, pr, out, left); err != nil || left == 0 {
			return err
		}
	}
	return nil
}

func closeAll(readers []partitionReader) {
	for _, pr := range readers {
		_ = pr.Close() // it only ends a stream, and cannot fail
	}
}

type partitionReader struct {
	*client.Reader
	partition uint32
}

// readers prepares one reader per partition. The ends are asked for all partitions at once, so that all are
// those of the time when the command started.
func (r *readOptions) readers(ctx context.Context, c *client.Client) ([]partitionReader, error) {
	opening, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	configs, err := r.configs(opening, c)
	if err != nil {
		return nil, err
	}
	var readers []partitionReader
	for _, cfg := range configs {
		reader, err := c.NewReader(opening, r.topic, cfg)
		if err != nil {
			return readers, err
		}
		readers = append(readers, partitionReader{reader, cfg.Partition})
	}
	return readers, nil
}

func (r *readOptions) configs(ctx context.Context, c *client.Client) ([]client.ReadConfig, error) {
	cfg := r.config
	if r.partition >= 0 {
		cfg.Partition = uint32(r.partition)
		return []client.ReadConfig{cfg}, nil
	}
	toEnd := !r.follow && r.to == "end"
	desc, err := c.Describe(ctx, r.topic, toEnd)
	if err != nil {
		return nil, err
	}
	var configs []client.ReadConfig
	for _, p := range desc.GetPartitions() {
		cfg.Partition = p.GetPartition()
		if toEnd && p.GetHighWatermark() >= 0 && r.from != "end" {
			cfg.To = client.Offset(p.GetHighWatermark())
		}
		configs = append(configs, cfg)
	}
	return configs, nil
}

// copy prints one partition. left counts down to 0; negative = no limit.
func (r *readOptions) copy(ctx context.Context, pr partitionReader, out *bufio.Writer, left int64) (int64, error) {
	for n := 0; left != 0; n++ {
		if n%contextCheckRecords == 0 && ctx.Err() != nil {
			return left, ctx.Err()
		}
		if r.follow && pr.Buffered() == 0 {
			if err := out.Flush(); err != nil {
				return left, err
			}
		}
		rec, err := pr.Next(ctx)
		if errors.Is(err, io.EOF) {
			return left, nil
		}
		if err != nil {
			return left, err
		}
		if err := r.write(out, pr.partition, &rec); err != nil {
			return left, err
		}
		left--
	}
	return left, nil
}

// merge follows several partitions: each is read by a goroutine of its own, in runs, and printed by this one.
func (r *readOptions) merge(ctx context.Context, readers []partitionReader, out *bufio.Writer, left int64) error {
	ctx, cancel := context.WithCancelCause(ctx)
	runs := make(chan recordRun)
	var wg sync.WaitGroup
	defer wg.Wait() // before the readers are closed
	defer cancel(nil)
	for _, pr := range readers {
		wg.Go(func() { follow(ctx, cancel, pr, runs) })
	}
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case next := <-runs:
			for i := range next.records {
				if left == 0 {
					return nil
				}
				if err := r.write(out, next.partition, &next.records[i]); err != nil {
					return err
				}
				left--
			}
		}
		if err := out.Flush(); err != nil || left == 0 {
			return err
		}
	}
}

// recordRun is what one partition had to give at once.
type recordRun struct {
	partition uint32
	records   []client.Record
}

// follow sends a partition's records in runs; its failure ends them all.
func follow(ctx context.Context, fail context.CancelCauseFunc, pr partitionReader, runs chan<- recordRun) {
	for {
		next := recordRun{partition: pr.partition}
		for len(next.records) == 0 || pr.Buffered() > 0 && len(next.records) < runRecordsMax {
			rec, err := pr.Next(ctx)
			if err != nil {
				fail(err)
				return
			}
			next.records = append(next.records, rec)
		}
		select {
		case runs <- next:
		case <-ctx.Done():
			return
		}
	}
}
