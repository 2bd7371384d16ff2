package main

import (
	"bytes"
	"context"
	"maps"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/proto/recordbatch"
)

// rpcs are the services of one node, called as a stranger's client would: with the generated stubs alone.
type rpcs struct {
	log   multiraftv1.LogServiceClient
	admin multiraftv1.AdminServiceClient
}

func dial(t *testing.T, addr string) rpcs {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(64<<20)))
	must(t, err)
	t.Cleanup(func() { must(t, conn.Close()) })
	return rpcs{multiraftv1.NewLogServiceClient(conn), multiraftv1.NewAdminServiceClient(conn)}
}

func batch(t *testing.T, p recordbatch.Producer, values ...string) []byte {
	t.Helper()
	var rs []recordbatch.Record
	for _, v := range values {
		rs = append(rs, recordbatch.Record{Value: []byte(v), TimestampMillis: 1})
	}
	b, err := recordbatch.Encode(nil, p, rs)
	must(t, err)
	return b
}

// hashes returns the hash chain of every group, by group, as the leaders' node knows them.
func hashes(ctx context.Context, t *testing.T, r rpcs) map[uint64]uint64 {
	t.Helper()
	st, err := r.admin.NodeStatus(ctx, &multiraftv1.NodeStatusRequest{})
	must(t, err)
	all := map[uint64]uint64{}
	for _, rep := range st.GetReplicas() {
		all[rep.GetGroupId()] = rep.GetHash()
	}
	return all
}

