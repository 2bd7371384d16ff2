package node

import (
	"errors"
	"io"
	"math"
	"strings"

	"github.com/multiraftd/multiraftd/actors"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
)

// installSnapshots are snapshots that the follower would take of the partition's leader, but for what spoil does.
func (s *stranger) installSnapshots() (all []hostileCase) {
	add := func(input string, spoil func(*raftv1.InstallSnapshotRequest) []*raftv1.InstallSnapshotRequest) {
		all = append(all, hostileCase{"RaftService.InstallSnapshot", input, s.toFollower, func() error {
			h, b := s.between(s.leader, s.follower), s.board(s.follower, hostileGroup)
			return s.install(spoil(&raftv1.InstallSnapshotRequest{Header: h, Term: b.Term, LeaderId: h.GetFromReplica(), LastIncludedIndex: 1 << 20, LastIncludedTerm: b.Term,
				SnapshotId: 1, ConfState: &raftv1.ConfState{Voters: []uint64{1, 2, 3}}})...)
		}})
	}
	one := func(input string, spoil func(*raftv1.InstallSnapshotRequest)) {
		add(input, func(r *raftv1.InstallSnapshotRequest) []*raftv1.InstallSnapshotRequest {
			spoil(r)
			return []*raftv1.InstallSnapshotRequest{r}
		})
	}
	one("no header", func(r *raftv1.InstallSnapshotRequest) { r.Header = nil })
	for _, row := range s.headerRows() {
		one(row.input, func(r *raftv1.InstallSnapshotRequest) {
			row.spoil(r.GetHeader())
			r.LeaderId = r.GetHeader().GetFromReplica()
		})
	}
	one("a leader that is not the sender", func(r *raftv1.InstallSnapshotRequest) { r.LeaderId++ })
	one("term 0", func(r *raftv1.InstallSnapshotRequest) { r.Term = 0 })
	one("term 2^64-1", func(r *raftv1.InstallSnapshotRequest) { r.Term = math.MaxUint64 })
	one("a term 2^32+1 ahead", func(r *raftv1.InstallSnapshotRequest) { r.Term += farAhead })
	one("an earlier term", func(r *raftv1.InstallSnapshotRequest) { r.Term, r.LastIncludedTerm = r.GetTerm()-1, 1 })
	one("a log that contradicts what is applied", func(r *raftv1.InstallSnapshotRequest) { r.LastIncludedTerm = 1 })
	one("index 0", func(r *raftv1.InstallSnapshotRequest) { r.LastIncludedIndex = 0 })
	one("index 2^64-1", func(r *raftv1.InstallSnapshotRequest) { r.LastIncludedIndex = math.MaxUint64 })
	one("an index without a term", func(r *raftv1.InstallSnapshotRequest) { r.LastIncludedTerm = 0 })
	one("a log term above the term", func(r *raftv1.InstallSnapshotRequest) { r.LastIncludedTerm = r.GetTerm() + 1 })
	one("no membership", func(r *raftv1.InstallSnapshotRequest) { r.ConfState = nil })
	one("a learner that is a voter", func(r *raftv1.InstallSnapshotRequest) { r.ConfState.Learners = []uint64{3} })
	one("voter 2^64-1", func(r *raftv1.InstallSnapshotRequest) { r.ConfState.Voters = []uint64{math.MaxUint64} })
	one("a wrong checksum", func(r *raftv1.InstallSnapshotRequest) { r.Data, r.Checksum = []byte("data"), 1 })
	one("a chunk above the limit", func(r *raftv1.InstallSnapshotRequest) { fill(r, make([]byte, actors.SnapshotChunkBytesMax+1)) })
	one("content that is no snapshot", func(r *raftv1.InstallSnapshotRequest) { fill(r, []byte("no snapshot")); r.Done = true })
	one("a chunk, and then the end", func(r *raftv1.InstallSnapshotRequest) { fill(r, nil) })
	one("offset 2^64-1", func(r *raftv1.InstallSnapshotRequest) { r.Offset = math.MaxUint64 })
	add("chunks of two nodes on one stream", func(r *raftv1.InstallSnapshotRequest) []*raftv1.InstallSnapshotRequest {
		return []*raftv1.InstallSnapshotRequest{fill(r, nil), {Header: s.header(s.other), Term: r.GetTerm()}}
	})
	return all
}

func fill(r *raftv1.InstallSnapshotRequest, data []byte) *raftv1.InstallSnapshotRequest {
	r.Data, r.Checksum = data, actors.SnapshotChecksum(data)
	return r
}

