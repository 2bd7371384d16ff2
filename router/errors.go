package router

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/multiraftd/multiraftd/actors"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/proto/recordbatch"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/metadata"
	"github.com/multiraftd/multiraftd/raftcore/partition"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// ErrNotHosted: the group has no replica on this node.
var ErrNotHosted = errors.New("the group has no replica on this node")

// errorDomain is the ErrorInfo domain of multiraftd.
const errorDomain = "multiraft"

// reason is why a request failed, for programs. docs/errors.md says what each means; a test holds the two
// against each other.
type reason uint8

const (
	plain reason = iota // no reason of ours: the caller's time is up, or a code says all
	notLeader
	noLeader
	stopping
	replicaFailed
	outcomeUnknown
	overloaded
	diskFull
	sequenceGap
	unknownProducer
	producerFenced
	recordTooLarge
	batchTooLarge
	invalidBatch
	corruptBatch
	unknownTopic
	unknownPartition
	unknownGroup
	offsetOutOfRange
	topicExists
	notEnoughNodes
	invalidArgument
	storeChanged
	staleStart
	storeCopied
	unknownNode
	nodeRemoved
	nodeDraining
	nodeInUse
	moveUnderWay
	removalPending
	noSuccessor
	refusalReasons // how many there are
)

// reasons is the one table of codes. retry is the pause that RetryInfo asks for; 0 = sending the request again
// unchanged does not help.
var reasons = [refusalReasons]struct {
	name  string
	code  codes.Code
	retry time.Duration
}{
	plain:            {"", codes.Unknown, 0},
	notLeader:        {"NOT_LEADER", codes.Unavailable, 10 * time.Millisecond},
	noLeader:         {"NO_LEADER", codes.Unavailable, 50 * time.Millisecond},
	stopping:         {"STOPPING", codes.Unavailable, 100 * time.Millisecond},
	replicaFailed:    {"REPLICA_FAILED", codes.Unavailable, 100 * time.Millisecond},
	outcomeUnknown:   {"OUTCOME_UNKNOWN", codes.Aborted, 0},
	overloaded:       {"OVERLOADED", codes.ResourceExhausted, 50 * time.Millisecond},
	diskFull:         {"DISK_FULL", codes.ResourceExhausted, time.Second},
	sequenceGap:      {"SEQUENCE_GAP", codes.FailedPrecondition, 0},
	unknownProducer:  {"UNKNOWN_PRODUCER", codes.FailedPrecondition, 0},
	producerFenced:   {"PRODUCER_FENCED", codes.FailedPrecondition, 0},
	recordTooLarge:   {"RECORD_TOO_LARGE", codes.InvalidArgument, 0},
	batchTooLarge:    {"BATCH_TOO_LARGE", codes.InvalidArgument, 0},
	invalidBatch:     {"INVALID_BATCH", codes.InvalidArgument, 0},
	corruptBatch:     {"CORRUPT_BATCH", codes.DataLoss, 0},
	unknownTopic:     {"UNKNOWN_TOPIC", codes.NotFound, 0},
	unknownPartition: {"UNKNOWN_PARTITION", codes.NotFound, 0},
	unknownGroup:     {"UNKNOWN_GROUP", codes.NotFound, 0},
	offsetOutOfRange: {"OFFSET_OUT_OF_RANGE", codes.OutOfRange, 0},
	topicExists:      {"TOPIC_EXISTS", codes.AlreadyExists, 0},
	notEnoughNodes:   {"NOT_ENOUGH_NODES", codes.FailedPrecondition, 0},
	invalidArgument:  {"INVALID_ARGUMENT", codes.InvalidArgument, 0},
	storeChanged:     {"STORE_CHANGED", codes.FailedPrecondition, 0},
	staleStart:       {"STALE_START", codes.FailedPrecondition, 0},
	storeCopied:      {"STORE_COPIED", codes.FailedPrecondition, 0},
	unknownNode:      {"UNKNOWN_NODE", codes.NotFound, 0},
	nodeRemoved:      {"NODE_REMOVED", codes.FailedPrecondition, 0},
	nodeDraining:     {"NODE_DRAINING", codes.FailedPrecondition, 0},
	nodeInUse:        {"NODE_IN_USE", codes.FailedPrecondition, 0},
	moveUnderWay:     {"MOVE_UNDER_WAY", codes.FailedPrecondition, 0},
	removalPending:   {"REMOVAL_PENDING", codes.Unavailable, 200 * time.Millisecond},
	noSuccessor:      {"NO_SUCCESSOR", codes.FailedPrecondition, 0},
}

