package node

import (
	"bytes"
	"errors"
	"io"
	"math"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/proto/recordbatch"
	"github.com/multiraftd/multiraftd/raftcore/metadata"
)

// batchOf encodes values as one batch of a producer.
func batchOf(p recordbatch.Producer, values ...string) []byte {
	var rs []recordbatch.Record
	for _, v := range values {
		rs = append(rs, recordbatch.Record{Value: []byte(v), TimestampMillis: 1})
	}
	b, err := recordbatch.Encode(nil, p, rs)
	if err != nil {
		panic(err)
	}
	return b
}

func itemOf(topic uint64, partition uint32, b []byte) *multiraftv1.AppendItem {
	return &multiraftv1.AppendItem{TopicId: topic, Partition: partition, Content: &multiraftv1.AppendItem_Batch{Batch: b}}
}

// appends are sent in both ways, which must answer alike.
func (s *stranger) appends() (all []hostileCase) {
	add := func(input string, it func() *multiraftv1.AppendItem) {
		all = append(all,
			hostileCase{"LogService.AppendOnce", input, s.toFollower, func() error {
				_, err := s.log().AppendOnce(s.ctx, &multiraftv1.AppendOnceRequest{Item: it()})
				return err
			}},
			hostileCase{"LogService.Append", input, s.toFollower, func() error { return s.appendInStream(it()) }})
	}
	good := batchOf(recordbatch.None, "x")
	batch := func(input string, b []byte) {
		add(input, func() *multiraftv1.AppendItem { return itemOf(s.topic, 0, b) })
	}
	at := func(input string, topic uint64, partition uint32) {
		add(input, func() *multiraftv1.AppendItem { return itemOf(topic, partition, good) })
	}
	at("a topic that is not there", 99, 0)
	at("topic 0", 0, 0)
	at("topic 2^64-1", math.MaxUint64, 0)
	at("partition 2^32-1", s.topic, math.MaxUint32)
	add("no content", func() *multiraftv1.AppendItem { return &multiraftv1.AppendItem{TopicId: s.topic} })
	add("no records", func() *multiraftv1.AppendItem {
		return &multiraftv1.AppendItem{TopicId: s.topic, Content: &multiraftv1.AppendItem_Records{Records: &multiraftv1.RecordList{}}}
	})
	batch("bytes that are no batch", []byte("hello"))
	batch("half a batch", good[:len(good)/2])
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	batch("a flipped bit", flipped)
	batch("a record above the limit", batchOf(recordbatch.None, strings.Repeat("x", recordBytesMaxDefault+1)))
	batch("a batch above the limit", batchOf(recordbatch.None, strings.Repeat("x", 3<<20), strings.Repeat("x", 3<<20), strings.Repeat("x", 3<<20)))
	batch("a producer that nobody knows, in the middle", batchOf(recordbatch.Producer{ID: 1 << 40, Sequence: 5}, "x"))
	batch("producer 2^63-1, epoch and sequence at their limits", batchOf(recordbatch.Producer{ID: math.MaxInt64, Epoch: math.MaxInt16, Sequence: math.MaxInt32}, "x"))
	all = append(all, hostileCase{"LogService.AppendOnce", "no item", s.toFollower, func() error {
		_, err := s.log().AppendOnce(s.ctx, &multiraftv1.AppendOnceRequest{})
		return err
	}}, hostileCase{"LogService.AppendOnce", "100000 empty records", s.toFollower, func() error {
		list := &multiraftv1.RecordList{Records: make([]*multiraftv1.Record, 100_000)}
		for i := range list.Records {
			list.Records[i] = &multiraftv1.Record{}
		}
		_, err := s.log().AppendOnce(s.ctx, &multiraftv1.AppendOnceRequest{Item: &multiraftv1.AppendItem{TopicId: s.topic, Content: &multiraftv1.AppendItem_Records{Records: list}}})
		return err
	}}, hostileCase{"LogService.Append", "100000 empty items", s.toFollower, func() error { return s.appendInStream(make([]*multiraftv1.AppendItem, 100_000)...) }},
		hostileCase{"LogService.Append", "8193 items", s.toFollower, func() error { return s.appendInStream(make([]*multiraftv1.AppendItem, 8193)...) }})
	return all
}