// install sends chunks, and returns how the call ended.
func (s *stranger) install(rs ...*raftv1.InstallSnapshotRequest) error {
	stream, err := s.peer(s.follower).InstallSnapshot(s.ctx)
	if err != nil {
		return err
	}
	for _, r := range rs {
		if err := stream.Send(r); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	resp, err := stream.CloseAndRecv()
	if err == nil && resp.GetSuccess() {
		return errors.New("it is in force")
	}
	return err
}

// nodeCalls are what is asked about members: those that are none, and what must not happen to those that are.
func (s *stranger) nodeCalls() (all []hostileCase) {
	add := func(rpc, input string, send func() error) {
		all = append(all, hostileCase{"AdminService." + rpc, input, s.toFollower, send})
	}
	for _, row := range []struct {
		input string
		id    uint64
	}{{"node 0", 0}, {"a node that nobody knows", 99}, {"node 2^64-1", math.MaxUint64}} {
		add("DrainNode", row.input, func() error {
			_, err := s.admin().DrainNode(s.ctx, &multiraftv1.DrainNodeRequest{NodeId: row.id})
			return err
		})
		add("RemoveNode", row.input, func() error {
			_, err := s.admin().RemoveNode(s.ctx, &multiraftv1.RemoveNodeRequest{NodeId: row.id, Force: true})
			return err
		})
		add("CanStop", row.input, func() error {
			_, err := s.admin().CanStop(s.ctx, &multiraftv1.CanStopRequest{NodeId: row.id})
			return err
		})
	}
	add("RemoveNode", "a node that has replicas", func() error {
		_, err := s.admin().RemoveNode(s.ctx, &multiraftv1.RemoveNodeRequest{NodeId: uint64(s.other)})
		return err
	})
	join := func(input string, spoil func(*multiraftv1.JoinNodeRequest)) {
		add("JoinNode", input, func() error {
			req := &multiraftv1.JoinNodeRequest{StoreId: "a new one", ClientAddr: "127.0.0.1:1", PeerAddr: "127.0.0.1:2"}
			spoil(req)
			_, err := s.admin().JoinNode(s.ctx, req)
			return err
		})
	}
	join("no store", func(r *multiraftv1.JoinNodeRequest) { r.StoreId = "" })
	join("no addresses", func(r *multiraftv1.JoinNodeRequest) { r.PeerAddr = "" })
	join("a store id of 5 MiB", func(r *multiraftv1.JoinNodeRequest) { r.StoreId = strings.Repeat("s", 5<<20) })
	join("a rack of 5 MiB", func(r *multiraftv1.JoinNodeRequest) { r.Rack = strings.Repeat("r", 5<<20) })
	join("another node's store", func(r *multiraftv1.JoinNodeRequest) { r.StoreId = s.storeOf(s.other) })
	return append(all, s.partitionCalls()...)
}

func (s *stranger) partitionCalls() (all []hostileCase) {
	add := func(rpc, input string, send func() error) {
		all = append(all, hostileCase{"AdminService." + rpc, input, s.toFollower, send})
	}
	move := func(input, topic string, partition uint32, nodes ...uint64) {
		add("MovePartition", input, func() error {
			_, err := s.admin().MovePartition(s.ctx, &multiraftv1.MovePartitionRequest{Topic: topic, Partition: partition, Nodes: nodes})
			return err
		})
	}
	move("a topic that is not there", "nobody's", 0, 1)
	move("a name of 1 MiB", strings.Repeat("n", 1<<20), 0, 1)
	move("partition 2^32-1", "t", math.MaxUint32, 1)
	move("to nobody", "t", 0)
	move("to a node that nobody knows", "t", 0, 1, 2, 99)
	move("to node 0", "t", 0, 0)
	move("to one node twice", "t", 0, 1, 1)
	move("to 8 nodes", "t", 0, 1, 2, 3, 4, 5, 6, 7, 8)
	move("to a million nodes", "t", 0, make([]uint64, 1_000_000)...)
	transfer := func(input, topic string, partition uint32, to uint64) {
		add("TransferLeader", input, func() error {
			_, err := s.admin().TransferLeader(s.ctx, &multiraftv1.TransferLeaderRequest{Topic: topic, Partition: partition, NodeId: to})
			return err
		})
	}
	transfer("a topic that is not there", "nobody's", 0, 1)
	transfer("a name of 1 MiB", strings.Repeat("n", 1<<20), 0, 1)
	transfer("partition 2^32-1", "t", math.MaxUint32, 1)
	transfer("to a node that nobody knows", "t", 0, 99)
	transfer("to node 2^64-1", "t", 0, math.MaxUint64)
	alter := func(input string, req *multiraftv1.AlterTopicRequest) {
		add("AlterTopic", input, func() error { _, err := s.admin().AlterTopic(s.ctx, req); return err })
	}
	alter("no topic", &multiraftv1.AlterTopicRequest{RetentionMs: new(int64(1))})
	alter("nothing to change", &multiraftv1.AlterTopicRequest{Topic: &multiraftv1.AlterTopicRequest_Name{Name: "t"}})
	alter("topic 2^64-1", &multiraftv1.AlterTopicRequest{Topic: &multiraftv1.AlterTopicRequest_TopicId{TopicId: math.MaxUint64}, RetentionMs: new(int64(1))})
	alter("a name of 1 MiB", &multiraftv1.AlterTopicRequest{Topic: &multiraftv1.AlterTopicRequest_Name{Name: strings.Repeat("n", 1<<20)}, RetentionMs: new(int64(1))})
	alter("retention of -2^63 ms", &multiraftv1.AlterTopicRequest{Topic: &multiraftv1.AlterTopicRequest_Name{Name: "t"}, RetentionMs: new(int64(math.MinInt64))})
	alter("retention of -1 bytes", &multiraftv1.AlterTopicRequest{Topic: &multiraftv1.AlterTopicRequest_Name{Name: "t"}, RetentionBytes: new(int64(-1))})
	remove := func(input string, req *multiraftv1.DeleteTopicRequest) {
		add("DeleteTopic", input, func() error { _, err := s.admin().DeleteTopic(s.ctx, req); return err })
	}
	remove("no topic", &multiraftv1.DeleteTopicRequest{})
	remove("a topic that is not there", &multiraftv1.DeleteTopicRequest{Topic: &multiraftv1.DeleteTopicRequest_Name{Name: "nobody's"}})
	remove("topic 2^64-1", &multiraftv1.DeleteTopicRequest{Topic: &multiraftv1.DeleteTopicRequest_TopicId{TopicId: math.MaxUint64}})
	remove("a name of 1 MiB", &multiraftv1.DeleteTopicRequest{Topic: &multiraftv1.DeleteTopicRequest_Name{Name: strings.Repeat("n", 1<<20)}})
	return all
}
