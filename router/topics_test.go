package router

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/multiraftd/multiraftd/actors"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/proto/recordbatch"
	"github.com/multiraftd/multiraftd/raftcore"
)

func topicNamedInRequest(name string) *multiraftv1.DescribeRequest {
	return &multiraftv1.DescribeRequest{Topic: &multiraftv1.DescribeRequest_Name{Name: name}, Linearizable: true}
}

func TestATopicsRetentionReachesItsReplicasOnAllNodes(t *testing.T) {
	c, ctx := newCluster(t, 3), testContext(t)
	n := c.nodes[1]
	topic := n.createTopic(ctx, "t", 1, 3)
	for range 20 {
		n.append(ctx, topic, 0, "v")
	}
	size := int64(len(batch(t, recordbatch.None, "v")))
	retry(ctx, t, func() error {
		resp, err := n.admin.AlterTopic(ctx, &multiraftv1.AlterTopicRequest{
			Topic: &multiraftv1.AlterTopicRequest_Name{Name: "t"}, RetentionBytes: proto.Int64(5 * size)})
		if err == nil && (resp.GetTopicId() != topic || resp.GetRetention().GetRetentionBytes() != 5*size || resp.GetRetention().GetRetentionMs() != 0) {
			t.Errorf("%v", resp)
		}
		return err
	})
	for _, node := range c.nodes {
		eventually(t, "the log start is where it should be", func() bool {
			st := firstHosted(node).Board.Load()
			return st.LogStart == 15 && st.HighWatermark == 20 && st.Bytes == 5*size && st.FirstIndex > 15
		})
	}
	desc, err := n.log.Describe(ctx, topicNamedInRequest("t"))
	must(t, err)
	if desc.GetRetentionBytes() != 5*size || desc.GetPartitions()[0].GetLogStart() != 15 {
		t.Fatalf("%v", desc)
	}
	rpc, err := n.log.Read(ctx, fromStart(topic, 0))
	must(t, err)
	if got, _, _ := values(t, rpc); len(got) != 5 {
		t.Fatalf("%d records from the start, want 5", len(got))
	}
	rpc, err = n.log.Read(ctx, fromOffset(topic, 14))
	must(t, err)
	_, err = rpc.Recv()
	wantReason(t, err, offsetOutOfRange)
	if f := fromStatus(err); f.metadata["start_offset"] != "15" || f.metadata["high_watermark"] != "20" {
		t.Fatalf("%v", f.metadata)
	}
}

func TestATopicCreatedWithARetentionHasIt(t *testing.T) {
	n := single(t)
	ctx := testContext(t)
	_, err := n.admin.CreateTopic(ctx, &multiraftv1.CreateTopicRequest{Name: "t", Partitions: 1, Replicas: 1, RequestId: []byte("sixteen bytes id"),
		Retention: &multiraftv1.Retention{RetentionMs: 1000, RetentionBytes: 50}})
	must(t, err)
	list, err := n.admin.ListTopics(ctx, &multiraftv1.ListTopicsRequest{})
	must(t, err)
	if r := list.GetTopics()[0].GetRetention(); r.GetRetentionMs() != 1000 || r.GetRetentionBytes() != 50 {
		t.Fatalf("%v", r)
	}
	topic := list.GetTopics()[0].GetTopicId()
	n.append(ctx, topic, 0, "v")
	n.append(ctx, topic, 0, "v")
	eventually(t, "the first record goes for its bytes", func() bool { return firstHosted(n).Board.Load().LogStart == 1 })
	eventually(t, "the second for its age", func() bool { return firstHosted(n).Board.Load().LogStart == 2 })
}

