package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/multiraftd/multiraftd/client"
)

const (
	appendLinger = 5 * time.Millisecond
	// receiptsInterval bounds how late a receipt is printed when more of them keep coming.
	receiptsInterval = 10 * time.Millisecond
)

type appendOptions struct {
	*options
	topic        string
	partition    int
	key          string
	keySeparator string
	rate         float64
	batchBytes   int
	receipt      bool
	trace        bool
	otlp         string
	hasKey       bool
}

func newAppend(o *options) *cobra.Command {
	a := &appendOptions{options: o}
	cmd := &cobra.Command{
		Use:   "append TOPIC",
		Short: "Append the lines of stdin, each as one record",
		Long: `Append the lines of stdin, each as one record, in order per partition and exactly once.

"\n" ends a record and is not part of it; a last line without it counts; an empty line is an empty record.
Without --partition a record goes where its key's hash says (murmur2, as in Kafka), without a key to one
partition after the other, a batch at a time. Done when all is fsynced on a majority of the replicas.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			a.topic, a.hasKey = args[0], cmd.Flags().Changed("key")
			if err := a.validate(cmd); err != nil {
				return err
			}
			return a.run(cmd)
		},
	}
	f := cmd.Flags()
	f.IntVar(&a.partition, "partition", client.AnyPartition, "append to this partition only")
	f.StringVar(&a.key, "key", "", "key of every record")
	f.StringVar(&a.keySeparator, "key-separator", "", "a line is key, separator, value; without the separator it has no key")
	f.Float64Var(&a.rate, "rate", 0, "records per second; 0 = as fast as acknowledgements allow")
	f.IntVar(&a.batchBytes, "batch-bytes", 0, "close a batch at this size (default 256 KiB)")
	f.BoolVar(&a.receipt, "receipt", false, "print a line per batch: partition offset count term index fsynced_replicas")
	f.BoolVar(&a.trace, "trace", false, fmt.Sprintf("trace the first %d batches, and print their trace ids on stderr", tracesMax))
	f.StringVar(&a.otlp, "otlp-endpoint", "", "with --trace, export this command's own spans here; else where the OTEL_* variables say, if they do")
	return cmd
}

func (a *appendOptions) validate(cmd *cobra.Command) error {
	if err := a.options.validate(); err != nil {
		return err
	}
	switch f := cmd.Flags(); {
	case f.Changed("partition") && a.partition < 0:
		return usage(errors.New("--partition must not be negative"))
	case a.hasKey && f.Changed("key-separator"):
		return usage(errors.New("--key and --key-separator exclude each other"))
	case f.Changed("key-separator") && a.keySeparator == "":
		return usage(errors.New("--key-separator must not be empty"))
	case f.Changed("otlp-endpoint") && !a.trace:
		return usage(errors.New("--otlp-endpoint says where the spans of --trace go"))
	case a.rate < 0 || a.batchBytes < 0:
		return usage(errors.New("--rate and --batch-bytes must not be negative"))
	}
	return nil
}

// run appends until stdin ends, something fails for good, or the command is interrupted.
func (a *appendOptions) run(cmd *cobra.Command) error {
	tracer, err := a.newTracer(cmd.Context())
	if err != nil {
		return err
	}
	c, err := a.openTraced(tracer)
	if err != nil {
		return err
	}
	ctx, fail := context.WithCancelCause(cmd.Context())
	defer fail(nil)
	t := &tally{options: a, stderr: cmd.ErrOrStderr(), out: bufio.NewWriter(cmd.OutOrStdout()), fail: fail, begun: time.Now(), flushed: time.Now()}
	err = a.produce(ctx, c, cmd.InOrStdin(), t)
	fmt.Fprintf(t.stderr, "appended %d records\n", t.records())
	err = errors.Join(err, c.Close())
	if unexported := tracer.close(); unexported != nil { // the records are stored all the same
		fmt.Fprintf(t.stderr, "mrctl: %v\n", unexported)
	}
	return err
}

func (a *appendOptions) produce(ctx context.Context, c *client.Client, stdin io.Reader, t *tally) error {
	open, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	p, err := c.NewProducer(open, a.topic, client.ProducerConfig{BatchBytes: a.batchBytes, Linger: appendLinger,
		DeliveryTimeout: a.timeout, OnAck: t.ack})
	if err != nil {
		return err
	}
	stopProgress := repeat(progressInterval, t.report)
	err = a.feed(ctx, p, newLines(stdin, p.RecordBytesMax()))
	// What has been taken in is delivered even when a later line cannot be: DeliveryTimeout ends this. After
	// an interruption or a failure nothing is waited for.
	closed := p.Close(ctx)
	stopProgress()
	for _, err := range []error{t.result(), err, closed} { // each repeats the one before in other words
		if err != nil {
			return err
		}
	}
	return nil
}

// feed appends line after line. It returns why it stopped before the end of stdin; a failed batch has been
// noted by tally.
func (a *appendOptions) feed(ctx context.Context, p *client.Producer, in *lines) error {
	pace := newPacer(a.rate)
	stop := make(chan error, 1)
	// A read of stdin cannot be interrupted: the goroutine is left behind when the command ends first.
	go func() { stop <- a.feedLines(ctx, p, in, pace) }()
	select {
	case err := <-stop:
		return err
	case <-ctx.Done():
		return interrupted(ctx)
	}
}

func interrupted(ctx context.Context) error {
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return nil // a failed batch, which tally reports
	}
	return errors.New("interrupted")
}

func (a *appendOptions) feedLines(ctx context.Context, p *client.Producer, in *lines, pace *pacer) error {
	for {
		line, err := in.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading stdin: %w", err)
		}
		if err := pace.wait(ctx); err != nil {
			return interrupted(ctx)
		}
		if _, err := p.Append(ctx, a.partition, a.record(line)); err != nil {
			if ctx.Err() != nil {
				return interrupted(ctx)
			}
			return fmt.Errorf("line %d: %w", in.number, err)
		}
	}
}

func (a *appendOptions) record(line []byte) client.Record {
	if a.hasKey {
		return client.Record{Key: []byte(a.key), Value: line}
	}
	if a.keySeparator != "" {
		if key, value, ok := bytes.Cut(line, []byte(a.keySeparator)); ok {
			return client.Record{Key: key, Value: value}
		}
	}
	return client.Record{Value: line}
}

// tally counts acknowledgements and prints receipts. The producer calls ack from one goroutine.
type tally struct {
	options *appendOptions
	stderr  io.Writer
	out     *bufio.Writer
	fail    context.CancelCauseFunc
	begun   time.Time

	mu      sync.Mutex
	acked   int
	err     error
	flushed time.Time
}

func (t *tally) ack(ack client.Ack) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ack.TraceID != "" {
		fmt.Fprintf(t.stderr, "trace %s\n", ack.TraceID)
	}
	err := ack.Err
	if err == nil {
		t.acked += ack.Records
		if t.options.receipt {
			err = t.print(ack.Receipt)
		}
	}
	if err != nil && worse(err, t.err) {
		t.err = err
		t.fail(err)
	}
}

// worse decides which of many errors is told: an unknown outcome is what a script must know.
func worse(err, than error) bool {
	return than == nil || errors.Is(err, client.OutcomeUnknown) && !errors.Is(than, client.OutcomeUnknown)
}

func (t *tally) print(r client.Receipt) error {
	if t.options.output == "json" {
		line, err := json.Marshal(receiptLine{r.Partition, r.Offset, r.Count, r.Term, r.Index, r.Fsynced, r.Duplicate})
		if err != nil {
			return err
		}
		if _, err := t.out.Write(append(line, '\n')); err != nil {
			return err
		}
	} else if _, err := fmt.Fprintf(t.out, "%d\t%d\t%d\t%d\t%d\t%d\n", r.Partition, r.Offset, r.Count, r.Term, r.Index, r.Fsynced); err != nil {
		return err
	}
	if now := time.Now(); now.Sub(t.flushed) >= receiptsInterval {
		t.flushed = now
		return t.out.Flush()
	}
	return nil
}

type receiptLine struct {
	Partition uint32 `json:"partition"`
	Offset    int64  `json:"offset"`
	Count     uint32 `json:"count"`
	Term      uint64 `json:"term"`
	Index     uint64 `json:"index"`
	Fsynced   uint32 `json:"fsynced_replicas"`
	Duplicate bool   `json:"duplicate"`
}

func (t *tally) records() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.acked
}

// result is the failure, and writes what is left of the receipts.
func (t *tally) result() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.options.receipt {
		if err := t.out.Flush(); t.err == nil {
			t.err = err
		}
	}
	return t.err
}

// report prints how far it is, and receipts that nothing pushed out.
func (t *tally) report() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.options.receipt {
		if err := t.out.Flush(); err != nil && t.err == nil {
			t.err = err
			t.fail(err)
		}
	}
	fmt.Fprintf(t.stderr, "%d records acknowledged, %.0f/s\n", t.acked, float64(t.acked)/time.Since(t.begun).Seconds())
}
