package actors

import (
	"sync/atomic"

	"github.com/multiraftd/multiraftd/raftcore/measure"
)

// Counters count what the actors of one node did, and how long it took. They are telemetry: nothing decides by
// them.
type Counters struct {
	// Nanos is a clock that never goes back, for durations; nil = none are measured. Nothing else may read it: what
	// an actor does depends on its messages alone.
	Nanos func() int64

	Proposals           atomic.Uint64
	Entries             atomic.Uint64
	Readies             atomic.Uint64
	Applied             atomic.Uint64
	Undecodable         atomic.Uint64
	UnknownMember       atomic.Uint64
	LeaderStarts        atomic.Uint64
	LeadersGone         atomic.Uint64
	QuietStarts         atomic.Uint64
	QuietEnds           atomic.Uint64
	LeaderMessagesHeld  atomic.Uint64
	Changes             atomic.Uint64
	Transfers           atomic.Uint64
	TransfersLost       atomic.Uint64
	StallHandovers      atomic.Uint64
	Truncations         atomic.Uint64
	Discards            atomic.Uint64
	AppendsShort        atomic.Uint64
	ControllerCommands  atomic.Uint64
	ControllerTransfers atomic.Uint64
	Commits             atomic.Uint64
	Syncs               atomic.Uint64
	SyncedAppends       atomic.Uint64
	WriteFailures       atomic.Uint64

	SnapshotsAnnounced atomic.Uint64
	SnapshotsSent      atomic.Uint64
	SnapshotsFailed    atomic.Uint64
	SnapshotsBegun     atomic.Uint64
	SnapshotChunks     atomic.Uint64
	ChunksRefused      atomic.Uint64
	SnapshotsInstalled atomic.Uint64
	SnapshotsDropped   atomic.Uint64
	Discarded          atomic.Uint64

	Elections, TermChanges atomic.Uint64

	// Stages of the appends proposed here, one observation per append.
	StageQueue, StageFsync, StageCommit, StageApply measure.Durations

	EntryAppends measure.Counts    // merged into one entry
	Replication  measure.Durations // from sending entries to a member until it has them
	LogWrite     measure.Durations // from handing over an append until it is durable
	Apply        measure.Durations // of one batch of committed entries
	Leaderless   measure.Durations // how long a replica knew no leader
	Snapshot     measure.Durations // from announcing a snapshot until it is installed

	Sync        measure.Durations // one commit with an fsync
	SyncEntries measure.Counts    // Raft entries that share it
	CommitBytes measure.Bytes

	// QueueWrites and QueueBytes are what the LogWriter has been given and not finished.
	QueueWrites, QueueBytes atomic.Int64
}

// now returns the time by Nanos, or 0 when durations are not measured.
func (c *Counters) now() int64 {
	if c.Nanos == nil {
		return 0
	}
	return c.Nanos()
}

// since records how long something took that began at a time by now.
func (c *Counters) since(d *measure.Durations, began int64) {
	if c.Nanos != nil {
		d.Observe(c.Nanos() - began)
	}
}

// queued counts a write that the LogWriter was given (1) or has finished (-1).
func (c *Counters) queued(w *Write, n int64) {
	c.QueueWrites.Add(n)
	c.QueueBytes.Add(n * int64(w.Batch.Bytes()))
}

// EachHistogram calls f for every histogram.
func (c *Counters) EachHistogram(f func(name, label, value, help string, r measure.Reading)) {
	for _, s := range []struct {
		name string
		d    *measure.Durations
	}{{"queue", &c.StageQueue}, {"fsync", &c.StageFsync}, {"commit", &c.StageCommit}, {"apply", &c.StageApply}} {
		f("append_stage_duration_seconds", "stage", s.name, "Stages of the appends proposed here: queue = from admission to the proposal; "+
			"fsync = from there until this disk has it; commit = from the proposal until a majority has it; apply = from there to the outcome.", s.d.Read())
	}
	f("replica_entry_appends", "", "", "Appends and commands that were merged into one log entry.", c.EntryAppends.Read())
	f("replica_replication_duration_seconds", "", "", "From sending entries to a member until it has them durably; of each member one message at a time is timed.", c.Replication.Read())
	f("replica_write_duration_seconds", "", "", "From handing a Raft append to the log until it is durable here, on leaders and followers.", c.LogWrite.Read())
	f("replica_apply_duration_seconds", "", "", "Applying one batch of committed entries in memory.", c.Apply.Read())
	f("replica_leaderless_duration_seconds", "", "", "How long a replica here knew no leader.", c.Leaderless.Read())
	f("replica_snapshot_duration_seconds", "", "", "From announcing a snapshot until the member has installed it.", c.Snapshot.Read())
	f("log_sync_duration_seconds", "", "", "Committing one batch with an fsync, of all groups together.", c.Sync.Read())
	f("log_sync_entries", "", "", "Raft entries, of all groups, that shared one fsync.", c.SyncEntries.Read())
	f("log_commit_size_bytes", "", "", "Keys and values in one batch, of all groups together.", c.CommitBytes.Read())
}

