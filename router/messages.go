package router

import (
	"sync/atomic"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/metadata"
)

// Frame is a frame from a peer whose connection passed the handshake. Done, unless it is nil, is called once,
// when nothing of the frame is in a mailbox any more; not by a Router that has been stopped.
type Frame struct {
	From  raftcore.NodeID
	Frame *raftv1.Frame
	Done  func()

	receiving []receiving
}

// parts counts what is left of a frame that was split up.
type parts struct {
	left atomic.Int32
	done func()
}

func (p *parts) finish() {
	if p.left.Add(-1) == 0 {
		p.done()
	}
}

// Lost says that appends of these groups to a node were lost.
type Lost struct {
	Node   raftcore.NodeID
	Groups []uint64
}

// NodeGone says that a node's process has ended.
type NodeGone struct{ Node raftcore.NodeID }

// Dispatch carries messages for replicas: what was waiting on one client stream, in order.
type Dispatch struct{ Items []Routed }

// Routed is a message for the replica of a group: *actors.Propose, ReadEnd, WaitReadable, CancelWait or
// Unary. When the group has no replica here, its reply ends with ErrNotHosted.
type Routed struct {
	Group raftcore.GroupID
	Msg   any
}

// MetadataApplied says that the metadata replica of this node has applied entries.
type MetadataApplied struct{ State *metadata.State }

// publish is what the Router sends itself to show births and deaths.
type publish struct{}

// born says that the first batch of a new replica is durable.
type born struct {
	group    raftcore.GroupID
	replica  raftcore.ReplicaID
	campaign bool
}
