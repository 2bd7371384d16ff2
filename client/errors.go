package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
)

// What the client itself says. What a node said is an *Error, which matches its Reason with errors.Is.
var (
	// ErrClosed: the Client, Producer or Reader has been closed.
	ErrClosed = errors.New("client closed")
	// ErrUnreachable: no node answered. An append that might have got through is never reported like this.
	ErrUnreachable = errors.New("no node can be reached")
	// ErrTimedOut: a batch was tried for as long as it may be, and is known not to have been stored.
	ErrTimedOut = errors.New("not stored in time")
	// ErrGap: a node sent records that do not continue those before them.
	ErrGap = errors.New("records missing in a read")
)

// Reason is why a node refused, for programs. errors.Is(err, UnknownTopic) asks for one.
type Reason string

func (r Reason) Error() string { return string(r) }

// Reasons of every call that needs a leader. All but OutcomeUnknown say that nothing was stored.
const (
	NotLeader     Reason = "NOT_LEADER"     // metadata leader_id and leader_addr, where known
	NoLeader      Reason = "NO_LEADER"      // an election is going on
	Stopping      Reason = "STOPPING"       // the node is shutting down
	ReplicaFailed Reason = "REPLICA_FAILED" // the replica on that node has stopped
	Overloaded    Reason = "OVERLOADED"     // too much in flight
	DiskFull      Reason = "DISK_FULL"      // of the leader's node, or of too many followers; appends only
	// OutcomeUnknown: stored or not, nobody knows. Only a producer's own sequence makes a retry safe; a
	// Producer retries it, and reports it when it has to give up first.
	OutcomeUnknown Reason = "OUTCOME_UNKNOWN"
)

// Reasons of appends.
const (
	SequenceGap     Reason = "SEQUENCE_GAP"
	UnknownProducer Reason = "UNKNOWN_PRODUCER"
	ProducerFenced  Reason = "PRODUCER_FENCED"
	RecordTooLarge  Reason = "RECORD_TOO_LARGE"
	BatchTooLarge   Reason = "BATCH_TOO_LARGE"
	InvalidBatch    Reason = "INVALID_BATCH"
	CorruptBatch    Reason = "CORRUPT_BATCH"
)

// Reasons of bad names and positions.
const (
	UnknownTopic     Reason = "UNKNOWN_TOPIC"
	UnknownPartition Reason = "UNKNOWN_PARTITION"
	UnknownGroup     Reason = "UNKNOWN_GROUP"
	OffsetOutOfRange Reason = "OFFSET_OUT_OF_RANGE" // metadata start_offset and high_watermark
	TopicExists      Reason = "TOPIC_EXISTS"
	NotEnoughNodes   Reason = "NOT_ENOUGH_NODES"
	InvalidArgument  Reason = "INVALID_ARGUMENT"
)

// Reasons of changes to nodes and to where partitions are.
const (
	UnknownNode    Reason = "UNKNOWN_NODE"
	NodeRemoved    Reason = "NODE_REMOVED"
	NodeDraining   Reason = "NODE_DRAINING"
	NodeInUse      Reason = "NODE_IN_USE"
	MoveUnderWay   Reason = "MOVE_UNDER_WAY"
	RemovalPending Reason = "REMOVAL_PENDING" // the node still deletes an older replica
	NoSuccessor    Reason = "NO_SUCCESSOR"    // nobody could take over, or nobody did in time
)

// errorDomain is the ErrorInfo domain of multiraftd.
const errorDomain = "multiraft"

// retryReasons pass by themselves. OutcomeUnknown is among them: who must not repeat, asks first.
var retryReasons = []Reason{NotLeader, NoLeader, Stopping, ReplicaFailed, OutcomeUnknown}

// Error is what a node answered, or, with an empty Reason, what became of the call on the way.
type Error struct {
	Op         string // the call, such as "describe"
	Code       codes.Code
	Reason     Reason // empty: it does not come from a node
	Message    string
	Metadata   map[string]string // what belongs to the reason
	RetryAfter time.Duration     // 0: the node named no time

	unsent bool // the request never left
}

func (e *Error) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("%s: %s (%s)", e.Op, e.Message, e.Code)
	}
	return fmt.Sprintf("%s: %s (%s)", e.Op, e.Message, e.Reason)
}