// Each calls f for every counter.
func (c *Counters) Each(f func(name, label, value, help string, v uint64)) {
	f("replica_proposals_total", "", "", "Appends and commands proposed by leaders here.", c.Proposals.Load())
	f("replica_entries_proposed_total", "", "", "Log entries that appends and commands were merged into.", c.Entries.Load())
	f("replica_readies_total", "", "", "Readys taken from Raft.", c.Readies.Load())
	f("replica_entries_applied_total", "", "", "Committed entries applied.", c.Applied.Load())
	f("replica_entries_undecodable_total", "", "", "Committed entries refused because of their content.", c.Undecodable.Load())
	f("replica_messages_without_member_total", "", "", "Messages dropped because their addressee is no member.", c.UnknownMember.Load())
	f("replica_leader_starts_total", "", "", "Times that a replica here became leader.", c.LeaderStarts.Load())
	f("replica_elections_total", "", "", "Times that a replica here stood for election.", c.Elections.Load())
	f("replica_term_changes_total", "", "", "Times that a replica here entered a later term.", c.TermChanges.Load())
	f("replica_leaders_gone_total", "", "", "Leaders let go of because their process had ended.", c.LeadersGone.Load())
	f("replica_quiet_starts_total", "", "", "Times that a replica here went quiet.", c.QuietStarts.Load())
	f("replica_quiet_ends_total", "", "", "Times that a quiet replica here was woken.", c.QuietEnds.Load())
	f("replica_leader_messages_held_total", "", "", "Heartbeats and appends not sent because the disk has not synced for an election timeout.", c.LeaderMessagesHeld.Load())
	f("replica_membership_changes_total", "", "", "Membership changes proposed by leaders here.", c.Changes.Load())
	f("replica_transfers_total", "", "", "Leadership transfers begun here.", c.Transfers.Load())
	f("replica_transfers_failed_total", "", "", "Leadership transfers that another replica did not take.", c.TransfersLost.Load())
	f("replica_snapshots_announced_total", "", "", "Snapshots that leaders here needed to send.", c.SnapshotsAnnounced.Load())
	f("replica_snapshots_ended_total", "result", "installed", "Snapshots sent by leaders here that have ended.", c.SnapshotsSent.Load())
	f("replica_snapshots_ended_total", "result", "failed", "Snapshots sent by leaders here that have ended.", c.SnapshotsFailed.Load())
	f("replica_snapshots_begun_total", "", "", "Snapshots that replicas here began to receive.", c.SnapshotsBegun.Load())
	f("replica_snapshot_chunks_total", "", "", "Chunks of snapshots staged here.", c.SnapshotChunks.Load())
	f("replica_snapshot_chunks_refused_total", "", "", "Chunks of snapshots refused here for what they hold.", c.ChunksRefused.Load())
	f("replica_snapshots_installed_total", "", "", "Snapshots that took the place of a log here.", c.SnapshotsInstalled.Load())
	f("replica_snapshots_dropped_total", "", "", "Snapshots staged here, in whole or in part, and dropped.", c.SnapshotsDropped.Load())
	f("replica_entries_discarded_total", "", "", "Applied entries that replicas here discarded to bound their logs.", c.Discarded.Load())
	f("replica_stall_handovers_total", "", "", "Times that a leader here asked another replica to take over because the disk has not synced for an election timeout.", c.StallHandovers.Load())
	f("replica_truncations_proposed_total", "", "", "Truncations proposed by leaders here because of retention.", c.Truncations.Load())
	f("replica_log_discards_total", "", "", "Times that a replica here discarded the start of its Raft log.", c.Discards.Load())
	f("replica_appends_short_of_space_total", "", "", "Appends of leaders not taken because the disk is nearly full.", c.AppendsShort.Load())
	f("controller_commands_total", "", "", "Commands that the controller here proposed to the metadata group.", c.ControllerCommands.Load())
	f("controller_transfers_total", "", "", "Leadership transfers that the controller here asked for.", c.ControllerTransfers.Load())
	f("log_commits_total", "", "", "Batches committed to the log.", c.Commits.Load())
	f("log_syncs_total", "", "", "Batches committed with an fsync.", c.Syncs.Load())
	f("log_synced_appends_total", "", "", "Raft appends, of all groups, in batches committed with an fsync.", c.SyncedAppends.Load())
	f("log_write_failures_total", "", "", "Failed commits; the first one ends the node.", c.WriteFailures.Load())
}
