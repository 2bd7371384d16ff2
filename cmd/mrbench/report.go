package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/multiraftd/multiraftd/cmd/mrbench/load"
)

// report is what a run prints. Absent parts were not part of it.
type report struct {
	Command string        `json:"command"`
	Topic   string        `json:"topic"`
	Load    definition    `json:"load"`
	Append  *load.Figures `json:"append,omitempty"`
	Stops   *load.Stops   `json:"stops,omitempty"`
	Read    *readings     `json:"read,omitempty"`
	CPU     *cpuUse       `json:"client_cpu,omitempty"`
	Verify  *verdict      `json:"verify,omitempty"`
}

// definition says what the figures are about: without it they cannot be compared.
type definition struct {
	Durable      string  `json:"durable"`
	Partitions   int     `json:"partitions"`
	Replicas     int     `json:"replicas"`
	RecordBytes  int     `json:"record_bytes,omitempty"`
	BatchBytes   int     `json:"batch_bytes,omitempty"`
	LingerMillis float64 `json:"linger_ms"`
	Clients      int     `json:"clients"`
	Window       int     `json:"window,omitempty"`
	Mode         string  `json:"mode,omitempty"`
	Rate         float64 `json:"rate"` // 0 = as fast as the window allows
}

type readings struct {
	Records        uint64  `json:"records"`
	Seconds        float64 `json:"seconds"`
	RecordsPerS    float64 `json:"records_per_s"`
	MBPerS         float64 `json:"mb_per_s"`
	CaughtUpMillis float64 `json:"caught_up_ms"` // mixed: the last record came so long after the load's end
}

type cpuUse struct {
	Seconds         float64 `json:"seconds"`
	MicrosPerRecord float64 `json:"us_per_record"`
	Cores           float64 `json:"cores"`
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// per is a ratio that may be asked for when there was nothing.
func per(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

func newReport(j *job) report {
	d := definition{Durable: "majority-fsync", Partitions: j.topic.partitions, Replicas: j.topic.replicas, Clients: j.clients}
	if j.name != "read" {
		d.RecordBytes, d.BatchBytes, d.LingerMillis = j.size, j.batchBytes, millis(j.linger)
		d.Window, d.Mode, d.Rate = j.window/j.clients*j.clients, j.send, j.rate
	}
	return report{Command: j.name, Topic: j.options.topic, Load: d}
}

// empty says that nothing was measured.
func (r *report) empty() bool { return r.Append == nil && r.Read == nil }

func (r *report) load(j *job, res *load.Result, cpu time.Duration) {
	if res == nil {
		return
	}
	r.Append = res.Figures(j.size)
	if j.rate > 0 {
		behind := millis(res.Behind)
		r.Append.BehindMillis = &behind
	}
	r.Stops = res.Stops
	r.cpu(cpu, res.Acknowledged, res.Elapsed)
}

func (r *report) cpu(used time.Duration, records uint64, elapsed time.Duration) {
	r.CPU = &cpuUse{Seconds: used.Seconds(), MicrosPerRecord: per(float64(used)/1e3, float64(records)), Cores: per(float64(used), float64(elapsed))}
}

func (r *report) read(t *tally, elapsed time.Duration) {
	n, seconds := t.records.Load(), elapsed.Seconds()
	r.Read = &readings{Records: n, Seconds: seconds, RecordsPerS: per(float64(n), seconds), MBPerS: per(float64(t.bytes.Load())/1e6, seconds)}
}

func (r *report) print(w io.Writer, format string) error {
	if format == "json" {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		return enc.Encode(r)
	}
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	r.text(tw)
	return tw.Flush()
}

func (r *report) text(w io.Writer) {
	d := r.Load
	fmt.Fprintf(w, "%s\ttopic=%s partitions=%d replicas=%d durable=%s clients=%d", r.Command, r.Topic, d.Partitions, d.Replicas, d.Durable, d.Clients)
	if r.Command != "read" {
		rate := "unlimited"
		if d.Rate > 0 {
			rate = fmt.Sprintf("%g/s", d.Rate)
		}
		fmt.Fprintf(w, " window=%d record=%dB batch=%dB linger=%gms mode=%s rate=%s", d.Window, d.RecordBytes, d.BatchBytes, d.LingerMillis, d.Mode, rate)
	}
	fmt.Fprintln(w)
	if a := r.Append; a != nil {
		figuresText(w, a)
	}
	if s := r.Stops; s != nil {
		stopsText(w, s)
	}
	if c := r.CPU; c != nil {
		fmt.Fprintf(w, "client CPU\t%.2f s, %.3f us/record, %.2f cores\n", c.Seconds, c.MicrosPerRecord, c.Cores)
	}
	if rd := r.Read; rd != nil {
		fmt.Fprintf(w, "read\t%d records in %.2f s: %.0f records/s, %.2f MB/s\n", rd.Records, rd.Seconds, rd.RecordsPerS, rd.MBPerS)
		if r.Command == "mixed" {
			fmt.Fprintf(w, "caught up\t%.1f ms after the load ended\n", rd.CaughtUpMillis)
		}
	}
	if v := r.Verify; v != nil {
		v.text(w)
	}
}

func figuresText(w io.Writer, a *load.Figures) {
	fmt.Fprintf(w, "appended\t%d records in %.2f s: %.0f records/s, %.2f MB/s\n", a.Records, a.Seconds, a.RecordsPerS, a.MBPerS)
	fmt.Fprintf(w, "batches\t%d, %.1f records each\n", a.Batches, a.RecordsPerBatch)
	l := a.LatencyMillis
	fmt.Fprintf(w, "latency ms\tp50 %.3f  p99 %.3f  p99.9 %.3f  max %.3f\n", l.P50, l.P99, l.P999, l.Max)
	if a.BehindMillis != nil {
		fmt.Fprintf(w, "behind\tat most %.1f ms behind the rate\n", *a.BehindMillis)
	}
	fmt.Fprintf(w, "errors\t%d records not acknowledged\n", a.Errors)
}

func (v *verdict) text(w io.Writer) {
	result := "OK"
	if v.failed() {
		result = "FAILED"
	}
	fmt.Fprintf(w, "verify\t%s: %d acknowledged, %d missing, %d doubled, %d changed, %d reordered", result, v.Acknowledged, v.Missing, v.Doubled, v.Changed, v.Reordered)
	fmt.Fprintf(w, "; %d refused but stored, %d foreign\n", v.Refused, v.Foreign)
}

func stopsText(w io.Writer, s *load.Stops) {
	fmt.Fprintf(w, "longest stop ms\tall %.1f", s.All.Millis)
	if len(s.Partitions) > 0 {
		p := s.Partitions[0]
		fmt.Fprintf(w, "  one partition %.1f (%d, at %s)", p.Millis, p.Partition, p.At.Format("15:04:05.000"))
	}
	fmt.Fprintln(w)
}
