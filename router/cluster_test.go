package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/proto/recordbatch"
	"github.com/multiraftd/multiraftd/raftcore"
)

// batch encodes values as one batch of a producer.
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

func batchItem(id, topic uint64, partition uint32, b []byte) *multiraftv1.AppendItem {
	return &multiraftv1.AppendItem{RequestId: id, TopicId: topic, Partition: partition, Content: &multiraftv1.AppendItem_Batch{Batch: b}}
}

func (n *testNode) append(ctx context.Context, topic uint64, partition uint32, values ...string) *multiraftv1.Receipt {
	n.t.Helper()
	var resp *multiraftv1.AppendOnceResponse
	retry(ctx, n.t, func() (err error) {
		resp, err = n.log.AppendOnce(ctx, &multiraftv1.AppendOnceRequest{Item: batchItem(0, topic, partition, batch(n.t, recordbatch.None, values...))})
		return err
	})
	return resp.GetReceipt()
}

// values reads to the end of a stream.
func values(t *testing.T, rpc interface {
	Recv() (*multiraftv1.ReadResponse, error)
}) (all []string, first *multiraftv1.ReadResponse, err error) {
	t.Helper()
	for {
		resp, err := rpc.Recv()
		if errors.Is(err, io.EOF) {
			return all, first, nil
		}
		if err != nil {
			return all, first, err
		}
		if first == nil {
			first = resp
		}
		for _, b := range resp.GetBatches() {
			records, err := recordbatch.Decode(b)
			must(t, err)
			for _, r := range records {
				all = append(all, fmt.Sprintf("%d:%s", r.Offset, r.Value))
			}
		}
	}
}

func fromStart(topic uint64, partition uint32) *multiraftv1.ReadRequest {
	return &multiraftv1.ReadRequest{TopicId: topic, Partition: partition,
		From: &multiraftv1.ReadRequest_Position{Position: multiraftv1.Position_POSITION_START}}
}

func TestAnyNodeTakesAnyRequest(t *testing.T) {
	c := newCluster(t, 3)
	ctx := testContext(t)
	topic := c.nodes[2].createTopic(ctx, "t", 3, 3)
	offsets := map[uint32]int64{}
	for round := range 3 {
		for id := raftcore.NodeID(1); id <= 3; id++ {
			for p := range uint32(3) {
				r := c.nodes[id].append(ctx, topic, p, fmt.Sprintf("%d/%d", round, id))
				if r.GetFirstOffset() != offsets[p] || r.GetCount() != 1 || r.GetFsyncedReplicas() < 2 || r.GetTerm() == 0 || r.GetIndex() == 0 {
					t.Fatalf("partition %d, offset %d: %v", p, offsets[p], r)
				}
				offsets[p]++
			}
		}
	}
	for id := raftcore.NodeID(1); id <= 3; id++ {
		n := c.nodes[id]
		d, err := n.log.Describe(ctx, &multiraftv1.DescribeRequest{Topic: &multiraftv1.DescribeRequest_Name{Name: "t"}, Linearizable: true})
		must(t, err)
		if len(d.GetNodes()) != 3 || len(d.GetPartitions()) != 3 || d.GetRecordBytesMax() != testRecordBytesMax {
			t.Fatalf("described as %v", d)
		}
		for p, info := range d.GetPartitions() {
			if info.GetHighWatermark() != 9 || info.GetLogStart() != 0 || info.GetLeader() == 0 || len(info.GetReplicas()) != 3 {
				t.Fatalf("node %d, partition %d: %v", id, p, info)
			}
			rpc, err := n.log.Read(ctx, fromStart(topic, uint32(p)))
			must(t, err)
			got, first, err := values(t, rpc)
			must(t, err)
			if len(got) != 9 || got[0] != "0:0/1" || got[8] != "8:2/3" || first.GetEndOffset() != 9 {
				t.Fatalf("node %d, partition %d: %v after %v", id, p, got, first)
			}
		}
	}
	for id := raftcore.NodeID(1); id <= 3; id++ {
		list, err := c.nodes[id].admin.ListTopics(ctx, &multiraftv1.ListTopicsRequest{})
		must(t, err)
		if len(list.GetTopics()) != 1 || list.GetTopics()[0].GetReplicas() != 3 {
			t.Fatalf("node %d lists %v", id, list)
		}
	}
}

func TestANodeWithoutAReplicaAsksOneThatHasOne(t *testing.T) {
	c := newCluster(t, 3)
	ctx := testContext(t)
	topic := c.nodes[1].createTopic(ctx, "t", 3, 1) // one partition on each node
	for id := raftcore.NodeID(1); id <= 3; id++ {
		n := c.nodes[id]
		eventually(t, "the topic is known", func() bool { _, ok := n.core.Table().Meta.Topic(topic); return ok })
		for p := range uint32(3) {
			n.append(ctx, topic, p, fmt.Sprint(id))
		}
		d, err := n.log.Describe(ctx, &multiraftv1.DescribeRequest{Topic: &multiraftv1.DescribeRequest_TopicId{TopicId: topic}, Partitions: []uint32{2, 0, 2}})
		must(t, err)
		if len(d.GetPartitions()) != 2 || d.GetPartitions()[0].GetLeader() == 0 || d.GetPartitions()[1].GetPartition() != 2 {
			t.Fatalf("node %d: %v", id, d)
		}
		for p := range uint32(3) {
			rpc, err := n.log.Read(ctx, fromStart(topic, p))
			must(t, err)
			got, _, err := values(t, rpc)
			must(t, err)
			if len(got) != int(id) {
				t.Fatalf("node %d, partition %d: %v", id, p, got)
			}
		}
	}
	_, err := c.nodes[3].services.linearizable(ctx, 99, nil, 0)
	wantReason(t, err, notLeader)
}

