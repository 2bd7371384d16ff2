package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/multiraftd/multiraftd/actors"
	"github.com/multiraftd/multiraftd/client"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// stillByNature are gauges that say what is, and stay.
var stillByNature = []string{"build_info", "tls_certificate_expires_timestamp_seconds"}

// movedElsewhere are metrics of what cannot be brought about from outside, or takes too long: a test of the room that
// counts them makes each happen.
var movedElsewhere = map[string]string{
	"store_write_stalls_total":              "../raftcore/store/pebble_counters_test.go TestAWriteStallIsCounted",
	"store_commit_failures_total":           "../raftcore/store/pebble_counters_test.go TestAFailedCommitIsCounted",
	"store_reclaims_total":                  "../raftcore/store/pebble_counters_test.go TestADeletedRangeThatIsCompactedIsCounted",
	"replica_messages_without_member_total": "../actors/telemetry_test.go TestAMessageForNobodyIsCounted",
	"transport_controls_folded_total":       "../transport/outbox_test.go TestControlsAreFoldedAndBounded",
	"tls_reloads_total":                     "../transport/tlsfiles/files_test.go TestNewFilesAreUsedAtTheNextHandshakeAndBadOnesAreNot",
	"tls_reload_failures_total":             "../transport/tlsfiles/files_test.go TestNewFilesAreUsedAtTheNextHandshakeAndBadOnesAreNot",
	"raft_commits_learned_from_votes_total": "../raftcore/votes_test.go TestAVoteTellsOnlyWhatTheLogConfirms",
}

// movement watches what all nodes of a cluster show.
type movement struct {
	*away
	mu     sync.Mutex
	shown  map[string]float64 // by node, metric and labels
	moved  map[string]bool    // by metric
	known  map[string]bool
	stores store.Counters // of the stores that the test opened for the nodes
	free   [5]atomic.Uint64
	traps  [5]*trap
}

// trap stands before a node's store: it can hold commits back, or fail.
type trap struct {
	store.KV
	held    atomic.Pointer[chan struct{}] // commits wait until it is closed
	spoilt  atomic.Bool                   // views fail
	failing atomic.Bool                   // commits fail
}

var errTrap = errors.New("the test says so")

func (k *trap) Commit(b *store.Batch, sync bool) error {
	if held := k.held.Load(); held != nil {
		<-*held
	}
	if k.failing.Load() {
		return errTrap
	}
	return k.KV.Commit(b, sync)
}

func (k *trap) View() (store.View, error) {
	if k.spoilt.Load() {
		return nil, errTrap
	}
	return k.KV.View()
}

func (k *trap) DiskBytes() uint64 { return k.KV.(interface{ DiskBytes() uint64 }).DiskBytes() }

// hold makes commits wait until what it returns is called.
func (k *trap) hold() (release func()) {
	gate := make(chan struct{})
	k.held.Store(&gate)
	return sync.OnceFunc(func() {
		k.held.Store(nil)
		close(gate)
	})
}

const trapDiskBytes = 64 << 20 // small, so that its reserve is

func newMovement(t *testing.T) *movement {
	m := &movement{shown: map[string]float64{}, moved: map[string]bool{}, known: map[string]bool{}}
	for i := range m.free {
		m.free[i].Store(trapDiskBytes)
	}
	dirs := [5]string{}
	for i := range dirs {
		dirs[i] = t.TempDir()
	}
	m.away = newAway(t, func(a *away) {
		a.keep, a.options = actors.Keep{Entries: 10, Bytes: 1 << 20}, store.PebbleOptions{Counters: &m.stores}
		a.change = func(cfg *Config) {
			id := cfg.ID
			cfg.groupSeries = 8
			m.mu.Lock()
			defer m.mu.Unlock()
			if cfg.DataDir == "" {
				cfg.DataDir = dirs[id]
			}
			cfg.FreeSpace = func(string) (uint64, uint64, error) {
				free := m.free[id].Load()
				return free, trapDiskBytes + free%2, nil
			}
			if cfg.KV != nil {
				m.traps[id] = &trap{KV: cfg.KV}
				cfg.KV = m.traps[id]
			}
		}
	})
	return m
}

// look notes what has moved since the last look.
func (m *movement) look() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, n := range m.nodes { // each by itself: the order does not matter
		m.lookAt(fmt.Sprint(id), n.metrics())
	}
	s := newMetricSet()
	s.addSource(&m.stores)
	m.lookAt("store", s.all)
}

func (m *movement) lookAt(who string, all []*metric) {
	for _, x := range all {
		m.known[x.name] = true
		for _, p := range x.points {
			now := p.value
			if x.kind == histogram {
				now = float64(p.reading.Count())
			}
			key := fmt.Sprint(who, x.name, p.values)
			before, seen := m.shown[key]
			m.shown[key] = now
			if x.kind != gauge && now > 0 || x.kind == gauge && seen && now != before {
				m.moved[x.name] = true
			}
		}
	}
}

func (m *movement) hasMoved(names ...string) func() bool {
	return func() bool {
		m.look()
		return !slices.ContainsFunc(names, func(n string) bool { return !m.moved[n] })
	}
}

