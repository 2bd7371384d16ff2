package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/multiraftd/multiraftd/deploy/trial"
)

// options are the flags.
type options struct {
	bin       string
	rounds    int
	duration  time.Duration
	workloads []workload
	systems   []system
}

func main() {
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		err = compare(ctx, o, os.Stdout, os.Stderr)
		stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("compare", flag.ContinueOnError)
	f.StringVar(&o.bin, "bin", "bin", "folder with multiraftd, mrctl and mrbench, and with the other systems in peers/")
	f.IntVar(&o.rounds, "rounds", 4, "how often each system runs under each workload")
	f.DurationVar(&o.duration, "duration", 3*time.Second, "how long to append, each time")
	workloadNames := f.String("workloads", names(workloads), "which workloads")
	systemNames := f.String("systems", names(systems), "which systems; the others are compared with the first")
	if err := f.Parse(args); err != nil {
		return options{}, err
	}
	if o.rounds < 1 || o.duration <= 0 {
		return options{}, fmt.Errorf("want -rounds 1 and a positive -duration at least, not %d and %v", o.rounds, o.duration)
	}
	var errs [2]error
	o.workloads, errs[0] = choose(workloads, *workloadNames)
	o.systems, errs[1] = choose(systems, *systemNames)
	return o, errors.Join(errs[:]...)
}

// named is a workload or a system.
type named interface{ called() string }

func names[T named](all []T) string {
	list := make([]string, len(all))
	for i, one := range all {
		list[i] = one.called()
	}
	return strings.Join(list, ",")
}

// choose finds those with names in a list, in the list's order.
func choose[T named](all []T, list string) (chosen []T, err error) {
	for name := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(all, func(one T) bool { return one.called() == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no %q; there are %s", name, names(all))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// errFailed: some runs have no figures. Why was told when it happened.
var errFailed = errors.New("some runs failed; the tables say how many")

// compare runs all workloads and prints a table for each, then the notes on the systems. A run that fails is told and
// counted, and the rest goes on.
func compare(ctx context.Context, o options, out, progress io.Writer) error {
	versions, err := readVersions(filepath.Join(o.bin, peersFolder), o.systems)
	if err != nil {
		return err
	}
	begun, failed := time.Now(), false
	for _, w := range o.workloads {
		t := newTable(w, o.systems)
		fmt.Fprintf(out, "## %s: %s; %d rounds of %v\n\n", w.name, w, o.rounds, o.duration)
		err := trial.Rounds(o.rounds, len(t.rows), func(round, at int) error {
			s := t.rows[at].system
			f, err := s.run(ctx, s.load(o, w))
			if ctx.Err() != nil {
				return ctx.Err()
			}
			t.rows[at].add(f, err)
			failed = failed || err != nil
			fmt.Fprintf(progress, "%4.0f s  %s, round %d: %s: %s\n", time.Since(begun).Seconds(), w.name, round+1, s.name, outcome(f, err))
			return nil
		})
		if err != nil {
			return err
		}
		t.print(out)
	}
	printNotes(out, o.systems, versions)
	if failed {
		return errFailed
	}
	return nil
}

func outcome(f trial.Figures, err error) string {
	if err != nil {
		return "failed: " + err.Error()
	}
	return fmt.Sprintf("%.0f records/s, p50 %s ms", f.RecordsPerS, digits(f.Latency.P50))
}
