package main

import (
	"debug/buildinfo"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/multiraftd/multiraftd/deploy/trial"
)

// table is what came out under one workload. Its rows are the systems that take it; the first is what the others are
// compared with.
type table struct {
	workload workload
	rows     []*row
}

type row struct {
	system  system
	figures []*trial.Figures // by round; nil = the run failed
}

// add notes what came of the next round.
func (r *row) add(f trial.Figures, err error) {
	if err != nil {
		r.figures = append(r.figures, nil)
		return
	}
	r.figures = append(r.figures, &f)
}

func newTable(w workload, systems []system) *table {
	t := &table{workload: w}
	for _, s := range systems {
		if s.adapt != nil {
			if _, not := s.adapt(w); not {
				continue
			}
		}
		t.rows = append(t.rows, &row{system: s})
	}
	return t
}

// column returns one figure of every round that did not fail.
func (r *row) column(of func(*trial.Figures) float64) (values []float64) {
	for _, f := range r.figures {
		if f != nil {
			values = append(values, of(f))
		}
	}
	return values
}

// ratio is of the records per second of base to those of r, over the rounds in which both have figures.
func (r *row) ratio(base *row) string {
	var these, those []float64
	for i, f := range r.figures {
		if b := base.figures[i]; f != nil && b != nil {
			these, those = append(these, b.RecordsPerS), append(those, f.RecordsPerS)
		}
	}
	switch mid, low, high := trial.Ratio(these, those); len(these) {
	case 0:
		return "?"
	case 1:
		return digits(mid) + " (one round)"
	default:
		return fmt.Sprintf("%s (%s to %s)", digits(mid), digits(low), digits(high))
	}
}

// name has the number of failed runs with it.
func (r *row) name() string {
	if failed := len(r.figures) - len(r.column(recordsPerS)); failed > 0 {
		return fmt.Sprintf("%s (%d of %d runs failed)", r.system.name, failed, len(r.figures))
	}
	return r.system.name
}

func recordsPerS(f *trial.Figures) float64 { return f.RecordsPerS }

// columns are the medians that a table shows, in its order.
var columns = []func(*trial.Figures) float64{
	recordsPerS,
	func(f *trial.Figures) float64 { return f.MBPerS },
	func(f *trial.Figures) float64 { return f.Latency.P50 },
	func(f *trial.Figures) float64 { return f.Latency.P99 },
}

// print writes a table in Markdown: medians over the rounds, and ratios of pairs.
func (t *table) print(w io.Writer) {
	base := t.rows[0]
	fmt.Fprintf(w, "| System | fsync before ack | records/s | MB/s | p50 ms | p99 ms | %s / it (95 %% interval) |\n|---|---|---|---|---|---|---|\n", base.system.name)
	for _, r := range t.rows {
		fmt.Fprintf(w, "| %s | %s |", r.name(), r.system.fsync)
		for _, of := range columns {
			fmt.Fprintf(w, " %s |", digits(median(r.column(of))))
		}
		if r == base {
			fmt.Fprintln(w, " |")
		} else {
			fmt.Fprintf(w, " %s |\n", r.ratio(base))
		}
	}
	fmt.Fprintln(w)
}

// digits shows three significant ones at least, and no exponent.
func digits(v float64) string {
	switch {
	case math.IsNaN(v):
		return "?"
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// median of no values is not a number.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// printNotes says of each system what its figures are of.
func printNotes(w io.Writer, systems []system, versions map[string]string) {
	fmt.Fprintf(w, "Figures are medians over the rounds; MB are 10^6 bytes of values. Ratios are of records/s, over the pairs of the rounds.\n\n")
	for _, s := range systems {
		fmt.Fprintf(w, "- %s: fsync before the acknowledgement: %s. %s", s.name, s.fsync, s.notes)
		if v := versions[s.name]; v != "" {
			fmt.Fprintf(w, " Built from %s.", v)
		}
		fmt.Fprintln(w)
	}
}

// told are the modules whose versions are worth telling.
var told = []string{"github.com/nats-io/nats-server/v2", "github.com/nats-io/nats.go", "go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/client/v3", "github.com/lni/dragonboat/v3"}

// readVersions looks into the programs of the systems, by system.
func readVersions(folder string, systems []system) (map[string]string, error) {
	versions := make(map[string]string)
	for _, s := range systems {
		var list []string
		for _, program := range s.programs {
			info, err := buildinfo.ReadFile(filepath.Join(folder, program))
			if err != nil {
				return nil, fmt.Errorf("%s: %w; make compare builds it", s.name, err)
			}
			for _, m := range append(info.Deps, &info.Main) {
				if slices.Contains(told, m.Path) {
					list = append(list, m.Path+" "+m.Version)
				}
			}
		}
		slices.Sort(list)
		versions[s.name] = strings.Join(slices.Compact(list), ", ")
	}
	return versions, nil
}
