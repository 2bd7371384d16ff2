package actors

import (
	"slices"

	"github.com/multiraftd/multiraftd/raftcore"
)

// What an inspection shows of the log's end: so many entries, read until they weigh so much.
const (
	inspectEntriesMax = 16
	inspectBytesMax   = 1 << 20
)

// Inspect asks a replica for its own account of itself, for people. Reply has one slot and is filled exactly
// once, with nil by a replica that cannot answer any more.
type Inspect struct{ Reply chan<- *Inspection }

// Inspection is what a replica says of itself, between two messages of its mailbox.
type Inspection struct {
	Status  Status
	Waiting int // messages in its mailbox
	Vote    raftcore.ReplicaID
	Members []raftcore.Member
	Entries []raftcore.EntrySummary // the last ones, the newest last

	Proposals, Reads, Readers int // that wait
	Unsynced                  int // writes given to the LogWriter
	Sending                   int // snapshots
	Receiving                 bool
	Generation                uint64
}

// inspect answers. What it reads is the replica's own, so that no lock is needed.
func (r *Replica) inspect(m *Inspect) {
	in := &Inspection{
		Status: *r.cfg.Board.Load(), Waiting: r.cfg.Board.Waiting(), Vote: raftcore.ReplicaID(r.core.Status().Vote), Members: r.core.Inspect(), Entries: r.lastEntries(),
		Proposals: r.waiters.len() + len(r.proposals), Reads: len(r.ends), Readers: len(r.readWaits),
		Unsynced: r.unsynced, Sending: len(r.sending), Receiving: r.incoming != nil, Generation: r.log.Generation(),
	}
	for _, round := range r.rounds {
		in.Reads += len(round.replies)
	}
	m.Reply <- in
}

// lastEntries summarizes the end of the log, as far as it can be read.
func (r *Replica) lastEntries() (all []raftcore.EntrySummary) {
	last, err := r.log.LastIndex()
	for bytes := 0; err == nil && len(all) < inspectEntriesMax && bytes < inspectBytesMax && last > uint64(r.state.Truncated.Index); last-- {
		ents, fault := r.log.Entries(last, last+1, 1)
		if fault != nil || len(ents) == 0 {
			break
		}
		all = append(all, raftcore.Summarize(ents[0]))
		bytes += all[len(all)-1].Bytes
	}
	slices.Reverse(all)
	return all
}
