package actors

import "sync/atomic"

// Counters count what the actors of one node did. They are telemetry: nothing decides by them.
type Counters struct {
	Proposals           atomic.Uint64
	Entries             atomic.Uint64
	Readies             atomic.Uint64
	Applied             atomic.Uint64
	Undecodable         atomic.Uint64
	UnknownMember       atomic.Uint64
	LeaderStarts        atomic.Uint64
	LeadersGone         atomic.Uint64
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
}

// Each calls f for every counter.
func (c *Counters) Each(f func(name, label, value, help string, v uint64)) {
	f("replica_proposals_total", "", "", "Appends and commands proposed by leaders here.", c.Proposals.Load())
	f("replica_entries_proposed_total", "", "", "Log entries that those were merged into.", c.Entries.Load())
	f("replica_readies_total", "", "", "Readys taken from Raft.", c.Readies.Load())
	f("replica_entries_applied_total", "", "", "Committed entries applied.", c.Applied.Load())
	f("replica_entries_undecodable_total", "", "", "Committed entries refused because of their content.", c.Undecodable.Load())
	f("replica_messages_without_member_total", "", "", "Messages dropped because their addressee is no member.", c.UnknownMember.Load())
	f("replica_leader_starts_total", "", "", "Times that a replica here became leader.", c.LeaderStarts.Load())
	f("replica_leaders_gone_total", "", "", "Leaders let go of because their process had ended.", c.LeadersGone.Load())
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
	f("log_synced_appends_total", "", "", "Raft appends, of all groups, that shared those fsyncs.", c.SyncedAppends.Load())
	f("log_write_failures_total", "", "", "Failed commits; the first one ends the node.", c.WriteFailures.Load())
}
