package raftcore

import "sync/atomic"

// Reason says why a message from the wire was refused. Its String is the label of the counter.
type Reason uint8

// The reasons. A refused message changed nothing.
const (
	admitted               Reason = iota
	ReasonNil                     // no message, or an entry that is nil
	ReasonType                    // a type that nodes never send to each other
	ReasonTo                      // addressed to another replica
	ReasonFrom                    // no sender, a reserved id, or this replica itself
	ReasonNode                    // the sending replica does not belong to the connection's node
	ReasonNotMember               // a response from a replica that is no member
	ReasonTerm                    // term 0, too far ahead, or near overflow
	ReasonField                   // a field that this type of message does not have
	ReasonContext                 // a context of the wrong length or content
	ReasonIndex                   // an index without a term, a term without an index, or an index near overflow
	ReasonLogTerm                 // a log term above the message's term
	ReasonEntryIndex              // entries that are not contiguous from index + 1
	ReasonEntryTerm               // entry terms that are 0, fall, or are above the message's term
	ReasonEntryType               // an entry of unknown type, or a membership change that cannot be decoded
	ReasonEntriesSize             // too many entries, or too many bytes
	ReasonCommitted               // contradicts entries that are committed here
	ReasonSecondLeader            // claims to lead a term that another replica leads
	ReasonNotLeader               // TimeoutNow from a replica that does not lead this term
	ReasonBeyondLog               // acknowledges or rejects what this leader has never sent
	ReasonReadRound               // answers a read round that this leader has never started
	ReasonUnsettled               // arrived behind a change of the log that is not handed out yet; comes again
	ReasonConfState               // a snapshot whose membership is invalid
	ReasonSnapshotData            // a snapshot without position, or with data in the message
	ReasonSnapshotUnstaged        // a snapshot whose data have not been received before
	ReasonLeaderID                // canonical RPC: leader or candidate is not the replica in the header
	ReasonQuarantine              // not refused for its content: this replica is quarantined
	reasonCount
)

var reasonNames = [reasonCount]string{
	"admitted", "nil", "type", "to", "from", "node", "not_member", "term", "field", "context", "index", "log_term",
	"entry_index", "entry_term", "entry_type", "entries_size", "committed_conflict", "second_leader", "not_leader",
	"beyond_log", "read_round", "unsettled", "conf_state", "snapshot_data", "snapshot_unstaged", "leader_id", "quarantine",
}

func (r Reason) String() string { return reasonNames[r] }

// Refusal is the error for a message that the allow-list stopped. There is one value per reason, so that a
// flood of bad messages allocates nothing.
type Refusal struct{ Reason Reason }

func (r *Refusal) Error() string { return "raftcore: message refused: " + r.Reason.String() }

var refusals = func() (all [reasonCount]*Refusal) {
	for i := range all {
		all[i] = &Refusal{Reason(i)}
	}
	return all
}()

func refuse(r Reason) error { return refusals[r] }

// Counters count what reached the allow-lists of all cores that share them. The zero value is ready.
type Counters struct {
	Stepped        atomic.Uint64 // messages from peers that were admitted
	Quarantines    atomic.Uint64 // replicas that had to be quarantined
	CommitsLearned atomic.Uint64 // commits that a vote has told of, see votes.go
	refused        [reasonCount]atomic.Uint64
}

// Refused returns how often a reason was given.
func (c *Counters) Refused(r Reason) uint64 { return c.refused[r].Load() }

// Refuse counts a refusal that was made outside a core, such as by FromEnvelope.
func (c *Counters) Refuse(r Reason) { c.refused[r].Add(1) }

// Each calls f for every counter.
func (c *Counters) Each(f func(name, label, value, help string, v uint64)) {
	f("raft_messages_stepped_total", "", "", "Raft messages from peers that were admitted.", c.Stepped.Load())
	f("raft_quarantines_total", "", "", "Replicas whose disk went back in time.", c.Quarantines.Load())
	f("raft_commits_learned_from_votes_total", "", "", "Elections in which a vote told a replica that a membership change is committed.", c.CommitsLearned.Load())
	for r := admitted + 1; r < reasonCount; r++ {
		f("raft_messages_refused_total", "reason", r.String(), "Raft messages from peers that were refused.", c.Refused(r))
	}
}
