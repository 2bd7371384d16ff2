package router

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"

	"github.com/multiraftd/multiraftd/actors"
	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/proto/recordbatch"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/metadata"
)

// producerIDs are those that this node may give out. Ranges come from the metadata group; what is left of one
// when the node stops is never given out.
type producerIDs struct {
	turn      chan struct{} // one slot: whoever fills it owns next and end
	next, end int64
}

// InitProducer gives out a producer id: from this node's range, or, when that is used up, from a new one, or
// from the metadata leader's.
func (s *Services) InitProducer(ctx context.Context, req *multiraftv1.InitProducerRequest) (*multiraftv1.InitProducerResponse, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.exit()
	ctx, cancel := bounded(ctx)
	defer cancel()
	return atLeader(ctx, s, raftcore.MetadataGroup, lostHarmless,
		func(ctx context.Context, h *Hosted) (*multiraftv1.InitProducerResponse, error) {
			id, err := s.nextProducer(ctx, h)
			return &multiraftv1.InitProducerResponse{ProducerId: id}, err
		},
		func(ctx context.Context, conn *grpc.ClientConn) (*multiraftv1.InitProducerResponse, error) {
			return multiraftv1.NewLogServiceClient(conn).InitProducer(ctx, req)
		})
}

func (s *Services) nextProducer(ctx context.Context, h *Hosted) (int64, error) {
	p := &s.producers
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if p.next == p.end {
		o, err := s.command(ctx, h, &metav1.Command{Command: &metav1.Command_AllocateProducers{
			AllocateProducers: &metav1.AllocateProducers{Count: producerIDsPerRange}}})
		if err != nil {
			return 0, err
		}
		r, ok := o.Value.(*metadata.ProducerRange)
		if !ok {
			return 0, fail(replicaFailed, "the metadata machine answered AllocateProducers with %T", o.Value)
		}
		p.next, p.end = r.First, r.First+r.Count
	}
	p.next++
	return p.next - 1, nil
}

// AppendOnce stores one item.
func (s *Services) AppendOnce(ctx context.Context, req *multiraftv1.AppendOnceRequest) (*multiraftv1.AppendOnceResponse, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.exit()
	ctx, cancel := bounded(ctx)
	defer cancel()
	ctx, span := s.traceOnce(ctx, req.GetItem())
	resp, err := s.appendOnce(ctx, req)
	if span != nil {
		span.Set(receiptAttrs(resp.GetReceipt())...).Fail(err)
		span.End()
	}
	if err != nil {
		s.cfg.Counters.AppendsRefused[fromStatus(err).reason].Add(1)
	}
	return resp, err
}

func (s *Services) appendOnce(ctx context.Context, req *multiraftv1.AppendOnceRequest) (*multiraftv1.AppendOnceResponse, error) {
	it := req.GetItem()
	if it == nil {
		return nil, badField("item", "missing")
	}
	g, err := groupOf(s.core.Table(), it.GetTopicId(), it.GetPartition())
	if err != nil {
		return nil, err
	}
	return atLeader(ctx, s, g, lostUnknown,
		func(ctx context.Context, h *Hosted) (*multiraftv1.AppendOnceResponse, error) {
			if err := s.roomFor(s.core.Table(), h); err != nil {
				return nil, err
			}
			batch, err := s.batchOf(it)
			if err != nil {
				return nil, err
			}
			s.cfg.Counters.AppendsAdmitted.Add(1)
			res, err := s.propose(ctx, h, batch)
			if err != nil {
				return nil, err
			}
			receipt, err := receiptOf(h, it.GetPartition(), res)
			return &multiraftv1.AppendOnceResponse{Receipt: receipt}, err
		},
		func(ctx context.Context, conn *grpc.ClientConn) (*multiraftv1.AppendOnceResponse, error) {
			return multiraftv1.NewLogServiceClient(conn).AppendOnce(ctx, req)
		})
}