func TestAStreamCarriesPartitionsLedOnAllNodes(t *testing.T) {
	c := newCluster(t, 3)
	ctx := testContext(t)
	topic := c.nodes[1].createTopic(ctx, "t", 6, 3)
	const partitions, each = 6, 50
	var waiting []*multiraftv1.AppendItem
	for i := range each {
		for p := range uint32(partitions) {
			by := recordbatch.Producer{ID: int64(p) + 1, Sequence: int32(i)}
			waiting = append(waiting, batchItem(uint64(len(waiting)), topic, p, batch(t, by, "v")))
		}
	}
	// On a busy machine leaders change meanwhile. What a change has cost is sent again, in order, on another stream.
	for len(waiting) > 0 && !t.Failed() {
		rpc, err := c.nodes[1].log.Append(ctx)
		must(t, err)
		must(t, rpc.Send(&multiraftv1.AppendRequest{Items: waiting}))
		must(t, rpc.CloseSend())
		ended := results(t, rpc)
		if len(ended) != len(waiting) {
			t.Fatalf("%d results of %d items", len(ended), len(waiting))
		}
		failed := map[uint64]bool{}
		for _, r := range ended {
			p, offset := uint32(r.GetRequestId()%partitions), int64(r.GetRequestId()/partitions)
			if got := r.GetReceipt(); got != nil && (got.GetPartition() != p || got.GetFirstOffset() != offset) {
				t.Fatalf("item %d: %v, want offset %d of partition %d", r.GetRequestId(), got, offset, p)
			}
			if r.GetReceipt() == nil && !costOfAChange[r.GetError().GetReason()] {
				t.Fatalf("item %d: %v", r.GetRequestId(), r.GetError())
			}
			failed[r.GetRequestId()] = r.GetReceipt() == nil
		}
		waiting = slices.DeleteFunc(waiting, func(it *multiraftv1.AppendItem) bool { return !failed[it.GetRequestId()] })
	}
	if c.nodes[1].counters.Forwarded.Load() == 0 {
		t.Error("nothing was forwarded: leaders are not spread")
	}
}

// costOfAChange are the reasons that items of an idempotent producer may meet when a leader changes: the last two
// are those of what followed the first that was lost.
var costOfAChange = map[string]bool{"NO_LEADER": true, "NOT_LEADER": true, "OUTCOME_UNKNOWN": true, "SEQUENCE_GAP": true, "UNKNOWN_PRODUCER": true}

// results reads a stream of results to its end.
func results(t *testing.T, rpc interface {
	Recv() (*multiraftv1.AppendResponse, error)
}) (all []*multiraftv1.AppendResult) {
	t.Helper()
	for {
		resp, err := rpc.Recv()
		if errors.Is(err, io.EOF) {
			return all
		}
		must(t, err)
		all = append(all, resp.GetResults()...)
	}
}

func TestHealthNamesADeadNodeAndWhatItTakesWithIt(t *testing.T) {
	c := newCluster(t, 3)
	ctx := testContext(t)
	c.nodes[1].createTopic(ctx, "t", 2, 3)
	eventually(t, "the cluster is healthy", func() bool {
		h, err := c.nodes[1].admin.ClusterHealth(ctx, &multiraftv1.ClusterHealthRequest{})
		return err == nil && h.GetHealthy() && len(h.GetReasons()) == 0
	})
	st, err := c.nodes[1].admin.ClusterStatus(ctx, &multiraftv1.ClusterStatusRequest{})
	must(t, err)
	leaders := uint32(0)
	for _, n := range st.GetNodes() {
		if leaders += n.GetLeaders(); !n.GetAlive() || n.GetReplicas() != 3 {
			t.Errorf("node %v", n)
		}
	}
	if st.GetClusterId() != "test" || st.GetGroups() != 3 || leaders != 3 || st.GetMetadataLeader() == 0 || len(st.GetUnderReplicated()) != 0 {
		t.Fatalf("%v", st)
	}
	c.kill(3)
	eventually(t, "the others lead everything", func() bool {
		st, err = c.nodes[1].admin.ClusterStatus(ctx, &multiraftv1.ClusterStatusRequest{})
		return err == nil && len(st.GetLeaderless()) == 0 && len(st.GetUnderReplicated()) == 3
	})
	if st.GetNodes()[2].GetAlive() || st.GetMetadataLeader() == 3 {
		t.Fatalf("%v", st)
	}
	h, err := c.nodes[2].admin.ClusterHealth(ctx, &multiraftv1.ClusterHealthRequest{})
	must(t, err)
	if h.GetHealthy() || len(h.GetReasons()) != 4 || h.GetReasons()[0].GetWhat() != "node 3 is not alive" {
		t.Fatalf("%v", h)
	}
	for _, r := range h.GetReasons() {
		if r.GetWhat() == "" || r.GetWhy() == "" || r.GetTry() == "" {
			t.Errorf("incomplete: %v", r)
		}
	}
	g, err := c.nodes[1].admin.DescribeGroup(ctx, &multiraftv1.DescribeGroupRequest{GroupId: 3})
	must(t, err)
	if len(g.GetReplicas()) != 2 || g.GetTopic() != "t" || g.GetPartition() != 1 {
		t.Fatalf("%v", g)
	}
}
