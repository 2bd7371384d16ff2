package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/multiraftd/multiraftd/cmd/mrsim/planted"
)

// Exit codes.
const (
	exitFound = 1 // a seed shows what may not be
	exitUsage = 2
)

type options struct {
	seeds, from, seed uint64
	verbose           bool
	jobs              int
	worker, selftest  bool
	bug               string // one that is planted
	binary            string // what to run workers of; empty = this one
}

func main() {
	o, err := parse(os.Args[1:], os.Stderr)
	if err != nil {
		os.Exit(exitUsage)
	}
	if o.bug != "" && !o.selftest {
		if err := planted.Activate(o.bug); err != nil {
			fmt.Fprintln(os.Stderr, "mrsim:", err)
			os.Exit(exitUsage)
		}
	}
	switch {
	case o.worker:
		signal.Ignore(os.Interrupt) // of a terminal, for all processes: a worker ends with its input
		err = serveSeeds(os.Stdin, os.Stdout)
	case o.selftest:
		err = selftest(o, os.Stdout)
	case o.seed != 0:
		err = replay(o, os.Stdout)
	default:
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		err = sweep(ctx, o, os.Stdout, os.Stderr)
		stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stdout, err) // the last line of a failed run: what the caller greps for
		os.Exit(exitFound)
	}
}

func parse(args []string, errOut io.Writer) (options, error) {
	var o options
	fs := flag.NewFlagSet("mrsim", flag.ContinueOnError)
	fs.SetOutput(errOut)
	fs.Uint64Var(&o.seeds, "seeds", 100, "how many seeds to run")
	fs.Uint64Var(&o.from, "from", 1, "the first of them")
	fs.Uint64Var(&o.seed, "seed", 0, "run this seed alone")
	fs.BoolVar(&o.verbose, "v", false, "with -seed: say what happens")
	fs.IntVar(&o.jobs, "jobs", runtime.NumCPU(), "processes that run at once")
	fs.BoolVar(&o.selftest, "selftest", false, "plant each bug of cmd/mrsim/planted in turn and look for it")
	fs.StringVar(&o.bug, "bug", "", "this planted bug alone")
	fs.BoolVar(&o.worker, "worker", false, "run the seeds named on standard input (used by mrsim itself)")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	var fault error
	switch {
	case fs.NArg() > 0:
		fault = fmt.Errorf("mrsim: unexpected argument %q", fs.Arg(0))
	case o.jobs < 1:
		fault = fmt.Errorf("mrsim: -jobs %d: at least 1", o.jobs)
	case o.seeds == 0:
		fault = errors.New("mrsim: -seeds 0: at least 1")
	case o.verbose && o.seed == 0:
		fault = errors.New("mrsim: -v needs -seed: the trace of one run is long enough")
	}
	if fault != nil {
		fmt.Fprintln(errOut, fault)
	}
	return o, fault
}

// replay runs one seed, and says what happens if asked to.
func replay(o options, out io.Writer) error {
	buffered := bufio.NewWriter(out)
	var say func(string)
	if o.verbose {
		say = func(line string) { fmt.Fprintln(buffered, line) }
	}
	began := time.Now()
	r := run(o.seed, say)
	var t total
	t.add(r)
	fmt.Fprintf(buffered, "seed %d: trace %016x\n", r.Seed, r.Trace)
	t.print(buffered, time.Since(began))
	if err := buffered.Flush(); err != nil {
		return err
	}
	return t.err()
}

// serveSeeds is a worker: a seed per line in, a result per line out.
func serveSeeds(in io.Reader, out io.Writer) error {
	lines, enc := bufio.NewScanner(in), json.NewEncoder(out)
	for lines.Scan() {
		var seed uint64
		if _, err := fmt.Sscan(lines.Text(), &seed); err != nil {
			return fmt.Errorf("mrsim: a seed that is no number: %q", lines.Text())
		}
		if err := enc.Encode(run(seed, nil)); err != nil {
			return err
		}
	}
	return lines.Err()
}
