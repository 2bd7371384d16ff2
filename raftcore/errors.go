package raftcore

import "errors"

// New.
var (
	// ErrConfig wraps every fault found in a Config, all of them at once.
	ErrConfig = errors.New("raftcore: bad config")
	// ErrState says that what the storage holds cannot be the state of a replica.
	ErrState = errors.New("raftcore: stored state is inconsistent")
)

// Propose, ReadIndex, TransferLeader. After each of them nothing was appended and nothing will come back.
var (
	// ErrNotLeader is returned by a replica that does not lead its group.
	ErrNotLeader = errors.New("raftcore: not the leader")
	// ErrDropped says that the leader takes no proposal now: too many uncommitted bytes, leadership being
	// handed over, or the replica is no member any more. Trying again later may succeed.
	ErrDropped = errors.New("raftcore: proposal dropped")
	// ErrTooLarge says that one entry is above EntryBytesMax. It never succeeds.
	ErrTooLarge = errors.New("raftcore: entry too large")
	// ErrNoSuccessor says that the replica cannot be handed leadership now: unknown, no voter, or not
	// heard from lately.
	ErrNoSuccessor = errors.New("raftcore: not fit to lead")
)

// Step, StepLocal and every call after them.
var (
	// ErrQuarantine says that this replica's log ends before what it once acknowledged: its disk went back
	// in time. Nothing was stepped, and nothing ever will be; the replica must be replaced under a new id.
	ErrQuarantine = errors.New("raftcore: replica quarantined: its log ends before what it acknowledged")
	// ErrNotLocal says that StepLocal was given a message that is no storage response of this replica.
	ErrNotLocal = errors.New("raftcore: not a local storage response")
)

// ApplyConfChange.
var (
	// ErrConfChange says that a committed membership change is not applicable. Every replica refuses it
	// alike, and the membership stays what it was.
	ErrConfChange = errors.New("raftcore: membership change refused")
)