// groupOf finds the group of a partition.
func groupOf(table *Table, topic uint64, partition uint32) (raftcore.GroupID, error) {
	t, ok := table.Meta.Topic(topic)
	if !ok {
		return 0, table.noTopic("no topic with id %d: it has been deleted, or there never was one", topic)
	}
	if int64(partition) >= int64(len(t.GetPartitions())) {
		return 0, errUnknownPartition(t, partition)
	}
	return raftcore.GroupID(t.GetPartitions()[partition].GetGroupId()), nil
}

func errUnknownPartition(t *metav1.Topic, partition uint32) *failure {
	return fail(unknownPartition, "topic %s has partitions 0 to %d, not %d", t.GetName(), len(t.GetPartitions())-1, partition)
}

// batchOf checks an item's batch, or encodes its records. What passes can be stored and read by anybody.
func (s *Services) batchOf(it *multiraftv1.AppendItem) ([]byte, error) {
	lim := recordbatch.Limits{RecordBytesMax: s.cfg.RecordBytesMax, BatchBytesMax: s.cfg.BatchBytesMax}
	switch c := it.GetContent().(type) {
	case *multiraftv1.AppendItem_Batch:
		_, err := recordbatch.Validate(c.Batch, lim)
		return c.Batch, s.sized(err)
	case *multiraftv1.AppendItem_Records:
		batch, err := encodeRecords(c.Records.GetRecords(), time.Now().UnixMilli())
		if err != nil {
			return nil, s.sized(err)
		}
		_, err = recordbatch.Validate(batch, lim)
		return batch, s.sized(err)
	default:
		return nil, badField("content", "neither batch nor records are set")
	}
}

// sized adds the limits to an error about size.
func (s *Services) sized(err error) error {
	if err == nil {
		return nil
	}
	f := s.explain(err)
	switch f.reason {
	case recordTooLarge:
		f.message += "; this node takes records of at most " + bytesOf(s.cfg.RecordBytesMax)
	case batchTooLarge:
		f.message += "; this node takes batches of at most " + bytesOf(s.cfg.BatchBytesMax)
	}
	return f
}

func encodeRecords(list []*multiraftv1.Record, nowMillis int64) ([]byte, error) {
	if len(list) == 0 {
		return nil, badField("records", "at least one is needed")
	}
	records := make([]recordbatch.Record, len(list))
	for i, r := range list {
		records[i] = recordbatch.Record{Key: r.GetKey(), Value: r.GetValue(), TimestampMillis: r.GetTimestampMs()}
		if r.Key != nil && records[i].Key == nil {
			records[i].Key = []byte{}
		}
		if r.Value != nil && records[i].Value == nil {
			records[i].Value = []byte{}
		}
		if records[i].TimestampMillis == 0 {
			records[i].TimestampMillis = nowMillis
		}
		for _, h := range r.GetHeaders() {
			records[i].Headers = append(records[i].Headers, recordbatch.Header{Key: h.GetKey(), Value: h.GetValue()})
		}
	}
	return recordbatch.Encode(nil, recordbatch.None, records)
}

// receiptOf turns the end of a proposal without Err into an acknowledgement, or into the machine's refusal.
func receiptOf(h *Hosted, partition uint32, res actors.ProposeResult) (*multiraftv1.Receipt, error) {
	if v := res.Outcome.Verdict; v != raftcore.Accepted && v != raftcore.Duplicate {
		return nil, judged(res.Outcome)
	}
	fsynced := res.Fsynced
	if st := h.Board.Load(); st != nil { // a leader that has just lost its place no longer counts; a majority it is
		fsynced = max(fsynced, len(st.Voters)/2+1)
	}
	return &multiraftv1.Receipt{
		Partition: partition, FirstOffset: int64(res.Outcome.Offset), Count: res.Outcome.Count,
		Term: res.At.Term, Index: uint64(res.At.Index), FsyncedReplicas: uint32(fsynced),
		Duplicate: res.Outcome.Verdict == raftcore.Duplicate,
	}, nil
}

func bytesOf(n int) string { return fmt.Sprintf("%d bytes", n) }
