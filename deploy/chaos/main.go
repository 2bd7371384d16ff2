package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// scenarioTimeMax bounds one scenario: what hangs is a failure.
const scenarioTimeMax = 6 * time.Minute

// scenario is something that happens to a cluster of its own. Its result is one line of figures.
type scenario struct {
	name, about string
	run         func(context.Context, *stage) (string, error)
}

var scenarios = []scenario{
	{"life", "3 -> 5 -> 3 nodes and a replacement, under half of the peak", life},
	{"snapshot", "a follower that was away for too long is filled anew, also with its stream cut and with flipped bits", snapshot},
	{"controller", "joins, moves, a drain, a replacement and a snapshot, the controller's node killed in the middle of each", controller},
	{"remedies", "each illness that cluster health knows, caused, named and cured as it says", remedies},
	{"rolling", "rolling restarts with SIGTERM and with SIGKILL, in turn", rolling},
	{"strangers", "one node flooded in every way there is, beside a normal load", strangers},
	{"groups", "many groups x 3 replicas: creation, memory, idle processors, restart, loss of a node", groups},
}

// stage is what a scenario works with.
type stage struct {
	options
	dir string // an empty one of its own
}

type options struct {
	bin        string
	keep       bool
	small      bool // everything in little: for tests
	partitions int
	pairs      int           // of rolling restarts
	groups     int           // of the scenario with many
	idle       time.Duration // over which idle processors are measured
	flooding   time.Duration // by each kind of flood
	floodNice  int           // its priority, as nice takes it
	floods     []string      // the kinds
}

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", "bin", "folder with multiraftd, mrctl and mrbench")
	flag.BoolVar(&o.keep, "keep", false, "keep data and logs")
	flag.IntVar(&o.partitions, "partitions", 24, "partitions of the topics under load")
	flag.IntVar(&o.pairs, "pairs", 3, "rolling restarts with each signal")
	flag.IntVar(&o.groups, "groups", 1000, "how many groups, where many are made")
	flag.DurationVar(&o.idle, "idle", time.Minute, "how long to measure what many groups cost while nothing happens")
	flag.DurationVar(&o.flooding, "flooding", 5*time.Second, "how long each kind of flood lasts")
	flag.IntVar(&o.floodNice, "flood-nice", 19, "priority of floods: at 19 they get the processors that others leave, at 0 they take them from others")
	floods := flag.String("floods", strings.Join(floodKinds, ","), "kinds of flood, with commas between them")
	flag.Usage = usage
	flag.Parse()
	o.floods = strings.Split(*floods, ",")
	chosen, err := choose(flag.Args())
	if err == nil {
		err = o.check()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err = run(ctx, o, chosen)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

func (o *options) check() error {
	if o.partitions < 1 || o.pairs < 1 || o.groups < 1 || o.idle <= 0 || o.flooding <= 0 {
		return errors.New("numbers and times must be above 0")
	}
	for _, kind := range o.floods {
		if !slices.Contains(floodKinds, kind) {
			return fmt.Errorf("there is no flood %q; there are %s", kind, strings.Join(floodKinds, ", "))
		}
	}
	return nil
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: chaos [flags] [scenario ...]; without a scenario all of them:")
	for _, s := range scenarios {
		fmt.Fprintf(os.Stderr, "  %-11s %s\n", s.name, s.about)
	}
	flag.PrintDefaults()
}

func choose(names []string) (chosen []scenario, err error) {
	if len(names) == 0 {
		return scenarios, nil
	}
	for _, name := range names {
		i := slices.IndexFunc(scenarios, func(s scenario) bool { return s.name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no scenario %q", name)
		}
		chosen = append(chosen, scenarios[i])
	}
	return chosen, nil
}

// run plays the scenarios one after the other, also after one that failed.
func run(ctx context.Context, o options, chosen []scenario) error {
	dir, err := os.MkdirTemp("", "multiraftd-chaos-")
	if err != nil {
		return fmt.Errorf("making a scratch folder: %w", err)
	}
	var failed []string
	for _, s := range chosen {
		if err := play(ctx, o, s, filepath.Join(dir, s.name)); err != nil {
			fmt.Printf("%s: FAILED: %v\n", s.name, err)
			failed = append(failed, s.name)
		}
		if ctx.Err() != nil {
			return errors.Join(ctx.Err(), os.RemoveAll(dir))
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("failed: %s; data and logs are in %s", strings.Join(failed, ", "), dir)
	}
	if o.keep {
		progress("data and logs are in %s", dir)
		return nil
	}
	return os.RemoveAll(dir)
}

func play(ctx context.Context, o options, s scenario, dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("making a scratch folder: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, scenarioTimeMax)
	defer cancel()
	began := time.Now()
	progress("== %s: %s", s.name, s.about)
	figures, err := s.run(ctx, &stage{options: o, dir: dir})
	if err != nil {
		return err
	}
	fmt.Printf("%s: %s (%.0f s)\n", s.name, figures, time.Since(began).Seconds())
	if o.keep {
		return nil
	}
	return os.RemoveAll(dir)
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05.000 ")+format+"\n", args...)
}
