package trial

import (
	"encoding/json"
	"fmt"
)

// Figures are those of a load program that are compared. MB are 10^6 bytes of values; latencies are from the append of a
// record to its acknowledgement.
type Figures struct {
	RecordsPerS float64 `json:"records_per_s"`
	MBPerS      float64 `json:"mb_per_s"`
	Errors      uint64  `json:"errors"`
	Latency     struct {
		P50 float64 `json:"p50"`
		P99 float64 `json:"p99"`
	} `json:"latency_ms"`
}

// Parse reads the report of mrbench append -o json, or of a program that says the same (deploy/tools/peers). A load that
// lost or did nothing has no figures.
func Parse(said []byte) (Figures, error) {
	var report struct{ Append Figures }
	if err := json.Unmarshal(said, &report); err != nil {
		return Figures{}, fmt.Errorf("reading the report of a load: %w", err)
	}
	if f := report.Append; f.Errors > 0 || f.RecordsPerS == 0 {
		return Figures{}, fmt.Errorf("%d records not acknowledged, %.0f records/s", f.Errors, f.RecordsPerS)
	}
	return report.Append, nil
}