// brings runs a scenario, and waits until it has moved what it is there for.
func (m *movement) brings(what string, scenario func(), names ...string) {
	m.t.Helper()
	m.look()
	began := time.Now()
	scenario()
	m.t.Logf("%s: %v", what, time.Since(began).Round(time.Millisecond))
	limit, cancel := context.WithTimeout(m.ctx, movedTimeout)
	defer cancel()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for !m.hasMoved(names...)() {
		select {
		case <-look.C:
		case <-limit.Done():
			m.t.Errorf("%s has not moved %v", what, slices.DeleteFunc(names, func(n string) bool { return m.moved[n] }))
			return
		}
	}
}

// movedTimeout is how long after a scenario what it moves may take to show.
const movedTimeout = 20 * time.Second

func TestEveryMetricMovesWhenWhatItMeasuresHappens(t *testing.T) {
	m := newMovement(t)
	m.brings("traffic", m.traffic, "append_duration_seconds", "append_stage_duration_seconds", "replica_entry_appends", "replica_replication_duration_seconds",
		"log_read_duration_seconds", "log_read_end_duration_seconds", "store_fsync_duration_seconds", "router_forwarded_total")
	m.brings("rest", func() {}, "replicas_quiet", "replica_quiet_starts_total")
	m.brings("a node that was away", m.awayAndBack, "replica_snapshots_installed_total", "replica_truncations_proposed_total", "replica_log_discards_total",
		"transport_snapshot_streams_resumed_total", "replica_snapshot_duration_seconds", "transport_losses_reported_total",
		"transport_connections_lost_total", "transport_peer_connected", "node_start_number", "groups_under_replicated")
	m.brings("a long life of the metadata group", m.manyTopics, "replica_entries_discarded_total", "groups_without_series")
	m.brings("many snapshots at once, and a leader that ends", m.manySnapshots, "transport_snapshots_refused_total", "transport_snapshots_broken_total")
	m.brings("full disks", m.fullDisks, "disk_bytes", "disk_free_bytes", "disk_space_level", "router_appends_failed_total", "replica_appends_short_of_space_total",
		"transport_controls_dropped_total")
	m.brings("a follower's slow disk", m.slowFollower, "apply_lag_entries", "group_apply_lag_entries", "replica_transfers_failed_total")
	m.brings("a leader's slow disk", m.slowLeader, "replica_leader_messages_held_total", "replica_stall_handovers_total", "group_leading", "group_term")
	m.brings("a node that comes and goes", m.joinAndDrain, "nodes", "controller_commands_total", "controller_transfers_total", "replica_membership_changes_total", "router_replicas_deleted_total")
	m.brings("a lost leader of the metadata group", m.lostController, "transport_reports_dropped_total", "transport_reports_folded_total", "replica_leaders_gone_total")
	m.brings("a replica that does not open", m.brokenReplica, "router_replicas_failed_total", "replicas_failed")
	m.brings("a crowd", m.crowd, "transport_shed_total", "router_shed_total")
	m.brings("a reader that does not read", m.idleReader, "held_for_clients_bytes")
	m.brings("an impostor", m.impostor, "raft_messages_refused_total", "raft_quarantines_total", "replica_entries_undecodable_total", "router_peer_replica_failed_total",
		"transport_rpcs_total", "replica_snapshots_dropped_total", "replica_snapshot_chunks_refused_total")
	m.brings("a node that is stopped with a stalled disk", m.stoppedWhileStalled, "router_proposals_abandoned_total")
	m.brings("a disk that fails", m.failingDisk, "log_write_failures_total")
	m.report(t)
}

// report fails for every metric that nothing has moved.
func (m *movement) report(t *testing.T) {
	m.look()
	page, err := os.ReadFile(metricsPage)
	must(t, err)
	for name := range m.known {
		if !strings.Contains(string(page), "| `"+metricPrefix+name+"` | ") {
			t.Errorf("%s is not on the page", name)
		}
	}
	for line := range strings.Lines(string(page)) {
		name, ok := strings.CutPrefix(line, "| `"+metricPrefix)
		if !ok || strings.Count(line, " | ") < 4 {
			continue
		}
		name, _, _ = strings.Cut(name, "`")
		where, elsewhere := movedElsewhere[name]
		switch {
		case elsewhere:
			wantTest(t, name, where)
		case !m.moved[name] && !slices.Contains(stillByNature, name):
			t.Errorf("%s has never moved", name)
		}
	}
}

// wantTest looks for the test that moves a metric.
func wantTest(t *testing.T, name, where string) {
	file, test, _ := strings.Cut(where, " ")
	data, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(data), "func "+test+"(") || !strings.Contains(string(data), name) {
		t.Errorf("%s: there is no %s in %s that names it: %v", name, test, file, err)
	}
}

// at returns a client of one node.
func (m *movement) at(id raftcore.NodeID) *client.Client {
	m.t.Helper()
	c, err := client.Open(client.Config{Addrs: []string{m.clients[id]}})
	must(m.t, err)
	m.t.Cleanup(func() { must(m.t, c.Close()) })
	return c
}
