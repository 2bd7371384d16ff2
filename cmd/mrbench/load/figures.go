package load

import "time"

// Figures are the result of a load, for people and programs. MB are 10^6 bytes of values.
type Figures struct {
	Records         uint64   `json:"records"`
	Seconds         float64  `json:"seconds"`
	RecordsPerS     float64  `json:"records_per_s"`
	MBPerS          float64  `json:"mb_per_s"`
	Batches         uint64   `json:"batches"`
	RecordsPerBatch float64  `json:"records_per_batch"`
	LatencyMillis   Latency  `json:"latency_ms"`
	Errors          uint64   `json:"errors"`
	BehindMillis    *float64 `json:"behind_ms,omitempty"` // with a rate: how late the latest record was taken in
}

// Latency is the time from a record's Append to its acknowledgement, in ms.
type Latency struct {
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99_9"`
	Max  float64 `json:"max"`
}

// Figures of records with values of so many bytes.
func (r *Result) Figures(size int) *Figures {
	n, seconds := float64(r.Acknowledged), r.Elapsed.Seconds()
	return &Figures{Records: r.Acknowledged, Seconds: seconds, RecordsPerS: per(n, seconds), MBPerS: per(n*float64(size)/1e6, seconds),
		Batches: r.Batches, RecordsPerBatch: per(n, float64(r.Batches)), Errors: r.Errors,
		LatencyMillis: Latency{millis(r.latency.quantile(0.5)), millis(r.latency.quantile(0.99)), millis(r.latency.quantile(0.999)), millis(r.latency.max)}}
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// per is a ratio that may be asked for when there was nothing.
func per(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}
