package transport

import (
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Refusals of a handshake or of a unary RPC's header (rules 19 and 20).
var (
	ErrMalformed      = errors.New("malformed header or handshake")
	ErrWrongCluster   = errors.New("header names another cluster")
	ErrWrongNode      = errors.New("meant for another node")
	ErrWrongStore     = errors.New("node speaks from another store than the one it is known by")
	ErrOldIncarnation = errors.New("start number is lower than one seen before")
	ErrCopiedStore    = errors.New("a copy of the store has been started: it does not come from the starts that are known")
	ErrWrongCert      = errors.New("certificate does not speak for the node")
	ErrOtherExchange  = errors.New("another incarnation of the node holds an Exchange")
	ErrTooManyNodes   = errors.New("too many different nodes have shaken hands")
)

// Ends of an Exchange.
var (
	ErrSuperseded       = errors.New("the node has opened a newer Exchange")
	ErrHandshakeTimeout = errors.New("no handshake in time")
	ErrForeignFrame     = errors.New("frame's header differs from the handshake's")
	ErrPeerEnded        = errors.New("peer ended the Exchange")
)

// Ends of a snapshot's sending or receiving.
var (
	ErrUnknownNode      = errors.New("no address is known")
	ErrTooManySnapshots = errors.New("too many snapshots at once")
	ErrSnapshotStalled  = errors.New("nothing has moved on the snapshot's stream for too long")
	ErrSnapshotPosition = errors.New("the receiver cannot be followed")
)

// States of a Transport.
var (
	ErrNotStarted = errors.New("node belongs to no cluster yet")
	ErrClosed     = errors.New("transport is closed")
)

// ErrConfig says that a Config was refused; the text names every fault.
var ErrConfig = errors.New("transport config")

// refusal is how one error shows outside: its gRPC code, and its label in the counters.
type refusal struct {
	err    error
	code   codes.Code
	reason string
}

// refusals is the one switch from errors to codes; the first that matches wins.
var refusals = [...]refusal{
	{ErrMalformed, codes.InvalidArgument, "malformed"},
	{ErrWrongCluster, codes.FailedPrecondition, "wrong_cluster"},
	{ErrWrongNode, codes.FailedPrecondition, "wrong_node"},
	{ErrWrongStore, codes.FailedPrecondition, "wrong_store"},
	{ErrOldIncarnation, codes.FailedPrecondition, "old_incarnation"},
	{ErrCopiedStore, codes.FailedPrecondition, "copied_store"},
	{ErrWrongCert, codes.PermissionDenied, "wrong_certificate"},
	{ErrOtherExchange, codes.Aborted, "other_exchange"},
	{ErrTooManyNodes, codes.ResourceExhausted, "too_many_nodes"},
	{ErrSuperseded, codes.Aborted, "superseded"},
	{ErrHandshakeTimeout, codes.DeadlineExceeded, "handshake_timeout"},
	{ErrForeignFrame, codes.FailedPrecondition, "foreign_frame"},
	{ErrTooManySnapshots, codes.ResourceExhausted, "too_many_snapshots"},
	{ErrSnapshotStalled, codes.DeadlineExceeded, "snapshot_stalled"},
	{ErrNotStarted, codes.Unavailable, "not_started"},
	{ErrClosed, codes.Unavailable, "closed"},
}

// refusalOf returns the position of err in refusals, or -1.
func refusalOf(err error) int {
	for i := range refusals {
		if errors.Is(err, refusals[i].err) {
			return i
		}
	}
	return -1
}

// toStatus turns err into what a caller over gRPC sees. Errors that carry a status already pass.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	if i := refusalOf(err); i >= 0 {
		return status.Error(refusals[i].code, err.Error())
	}
	return err
}
