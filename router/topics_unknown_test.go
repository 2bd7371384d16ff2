package router

import (
	"testing"

	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/proto/recordbatch"
	"github.com/multiraftd/multiraftd/raftcore"
)

// TestANodeThatMayHaveForgottenTopicsDoesNotSayThatThereAreNone: after power loss a node knows what it had applied and
// stored, and hears the rest from the next leader of the metadata group. Clients give up what there is not.
func TestANodeThatMayHaveForgottenTopicsDoesNotSayThatThereAreNone(t *testing.T) {
	c, ctx := newSilentCluster(t), testContext(t)
	first := c.start(1, c.members(3), nil)
	ask := map[string]func() error{
		"append": func() error {
			_, err := first.log.AppendOnce(ctx, &multiraftv1.AppendOnceRequest{Item: batchItem(1, 7, 0, batch(t, recordbatch.None, "v"))})
			return err
		},
		"append on a stream": func() error {
			rpc, err := first.log.Append(ctx)
			must(t, err)
			must(t, rpc.Send(&multiraftv1.AppendRequest{Items: []*multiraftv1.AppendItem{batchItem(1, 7, 0, batch(t, recordbatch.None, "v"))}}))
			must(t, rpc.CloseSend())
			got := results(t, rpc)
			if len(got) != 1 || got[0].GetError() == nil {
				t.Fatalf("%v", got)
			}
			for r, named := range reasons {
				if named.name == got[0].GetError().GetReason() {
					return fail(reason(r), "%s", got[0].GetError().GetMessage())
				}
			}
			t.Fatalf("%v", got)
			return nil
		},
		"read": func() error {
			rpc, err := first.log.Read(ctx, &multiraftv1.ReadRequest{TopicId: 7, From: &multiraftv1.ReadRequest_Offset{}})
			must(t, err)
			_, err = rpc.Recv()
			return err
		},
		"describe": func() error {
			_, err := first.log.Describe(ctx, &multiraftv1.DescribeRequest{Topic: &multiraftv1.DescribeRequest_Name{Name: "t"}})
			return err
		},
		"transfer": func() error {
			_, err := first.admin.TransferLeader(ctx, &multiraftv1.TransferLeaderRequest{Topic: "t"})
			return err
		},
	}
	for what, f := range ask {
		t.Run("without a leader "+what, func(t *testing.T) { wantReason(t, f(), noLeader) })
	}
	c.start(2, c.members(3), nil)
	eventually(t, "node 1 has applied something of a leader", func() bool {
		h, ok := first.core.Table().Hosted(raftcore.MetadataGroup)
		if !ok {
			return false
		}
		st := h.Board.Load()
		return st != nil && st.Leader != 0 && st.AppliedTerm == st.Term
	})
	for what, f := range ask {
		t.Run("with one "+what, func(t *testing.T) { wantReason(t, f(), unknownTopic) })
	}
}
