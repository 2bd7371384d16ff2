package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/multiraftd/multiraftd/deploy/trial"
)

// arm is one of the things compared: the binaries of a folder, and flags for the nodes.
type arm struct {
	name, bin string
	flags     []string
}

// arms are the -arm flags, in order. The first is what the others are compared with.
type arms []arm

// String is part of flag.Value.
func (a *arms) String() string { return fmt.Sprint(*a) }

// Set is part of flag.Value: "name=folder flag flag ...".
func (a *arms) Set(s string) error {
	name, rest, ok := strings.Cut(s, "=")
	words := strings.Fields(rest)
	if !ok || name == "" || len(words) == 0 {
		return errors.New("want name=folder, and flags of multiraftd start after it")
	}
	*a = append(*a, arm{name, words[0], words[1:]})
	return nil
}

// compare runs every arm once per round, each time on new processes and data, in an order that moves on by one with
// each round, so that what changes on the machine meanwhile hits all alike. The load is that of the -bin folder's
// mrbench for all.
func compare(ctx context.Context, o options, out io.Writer) error {
	if len(o.arms) < 2 {
		return errors.New("-rounds needs two -arm at least")
	}
	for _, size := range o.sizes {
		figures := make([][]float64, len(o.arms))
		fmt.Fprintf(out, "== %s B, %d partitions, %v each, %d rounds; records/s\n", size, o.partitions, o.duration, o.rounds)
		err := trial.Rounds(o.rounds, len(o.arms), func(round, at int) error {
			a := o.arms[at]
			v, err := trial.Multiraftd(ctx, trial.Config{Bin: a.bin, Flags: a.flags, LoadBin: o.bin, Load: load(o, "bench", size)})
			if err != nil {
				return fmt.Errorf("%s, round %d: %w", a.name, round+1, err)
			}
			figures[at] = append(figures[at], v.RecordsPerS)
			fmt.Fprintf(out, "%3d  %s %.0f\n", round+1, a.name, v.RecordsPerS)
			return nil
		})
		if err != nil {
			return err
		}
		for i, a := range o.arms[1:] {
			ratio, low, high := trial.Ratio(figures[i+1], figures[0])
			fmt.Fprintf(out, "%s / %s: %.4f, 95 %% interval %.4f to %.4f\n", a.name, o.arms[0].name, ratio, low, high)
		}
	}
	return nil
}