func TestADeletedTopicIsUnknownAndItsNameBelongsToAnother(t *testing.T) {
	n := single(t)
	ctx := testContext(t)
	old := n.createTopic(ctx, "t", 1, 1)
	n.append(ctx, old, 0, "v")
	for again := range 2 { // a repeated request is no failure
		resp, err := n.admin.DeleteTopic(ctx, &multiraftv1.DeleteTopicRequest{Topic: &multiraftv1.DeleteTopicRequest_TopicId{TopicId: old}})
		must(t, err)
		if resp.GetTopicId() != old || resp.GetWasDeleted() != (again == 1) {
			t.Fatalf("%v", resp)
		}
	}
	_, err := n.admin.DeleteTopic(ctx, &multiraftv1.DeleteTopicRequest{Topic: &multiraftv1.DeleteTopicRequest_Name{Name: "t"}})
	wantReason(t, err, unknownTopic)
	eventually(t, "this node knows", func() bool { _, ok := n.core.Table().Meta.Topic(old); return !ok })
	id := make([]byte, 16)
	resp, err := n.admin.CreateTopic(ctx, &multiraftv1.CreateTopicRequest{Name: "t", Partitions: 1, Replicas: 1, RequestId: id})
	must(t, err)
	if resp.GetTopicId() == old {
		t.Fatal("a topic created again under a name has the id of the one before")
	}
	_, err = n.log.AppendOnce(ctx, &multiraftv1.AppendOnceRequest{Item: batchItem(1, old, 0, batch(t, recordbatch.None, "v"))})
	wantReason(t, err, unknownTopic)
	n.append(ctx, resp.GetTopicId(), 0, "w")
	rpc, err := n.log.Read(ctx, fromStart(resp.GetTopicId(), 0))
	must(t, err)
	if got, _, _ := values(t, rpc); !slices.Equal(got, []string{"0:w"}) {
		t.Fatalf("the new topic holds %q", got)
	}
}

func TestAppendsAreRefusedWhileTheDiskIsFullAndReadsGoOn(t *testing.T) {
	n := single(t)
	ctx := testContext(t)
	topic := n.createTopic(ctx, "t", 1, 1)
	n.append(ctx, topic, 0, "v")
	for _, level := range []actors.SpaceLevel{actors.SpaceLow, actors.SpaceShort} {
		n.space.Set(level)
		_, err := n.log.AppendOnce(ctx, &multiraftv1.AppendOnceRequest{Item: batchItem(1, topic, 0, batch(t, recordbatch.None, "w"))})
		wantReason(t, err, diskFull)
		rpc, err := n.log.Read(ctx, fromStart(topic, 0))
		must(t, err)
		if got, _, _ := values(t, rpc); !slices.Equal(got, []string{"0:v"}) {
			t.Fatalf("%v: %q", level, got)
		}
		_, err = n.admin.AlterTopic(ctx, &multiraftv1.AlterTopicRequest{Topic: &multiraftv1.AlterTopicRequest_TopicId{TopicId: topic}, RetentionMs: proto.Int64(1 << 40)})
		must(t, err)
	}
	n.space.Set(actors.SpaceEnough)
	n.append(ctx, topic, 0, "w")
}

func TestAppendsAreRefusedWhenNoMajorityOfFollowersHasRoom(t *testing.T) {
	c, ctx := newCluster(t, 3), testContext(t)
	topic := c.nodes[1].createTopic(ctx, "t", 1, 3)
	c.nodes[1].append(ctx, topic, 0, "v")
	leader, _ := c.ledBy()
	full := func(nodes int) {
		for id, n := range c.nodes {
			n.space.Set(actors.SpaceEnough)
			if id != leader.id && nodes > 0 {
				n.space.Set(actors.SpaceLow)
				nodes--
			}
		}
	}
	full(1)
	eventually(t, "the leader hears of one", func() bool { return len(leader.core.Table().full) == 1 })
	health, err := leader.admin.ClusterHealth(ctx, &multiraftv1.ClusterHealthRequest{})
	must(t, err)
	if health.GetHealthy() || len(health.GetReasons()) != 1 || !strings.Contains(health.GetReasons()[0].GetWhat(), "is nearly full") {
		t.Fatalf("%v", health)
	}
	leader.append(ctx, topic, 0, "v")
	full(2)
	eventually(t, "the leader hears of two", func() bool { return len(leader.core.Table().full) == 2 })
	_, err = leader.log.AppendOnce(ctx, &multiraftv1.AppendOnceRequest{Item: batchItem(1, topic, 0, batch(t, recordbatch.None, "w"))})
	wantReason(t, err, diskFull)
	full(0)
	eventually(t, "the leader forgets", func() bool { return len(leader.core.Table().full) == 0 })
	leader.append(ctx, topic, 0, "v")
}

