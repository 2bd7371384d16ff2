package clienttest

import (
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/proto/recordbatch"
)

const readBytesDefault = 1 << 20

// reading is one Read stream.
type reading struct {
	s         *logService
	p         *partition
	number    uint32
	next, end int64 // end -1 = follow
	bytesMax  int
}

func (s *logService) Read(req *multiraftv1.ReadRequest, rpc grpc.ServerStreamingServer[multiraftv1.ReadResponse]) error {
	r, first, err := s.begin(req)
	if err != nil {
		return err
	}
	if err := rpc.Send(first); err != nil {
		return err
	}
	for r.end < 0 || r.next < r.end {
		resp, wait, err := r.chunk()
		if err != nil {
			return err
		}
		if resp == nil {
			select {
			case <-wait:
				continue
			case <-rpc.Context().Done():
				return rpc.Context().Err()
			}
		}
		if err := rpc.Send(resp); err != nil {
			return err
		}
	}
	return nil
}

func (s *logService) begin(req *multiraftv1.ReadRequest) (*reading, *multiraftv1.ReadResponse, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	p, refused := s.locate(&multiraftv1.AppendItem{TopicId: req.GetTopicId(), Partition: req.GetPartition()})
	if refused != nil {
		return nil, nil, statusOf(refused)
	}
	if s.c.faultOf(Call{Node: s.node, Read: true, Partition: req.GetPartition()}) == NoLeader {
		return nil, nil, statusOf(refusal(codes.Unavailable, "NO_LEADER", "an election is going on", retryMillis))
	}
	r := &reading{s: s, p: p, number: req.GetPartition(), end: p.next, bytesMax: int(req.GetMaxBytes())}
	if r.bytesMax == 0 {
		r.bytesMax = readBytesDefault
	}
	if req.ToOffset != nil {
		r.end = req.GetToOffset()
	}
	if req.GetFollow() {
		r.end = -1
	}
	if refused := r.position(req); refused != nil {
		return nil, nil, statusOf(refused)
	}
	return r, &multiraftv1.ReadResponse{NextOffset: r.next, HighWatermark: p.next, LogStart: p.logStart, EndOffset: r.end}, nil
}

func (r *reading) position(req *multiraftv1.ReadRequest) *multiraftv1.AppendError {
	switch from := req.GetFrom().(type) {
	case *multiraftv1.ReadRequest_Offset:
		r.next = from.Offset
	case *multiraftv1.ReadRequest_TimestampMs:
		r.next = r.p.at(from.TimestampMs)
	case *multiraftv1.ReadRequest_Position:
		r.next = r.p.logStart
		if from.Position == multiraftv1.Position_POSITION_END {
			r.next = r.p.next
		}
	default:
		return refusal(codes.InvalidArgument, "INVALID_ARGUMENT", "from is required", 0)
	}
	if r.next < r.p.logStart || r.next > r.p.next {
		return r.outOfRange()
	}
	return nil
}

func (r *reading) outOfRange() *multiraftv1.AppendError {
	e := refusal(codes.OutOfRange, "OFFSET_OUT_OF_RANGE", "no such offset", 0)
	e.Metadata = map[string]string{"start_offset": strconv.FormatInt(r.p.logStart, 10), "high_watermark": strconv.FormatInt(r.p.next, 10)}
	return e
}

// at is the first offset of a batch stored at or after a time.
func (p *partition) at(millis int64) int64 {
	for _, b := range p.batches {
		if info, err := recordbatch.ParseHeader(b); err == nil && info.MaxTimestamp >= millis {
			return info.BaseOffset
		}
	}
	return p.next
}

// chunk is the next response, or a channel to wait on.
func (r *reading) chunk() (*multiraftv1.ReadResponse, chan struct{}, error) {
	r.s.c.mu.Lock()
	defer r.s.c.mu.Unlock()
	switch r.s.c.faultOf(Call{Node: r.s.node, Read: true, Partition: r.number}) {
	case BreakBefore, BreakAfter:
		return nil, nil, errBroken
	case Truncated:
		r.p.truncate()
	}
	if r.p.gone {
		return nil, nil, errBroken
	}
	if r.next < r.p.logStart {
		return nil, nil, statusOf(r.outOfRange())
	}
	resp := &multiraftv1.ReadResponse{HighWatermark: r.p.next, LogStart: r.p.logStart, EndOffset: r.end}
	bytes := 0
	for _, b := range r.p.batches {
		info, err := recordbatch.ParseHeader(b)
		if err != nil {
			return nil, nil, err
		}
		if info.BaseOffset+int64(info.Count) <= r.next {
			continue
		}
		if len(resp.Batches) > 0 && (bytes+len(b) > r.bytesMax || r.end >= 0 && r.next >= r.end) {
			break
		}
		resp.Batches = append(resp.Batches, b)
		bytes += len(b)
		r.next = info.BaseOffset + int64(info.Count)
	}
	if len(resp.Batches) == 0 {
		return nil, r.p.grown, nil
	}
	resp.NextOffset = r.next
	return resp, nil, nil
}