// Is matches a Reason, and ErrUnreachable when the call did not reach a node.
func (e *Error) Is(target error) bool {
	if r, ok := target.(Reason); ok {
		return e.Reason == r
	}
	return target == ErrUnreachable && e.lostOnTheWay()
}

// lostOnTheWay says that no node answered.
func (e *Error) lostOnTheWay() bool { return e.Reason == "" && e.Code == codes.Unavailable }

// retriable says that the same request may succeed later or elsewhere.
func (e *Error) retriable() bool {
	if e.Reason == "" {
		return e.RetryAfter > 0 || slices.Contains([]codes.Code{codes.Unavailable, codes.Aborted, codes.DeadlineExceeded, codes.Canceled}, e.Code)
	}
	return e.RetryAfter > 0 || slices.Contains(retryReasons, e.Reason)
}

// maybeStored says that an append that got this answer may have been stored all the same. A node names a
// reason for whatever it knows not to be stored; an error without one is no such promise.
func (e *Error) maybeStored() bool {
	return !e.unsent && (e.Reason == OutcomeUnknown || e.Reason == "")
}

// leader is the node that a NOT_LEADER answer points at; 0 = none.
func (e *Error) leader() (node uint64, addr string) {
	if e.Reason != NotLeader {
		return 0, ""
	}
	node, err := strconv.ParseUint(e.Metadata["leader_id"], 10, 64)
	if err != nil {
		return 0, "" // a hint that cannot be read is no hint
	}
	return node, e.Metadata["leader_addr"]
}

// fromStatus turns the error of a gRPC call into an *Error.
func fromStatus(op string, err error) *Error {
	st := status.Convert(err)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		st = status.FromContextError(err)
	}
	e := &Error{Op: op, Code: st.Code(), Message: advised(st.Message())}
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() == errorDomain {
				e.Reason, e.Metadata = Reason(d.GetReason()), d.GetMetadata()
			}
		case *errdetails.RetryInfo:
			e.RetryAfter = d.GetRetryDelay().AsDuration()
		}
	}
	return e
}

// advice says what to do about a connection that did not come to be for want of TLS, or by it. Go's words for it are part
// of the message that gRPC gives.
var advice = []struct{ words, means string }{
	{"the client speaks plaintext", "--tls-ca, in Go Config.TLS"},
	{"first record does not look like a TLS handshake", "the node speaks plaintext: leave out --tls-ca and the like, in Go Config.TLS"},
	{"tls: certificate required", "the node wants a certificate of the client: give --tls-cert and --tls-key, in Go Config.TLS.Certificates"},
	{"tls: unknown certificate authority", "the node does not trust the CA that signed the client's certificate: --tls-cert must be of one in its --client-tls-ca"},
	{"tls: expired certificate", "the client's certificate, --tls-cert, has expired"},
	{"certificate signed by unknown authority", "the node's certificate is not signed by a CA in --tls-ca, in Go Config.TLS.RootCAs"},
	{"x509: certificate is valid for", "the node is dialled by a name that its certificate does not have: dial another, or give one that it has as --tls-server-name, in Go Config.TLS.ServerName"},
	{"cannot validate certificate for", "the node is dialled by an address that its certificate does not have: dial it by name, or give one that it has as --tls-server-name, in Go Config.TLS.ServerName"},
	{"certificate has expired or is not yet valid", "the node's certificate has expired: its --client-tls-cert needs a new one"},
}

// advised adds advice to a message.
func advised(message string) string {
	for _, a := range advice {
		if strings.Contains(message, a.words) {
			return message + ": " + a.means
		}
	}
	return message
}

// fromItem turns the error of one item of an append stream into an *Error.
func fromItem(a *multiraftv1.AppendError) *Error {
	return &Error{Op: "append", Code: codes.Code(a.GetCode()), Reason: Reason(strings.TrimSpace(a.GetReason())),
		Message: a.GetMessage(), Metadata: a.GetMetadata(), RetryAfter: time.Duration(a.GetRetryAfterMs()) * time.Millisecond}
}

// unknownOutcome is what a waiter hears when the client stops trying before it knows.
func unknownOutcome(cause error) error {
	msg := "it may or may not have been stored"
	if cause != nil {
		msg += ": " + cause.Error()
	}
	return &Error{Op: "append", Code: codes.Aborted, Reason: OutcomeUnknown, Message: msg}
}
