package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/multiraftd/multiraftd/deploy/localcluster"
)

const healthWaitMax = 60 * time.Second

type options struct {
	bin        string
	sizes      []string
	partitions int
	duration   time.Duration
	extra      []string
	rounds     int
	arms       arms
}

func main() {
	var o options
	sizes := flag.String("sizes", "16,1024", "record sizes in bytes")
	flag.StringVar(&o.bin, "bin", "bin", "folder with multiraftd, mrctl and mrbench")
	flag.IntVar(&o.partitions, "partitions", 48, "partitions of each topic")
	flag.DurationVar(&o.duration, "duration", 20*time.Second, "how long to append, for each size")
	flag.IntVar(&o.rounds, "rounds", 0, "compare the -arm flags in so many rounds")
	flag.Var(&o.arms, "arm", "name=folder flags...: binaries and flags of multiraftd start to compare; the first is the base; may be repeated")
	flag.Parse()
	o.sizes, o.extra = strings.Split(*sizes, ","), flag.Args()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := runOrCompare(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func runOrCompare(ctx context.Context, o options) error {
	if o.rounds > 0 {
		return compare(ctx, o, os.Stdout)
	}
	return run(ctx, o)
}

func run(ctx context.Context, o options) (err error) {
	dir, err := os.MkdirTemp("", "multiraftd-bench-")
	if err != nil {
		return fmt.Errorf("making a scratch folder: %w", err)
	}
	defer func() {
		if err != nil {
			fmt.Fprintln(os.Stderr, "data and logs are in", dir)
		} else {
			err = os.RemoveAll(dir)
		}
	}()
	c, err := localcluster.New(localcluster.Config{Bin: o.bin, Dir: dir})
	if err != nil {
		return err
	}
	defer func() {
		if closed := c.Close(); err == nil {
			err = closed
		}
	}()
	if err := c.StartAll(); err != nil {
		return err
	}
	for _, size := range o.sizes {
		if err := runSize(ctx, c, o, size); err != nil {
			return fmt.Errorf("%s B: %w", size, err)
		}
	}
	return nil
}

// runSize lets mrbench print its figures, and adds the nodes'.
func runSize(ctx context.Context, c *localcluster.Cluster, o options, size string) error {
	waiting, cancel := context.WithTimeout(ctx, healthWaitMax)
	defer cancel()
	if err := c.Healthy(waiting); err != nil {
		return err
	}
	before, err := scrape(ctx, c)
	if err != nil {
		return err
	}
	args := append([]string{"append", "--addr", c.Addr(), "--verify"}, load(o, "bench-"+size, size)...)
	fmt.Printf("== %s B, %d partitions: mrbench %s\n", size, o.partitions, strings.Join(args, " "))
	cmd := c.Command(ctx, "mrbench", args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("mrbench: %w", err)
	}
	after, err := scrape(ctx, c)
	if err != nil {
		return err
	}
	for _, r := range ratios {
		fmt.Println(r.line(before, after))
	}
	return c.Err()
}

// load is what to append, as mrbench's arguments say it.
func load(o options, topic, size string) []string {
	return append([]string{"--topic", topic, "--create", "--partitions", fmt.Sprint(o.partitions),
		"--replicas", "3", "--duration", o.duration.String(), "--size", size}, o.extra...)
}
