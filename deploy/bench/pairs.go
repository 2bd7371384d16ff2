package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/multiraftd/multiraftd/deploy/localcluster"
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
		for round := range o.rounds {
			row := make([]string, len(o.arms))
			for i := range o.arms {
				at := (i + round) % len(o.arms)
				v, err := measure(ctx, o, o.arms[at], size)
				if err != nil {
					return fmt.Errorf("%s, round %d: %w", o.arms[at].name, round+1, err)
				}
				figures[at] = append(figures[at], v)
				row[at] = fmt.Sprintf("%s %.0f", o.arms[at].name, v)
			}
			fmt.Fprintf(out, "%3d  %s\n", round+1, strings.Join(row, "   "))
		}
		for i, a := range o.arms[1:] {
			ratio, low, high := ratioOf(figures[i+1], figures[0])
			fmt.Fprintf(out, "%s / %s: %.4f, 95 %% interval %.4f to %.4f\n", a.name, o.arms[0].name, ratio, low, high)
		}
	}
	return nil
}

// measure returns the records per second of one run.
func measure(ctx context.Context, o options, a arm, size string) (rate float64, err error) {
	dir, err := os.MkdirTemp("", "multiraftd-bench-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	c, err := localcluster.New(localcluster.Config{Bin: a.bin, Dir: dir, Flags: a.flags})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.StartAll(); err != nil {
		return 0, err
	}
	waiting, cancel := context.WithTimeout(ctx, healthWaitMax)
	defer cancel()
	if err := c.Healthy(waiting); err != nil {
		return 0, err
	}
	args := append([]string{"append", "--addr", c.Addr(), "--topic", "bench", "--create", "--partitions", fmt.Sprint(o.partitions),
		"--replicas", "3", "--duration", o.duration.String(), "--size", size, "-o", "json"}, o.extra...)
	cmd := exec.CommandContext(ctx, filepath.Join(o.bin, "mrbench"), args...)
	said, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("mrbench: %w", err)
	}
	var report struct {
		Append struct {
			RecordsPerS float64 `json:"records_per_s"`
			Errors      uint64  `json:"errors"`
		}
	}
	if err := json.Unmarshal(said, &report); err != nil {
		return 0, fmt.Errorf("reading mrbench's report: %w", err)
	}
	if report.Append.Errors > 0 || report.Append.RecordsPerS == 0 {
		return 0, fmt.Errorf("mrbench: %d errors, %.0f records/s", report.Append.Errors, report.Append.RecordsPerS)
	}
	return report.Append.RecordsPerS, c.Err()
}

// ratioOf is the geometric mean of the ratios of the pairs, with its 95 % interval by Student's t.
func ratioOf(figures, base []float64) (ratio, low, high float64) {
	n := float64(len(figures))
	var sum, squares float64
	for i := range figures {
		l := math.Log(figures[i] / base[i])
		sum += l
		squares += l * l
	}
	mean := sum / n
	if n < 2 {
		return math.Exp(mean), 0, math.Inf(1)
	}
	half := studentT(len(figures)-1) * math.Sqrt(max(0, squares-n*mean*mean)/(n-1)/n)
	return math.Exp(mean), math.Exp(mean - half), math.Exp(mean + half)
}

// studentT is the 97.5 % quantile for so many degrees of freedom.
func studentT(degrees int) float64 {
	table := []float64{12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093}
	if degrees <= len(table) {
		return table[degrees-1]
	}
	return 2.093 - 0.133*(1-float64(len(table))/float64(degrees)) // to 1.960; it errs to the wide side
}
