package router

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/multiraftd/multiraftd/actors"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/proto/recordbatch"
	"github.com/multiraftd/multiraftd/raftcore"
)

func fromOffset(topic uint64, o int64) *multiraftv1.ReadRequest {
	return &multiraftv1.ReadRequest{TopicId: topic, From: &multiraftv1.ReadRequest_Offset{Offset: o}}
}

func TestReadsBeginAndEndWhereTheyAreAskedTo(t *testing.T) {
	n := single(t)
	ctx := testContext(t)
	topic := n.createTopic(ctx, "t", 1, 1)
	n.append(ctx, topic, 0, "a", "b")
	between := time.Now().UnixMilli() + 2
	eventually(t, "time passes", func() bool { return time.Now().UnixMilli() > between })
	n.append(ctx, topic, 0, "c")
	n.append(ctx, topic, 0, "d", "e")
	eventually(t, "the last record can be read", func() bool { // an acknowledgement does not wait for that
		rpc, err := n.log.Read(ctx, fromOffset(topic, 0))
		must(t, err)
		got, _, err := values(t, rpc)
		must(t, err)
		return len(got) == 5
	})
	at := func(p multiraftv1.Position) *multiraftv1.ReadRequest {
		return &multiraftv1.ReadRequest{TopicId: topic, From: &multiraftv1.ReadRequest_Position{Position: p}}
	}
	to := func(r *multiraftv1.ReadRequest, o int64) *multiraftv1.ReadRequest { r.ToOffset = &o; return r }
	small := at(multiraftv1.Position_POSITION_START)
	small.MaxBytes = 1
	for name, tc := range map[string]struct {
		req       *multiraftv1.ReadRequest
		want      []string // whole batches: the caller skips
		next, end int64
	}{
		"from the start":            {at(multiraftv1.Position_POSITION_START), []string{"0:a", "1:b", "2:c", "3:d", "4:e"}, 0, 5},
		"batch by batch":            {small, []string{"0:a", "1:b", "2:c", "3:d", "4:e"}, 0, 5},
		"from the end":              {at(multiraftv1.Position_POSITION_END), nil, 5, 5},
		"from an offset":            {fromOffset(topic, 2), []string{"2:c", "3:d", "4:e"}, 2, 5},
		"from inside a batch":       {fromOffset(topic, 4), []string{"3:d", "4:e"}, 4, 5},
		"to an offset":              {to(fromOffset(topic, 0), 2), []string{"0:a", "1:b"}, 0, 2},
		"to the inside of a batch":  {to(fromOffset(topic, 2), 4), []string{"2:c", "3:d", "4:e"}, 2, 4},
		"to beyond the end":         {to(fromOffset(topic, 2), 99), []string{"2:c", "3:d", "4:e"}, 2, 5},
		"to before the beginning":   {to(fromOffset(topic, 3), 1), nil, 3, 1},
		"from a time":               {&multiraftv1.ReadRequest{TopicId: topic, From: &multiraftv1.ReadRequest_TimestampMs{TimestampMs: between}}, []string{"2:c", "3:d", "4:e"}, 2, 5},
		"from a time in the future": {&multiraftv1.ReadRequest{TopicId: topic, From: &multiraftv1.ReadRequest_TimestampMs{TimestampMs: between + 1e9}}, nil, 5, 5},
	} {
		rpc, err := n.log.Read(ctx, tc.req)
		must(t, err)
		got, first, err := values(t, rpc)
		must(t, err)
		if !slices.Equal(got, tc.want) || first.GetNextOffset() != tc.next || first.GetEndOffset() != tc.end ||
			first.GetHighWatermark() != 5 || first.GetLogStart() != 0 || len(first.GetBatches()) != 0 {
			t.Errorf("%s: %v after %v", name, got, first)
		}
	}
	if n.counters.ReadBatches.Load() == 0 || n.counters.ReadBytes.Load() == 0 {
		t.Error("reads are not counted")
	}
}

func TestAFollowerOfTheLogWaitsForRecordsAndLeavesNoWaitBehind(t *testing.T) {
	c := newCluster(t, 3)
	topic := c.nodes[1].createTopic(testContext(t), "t", 1, 3)
	_, other := c.ledBy()
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	waits, canceled := make(chan uint64, 100), make(chan uint64, 100)
	other.held.intercept(func(it Routed) bool {
		switch m := it.Msg.(type) {
		case *actors.WaitReadable:
			waits <- m.ID
		case *actors.CancelWait:
			canceled <- m.ID
		}
		return false
	})
	req := fromStart(topic, 0)
	req.Follow = true
	rpc, err := other.log.Read(ctx, req)
	must(t, err)
	first, err := rpc.Recv()
	must(t, err)
	if first.GetEndOffset() != -1 {
		t.Fatalf("%v", first)
	}
	for i := range 5 {
		<-waits
		c.nodes[1].append(ctx, topic, 0, fmt.Sprint(i))
		resp, err := rpc.Recv()
		must(t, err)
		records, err := recordbatch.Decode(resp.GetBatches()[0])
		must(t, err)
		if len(resp.GetBatches()) != 1 || records[0].Offset != int64(i) || string(records[0].Value) != fmt.Sprint(i) {
			t.Fatalf("record %d: %v", i, records)
		}
	}
	last := <-waits
	if len(canceled) != 0 {
		t.Error("a wait was canceled that had its answer")
	}
	cancel()
	if id := <-canceled; id != last {
		t.Errorf("wait %d was canceled, not %d", id, last)
	}
}