// appendInStream sends items in one message of a stream, and returns how the first of them ended, or the stream.
func (s *stranger) appendInStream(items ...*multiraftv1.AppendItem) error {
	for i, it := range items {
		if it == nil {
			items[i] = &multiraftv1.AppendItem{}
		}
	}
	rpc, err := s.log().Append(s.ctx)
	if err != nil {
		return err
	}
	if err := rpc.Send(&multiraftv1.AppendRequest{Items: items}); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := rpc.CloseSend(); err != nil {
		return err
	}
	resp, err := rpc.Recv()
	if err != nil {
		return err
	}
	if _, err := rpc.Recv(); !errors.Is(err, io.EOF) {
		return errors.Join(errors.New("the stream did not end after its results"), err)
	}
	e := resp.GetResults()[0].GetError()
	if e == nil {
		return nil
	}
	st, err := status.New(codes.Code(e.GetCode()), e.GetMessage()).WithDetails(&errdetails.ErrorInfo{Reason: e.GetReason()})
	if err != nil {
		return err
	}
	return st.Err()
}

func (s *stranger) reads() (all []hostileCase) {
	add := func(input string, spoil func(*multiraftv1.ReadRequest)) {
		all = append(all, hostileCase{"LogService.Read", input, s.toFollower, func() error {
			req := &multiraftv1.ReadRequest{TopicId: s.topic, From: &multiraftv1.ReadRequest_Offset{}}
			spoil(req)
			rpc, err := s.log().Read(s.ctx, req)
			for err == nil {
				_, err = rpc.Recv()
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}})
	}
	offset := func(o int64) func(*multiraftv1.ReadRequest) {
		return func(r *multiraftv1.ReadRequest) { r.From = &multiraftv1.ReadRequest_Offset{Offset: o} }
	}
	stamp := func(ms int64) func(*multiraftv1.ReadRequest) {
		return func(r *multiraftv1.ReadRequest) { r.From = &multiraftv1.ReadRequest_TimestampMs{TimestampMs: ms} }
	}
	add("no place to begin", func(r *multiraftv1.ReadRequest) { r.From = nil })
	add("position 99", func(r *multiraftv1.ReadRequest) { r.From = &multiraftv1.ReadRequest_Position{Position: 99} })
	add("offset -1", offset(-1))
	add("offset -2^63", offset(math.MinInt64))
	add("offset 2^63-1", offset(math.MaxInt64))
	add("time -2^63", stamp(math.MinInt64))
	add("time 2^63-1", stamp(math.MaxInt64))
	add("an end before 0", func(r *multiraftv1.ReadRequest) { r.ToOffset = new(int64(-1)) })
	add("an end and follow", func(r *multiraftv1.ReadRequest) { r.ToOffset, r.Follow = new(int64(1)), true })
	add("an end of 2^63-1", func(r *multiraftv1.ReadRequest) { r.ToOffset = new(int64(math.MaxInt64)) })
	add("responses of 2^32-1 bytes", func(r *multiraftv1.ReadRequest) { r.MaxBytes = math.MaxUint32 })
	add("responses of 1 byte", func(r *multiraftv1.ReadRequest) { r.MaxBytes = 1 })
	add("a topic that is not there", func(r *multiraftv1.ReadRequest) { r.TopicId = 99 })
	add("partition 2^32-1", func(r *multiraftv1.ReadRequest) { r.Partition = math.MaxUint32 })
	describe := func(input string, req *multiraftv1.DescribeRequest) {
		all = append(all, hostileCase{"LogService.Describe", input, s.toFollower, func() error {
			_, err := s.log().Describe(s.ctx, req)
			return err
		}})
	}
	named := func(n string) *multiraftv1.DescribeRequest {
		return &multiraftv1.DescribeRequest{Topic: &multiraftv1.DescribeRequest_Name{Name: n}}
	}
	describe("no topic", &multiraftv1.DescribeRequest{})
	describe("a name that is not there", named("../../etc/passwd"))
	describe("a name of 1 MiB", named(strings.Repeat("n", 1<<20)))
	describe("topic 2^64-1", &multiraftv1.DescribeRequest{Topic: &multiraftv1.DescribeRequest_TopicId{TopicId: math.MaxUint64}})
	describe("partition 2^32-1", &multiraftv1.DescribeRequest{Topic: &multiraftv1.DescribeRequest_TopicId{TopicId: s.topic}, Partitions: []uint32{math.MaxUint32}})
	describe("a partition a million times", &multiraftv1.DescribeRequest{Topic: &multiraftv1.DescribeRequest_TopicId{TopicId: s.topic}, Partitions: make([]uint32, 1_000_000)})
	return all
}

func (s *stranger) admins() (all []hostileCase) {
	add := func(rpc, input string, send func() error) {
		all = append(all, hostileCase{"AdminService." + rpc, input, s.toFollower, send})
	}
	create := func(input, name string, partitions, replicas uint32, id string) {
		add("CreateTopic", input, func() error {
			_, err := s.admin().CreateTopic(s.ctx, &multiraftv1.CreateTopicRequest{Name: name, Partitions: partitions, Replicas: replicas, RequestId: []byte(id)})
			return err
		})
	}
	const id = "sixteen bytes id"
	create("no name", "", 1, 3, id)
	create("a name that is a path", "../t", 1, 3, id)
	create("a name of dots", "..", 1, 3, id)
	create("a name of 250 characters", strings.Repeat("n", 250), 1, 3, id)
	create("a name with NUL", "t\x00", 1, 3, id)
	create("no partitions", "u", 0, 3, id)
	create("2^32-1 partitions", "u", math.MaxUint32, 3, id)
	create("no replicas", "u", 1, 0, id)
	create("2^32-1 replicas", "u", 1, math.MaxUint32, id)
	create("more replicas than nodes", "u", 1, 4, id)
	create("a request id of 5 bytes", "u", 1, 3, "short")
	create("the name of another's topic", "t", 1, 3, id)
	group := func(input string, id uint64) {
		add("DescribeGroup", input, func() error {
			_, err := s.admin().DescribeGroup(s.ctx, &multiraftv1.DescribeGroupRequest{GroupId: id})
			return err
		})
	}
	group("group 0", 0)
	group("a group that is not there", 4711)
	group("group 2^64-1", math.MaxUint64)
	status := func(input string, groups []uint64) {
		add("NodeStatus", input, func() error {
			resp, err := s.admin().NodeStatus(s.ctx, &multiraftv1.NodeStatusRequest{GroupIds: groups})
			if len(resp.GetReplicas()) > 1 {
				return errors.New("more answers than replicas")
			}
			return err
		})
	}
	status("groups that are not there", []uint64{4711, math.MaxUint64})
	status("one group 100000 times", bytesOfOnes(metadata.GroupsMax))
	status("one group 100001 times", bytesOfOnes(metadata.GroupsMax+1))
	return append(all, s.registrations()...)
}

func bytesOfOnes(n int) []uint64 {
	ones := make([]uint64, n)
	for i := range ones {
		ones[i] = 1
	}
	return ones
}

func (s *stranger) registrations() (all []hostileCase) {
	add := func(input string, spoil func(*multiraftv1.RegisterNodeRequest)) {
		all = append(all, hostileCase{"AdminService.RegisterNode", input, s.toFollower, func() error {
			req := &multiraftv1.RegisterNodeRequest{NodeId: uint64(s.other), StoreId: s.storeOf(s.other), StartNumber: s.header(s.other).GetStartNumber(), BootId: s.header(s.other).GetBootId(),
				ClientAddr: s.clientAddr(s.other), PeerAddr: s.peerAddr(s.other)}
			spoil(req)
			_, err := s.admin().RegisterNode(s.ctx, req)
			return err
		}})
	}
	add("node 0", func(r *multiraftv1.RegisterNodeRequest) { r.NodeId = 0 })
	add("another node's id", func(r *multiraftv1.RegisterNodeRequest) { r.NodeId = uint64(s.leader) })
	add("another store", func(r *multiraftv1.RegisterNodeRequest) { r.StoreId = "another" })
	add("no store", func(r *multiraftv1.RegisterNodeRequest) { r.StoreId = "" })
	add("start number 0", func(r *multiraftv1.RegisterNodeRequest) { r.StartNumber = 0 })
	add("a lower start number", func(r *multiraftv1.RegisterNodeRequest) { r.StartNumber-- })
	add("another boot id", func(r *multiraftv1.RegisterNodeRequest) { r.BootId = make([]byte, 16) })
	add("a later start that follows none", func(r *multiraftv1.RegisterNodeRequest) { r.StartNumber++ })
	add("a short boot id", func(r *multiraftv1.RegisterNodeRequest) { r.BootId = []byte("boot") })
	add("10000 earlier boot ids", func(r *multiraftv1.RegisterNodeRequest) {
		r.EarlierBootIds = slices.Repeat([][]byte{r.GetBootId()}, 10_000)
	})
	add("no addresses", func(r *multiraftv1.RegisterNodeRequest) { r.PeerAddr = "" })
	add("a rack of 5 MiB", func(r *multiraftv1.RegisterNodeRequest) { r.Rack = strings.Repeat("r", 5<<20) })
	return all
}
