package clienttest

import (
	"context"
	"errors"
	"io"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/proto/recordbatch"
)

const retryMillis = 2

// errBroken ends a stream as a lost connection does.
var errBroken = status.Error(codes.Unavailable, "clienttest: connection broken")

type logService struct {
	multiraftv1.UnimplementedLogServiceServer
	c    *Cluster
	node uint64
}

func (s *logService) InitProducer(context.Context, *multiraftv1.InitProducerRequest) (*multiraftv1.InitProducerResponse, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.c.producers++
	return &multiraftv1.InitProducerResponse{ProducerId: s.c.producers}, nil
}

func (s *logService) Append(rpc grpc.BidiStreamingServer[multiraftv1.AppendRequest, multiraftv1.AppendResponse]) error {
	for {
		req, err := rpc.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		resp := &multiraftv1.AppendResponse{}
		var broken error
		for _, item := range req.GetItems() {
			res, err := s.append(item)
			if err != nil {
				broken = err
				break
			}
			if res != nil {
				resp.Results = append(resp.Results, res)
			}
		}
		if len(resp.Results) > 0 {
			if err := rpc.Send(resp); err != nil {
				return err
			}
		}
		if broken != nil {
			return broken
		}
	}
}

func (s *logService) AppendOnce(ctx context.Context, req *multiraftv1.AppendOnceRequest) (*multiraftv1.AppendOnceResponse, error) {
	res, err := s.append(req.GetItem())
	if err != nil {
		return nil, err
	}
	if res == nil {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if e := res.GetError(); e != nil {
		return nil, statusOf(e)
	}
	return &multiraftv1.AppendOnceResponse{Receipt: res.GetReceipt()}, nil
}

// append handles one item: a result, nothing (never answered), or an error that ends the stream.
func (s *logService) append(item *multiraftv1.AppendItem) (*multiraftv1.AppendResult, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	p, refused := s.locate(item)
	fault := None
	if refused == nil {
		fault = s.c.faultOf(Call{Node: s.node, Partition: item.GetPartition()})
		refused = s.refuse(p, fault)
	}
	if fault == BreakBefore {
		return nil, errBroken
	}
	var receipt *multiraftv1.Receipt
	if refused == nil {
		receipt, refused = p.append(item.GetPartition(), content(item))
	}
	switch fault {
	case BreakAfter:
		return nil, errBroken
	case SwallowedReply:
		return nil, nil
	case UnknownStored:
		receipt, refused = nil, refusal(codes.Aborted, "OUTCOME_UNKNOWN", "leadership was lost", retryMillis)
	}
	if refused != nil {
		return &multiraftv1.AppendResult{RequestId: item.GetRequestId(), Outcome: &multiraftv1.AppendResult_Error{Error: refused}}, nil
	}
	return &multiraftv1.AppendResult{RequestId: item.GetRequestId(), Outcome: &multiraftv1.AppendResult_Receipt{Receipt: receipt}}, nil
}

func content(item *multiraftv1.AppendItem) []byte {
	if item.GetRecords() == nil {
		return item.GetBatch()
	}
	var rs []recordbatch.Record
	for _, r := range item.GetRecords().GetRecords() {
		rs = append(rs, recordbatch.Record{Key: r.Key, Value: r.Value, TimestampMillis: r.GetTimestampMs()})
	}
	b, err := recordbatch.Encode(nil, recordbatch.None, rs)
	if err != nil {
		return nil // refused as an invalid batch
	}
	return b
}

func (s *logService) locate(item *multiraftv1.AppendItem) (*partition, *multiraftv1.AppendError) {
	t := s.c.byID(item.GetTopicId())
	if t == nil {
		return nil, refusal(codes.NotFound, "UNKNOWN_TOPIC", "no such topic", 0)
	}
	if int(item.GetPartition()) >= len(t.partitions) {
		return nil, refusal(codes.NotFound, "UNKNOWN_PARTITION", "no such partition", 0)
	}
	return t.partitions[item.GetPartition()], nil
}

func (s *logService) refuse(p *partition, f Fault) *multiraftv1.AppendError {
	switch {
	case f == NoLeader || p.leader == 0:
		return refusal(codes.Unavailable, "NO_LEADER", "an election is going on", retryMillis)
	case f == NotLeader || p.leader != s.node && !s.c.forward:
		e := refusal(codes.Unavailable, "NOT_LEADER", "another node leads", retryMillis)
		e.Metadata = map[string]string{"leader_id": strconv.FormatUint(p.leader, 10), "leader_addr": s.c.nodes[p.leader-1].addr}
		return e
	case f == Overloaded:
		return refusal(codes.ResourceExhausted, "OVERLOADED", "too much in flight", retryMillis)
	case f == DiskFull:
		return refusal(codes.ResourceExhausted, "DISK_FULL", "the disk is nearly full", retryMillis)
	case f == TooLarge:
		return refusal(codes.InvalidArgument, "BATCH_TOO_LARGE", "the batch is too large", 0)
	case f == UnknownLost:
		return refusal(codes.Aborted, "OUTCOME_UNKNOWN", "leadership was lost", retryMillis)
	}
	return nil
}

// statusOf is the error of a unary call for what the stream says in an item.
func statusOf(e *multiraftv1.AppendError) error {
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Reason: e.GetReason(), Domain: "multiraft", Metadata: e.GetMetadata()}}
	if ms := e.GetRetryAfterMs(); ms > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(time.Duration(ms) * time.Millisecond)})
	}
	st, err := status.New(codes.Code(e.GetCode()), e.GetMessage()).WithDetails(details...)
	if err != nil {
		return err
	}
	return st.Err()
}

func (s *logService) Describe(_ context.Context, req *multiraftv1.DescribeRequest) (*multiraftv1.DescribeResponse, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.c.describes++
	t := s.c.topics[req.GetName()]
	if req.GetTopicId() != 0 {
		t = s.c.byID(req.GetTopicId())
	}
	if t == nil {
		return nil, statusOf(refusal(codes.NotFound, "UNKNOWN_TOPIC", "no topic "+req.GetName(), 0))
	}
	resp := &multiraftv1.DescribeResponse{Name: t.name, TopicId: t.id, RecordBytesMax: s.c.recordsMax,
		RetentionMs: t.retention.GetRetentionMs(), RetentionBytes: t.retention.GetRetentionBytes()}
	for i, p := range t.partitions {
		resp.Partitions = append(resp.Partitions, &multiraftv1.PartitionInfo{Partition: uint32(i), GroupId: uint64(i + 2),
			Leader: p.leader, Term: 1, Replicas: s.c.ids(), HighWatermark: p.next, LogStart: p.logStart})
	}
	for _, n := range s.c.nodes {
		resp.Nodes = append(resp.Nodes, &multiraftv1.NodeAddress{NodeId: n.id, ClientAddr: n.addr})
	}
	return resp, nil
}

func (c *Cluster) ids() (ids []uint64) {
	for _, n := range c.nodes {
		ids = append(ids, n.id)
	}
	return ids
}
