package main

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/multiraftd/multiraftd/proto/trace"
)

const (
	barColumnsMin = 20
	barColumnsMax = 80
	depthMax      = 32 // what is deeper is drawn at this depth
)

// barColumns is how wide the bars are: a third of the terminal, if that says how wide it is.
func barColumns() int {
	wide, err := strconv.Atoi(os.Getenv("COLUMNS"))
	if err != nil {
		wide = 120
	}
	return min(max(wide/3, barColumnsMin), barColumnsMax)
}

func (t *traceTree) sort() {
	slices.SortStableFunc(t.Spans, func(a, b traceSpan) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(b.Duration, a.Duration), cmp.Compare(a.ID, b.ID))
	})
}

// drawing lays a tree out. Its spans come from strangers: parents may be missing, and may go in circles.
type drawing struct {
	tree       *traceTree
	columns    int
	begin, end int64
	children   map[string][]int
	drawn      []bool
	rows       [][4]string // tree, process, duration, notes
	bars       []string
}

func newDrawing(t *traceTree, columns int) *drawing {
	d := &drawing{tree: t, columns: columns, children: map[string][]int{}, drawn: make([]bool, len(t.Spans))}
	known := map[string]bool{}
	for _, s := range t.Spans {
		known[s.ID] = true
	}
	for i, s := range t.Spans {
		if i == 0 || s.Start < d.begin {
			d.begin = s.Start
		}
		d.end = max(d.end, s.Start+s.Duration)
		if known[s.Parent] {
			d.children[s.Parent] = append(d.children[s.Parent], i)
		}
	}
	for i, s := range t.Spans {
		if !known[s.Parent] {
			d.span(i, "", "", 0)
		}
	}
	for i := range t.Spans { // a circle has no beginning
		d.span(i, "", "", 0)
	}
	return d
}

// span draws one span and what stands below it.
func (d *drawing) span(i int, lead, below string, depth int) {
	if d.drawn[i] {
		return
	}
	d.drawn[i] = true
	s := &d.tree.Spans[i]
	d.rows = append(d.rows, [4]string{lead + s.Name, s.Process, duration(s.Duration), d.notes(s)})
	d.bars = append(d.bars, d.bar(s))
	for n, c := range d.children[s.ID] {
		branch, further := "├ ", "│ "
		if n == len(d.children[s.ID])-1 {
			branch, further = "└ ", "  "
		}
		if depth >= depthMax {
			branch, further = "", ""
		}
		d.span(c, below+branch, below+further, depth+1)
	}
}

// bar shows when a span was under way within the whole trace: at least a thin stroke.
func (d *drawing) bar(s *traceSpan) string {
	whole := max(d.end-d.begin, 1)
	from := int((s.Start - d.begin) * int64(d.columns) / whole)
	to := int((s.Start + max(s.Duration, 0) - d.begin) * int64(d.columns) / whole)
	from = min(from, d.columns-1)
	stroke := "▏"
	if to > from {
		stroke = strings.Repeat("█", to-from)
	}
	return strings.Repeat(" ", from) + stroke + strings.Repeat(" ", d.columns-from-max(to-from, 1))
}

// shown are the attributes that a line has room for, and what they are called there.
var shown = []struct{ key, as string }{
	{trace.AttrMerged, "merged"}, {trace.AttrTo, "to node"}, {trace.AttrQuorum, "quorum"}, {trace.AttrOffset, "offset"}, {trace.AttrFsynced, "fsynced"},
	{trace.AttrSharedWrites, "writes"}, {trace.AttrSharedAppends, "appends"}, {trace.AttrChange, "change"}, {trace.AttrResult, "result"}, {trace.AttrTarget, "target"},
}

func (d *drawing) notes(s *traceSpan) string {
	var notes []string
	for _, a := range shown {
		if v, ok := s.Attributes[a.key]; ok {
			notes = append(notes, fmt.Sprintf("%s=%v", a.as, v))
		}
	}
	others := map[string]bool{}
	for _, l := range s.Links {
		if l.Trace != d.tree.ID {
			others[l.Trace] = true
		}
	}
	for _, id := range slices.Sorted(maps.Keys(others)) {
		notes = append(notes, "see trace "+id)
	}
	if s.Failure != "" {
		notes = append(notes, "FAILED: "+s.Failure)
	}
	return strings.Join(notes, " ")
}

func (d *drawing) lines() []string {
	var widths [3]int
	processes := map[string]bool{}
	for _, r := range d.rows {
		processes[r[1]] = true
		for i := range widths {
			widths[i] = max(widths[i], utf8.RuneCountInString(r[i]))
		}
	}
	lines := []string{
		fmt.Sprintf("trace %s: %s, %d spans, %s", d.tree.ID, duration(d.end-d.begin), len(d.rows), strings.Join(slices.Sorted(maps.Keys(processes)), ", ")),
		fmt.Sprintf("began %s", time.Unix(0, d.begin).UTC().Format(time.RFC3339Nano)),
	}
	for i, r := range d.rows {
		line := pad(r[0], widths[0]) + "  " + pad(r[1], widths[1]) + "  " + strings.Repeat(" ", widths[2]-utf8.RuneCountInString(r[2])) + r[2] + " |" + d.bars[i] + "|"
		if r[3] != "" {
			line += " " + r[3]
		}
		lines = append(lines, line)
	}
	return lines
}

func pad(s string, width int) string {
	return s + strings.Repeat(" ", width-utf8.RuneCountInString(s))
}

// duration has three digits that count: more is noise.
func duration(nanos int64) string {
	d := time.Duration(nanos)
	switch {
	case d < time.Microsecond:
		return d.String()
	case d < time.Millisecond:
		return d.Round(100 * time.Nanosecond).String()
	case d < time.Second:
		return d.Round(10 * time.Microsecond).String()
	default:
		return d.Round(time.Millisecond).String()
	}
}
