package store

import (
	"sync/atomic"

	"github.com/multiraftd/multiraftd/raftcore/measure"
)

// Counters count what a KV has done since it was opened.
type Counters struct {
	Commits        atomic.Uint64 // batches committed
	Syncs          atomic.Uint64 // of these, synced
	Ops            atomic.Uint64 // operations in them
	CommittedBytes atomic.Uint64 // keys and values in them
	CommitFailures atomic.Uint64 // commits that returned an error
	Views          atomic.Uint64 // views taken
	WriteStalls    atomic.Uint64 // times that Pebble has held back writes
	Reclaims       atomic.Uint64 // deleted ranges that were compacted

	Fsync measure.Durations // of the files of the log, on a real disk
}

// EachHistogram calls f for every histogram.
func (c *Counters) EachHistogram(f func(name, label, value, help string, r measure.Reading)) {
	f("store_fsync_duration_seconds", "", "", "One fsync of the store's log file.", c.Fsync.Read())
}

// Each calls f for each counter. Names have no prefix; label and value are empty.
func (c *Counters) Each(f func(name, label, value, help string, v uint64)) {
	for _, m := range []struct {
		name, help string
		v          *atomic.Uint64
	}{
		{"store_commits_total", "Batches committed.", &c.Commits},
		{"store_syncs_total", "Batches committed with an fsync.", &c.Syncs},
		{"store_ops_total", "Operations in the committed batches.", &c.Ops},
		{"store_committed_bytes_total", "Bytes of keys and values in the committed batches.", &c.CommittedBytes},
		{"store_commit_failures_total", "Commits that failed.", &c.CommitFailures},
		{"store_views_total", "Views taken.", &c.Views},
		{"store_write_stalls_total", "Times that the store has held back writes.", &c.WriteStalls},
		{"store_reclaims_total", "Deleted ranges of keys that were compacted, so that their space comes back.", &c.Reclaims},
	} {
		f(m.name, "", "", m.help, m.v.Load())
	}
}

func (c *Counters) committed(b *Batch, sync bool, err error) {
	if err != nil {
		c.CommitFailures.Add(1)
		return
	}
	c.Commits.Add(1)
	c.Ops.Add(uint64(len(b.Ops())))
	c.CommittedBytes.Add(uint64(b.Bytes()))
	if sync {
		c.Syncs.Add(1)
	}
}
