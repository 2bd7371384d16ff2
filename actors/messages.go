package actors

import (
	"github.com/asynkron/protoactor-go/actor"
	"go.etcd.io/raft/v3/raftpb"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/proto/trace"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/metadata"
	"github.com/multiraftd/multiraftd/raftcore/partition"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// ---- to a Replica ----

// Propose asks the replica to replicate one payload, which the sender has checked. Reply is called exactly
// once, from the replica's turn.
type Propose struct {
	Payload []byte
	Reply   ProposeReply
	Since   int64 // when it was admitted, by Counters.Nanos; 0 = not measured
	// Wait is the payload's time in the mailbox, in its trace; nil = it is not sampled.
	Wait *trace.Span

	proposing *trace.Span
}

// ProposeReply takes the end of a Propose. It must not block.
type ProposeReply interface{ Proposed(ProposeResult) }

// ProposeResult is the end of a Propose. Without Err the payload's entry is committed, and Outcome is what
// the machine made of it.
type ProposeResult struct {
	Outcome raftcore.Outcome
	At      raftcore.Position
	Fsynced int   // replicas known to have fsynced the entry, at least a majority
	Settled int64 // when, by Counters.Nanos; for telemetry
	Err     error // *NotLeaderError, ErrOutcomeUnknown, ErrOverloaded, ErrDiskStalled, ErrStopped or ErrTooLarge
}

// Inbound carries what one frame held for one group, from a node whose connection passed the handshake. Done,
// unless it is nil, is called once, when this is in no mailbox any more.
type Inbound struct {
	From       raftcore.NodeID
	Heartbeats []*raftv1.GroupHeartbeat
	Envelopes  []*raftv1.Envelope
	Done       func()
	// Arrived are the sampled writes in them.
	Arrived []Arrived
}

func (m *Inbound) done() {
	if m.Done != nil {
		m.Done()
	}
}

// Arrived is a sampled write in an Inbound: the entry at Index, or with index 0 the message itself. Wait is its time
// in the mailbox, and stands below what the sender traces.
type Arrived struct {
	Index raftcore.Index
	Wait  *trace.Span
}

// Unary is the request of a canonical RPC, or one chunk of a snapshot: exactly one of Append, Vote and Snapshot
// is set.
type Unary struct {
	From     raftcore.NodeID
	Append   *raftv1.AppendEntriesRequest
	Vote     *raftv1.RequestVoteRequest
	Snapshot *raftv1.InstallSnapshotRequest
	Reply    UnaryReply
	// Trace is what the caller traces; zero = nothing.
	Trace trace.Context

	msg *raftpb.Message // what stands for it in Raft, once it has been stepped
}

// UnaryReply takes the end of a Unary. It must not block.
type UnaryReply interface{ Answered(UnaryAnswer) }

// UnaryAnswer is the end of a Unary: the response that belongs to the request, durable, without its header;
// or Err, a *raftcore.Refusal among others, and nothing has changed. For a chunk that was taken, and is not the last,
// it is empty: the next one may come.
type UnaryAnswer struct {
	Append   *raftv1.AppendEntriesResponse
	Vote     *raftv1.RequestVoteResponse
	Snapshot *raftv1.InstallSnapshotResponse
	Err      error
}

// Persisted releases the storage responses of a Write that is durable (of an append), or visible (of an
// apply; then Readable is the watermark up to which readers find records). Activated says that the append has put
// a snapshot in force.
type Persisted struct {
	Incarnation uint64
	Responses   []*raftpb.Message
	Applied     bool
	Readable    raftcore.Offset
	Activated   bool

	handed  int64 // when the write was given to the LogWriter, by Counters.Nanos
	appends int   // proposed here that the write holds
}

// ReadEnd asks for the linearizable bounds of the group's log. Only the leader can answer.
type ReadEnd struct{ Reply ReadEndReply }

// ReadEndReply takes the end of a ReadEnd. It must not block.
type ReadEndReply interface {
	ReadEnd(logStart, highWatermark raftcore.Offset, term uint64, err error)
}

// WaitReadable asks to be told once records at Offset can be read from a View. ID names it for CancelWait.
type WaitReadable struct {
	ID     uint64
	Offset raftcore.Offset
	Reply  chan<- error // one slot; nil when readable, ErrStopped when the replica ends
}

// CancelWait forgets the WaitReadable with that id.
type CancelWait struct{ ID uint64 }

// Retain says how long the records of the replica's partition are kept from now on.
type Retain struct{ Retention partition.Retention }

// Unreachable says that an append to a node was lost.
type Unreachable struct{ Node raftcore.NodeID }

// NodeGone says that a node's process has ended: its connections broke and its port refuses new ones.
type NodeGone struct{ Node raftcore.NodeID }

// Quiesce says that the group's leader, on node From, goes quiet in a term, its log committed and applied up to Commit.
type Quiesce struct {
	From   raftcore.NodeID
	Term   uint64
	Commit raftcore.Index
}

// Suspect says that nothing was heard of a node for an election timeout, or that it has started anew. It is for
// replicas that are quiet: others have Raft's own means.
type Suspect struct{ Node raftcore.NodeID }

// NodeBack says that something was heard of a node again that had been silent for an election timeout.
type NodeBack struct{ Node raftcore.NodeID }

// Campaign asks the replica to campaign without waiting for an election timeout, unless it has a leader.
type Campaign struct{}

// Wake says that the replica's group may not be quiet.
type Wake struct{}

// SetTarget tells the replica which members metadata want in its group. The replica that leads steers its
// group there, one change at a time. It takes the place of the one before; without voters there is none.
type SetTarget struct{ Target raftcore.Target }

// Transfer asks the replica to hand leadership to a voter that has caught up: the one on node To, or Replica, or,
// with neither, the best. With a Term it is refused unless the replica leads in that term. It ends when
// another leads, or after an election timeout; Reply is called exactly once, nil = nobody wants to know.
type Transfer struct {
	To      raftcore.NodeID
	Replica raftcore.ReplicaID
	Term    uint64
	Reply   TransferReply
}

// TransferReply takes the end of a Transfer: the node that leads now, or why it ended without. It must not
// block.
type TransferReply interface {
	Transferred(to raftcore.NodeID, err error)
}

// tick tells a replica that its tick counter is no longer 0.
type tick struct{}

// flush gives the replica another turn.
type flush struct{}

// ---- to the LogWriter ----

// Write asks for one group's batch to be committed, in the order of arrival. When it is (durably, with
// Sync), Remote goes to the peers and Done to To.
type Write struct {
	Batch  *store.Batch
	Sync   bool
	Remote []Outbound
	To     *actor.PID
	Done   any

	entries int // of Raft in the batch
	unary   []withheld
	traced  *tracedWrite // nil = nothing in it is sampled
}

// Outbound is a message for another node's replica.
type Outbound struct {
	Node raftcore.NodeID
	Env  *raftv1.Envelope

	beside []trace.Carried
}

// withheld is the answer to a Unary that waits for its Write to be durable.
type withheld struct {
	reply  UnaryReply
	answer UnaryAnswer
}

// ---- to the Clock ----

// ClockTick is one tick of the node's clock for every tracked replica.
type ClockTick struct{}

// Track starts ticks for a replica.
type Track struct {
	PID   *actor.PID
	Ticks *TickCount
}

// Untrack ends them.
type Untrack struct{ PID *actor.PID }

// ---- to the Controller ----

// Watch is one tick of the node's clock for the Controller, with what the node knows.
type Watch struct {
	Meta     *metadata.State
	Metadata *Status    // of this node's replica of the metadata group; nil = there is none yet
	Replica  *actor.PID // that replica
	// Silence is how many ticks ago each other node was last heard; from SilenceMax on it counts as dead.
	Silence    map[raftcore.NodeID]int
	SilenceMax int
}

// Reported is what a node says about itself.
type Reported struct {
	From   raftcore.NodeID
	Report *raftv1.NodeReport
}

// ---- from the Controller to the Router ----

// AskTransfer asks the node that leads a group in a term to hand over to a replica; 0 = the best.
type AskTransfer struct {
	Node  raftcore.NodeID
	Group raftcore.GroupID
	Term  uint64
	To    raftcore.ReplicaID
}

// End ends a request that reaches no replica, or none that lives. Other messages it ignores.
func End(msg any, err error) {
	switch m := msg.(type) {
	case *Propose:
		m.Wait.Fail(err)
		m.Wait.End()
		m.Reply.Proposed(ProposeResult{Err: err})
	case *ReadEnd:
		m.Reply.ReadEnd(0, 0, 0, err)
	case *WaitReadable:
		m.Reply <- err
	case *Unary:
		m.Reply.Answered(UnaryAnswer{Err: err})
	case *chunkStored:
		m.u.Reply.Answered(UnaryAnswer{Err: err})
	case *Inspect:
		m.Reply <- nil
	case *Transfer:
		if m.Reply != nil {
			m.Reply.Transferred(0, err)
		}
	case *Inbound:
		m.done()
	}
}
