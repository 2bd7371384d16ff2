package router

import (
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/multiraftd/multiraftd/actors"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/metadata"
)

// Hosted is a replica on this node, as others may use it.
type Hosted struct {
	Group   raftcore.GroupID
	Replica raftcore.ReplicaID
	PID     *actor.PID
	Board   *actors.Board
	load    load // what is admitted and not yet answered

	// The Router's own.
	target      uint64 // of the group, as the replica was told
	ticks       *actors.TickCount
	ended       bool              // the actor has stopped
	peersFailed []raftcore.NodeID // whose replicas have said so
}

// hosting is which replicas are here. Tables share it until that changes.
type hosting struct {
	groups  map[raftcore.GroupID]*Hosted
	ids     []raftcore.GroupID // ascending
	version uint64
}

// Table is what the Router knows, at one moment. Never changed once published.
type Table struct {
	hosting
	full []raftcore.NodeID // peers that have said lately that their disk has no room
	// Meta is the cluster's metadata as this node has applied it; never nil.
	Meta *metadata.State
	// Deleted are the replicas that this node has deleted, durably, and that metadata still order deleted.
	Deleted []metadata.Removal
}

// Hosted returns this node's replica of a group.
func (t *Table) Hosted(g raftcore.GroupID) (*Hosted, bool) {
	h, ok := t.groups[g]
	return h, ok
}

// noTopic is the answer about a topic that this node does not know. It is a final one only where the node has applied an
// entry of the term of the metadata group's leader: so it has applied all that was committed in the terms before. One
// that has just started has not, and may have forgotten topics that there are.
func (t *Table) noTopic(format string, args ...any) *failure {
	if h, ok := t.Hosted(raftcore.MetadataGroup); ok {
		if st := h.Board.Load(); st != nil && st.Leader != 0 && st.AppliedTerm == st.Term {
			return fail(unknownTopic, format, args...)
		}
	}
	return fail(noLeader, "this node has just started, or lost the leader of the metadata group, and does not know all topics yet")
}

// Groups returns the groups with a replica here, ascending. It is shared and must not be written to.
func (t *Table) Groups() []raftcore.GroupID { return t.ids }

// SameGroups says whether the same replicas are here as in another table of the same Router.
func (t *Table) SameGroups(o *Table) bool { return t.version == o.version }

// Tables is where the Router publishes its table. The zero value is not usable; see NewTables.
type Tables struct {
	p    atomic.Pointer[Table]
	live atomic.Pointer[Liveness]
	// Findings is where the Controller says what it can't do.
	Findings actors.FindingBoard
}

// NewTables returns a place with an empty table.
func NewTables() *Tables {
	t := &Tables{}
	t.p.Store(&Table{Meta: metadata.Empty()})
	return t
}

// Liveness returns who was heard of lately, as of the last tick.
func (t *Tables) Liveness() *Liveness { return t.live.Load() }

// Load returns the latest table.
func (t *Tables) Load() *Table { return t.p.Load() }
