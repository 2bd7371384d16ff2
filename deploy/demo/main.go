package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/multiraftd/multiraftd/deploy/localcluster"
)

type options struct {
	bin   string
	dir   string
	keep  bool
	lines int           // of the input; 0 = all
	kills int           // on one partition; a quarter of it on three
	every time.Duration // from kill to kill
}

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", "bin", "folder with multiraftd and mrctl")
	flag.StringVar(&o.dir, "dir", "", "folder for input, output, data and logs (default: a scratch folder)")
	flag.BoolVar(&o.keep, "keep", false, "keep that folder")
	flag.IntVar(&o.lines, "lines", 0, "lines of input (0: all of the toolchain's source)")
	flag.IntVar(&o.kills, "kills", 12, "kills of the leader while appending to one partition")
	flag.DurationVar(&o.every, "every", 5*time.Second, "time from kill to kill")
	flag.Parse()
	if flag.NArg() > 0 || o.lines < 0 || o.kills < 1 || o.every <= 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// run makes the scratch folder, and removes it unless something went wrong or it is to be kept.
func run(ctx context.Context, o options) (err error) {
	if o.dir == "" {
		if o.dir, err = os.MkdirTemp("", "multiraftd-demo-"); err != nil {
			return fmt.Errorf("making a scratch folder: %w", err)
		}
	} else {
		o.keep = true
	}
	defer func() {
		if o.keep || err != nil {
			progress("data, logs, input and output are in %s", o.dir)
		} else {
			err = os.RemoveAll(o.dir)
		}
	}()
	in, err := writeInput(ctx, filepath.Join(o.dir, "input"), o.lines)
	if err != nil {
		return err
	}
	say("input: %d lines, %d bytes, the longest %d bytes", in.lines, in.bytes, in.longest)
	return show(ctx, o, in)
}

// show runs both parts on one cluster.
func show(ctx context.Context, o options, in input) (err error) {
	c, err := localcluster.New(localcluster.Config{Bin: o.bin, Dir: o.dir})
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
	for _, p := range []part{
		{topic: "one", partitions: 1, kills: o.kills, verify: verifyOne},
		{topic: "three", partitions: 3, kills: (o.kills + 3) / 4, verify: verifyThree},
	} {
		p.cluster, p.in, p.every, p.dir = c, in, o.every, o.dir
		if err := p.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", &p, err)
		}
	}
	return nil
}

func say(format string, args ...any)      { fmt.Printf(format+"\n", args...) }
func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
