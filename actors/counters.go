package actors

import "sync/atomic"

// Counters count what the actors of one node did. They are telemetry: nothing decides by them.
type Counters struct {
	Proposals          atomic.Uint64
	Entries            atomic.Uint64
	Readies            atomic.Uint64
	Applied            atomic.Uint64
	Undecodable        atomic.Uint64
	UnknownMember      atomic.Uint64
	LeaderStarts       atomic.Uint64
	LeadersGone        atomic.Uint64
	LeaderMessagesHeld atomic.Uint64
	Commits            atomic.Uint64
	Syncs              atomic.Uint64
	SyncedAppends      atomic.Uint64
	WriteFailures      atomic.Uint64
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
	f("log_commits_total", "", "", "Batches committed to the log.", c.Commits.Load())
	f("log_syncs_total", "", "", "Batches committed with an fsync.", c.Syncs.Load())
	f("log_synced_appends_total", "", "", "Raft appends, of all groups, that shared those fsyncs.", c.SyncedAppends.Load())
	f("log_write_failures_total", "", "", "Failed commits; the first one ends the node.", c.WriteFailures.Load())
}
