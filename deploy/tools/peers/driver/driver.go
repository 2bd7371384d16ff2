package driver

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/multiraftd/multiraftd/cmd/mrbench/load"
)

const (
	gcPercent = 400                  // as mrbench: memory for processor time, which the load shares with the servers
	linger    = 2 * time.Millisecond // mrbench's default: the longest stay on a partition
)

// Options are the flags of a load program.
type Options struct {
	// Addrs are where the servers take clients. A system that runs in this process has its nodes there.
	Addrs []string
	// Dir is an existing folder for what a system that runs in this process stores.
	Dir string
	// Partitions to append to: streams, groups, or prefixes of keys.
	Partitions int
	// Clients of the load, and records in flight of all of them together.
	Clients, Window int
	// Size of a record's value, in bytes.
	Size int
	// RunBytes go to a partition before a client takes the next one; 1 = a record at a time.
	RunBytes int
	// Duration of the load.
	Duration time.Duration
	// Timeout for all to be ready, and for the last acknowledgements.
	Timeout time.Duration
}

// PerClient is how many records one client has in flight at most.
func (o *Options) PerClient() int { return o.Window / o.Clients }

// System is a cluster that is ready for the load.
type System interface {
	// Producer appends for one client. It tells the fate of each record to AckedOne of to, also from other goroutines.
	Producer(ctx context.Context, client int, to *load.Generator) (load.Producer, error)
	// Close is called when all producers are closed.
	Close() error
}

// Main is main of a load program: it prints one line of JSON, or exits with 1.
func Main(open func(context.Context, Options) (System, error)) {
	debug.SetGCPercent(gcPercent)
	var o Options
	addrs := flag.String("addr", "", "addresses, separated by commas")
	flag.StringVar(&o.Dir, "dir", "", "folder for data")
	flag.IntVar(&o.Partitions, "partitions", 1, "partitions")
	flag.IntVar(&o.Clients, "clients", 1, "clients")
	flag.IntVar(&o.Window, "window", 1, "records in flight, all clients together")
	flag.IntVar(&o.Size, "size", load.StampBytes, "bytes of a record's value")
	flag.IntVar(&o.RunBytes, "run-bytes", 256<<10, "bytes that a client appends to a partition before it takes the next one; as mrbench")
	flag.DurationVar(&o.Duration, "duration", 10*time.Second, "how long to append")
	flag.DurationVar(&o.Timeout, "timeout", time.Minute, "for all to be ready, and for the last acknowledgements")
	flag.Parse()
	o.Addrs = strings.Split(*addrs, ",")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o, open, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func (o *Options) validate() error {
	if o.Partitions < 1 || o.Clients < 1 || o.Clients > load.ClientsMax || o.Window < o.Clients {
		return fmt.Errorf("want a partition, 1 to %d clients and a record in flight for each, not %d, %d and %d", load.ClientsMax, o.Partitions, o.Clients, o.Window)
	}
	if o.Size < load.StampBytes {
		return fmt.Errorf("want -size %d at least, not %d", load.StampBytes, o.Size)
	}
	return nil
}

func run(ctx context.Context, o Options, open func(context.Context, Options) (System, error), out io.Writer) (err error) {
	if err := o.validate(); err != nil {
		return err
	}
	ready, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	s, err := open(ready, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	l := load.New(load.Config{Partitions: o.Partitions, Clients: o.Clients, Window: o.Window, BatchBytes: o.RunBytes, Linger: linger},
		load.NewPayload(rand.Uint32(), o.Size))
	var producers []load.Producer
	for id, g := range l.Clients() {
		p, err := s.Producer(ready, id, g)
		if err != nil {
			return fmt.Errorf("client %d: %w", id, err)
		}
		producers = append(producers, p)
	}
	res := l.Run(ctx, producers, o.Duration, nil, os.Stderr)
	if res.Err != nil {
		return fmt.Errorf("after %d records: %w", res.Acknowledged, res.Err)
	}
	return json.NewEncoder(out).Encode(map[string]any{"append": res.Figures(o.Size)})
}

// Flight counts records whose fate is not known yet.
type Flight struct{ records sync.WaitGroup }

// Add one record. From the goroutine that calls Wait.
func (f *Flight) Add() { f.records.Add(1) }

// Done with one record.
func (f *Flight) Done() { f.records.Done() }

// Wait returns when there is none, or fails after limit.
func (f *Flight) Wait(limit time.Duration) error {
	landed := make(chan struct{})
	go func() {
		f.records.Wait()
		close(landed)
	}()
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case <-landed:
		return nil
	case <-late.C:
		return fmt.Errorf("records not acknowledged %v after the end of the load", limit)
	}
}

// Until calls f until it succeeds, or returns its last error when ctx ends.
func Until(ctx context.Context, f func() error) error {
	const again = 50 * time.Millisecond
	look := time.NewTicker(again)
	defer look.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w", err)
		case <-look.C:
		}
	}
}