func TestAReplicaThatIsBehindWaitsAndNeverServesPastItsMark(t *testing.T) {
	c := newCluster(t, 3)
	ctx := testContext(t)
	topic := c.nodes[1].createTopic(ctx, "t", 1, 3)
	c.nodes[1].append(ctx, topic, 0, "a")
	_, behind := c.ledBy()
	ask := func() *multiraftv1.ReadResponse {
		rpc, err := behind.log.Read(ctx, fromOffset(topic, 0))
		must(t, err)
		_, first, err := values(t, rpc)
		must(t, err)
		return first
	}
	eventually(t, "the first record is here", func() bool {
		return ask().GetHighWatermark() == 1 && firstHosted(behind).Board.Load().HighWatermark == 1
	})
	unfreeze := behind.held.freeze(t)
	waits := make(chan *actors.WaitReadable, 100)
	behind.held.intercept(func(it Routed) bool {
		m, ok := it.Msg.(*actors.WaitReadable)
		if ok {
			waits <- m
		}
		return ok
	})
	for _, v := range []string{"b", "c"} {
		c.nodes[1].append(ctx, topic, 0, v)
	}
	// The end is the leader's; the records are not here yet.
	rpc, err := behind.log.Read(ctx, fromOffset(topic, 0))
	must(t, err)
	first, err := rpc.Recv()
	must(t, err)
	second, err := rpc.Recv()
	must(t, err)
	if first.GetEndOffset() != 3 || second.GetNextOffset() != 1 || second.GetHighWatermark() != 1 {
		t.Fatalf("%v, then %v", first, second)
	}
	wait := <-waits
	if wait.Offset != 1 {
		t.Fatalf("waits for offset %d", wait.Offset)
	}
	eventually(t, "the records are here", func() bool { return firstHosted(behind).Board.Load().HighWatermark == 3 })
	behind.held.intercept(nil)
	unfreeze()
	wait.Reply <- nil
	rest, _, err := values(t, rpc)
	must(t, err)
	if !slices.Equal(rest, []string{"1:b", "2:c"}) {
		t.Fatalf("then came %v", rest)
	}
}

func TestAReaderIsToldToLeaveAReplicaThatIsOfNoUse(t *testing.T) {
	n := single(t)
	r := &reading{s: n.services, h: &Hosted{}, known: 5}
	for name, tc := range map[string]struct {
		offset             raftcore.Offset
		st                 actors.Status
		waited, leaderless time.Duration
		want               reason
	}{
		"it has failed":           {9, actors.Status{Failure: "broken"}, 0, 0, replicaFailed},
		"it is behind":            {4, actors.Status{Leader: 1}, catchUpTimeout + 1, 0, noLeader},
		"it was cut off":          {9, actors.Status{}, time.Hour, readPatience*testElectionTimeout + 1, noLeader},
		"nothing has come":        {9, actors.Status{Leader: 1}, time.Hour, 0, plain},
		"an election is going on": {9, actors.Status{}, time.Hour, testElectionTimeout, plain},
		"it is catching up":       {4, actors.Status{Leader: 1}, catchUpTimeout, 0, plain},
	} {
		err := r.giveUp(tc.offset, &tc.st, tc.waited, tc.leaderless)
		if tc.want == plain {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		wantReason(t, err, tc.want)
	}
}

func TestReadsAreBoundedInNumber(t *testing.T) {
	n := single(t)
	ctx := testContext(t)
	topic := n.createTopic(ctx, "t", 1, 1)
	n.services.readsMax = 1
	req := fromStart(topic, 0)
	req.Follow = true
	cctx, cancel := context.WithCancel(ctx)
	rpc, err := n.log.Read(cctx, req)
	must(t, err)
	_, err = rpc.Recv()
	must(t, err)
	again, err := n.log.Read(ctx, proto.CloneOf(req))
	must(t, err)
	_, err = again.Recv()
	wantReason(t, err, overloaded)
	cancel()
	eventually(t, "the first has ended", func() bool { return n.services.reads.Load() == 0 })
	_, err = n.log.Describe(ctx, &multiraftv1.DescribeRequest{Topic: &multiraftv1.DescribeRequest_TopicId{TopicId: topic}})
	must(t, err)
}