// failure is an error as a client sees it.
type failure struct {
	reason   reason
	code     codes.Code // of a plain one
	message  string
	field    string // of an INVALID_ARGUMENT
	metadata map[string]string
}

func fail(r reason, format string, args ...any) *failure {
	return &failure{reason: r, code: reasons[r].code, message: fmt.Sprintf(format, args...)}
}

func badField(field, format string, args ...any) *failure {
	f := fail(invalidArgument, field+": "+format, args...)
	f.field = field
	return f
}

func (f *failure) Error() string { return f.message }

// GRPCStatus makes a failure the status of the call that returns it.
func (f *failure) GRPCStatus() *status.Status {
	st := status.New(f.code, f.message)
	if f.reason == plain {
		return st
	}
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Reason: reasons[f.reason].name, Domain: errorDomain, Metadata: f.metadata}}
	if d := reasons[f.reason].retry; d > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(d)})
	}
	if f.field != "" {
		details = append(details, &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: f.field, Description: f.message}}})
	}
	full, err := st.WithDetails(details...)
	if err != nil { // only for messages that cannot be marshalled, such as invalid UTF-8 in metadata
		return st
	}
	return full
}

// item is the failure as the answer to one item of an Append stream.
func (f *failure) item() *multiraftv1.AppendError {
	return &multiraftv1.AppendError{Code: int32(f.code), Reason: reasons[f.reason].name, Message: f.message, Metadata: f.metadata,
		RetryAfterMs: uint32(reasons[f.reason].retry.Milliseconds())}
}

// fromItem is the way back, for AppendErrors of another node.
func fromItem(e *multiraftv1.AppendError) *failure {
	return &failure{reason: reasonNamed(e.GetReason()), code: codes.Code(e.GetCode()), message: e.GetMessage(), metadata: e.GetMetadata()}
}

func reasonNamed(name string) reason {
	for r := plain + 1; r < refusalReasons; r++ {
		if reasons[r].name == name {
			return r
		}
	}
	return plain
}

// fromStatus is what another node answered. A plain failure did not come from its services, but from the
// connection or from the caller's own end.
func fromStatus(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	st := status.Convert(err)
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		st = status.FromContextError(err)
	}
	f = &failure{code: st.Code(), message: st.Message()}
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() == errorDomain {
				f.reason, f.metadata = reasonNamed(d.GetReason()), maps.Clone(d.GetMetadata())
			}
		case *errdetails.BadRequest:
			if v := d.GetFieldViolations(); len(v) > 0 {
				f.field = v[0].GetField()
			}
		}
	}
	return f
}

// explain is the one switch from errors to what a client sees.
func explain(err error, m *metadata.State) *failure {
	var f *failure
	var led *actors.NotLeaderError
	var badMeta *metadata.InvalidError
	var limit *metadata.LimitError
	var offset *partition.OutOfRangeError
	is := func(targets ...error) bool {
		return slices.ContainsFunc(targets, func(t error) bool { return errors.Is(err, t) })
	}
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &led):
		return leaderElsewhere(led.Leader, led.Term, m)
	case is(actors.ErrOutcomeUnknown):
		return fail(outcomeUnknown, "%v", err)
	case is(actors.ErrOverloaded, actors.ErrDiskStalled):
		return fail(overloaded, "%v", err)
	case is(actors.ErrTooLarge, recordbatch.ErrBatchTooLarge):
		return fail(batchTooLarge, "%v", err)
	case is(recordbatch.ErrRecordTooLarge):
		return fail(recordTooLarge, "%v", err)
	case is(recordbatch.ErrCorrupt):
		return fail(corruptBatch, "%v", err)
	case is(recordbatch.ErrMalformed, recordbatch.ErrCompressed):
		return fail(invalidBatch, "%v", err)
	case is(ErrNotHosted):
		return fail(notLeader, "%v", err)
	case is(actors.ErrReadTimeout, store.ErrNoGroup, store.ErrTombstone):
		return fail(noLeader, "%v", err)
	case is(actors.ErrStopped, actors.ErrQuarantined, partition.ErrCorrupt, store.ErrDamaged, store.ErrNotFound):
		return fail(replicaFailed, "%v", err)
	case is(store.ErrClosed, store.ErrFailed):
		return fail(stopping, "%v", err)
	case errors.As(err, &offset):
		return outOfRange(offset)
	case errors.As(err, &badMeta):
		return badField(badMeta.Field, "%s", badMeta.Reason)
	case errors.As(err, &limit):
		return badField(limit.What, "the cluster keeps at most %d", limit.Max)
	case is(metadata.ErrUnknownTopic):
		return fail(unknownTopic, "%v", err)
	case is(metadata.ErrTopicExists):
		return fail(topicExists, "%v", err)
	case is(metadata.ErrNotEnoughNodes):
		return fail(notEnoughNodes, "%v", err)
	case is(metadata.ErrStoreChanged):
		return fail(storeChanged, "%v", err)
	case is(metadata.ErrStaleStart):
		return fail(staleStart, "%v", err)
	case is(metadata.ErrStoreCopied):
		return fail(storeCopied, "%v", err)
	case is(actors.ErrNoSuccessor, actors.ErrTransferTimeout, actors.ErrTransferUnderWay):
		return fail(noSuccessor, "%v", err)
	default:
		return membershipFailure(err)
	}
}