func TestAMajorityOfVotersMustHaveRoom(t *testing.T) {
	ids := func(n ...raftcore.NodeID) []raftcore.NodeID { return n }
	for _, c := range []struct {
		full, voters []raftcore.NodeID
		room         bool
	}{
		{nil, nil, true},
		{ids(9), ids(1, 2, 3), true},
		{ids(1), ids(1, 2, 3), true},
		{ids(1, 3), ids(1, 2, 3), false},
		{ids(1, 2), ids(1, 2, 3, 4), false},
		{ids(1), ids(1), false},
	} {
		if got := (&Table{full: c.full}).QuorumHasRoom(c.voters); got != c.room {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestAFullDiskIsSaidAtEachTickAndForgottenAfterAnElectionTimeout(t *testing.T) {
	r := newCoreRig(t, raftcore.MetadataGroup)
	r.startCore()
	r.core.Frame(9, &raftv1.Frame{Controls: []*raftv1.Control{{Kind: raftv1.Control_KIND_DISK_FULL}}})
	r.run()
	for tick := range 11 {
		if got, want := len(r.core.Table().full) == 1, tick < 10; got != want {
			t.Fatalf("after %d ticks: %v", tick, r.core.Table().full)
		}
		r.core.Tick()
		r.run()
	}
}

func (r *errorRig) addTopicChanges() {
	alter := func(req *multiraftv1.AlterTopicRequest) func() error {
		return func() error {
			_, err := r.admin.AlterTopic(r.ctx, req)
			return err
		}
	}
	named := &multiraftv1.AlterTopicRequest_Name{Name: "t"}
	r.addReplicaErrors("AdminService.AlterTopic", alter(&multiraftv1.AlterTopicRequest{Topic: named, RetentionMs: proto.Int64(5)}))
	r.add("AdminService.AlterTopic", invalidArgument, alter(&multiraftv1.AlterTopicRequest{Topic: named}))
	r.add("AdminService.AlterTopic", invalidArgument, alter(&multiraftv1.AlterTopicRequest{RetentionMs: proto.Int64(5)}))
	r.add("AdminService.AlterTopic", invalidArgument, alter(&multiraftv1.AlterTopicRequest{Topic: named, RetentionBytes: proto.Int64(-1)}))
	r.add("AdminService.AlterTopic", unknownTopic, alter(&multiraftv1.AlterTopicRequest{
		Topic: &multiraftv1.AlterTopicRequest_TopicId{TopicId: 99}, RetentionMs: proto.Int64(5)}))
	r.add("AdminService.AlterTopic", unknownTopic, alter(&multiraftv1.AlterTopicRequest{
		Topic: &multiraftv1.AlterTopicRequest_Name{Name: "nobody"}, RetentionMs: proto.Int64(5)}))
	remove := func(req *multiraftv1.DeleteTopicRequest) func() error {
		return func() error {
			_, err := r.admin.DeleteTopic(r.ctx, req)
			return err
		}
	}
	r.addReplicaErrors("AdminService.DeleteTopic", remove(&multiraftv1.DeleteTopicRequest{Topic: &multiraftv1.DeleteTopicRequest_Name{Name: "t"}}))
	r.add("AdminService.DeleteTopic", invalidArgument, remove(&multiraftv1.DeleteTopicRequest{}))
	r.add("AdminService.DeleteTopic", unknownTopic, remove(&multiraftv1.DeleteTopicRequest{Topic: &multiraftv1.DeleteTopicRequest_Name{Name: "nobody"}}))
	r.add("AdminService.DeleteTopic", unknownTopic, remove(&multiraftv1.DeleteTopicRequest{Topic: &multiraftv1.DeleteTopicRequest_TopicId{TopicId: 99}}))
}
