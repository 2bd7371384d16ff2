package metadata

import (
	"errors"
	"fmt"

	"github.com/multiraftd/multiraftd/raftcore"
)

// Why a command is refused; Outcome.Value of a Refused one wraps exactly one of these.
var (
	// ErrInvalid: a field is not acceptable whatever the state is. See InvalidError.
	ErrInvalid = errors.New("metadata: invalid argument")
	// ErrTopicExists: another request has created a topic with this name.
	ErrTopicExists = errors.New("metadata: topic exists")
	// ErrNotEnoughNodes: fewer nodes than replicas wanted. See NotEnoughNodesError.
	ErrNotEnoughNodes = errors.New("metadata: not enough nodes")
	// ErrLimit: the cluster would have more of something than the machine keeps. See LimitError.
	ErrLimit = errors.New("metadata: limit reached")
	// ErrStoreChanged: a node came with another store than it had; a wiped node needs a new id.
	ErrStoreChanged = errors.New("metadata: node has another store")
	// ErrUnknownNode: no node of that id is a member.
	ErrUnknownNode = errors.New("metadata: unknown node")
	// ErrNodeRemoved: the node, or its store, was a member and has been removed; it never comes back as it was.
	ErrNodeRemoved = errors.New("metadata: node was removed")
	// ErrNodeDraining: a draining node takes no new replicas.
	ErrNodeDraining = errors.New("metadata: node is draining")
	// ErrNodeInUse: the node has replicas or votes in the metadata group. See NodeInUseError.
	ErrNodeInUse = errors.New("metadata: node is in use")
	// ErrVotersUnknown: the voters of the metadata group are not recorded yet.
	ErrVotersUnknown = errors.New("metadata: voters of the metadata group are not recorded yet")
	// ErrUnknownGroup: no partition has that group.
	ErrUnknownGroup = errors.New("metadata: unknown group")
	// ErrUnknownTopic: no topic of that id was ever created.
	ErrUnknownTopic = errors.New("metadata: unknown topic")
	// ErrTargetOpen: the group is on the way to another target. See TargetOpenError.
	ErrTargetOpen = errors.New("metadata: group is on the way to another target")
	// ErrRemovalPending: the node still has to delete an older replica of the group.
	ErrRemovalPending = errors.New("metadata: node still deletes an older replica of the group")
	// ErrStaleStart: a node came with a smaller start number than is recorded; an old copy of its disk.
	ErrStaleStart = errors.New("metadata: start number went back")
	// ErrStoreCopied: a node came with a start that does not follow the one recorded; an old copy of its disk, or two.
	ErrStoreCopied = errors.New("metadata: a copy of the node's store")
)

// ErrCorrupt is returned by Open: what is stored contradicts itself.
var ErrCorrupt = errors.New("metadata: stored state is corrupt")

// InvalidError is an ErrInvalid that names the field, as it is called in the API.
type InvalidError struct{ Field, Reason string }

func (e *InvalidError) Error() string {
	return fmt.Sprintf("%v: %s: %s", ErrInvalid, e.Field, e.Reason)
}

// Unwrap returns ErrInvalid.
func (e *InvalidError) Unwrap() error { return ErrInvalid }

// NotEnoughNodesError is an ErrNotEnoughNodes.
type NotEnoughNodesError struct{ Have, Want int }

func (e *NotEnoughNodesError) Error() string {
	return fmt.Sprintf("%v: %d replicas wanted, %d nodes registered", ErrNotEnoughNodes, e.Want, e.Have)
}

// Unwrap returns ErrNotEnoughNodes.
func (e *NotEnoughNodesError) Unwrap() error { return ErrNotEnoughNodes }

// NodeInUseError is an ErrNodeInUse.
type NodeInUseError struct {
	Node     raftcore.NodeID
	Replicas int  // of partitions
	Votes    bool // in the metadata group
}

func (e *NodeInUseError) Error() string {
	what := fmt.Sprintf("it has %d replicas", e.Replicas)
	if e.Votes {
		what += " and votes in the metadata group"
	}
	return fmt.Sprintf("%v: node %d: %s", ErrNodeInUse, e.Node, what)
}

// Unwrap returns ErrNodeInUse.
func (e *NodeInUseError) Unwrap() error { return ErrNodeInUse }

// TargetOpenError is an ErrTargetOpen.
type TargetOpenError struct {
	Group  raftcore.GroupID
	Target Target
}

func (e *TargetOpenError) Error() string {
	return fmt.Sprintf("%v: group %d moves to nodes %v", ErrTargetOpen, e.Group, e.Target.Nodes())
}

// Unwrap returns ErrTargetOpen.
func (e *TargetOpenError) Unwrap() error { return ErrTargetOpen }

// LimitError is an ErrLimit.
type LimitError struct {
	What string
	Max  int
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("%v: at most %d %s", ErrLimit, e.Max, e.What)
}

// Unwrap returns ErrLimit.
func (e *LimitError) Unwrap() error { return ErrLimit }

func invalid(field, format string, args ...any) error {
	return &InvalidError{field, fmt.Sprintf(format, args...)}
}

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}
