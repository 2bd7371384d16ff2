package actors

import (
	"errors"
	"fmt"

	"github.com/multiraftd/multiraftd/raftcore"
)

// How a Propose or a ReadEnd may end without success.
var (
	// ErrOutcomeUnknown: leadership was lost after the payload entered the log. It may or may not come to be
	// committed; a retry under the same producer sequence is safe.
	ErrOutcomeUnknown = errors.New("leadership was lost while the append was in flight: it may or may not be stored")
	// ErrOverloaded: the group's log has as much uncommitted as it may have. Nothing was stored.
	ErrOverloaded = errors.New("too many uncommitted bytes in the group")
	// ErrDiskStalled: the leader's disk has not synced for an election timeout. Nothing was stored.
	ErrDiskStalled = errors.New("the leader's disk has stalled")
	// ErrTooLarge: the payload does not fit into an entry. Nothing was stored.
	ErrTooLarge = errors.New("payload is larger than an entry may be")
	// ErrStopped: the replica has stopped or failed. For a Propose: before the payload entered the log.
	ErrStopped = errors.New("the replica has stopped")
	// ErrQuarantined: this replica's log is behind what it once acknowledged.
	ErrQuarantined = errors.New("the replica is quarantined: its log is behind what it once acknowledged")
	// ErrReadTimeout: the leader could not confirm its leadership in time.
	ErrReadTimeout = errors.New("leadership could not be confirmed in time")
)

// NotLeaderError: the replica does not lead. Nothing was stored. Leader is the node that leads as far as
// the replica knows; 0 = none known.
type NotLeaderError struct {
	Leader raftcore.NodeID
	Term   uint64
}

func (e *NotLeaderError) Error() string {
	if e.Leader == 0 {
		return fmt.Sprintf("the group has no leader in term %d", e.Term)
	}
	return fmt.Sprintf("not the leader: node %d leads in term %d", e.Leader, e.Term)
}
