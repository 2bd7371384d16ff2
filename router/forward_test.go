package router

import (
	"context"
	"testing"

	"google.golang.org/grpc/metadata"

	"github.com/multiraftd/multiraftd/actors"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/proto/recordbatch"
	"github.com/multiraftd/multiraftd/raftcore"
)

// ledBy returns the node that leads the first partition and one that does not and knows who does.
func (c *testCluster) ledBy() (leader, other *testNode) {
	c.t.Helper()
	eventually(c.t, "all know the leader", func() bool {
		leader, other = nil, nil
		for _, n := range c.nodes {
			h := firstHosted(n)
			if h == nil || h.Board.Load() == nil || h.Board.Load().Leader == 0 {
				return false
			}
			if h.Board.Load().Leader == n.id {
				leader = n
			} else {
				other = n
			}
		}
		return leader != nil && other != nil && firstHosted(other).Board.Load().Leader == leader.id
	})
	return leader, other
}

func TestForwardingEndsAfterTwoHopsOrWhenItIsNotWanted(t *testing.T) {
	c := newCluster(t, 3)
	ctx := testContext(t)
	topic := c.nodes[1].createTopic(ctx, "t", 1, 3)
	leader, other := c.ledBy()
	for name, tc := range map[string]struct {
		key, value string
		forwarded  bool
	}{
		"as it came from a client": {"x", "y", true},
		"after one hop":            {hopsKey, "1", true},
		"after two":                {hopsKey, "2", false},
		"after more than that":     {hopsKey, "200", false},
		"after nobody knows what":  {hopsKey, "many", false},
		"not wanted":               {noForwardKey, "1", false},
		"not unwanted":             {noForwardKey, "0", true},
	} {
		ctx := metadata.AppendToOutgoingContext(ctx, tc.key, tc.value)
		_, err := other.log.AppendOnce(ctx, &multiraftv1.AppendOnceRequest{Item: batchItem(0, topic, 0, batch(t, recordbatch.None, "v"))})
		rpc, streamErr := other.log.Append(ctx)
		must(t, streamErr)
		send(t, rpc, batchItem(1, topic, 0, batch(t, recordbatch.None, "v")))
		must(t, rpc.CloseSend())
		rs := results(t, rpc)
		if tc.forwarded {
			must(t, err)
			if len(rs) != 1 || rs[0].GetReceipt() == nil || rs[0].GetRequestId() != 1 {
				t.Errorf("%s: %v", name, rs)
			}
			continue
		}
		wantReason(t, err, notLeader)
		for _, f := range []*failure{fromStatus(err), fromItem(rs[0].GetError())} {
			if f.reason != notLeader || f.metadata["leader_addr"] != leader.addr || f.metadata["leader_id"] == "" {
				t.Errorf("%s: %v with %v", name, f, f.metadata)
			}
		}
	}
}

func TestABrokenForwardEndsWhatWasSentAsUnknown(t *testing.T) {
	c := newCluster(t, 3)
	ctx := testContext(t)
	topic := c.nodes[1].createTopic(ctx, "t", 1, 3)
	leader, other := c.ledBy()
	k := &keeper{}
	leader.held.intercept(k.take)
	rpc, err := other.log.Append(ctx)
	must(t, err)
	once := make(chan error, 1)
	go func() {
		_, err := other.log.AppendOnce(ctx, &multiraftv1.AppendOnceRequest{Item: batchItem(0, topic, 0, batch(t, recordbatch.None, "v"))})
		once <- err
	}()
	for id := range uint64(5) {
		send(t, rpc, batchItem(id, topic, 0, batch(t, recordbatch.None, "v")))
	}
	eventually(t, "all are at the leader", func() bool { return k.len() == 6 })
	if other.services.admitted.items.Load() != 5 {
		t.Errorf("%d items admitted on the way", other.services.admitted.items.Load())
	}
	leader.server.grpc.Stop()
	for id := range uint64(5) {
		for _, r := range recv(t, rpc) {
			if r.GetRequestId() > 4 || r.GetError().GetReason() != "OUTCOME_UNKNOWN" {
				t.Fatalf("item %d: %v", id, r)
			}
		}
		if other.services.admitted.items.Load() == 0 {
			break
		}
	}
	wantReason(t, <-once, outcomeUnknown)
	k.answer(actors.ProposeResult{Err: actors.ErrStopped})
	// The node cannot be reached now: nothing is sent, so that the end is definite.
	eventually(t, "an item that was not sent says so", func() bool {
		send(t, rpc, batchItem(9, topic, 0, batch(t, recordbatch.None, "v")))
		r := recv(t, rpc)
		return r[len(r)-1].GetError().GetReason() == "NO_LEADER"
	})
	must(t, rpc.CloseSend())
	results(t, rpc)
}

func recv(t *testing.T, rpc interface {
	Recv() (*multiraftv1.AppendResponse, error)
}) []*multiraftv1.AppendResult {
	t.Helper()
	resp, err := rpc.Recv()
	must(t, err)
	return resp.GetResults()
}

func TestAForwardOutlivesNoClient(t *testing.T) {
	c := newCluster(t, 3)
	topic := c.nodes[1].createTopic(testContext(t), "t", 1, 3)
	leader, other := c.ledBy()
	k := &keeper{}
	leader.held.intercept(k.take)
	ctx, cancel := context.WithCancel(testContext(t))
	rpc, err := other.log.Append(ctx)
	must(t, err)
	for id := range uint64(5) {
		send(t, rpc, batchItem(id, topic, 0, batch(t, recordbatch.None, "v")))
	}
	eventually(t, "all are at the leader", func() bool { return k.len() == 5 })
	cancel()
	eventually(t, "nothing is admitted on the way", func() bool { return other.services.admitted.items.Load() == 0 })
	k.answer(actors.ProposeResult{Outcome: raftcore.Outcome{Count: 1}})
	if n := leader.services.admitted.items.Load(); n != 0 {
		t.Errorf("%d items admitted at the leader", n)
	}
}

func TestProducerIDsComeInRangesFromTheMetadataGroup(t *testing.T) {
	n := single(t)
	ctx := testContext(t)
	for want := int64(1); want <= producerIDsPerRange+1; want++ {
		resp, err := n.services.InitProducer(ctx, &multiraftv1.InitProducerRequest{})
		must(t, err)
		if resp.GetProducerId() != want || resp.GetEpoch() != 0 {
			t.Fatalf("%v, want %d", resp, want)
		}
	}
	next := func() int64 { return n.core.Table().Meta.Allocators().Producer }
	eventually(t, "the table shows the second range", func() bool { return next() >= 2*producerIDsPerRange+1 })
	if got := next(); got != 2*producerIDsPerRange+1 {
		t.Fatalf("the next range begins at %d: not one command per range", got)
	}
}

func TestProducerIDsOfAllNodesAreDistinct(t *testing.T) {
	c := newCluster(t, 3)
	ctx := testContext(t)
	seen := map[int64]bool{}
	for i := range 30 {
		var resp *multiraftv1.InitProducerResponse
		retry(ctx, t, func() (err error) {
			resp, err = c.nodes[raftcore.NodeID(i%3+1)].log.InitProducer(ctx, &multiraftv1.InitProducerRequest{})
			return err
		})
		if id := resp.GetProducerId(); id < 1 || seen[id] {
			t.Fatalf("call %d: %v", i, resp)
		}
		seen[resp.GetProducerId()] = true
	}
}