func reasonOf(err error) string {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

// input makes calls with one thing wrong in each.
type input struct {
	ctx context.Context
	t   *testing.T
	r   rpcs
}

func (in input) append(topic uint64, partition uint32, b []byte) func() error {
	return func() error {
		_, err := in.r.log.AppendOnce(in.ctx, &multiraftv1.AppendOnceRequest{Item: &multiraftv1.AppendItem{
			TopicId: topic, Partition: partition, Content: &multiraftv1.AppendItem_Batch{Batch: b}}})
		return err
	}
}

func (in input) create(name string, partitions, replicas uint32, request []byte) func() error {
	return func() error {
		_, err := in.r.admin.CreateTopic(in.ctx, &multiraftv1.CreateTopicRequest{Name: name, Partitions: partitions, Replicas: replicas, RequestId: request})
		return err
	}
}

func (in input) read(req *multiraftv1.ReadRequest) func() error {
	return func() error {
		stream, err := in.r.log.Read(in.ctx, req)
		must(in.t, err)
		for err == nil {
			_, err = stream.Recv()
		}
		return err
	}
}

func TestBadInputIsRefusedWithItsCodeAndChangesNothing(t *testing.T) {
	c, ctx := startCluster(t)
	cl := connect(t, c)
	mustCreate(t, ctx, cl, "t", 1)
	desc, err := cl.Describe(ctx, "t", true)
	must(t, err)
	id := desc.GetTopicId()
	r := dial(t, c.ClientAddr(1))
	stored, err := r.log.AppendOnce(ctx, &multiraftv1.AppendOnceRequest{Item: &multiraftv1.AppendItem{
		TopicId: id, Content: &multiraftv1.AppendItem_Batch{Batch: batch(t, recordbatch.Producer{ID: 77, Epoch: 3}, "first")}}})
	must(t, err)
	if rec := stored.GetReceipt(); rec.GetFirstOffset() != 0 || rec.GetFsyncedReplicas() < 2 {
		t.Fatalf("receipt %v", rec)
	}
	in := input{ctx, t, r}
	flipped := batch(t, recordbatch.None, "flipped")
	flipped[len(flipped)-1] ^= 1
	request := bytes.Repeat([]byte{9}, 16)
	before := settledHashes(ctx, t, r)
	for _, tc := range []struct {
		name   string
		call   func() error
		code   codes.Code
		reason string
	}{
		{"an unknown topic", in.append(99, 0, batch(t, recordbatch.None, "x")), codes.NotFound, "UNKNOWN_TOPIC"},
		{"a partition out of range", in.append(id, 1, batch(t, recordbatch.None, "x")), codes.NotFound, "UNKNOWN_PARTITION"},
		{"no content", in.append(id, 0, nil), codes.InvalidArgument, ""},
		{"a batch that is none", in.append(id, 0, []byte("hello")), codes.InvalidArgument, "INVALID_BATCH"},
		{"a flipped bit", in.append(id, 0, flipped), codes.DataLoss, "CORRUPT_BATCH"},
		{"a record over the limit", in.append(id, 0, batch(t, recordbatch.None, string(make([]byte, 4<<20+1)))), codes.InvalidArgument, "RECORD_TOO_LARGE"},
		{"an unknown producer", in.append(id, 0, batch(t, recordbatch.Producer{ID: 78, Sequence: 5}, "x")), codes.FailedPrecondition, "UNKNOWN_PRODUCER"},
		{"a sequence gap", in.append(id, 0, batch(t, recordbatch.Producer{ID: 77, Epoch: 3, Sequence: 5}, "x")), codes.FailedPrecondition, "SEQUENCE_GAP"},
		{"a fenced epoch", in.append(id, 0, batch(t, recordbatch.Producer{ID: 77, Epoch: 2, Sequence: 1}, "x")), codes.FailedPrecondition, "PRODUCER_FENCED"},
		{"no item", func() error {
			_, err := r.log.AppendOnce(ctx, &multiraftv1.AppendOnceRequest{})
			return err
		}, codes.InvalidArgument, "INVALID_ARGUMENT"},
		{"an empty topic name", in.create("", 1, 3, request), codes.InvalidArgument, "INVALID_ARGUMENT"},
		{"a topic name with a slash", in.create("a/b", 1, 3, request), codes.InvalidArgument, "INVALID_ARGUMENT"},
		{"no partitions", in.create("n", 0, 3, request), codes.InvalidArgument, "INVALID_ARGUMENT"},
		{"too many partitions", in.create("n", 1001, 3, request), codes.InvalidArgument, "INVALID_ARGUMENT"},
		{"a short request id", in.create("n", 1, 3, []byte{1}), codes.InvalidArgument, "INVALID_ARGUMENT"},
		{"a read without a position", in.read(&multiraftv1.ReadRequest{TopicId: id}), codes.InvalidArgument, "INVALID_ARGUMENT"},
		{"a read past the end", in.read(&multiraftv1.ReadRequest{TopicId: id, From: &multiraftv1.ReadRequest_Offset{Offset: 2}}), codes.OutOfRange, "OFFSET_OUT_OF_RANGE"},
		{"a read of an unknown topic", in.read(&multiraftv1.ReadRequest{TopicId: 99, From: &multiraftv1.ReadRequest_Offset{}}), codes.NotFound, "UNKNOWN_TOPIC"},
		{"an unknown group", func() error {
			_, err := r.admin.DescribeGroup(ctx, &multiraftv1.DescribeGroupRequest{GroupId: 4711})
			return err
		}, codes.NotFound, "UNKNOWN_GROUP"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := tc.call()
			if status.Code(err) != tc.code || tc.reason != "" && reasonOf(err) != tc.reason {
				t.Fatalf("%v (%s), want %v %s", err, reasonOf(err), tc.code, tc.reason)
			}
			if status.Convert(err).Message() == "" {
				t.Fatal("the error says nothing")
			}
		})
	}
	wantUnchangedButRefused(ctx, t, r, before, id)
}

// settledHashes waits until node 1 has applied what has been acknowledged: its hashes stay as they are.
func settledHashes(ctx context.Context, t *testing.T, r rpcs) map[uint64]uint64 {
	t.Helper()
	for last := hashes(ctx, t, r); ; {
		now := hashes(ctx, t, r)
		if maps.Equal(now, last) {
			return now
		}
		last = now
	}
}

// wantUnchangedButRefused: what the edge refuses never enters a log. What only a state machine can judge (the
// producer's sequence) does, and is refused there; so the records, not the hashes, of the partition must be
// as before, and every other group's hash.
func wantUnchangedButRefused(ctx context.Context, t *testing.T, r rpcs, before map[uint64]uint64, topic uint64) {
	t.Helper()
	desc, err := r.log.Describe(ctx, &multiraftv1.DescribeRequest{Topic: &multiraftv1.DescribeRequest_TopicId{TopicId: topic}, Linearizable: true})
	must(t, err)
	p := desc.GetPartitions()[0]
	if p.GetHighWatermark() != 1 {
		t.Fatalf("%d records, 1 was accepted", p.GetHighWatermark())
	}
	for g, h := range hashes(ctx, t, r) {
		if g != p.GetGroupId() && before[g] != h {
			t.Errorf("group %d has changed", g)
		}
	}
}