// membershipReasons says what the metadata machine's refusals to change nodes and groups are called outside.
var membershipReasons = []struct {
	err    error
	reason reason
}{
	{metadata.ErrUnknownNode, unknownNode}, {metadata.ErrNodeRemoved, nodeRemoved}, {metadata.ErrNodeDraining, nodeDraining},
	{metadata.ErrNodeInUse, nodeInUse}, {metadata.ErrTargetOpen, moveUnderWay}, {metadata.ErrRemovalPending, removalPending},
	{metadata.ErrUnknownGroup, unknownGroup}, {metadata.ErrVotersUnknown, noLeader},
}

func membershipFailure(err error) *failure {
	for _, m := range membershipReasons {
		if errors.Is(err, m.err) {
			return fail(m.reason, "%v", err)
		}
	}
	return fromStatus(err)
}

// leaderElsewhere is NOT_LEADER with the way to the leader, or NO_LEADER.
func leaderElsewhere(leader raftcore.NodeID, term uint64, m *metadata.State) *failure {
	if leader == 0 {
		return fail(noLeader, "the group has no leader in term %d", term)
	}
	f := fail(notLeader, "node %d leads in term %d", leader, term)
	f.metadata = map[string]string{"leader_id": strconv.FormatUint(uint64(leader), 10), "term": strconv.FormatUint(term, 10)}
	if n, ok := m.Node(leader); ok {
		f.metadata["leader_addr"] = n.GetClientAddr()
	}
	return f
}

func outOfRange(e *partition.OutOfRangeError) *failure {
	f := fail(offsetOutOfRange, "offset %d: the log holds %d to %d, exclusive", e.Offset, e.LogStart, e.HighWatermark)
	f.metadata = map[string]string{
		"start_offset":   strconv.FormatInt(int64(e.LogStart), 10),
		"high_watermark": strconv.FormatInt(int64(e.HighWatermark), 10),
	}
	return f
}

// verdictReasons says what a machine's refusal is called outside.
var verdictReasons = map[raftcore.Verdict]reason{
	raftcore.SequenceGap:     sequenceGap,
	raftcore.UnknownProducer: unknownProducer,
	raftcore.Fenced:          producerFenced,
	raftcore.TooLarge:        batchTooLarge,
	raftcore.Invalid:         invalidBatch,
}

// judged turns an outcome that is neither Accepted nor Duplicate into an error.
func judged(o raftcore.Outcome) error {
	if err, ok := o.Value.(error); ok && o.Verdict == raftcore.Refused {
		return err
	}
	if r, ok := verdictReasons[o.Verdict]; ok {
		return fail(r, "the partition refused the batch: %v", o.Verdict)
	}
	return fail(invalidArgument, "refused: %v", o.Verdict)
}

// IsRetriable says whether the same request may succeed later, here or at another node. It is meant for
// requests that may be repeated: an unknown outcome is retriable.
func IsRetriable(err error) bool {
	switch f := fromStatus(err); f.code {
	case codes.Unavailable, codes.Aborted, codes.DeadlineExceeded, codes.Canceled:
		return true
	case codes.ResourceExhausted:
		return f.reason == overloaded || f.reason == diskFull
	default:
		return false
	}
}
