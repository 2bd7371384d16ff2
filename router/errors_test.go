package router

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/multiraftd/multiraftd/actors"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/proto/recordbatch"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/metadata"
)

func wantReason(t *testing.T, err error, want reason) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %s", reasons[want].name)
	}
	if got := fromStatus(err); got.reason != want || got.code != reasons[want].code {
		t.Fatalf("%q %v %q, want %s", reasons[got.reason].name, got.code, got.message, reasons[want].name)
	}
}

// errorRows returns the rows of docs/errors.md: first cell, without quotes, to the others.
func errorRows(t *testing.T) map[string][]string {
	t.Helper()
	page, err := os.ReadFile("../docs/errors.md")
	must(t, err)
	rows := map[string][]string{}
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if name := strings.TrimSpace(cells[0]); strings.HasPrefix(name, "`") && len(cells) > 1 {
			rows[strings.Trim(name, "`")] = cells[1:]
		}
	}
	return rows
}

// codeNamed compares OUT_OF_RANGE with OutOfRange.
func codeNamed(c codes.Code, name string) bool {
	return strings.EqualFold(strings.ReplaceAll(strings.Trim(strings.TrimSpace(name), "`"), "_", ""), c.String())
}

func TestTheCommittedTableHasEveryReasonWithItsCodeAndRetry(t *testing.T) {
	rows := errorRows(t)
	for r := plain + 1; r < refusalReasons; r++ {
		row, ok := rows[reasons[r].name]
		if !ok {
			t.Errorf("docs/errors.md has no row for %s", reasons[r].name)
			continue
		}
		if !codeNamed(reasons[r].code, row[0]) || (strings.TrimSpace(row[1]) == "yes") != (reasons[r].retry > 0) {
			t.Errorf("%s: %v, retry after %v, but docs/errors.md says%s,%s", reasons[r].name, reasons[r].code, reasons[r].retry, row[0], row[1])
		}
	}
	for name := range rows {
		if !strings.Contains(name, ".") && reasonNamed(name) == plain {
			t.Errorf("docs/errors.md has %s, which nothing here gives", name)
		}
	}
}

// errorCase makes one RPC fail for one reason.
type errorCase struct {
	rpc  string
	want reason
	call func() error
}

// errorRig is a node on which every RPC can be made to fail.
type errorRig struct {
	*testNode
	ctx     context.Context
	topic   uint64
	stopped *Services
	cases   []errorCase
}

func newErrorRig(t *testing.T) *errorRig {
	n := single(t)
	r := &errorRig{testNode: n, ctx: testContext(t)}
	r.topic = n.createTopic(r.ctx, "t", 1, 1)
	n.append(r.ctx, r.topic, 0, "v")
	r.stopped = NewServices(n.services.cfg)
	r.stopped.Close()
	return r
}

func (r *errorRig) add(rpc string, want reason, call func() error) {
	r.cases = append(r.cases, errorCase{rpc, want, call})
}

// answering makes replicas answer proposals and questions for the end with err.
func (r *errorRig) answering(err error, call func() error) func() error {
	return func() error {
		r.held.intercept(func(it Routed) bool {
			switch m := it.Msg.(type) {
			case *actors.Propose:
				m.Reply.Proposed(actors.ProposeResult{Err: err})
			case *actors.ReadEnd:
				m.Reply.ReadEnd(0, 0, 0, err)
			case *actors.Transfer:
				m.Reply.Transferred(0, err)
			default:
				return false
			}
			return true
		})
		defer r.held.intercept(nil)
		return call()
	}
}

// addReplicaErrors adds what any RPC answers when the replica that it needs can't serve.
func (r *errorRig) addReplicaErrors(rpc string, call func() error, except ...reason) {
	for want, err := range map[reason]error{
		notLeader: &actors.NotLeaderError{Leader: 9}, noLeader: &actors.NotLeaderError{}, replicaFailed: actors.ErrStopped,
		outcomeUnknown: actors.ErrOutcomeUnknown, overloaded: actors.ErrOverloaded,
	} {
		if !slices.Contains(except, want) {
			r.add(rpc, want, r.answering(err, call))
		}
	}
}

func (r *errorRig) addAppends() {
	call := func(it *multiraftv1.AppendItem) func() error {
		return func() error { return r.both(it) }
	}
	good := batchItem(0, r.topic, 0, batch(r.t, recordbatch.None, "v"))
	r.addReplicaErrors("LogService.AppendOnce", call(good))
	r.add("LogService.AppendOnce", diskFull, r.full(call(good)))
	from := func(epoch int16, seq int32) *multiraftv1.AppendItem {
		return batchItem(0, r.topic, 0, batch(r.t, recordbatch.Producer{ID: 7, Epoch: epoch, Sequence: seq}, "v"))
	}
	corrupt := bytes.Clone(good.GetBatch())
	corrupt[len(corrupt)-1] ^= 1
	big := batch(r.t, recordbatch.None, strings.Repeat("x", testRecordBytesMax+1))
	long := batch(r.t, recordbatch.None, slices.Repeat([]string{strings.Repeat("x", testRecordBytesMax)}, 5)...)
	r.add("LogService.Append", invalidArgument, func() error {
		rpc, err := r.log.Append(r.ctx)
		if err := errors.Join(err, rpc.Send(&multiraftv1.AppendRequest{Items: make([]*multiraftv1.AppendItem, streamItemsMax+1)})); err != nil {
			return err
		}
		_, err = rpc.Recv()
		return err
	})
	r.add("LogService.Append", overloaded, func() error {
		o := r.services.outflow
		full := shareOf(r.ctx, o, "127.0.0.1")
		must(r.t, full.take(r.ctx, outflowHostBytesMax))
		defer full.close()
		o.count(outflowWaitingMax)
		defer o.count(-outflowWaitingMax)
		rpc, err := r.log.Append(r.ctx)
		if err == nil {
			_, err = rpc.Recv()
		}
		return err
	})
	r.add("LogService.AppendOnce", unknownProducer, call(from(1, 3)))
	r.add("LogService.AppendOnce", sequenceGap, func() error {
		return errors.Join(r.once(from(1, 0)), r.both(from(1, 5)))
	})
	r.add("LogService.AppendOnce", producerFenced, call(from(0, 0)))
	r.add("LogService.AppendOnce", recordTooLarge, call(batchItem(0, r.topic, 0, big)))
	r.add("LogService.AppendOnce", batchTooLarge, call(batchItem(0, r.topic, 0, long)))
	r.add("LogService.AppendOnce", batchTooLarge, r.answering(actors.ErrTooLarge, call(good)))
	r.add("LogService.AppendOnce", invalidBatch, call(batchItem(0, r.topic, 0, good.GetBatch()[:50])))
	r.add("LogService.AppendOnce", corruptBatch, call(batchItem(0, r.topic, 0, corrupt)))
	r.add("LogService.AppendOnce", unknownTopic, call(batchItem(0, 99, 0, good.GetBatch())))
	r.add("LogService.AppendOnce", unknownPartition, call(batchItem(0, r.topic, 1, good.GetBatch())))
	r.add("LogService.AppendOnce", invalidArgument, call(&multiraftv1.AppendItem{TopicId: r.topic}))
	r.add("LogService.AppendOnce", invalidArgument, call(&multiraftv1.AppendItem{TopicId: r.topic,
		Content: &multiraftv1.AppendItem_Records{Records: &multiraftv1.RecordList{}}}))
}

func (r *errorRig) once(it *multiraftv1.AppendItem) error {
	_, err := r.log.AppendOnce(r.ctx, &multiraftv1.AppendOnceRequest{Item: it})
	return err
}

// both appends an item in both ways, which must fail alike.
func (r *errorRig) both(it *multiraftv1.AppendItem) error {
	err := r.once(it)
	rpc, streamErr := r.log.Append(r.ctx)
	must(r.t, streamErr)
	send(r.t, rpc, proto.CloneOf(it))
	got := fromItem(recv(r.t, rpc)[0].GetError())
	must(r.t, rpc.CloseSend())
	results(r.t, rpc)
	if one := fromStatus(err); got.reason != one.reason || got.code != one.code || got.message != one.message {
		r.t.Errorf("on the stream %v, in a call %v", got, one)
	}
	return err
}

func (r *errorRig) addReads() {
	read := func(req *multiraftv1.ReadRequest) func() error {
		return func() error {
			rpc, err := r.log.Read(r.ctx, req)
			if err == nil {
				_, _, err = values(r.t, rpc)
			}
			return err
		}
	}
	whole := fromStart(r.topic, 0)
	r.addReplicaErrors("LogService.Read", read(whole), outcomeUnknown, overloaded)
	r.add("LogService.Read", noLeader, r.answering(actors.ErrReadTimeout, read(whole)))
	r.add("LogService.Read", overloaded, r.crowded(read(whole)))
	r.add("LogService.Read", unknownTopic, read(fromStart(99, 0)))
	r.add("LogService.Read", unknownPartition, read(fromStart(r.topic, 1)))
	r.add("LogService.Read", offsetOutOfRange, read(fromOffset(r.topic, 1000)))
	three, follow := int64(3), fromOffset(r.topic, 0)
	follow.Follow, follow.ToOffset = true, &three
	for _, bad := range []*multiraftv1.ReadRequest{
		{TopicId: r.topic}, fromOffset(r.topic, -1), follow,
		{TopicId: r.topic, From: &multiraftv1.ReadRequest_Position{}},
	} {
		r.add("LogService.Read", invalidArgument, read(bad))
	}
	describe := func(req *multiraftv1.DescribeRequest) func() error {
		return func() error { _, err := r.log.Describe(r.ctx, req); return err }
	}
	byName := func(name string, ps ...uint32) *multiraftv1.DescribeRequest {
		return &multiraftv1.DescribeRequest{Topic: &multiraftv1.DescribeRequest_Name{Name: name}, Linearizable: true, Partitions: ps}
	}
	for _, err := range []error{actors.ErrReadTimeout, actors.ErrStopped, &actors.NotLeaderError{Leader: 9}} {
		r.add("LogService.Describe", noLeader, r.answering(err, describe(byName("t"))))
	}
	r.add("LogService.Describe", overloaded, r.crowded(describe(byName("t"))))
	r.add("LogService.Describe", unknownTopic, describe(byName("u")))
	r.add("LogService.Describe", unknownTopic, describe(&multiraftv1.DescribeRequest{Topic: &multiraftv1.DescribeRequest_TopicId{TopicId: 99}}))
	r.add("LogService.Describe", unknownPartition, describe(byName("t", 0, 4)))
	r.add("LogService.Describe", invalidArgument, describe(&multiraftv1.DescribeRequest{}))
}

// full makes an RPC meet a disk that is nearly full.
func (r *errorRig) full(call func() error) func() error {
	return func() error {
		r.space.Set(actors.SpaceLow)
		defer r.space.Set(actors.SpaceEnough)
		return call()
	}
}

func (r *errorRig) crowded(call func() error) func() error {
	return func() error {
		r.services.readsMax = 0
		defer func() { r.services.readsMax = readStreamsMax }()
		return call()
	}
}

func (r *errorRig) addAdmin() {
	r.addReplicaErrors("LogService.InitProducer", func() error {
		_, err := r.log.InitProducer(r.ctx, &multiraftv1.InitProducerRequest{})
		return err
	})
	create := func(name string, partitions, replicas uint32, id string) func() error {
		return func() error {
			_, err := r.admin.CreateTopic(r.ctx, &multiraftv1.CreateTopicRequest{Name: name, Partitions: partitions, Replicas: replicas, RequestId: []byte(id)})
			return err
		}
	}
	const id = "sixteen bytes id"
	r.addReplicaErrors("AdminService.CreateTopic", create("u", 1, 1, id))
	r.add("AdminService.CreateTopic", topicExists, create("t", 1, 1, id))
	r.add("AdminService.CreateTopic", notEnoughNodes, create("u", 1, 2, id))
	r.add("AdminService.CreateTopic", invalidArgument, create("../u", 1, 1, id))
	r.add("AdminService.CreateTopic", invalidArgument, create("u", 0, 1, id))
	r.add("AdminService.CreateTopic", invalidArgument, create("u", 1, 1, "short"))
	r.add("AdminService.CreateTopic", invalidArgument, r.answering(&metadata.LimitError{What: "groups", Max: 1}, create("u", 1, 1, id)))
	r.addTopicChanges()
	register := func(storeID string, start uint64) func() error {
		return func() error {
			_, err := r.admin.RegisterNode(r.ctx, &multiraftv1.RegisterNodeRequest{NodeId: 5, StoreId: storeID, StartNumber: start, ClientAddr: "a:1", PeerAddr: "a:2"})
			return err
		}
	}
	r.addReplicaErrors("AdminService.RegisterNode", register("s", 2))
	r.refusing("AdminService.RegisterNode", register("s", 2), metadata.ErrStaleStart, metadata.ErrStoreCopied, metadata.ErrStoreChanged, metadata.ErrUnknownNode, metadata.ErrNodeRemoved)
	r.add("AdminService.RegisterNode", invalidArgument, register("", 3))
	r.add("AdminService.RegisterNode", invalidArgument, register(strings.Repeat("s", metadata.NodeFieldBytesMax+1), 3))
	r.add("AdminService.NodeStatus", invalidArgument, func() error {
		_, err := r.admin.NodeStatus(r.ctx, &multiraftv1.NodeStatusRequest{GroupIds: make([]uint64, metadata.GroupsMax+1)})
		return err
	})
	group := func(id uint64) func() error {
		return func() error {
			_, err := r.admin.DescribeGroup(r.ctx, &multiraftv1.DescribeGroupRequest{GroupId: id})
			return err
		}
	}
	r.addNodes()
	r.addMoves()
	r.add("AdminService.DescribeGroup", unknownGroup, group(99))
	r.add("AdminService.DescribeGroup", invalidArgument, group(0))
}

// refusing adds an RPC that meets refusals of the metadata machine.
func (r *errorRig) refusing(rpc string, call func() error, errs ...error) {
	for _, err := range errs {
		r.add(rpc, explain(err, metadata.Empty()).reason, r.answering(fmt.Errorf("%w: planted", err), call))
	}
}

func (r *errorRig) addNodes() {
	join := func(storeID string) func() error {
		return func() error {
			_, err := r.admin.JoinNode(r.ctx, &multiraftv1.JoinNodeRequest{StoreId: storeID, ClientAddr: "a:1", PeerAddr: "a:2"})
			return err
		}
	}
	r.addReplicaErrors("AdminService.JoinNode", join("s"))
	r.add("AdminService.JoinNode", invalidArgument, join(""))
	r.refusing("AdminService.JoinNode", join("s"), metadata.ErrNodeRemoved, metadata.ErrVotersUnknown)
	drain := func(id uint64) func() error {
		return func() error {
			_, err := r.admin.DrainNode(r.ctx, &multiraftv1.DrainNodeRequest{NodeId: id})
			return err
		}
	}
	r.addReplicaErrors("AdminService.DrainNode", drain(5))
	r.add("AdminService.DrainNode", invalidArgument, drain(0))
	r.add("AdminService.DrainNode", unknownNode, drain(77))
	r.refusing("AdminService.DrainNode", drain(5), metadata.ErrNodeRemoved)
	remove := func(id uint64) func() error {
		return func() error {
			_, err := r.admin.RemoveNode(r.ctx, &multiraftv1.RemoveNodeRequest{NodeId: id})
			return err
		}
	}
	r.addReplicaErrors("AdminService.RemoveNode", remove(5))
	r.add("AdminService.RemoveNode", invalidArgument, remove(0))
	r.add("AdminService.RemoveNode", unknownNode, remove(77))
	r.add("AdminService.RemoveNode", nodeInUse, remove(1))
	r.add("AdminService.GetTrace", invalidArgument, func() error {
		_, err := r.admin.GetTrace(r.ctx, &multiraftv1.GetTraceRequest{TraceId: "4BF9"})
		return err
	})
	r.add("AdminService.CanStop", unknownNode, func() error {
		_, err := r.admin.CanStop(r.ctx, &multiraftv1.CanStopRequest{NodeId: 77})
		return err
	})
	// A node that was removed: node 2 joins and goes.
	r.add("AdminService.CanStop", nodeRemoved, func() error {
		resp, err := r.admin.JoinNode(r.ctx, &multiraftv1.JoinNodeRequest{StoreId: "gone", ClientAddr: "a:1", PeerAddr: "a:2"})
		must(r.t, err)
		must(r.t, remove(resp.GetNodeId())())
		for {
			_, err := r.admin.CanStop(r.ctx, &multiraftv1.CanStopRequest{NodeId: resp.GetNodeId()})
			if err == nil || fromStatus(err).reason == unknownNode { // the table follows a moment later
				continue
			}
			return err
		}
	})
}

func (r *errorRig) addMoves() {
	move := func(topic string, partition uint32, nodes ...uint64) func() error {
		return func() error {
			_, err := r.admin.MovePartition(r.ctx, &multiraftv1.MovePartitionRequest{Topic: topic, Partition: partition, Nodes: nodes})
			return err
		}
	}
	r.addReplicaErrors("AdminService.MovePartition", move("t", 0, 1))
	r.add("AdminService.MovePartition", invalidArgument, move("t", 0))
	r.add("AdminService.MovePartition", invalidArgument, move("t", 0, 1, 1))
	r.add("AdminService.MovePartition", unknownTopic, move("nobody", 0, 1))
	r.add("AdminService.MovePartition", unknownPartition, move("t", 9, 1))
	r.add("AdminService.MovePartition", unknownNode, move("t", 0, 1, 77))
	r.refusing("AdminService.MovePartition", move("t", 0, 1), metadata.ErrNodeRemoved, metadata.ErrNodeDraining, metadata.ErrTargetOpen, metadata.ErrRemovalPending, metadata.ErrUnknownGroup)
	transfer := func(topic string, partition uint32) func() error {
		return func() error {
			_, err := r.admin.TransferLeader(r.ctx, &multiraftv1.TransferLeaderRequest{Topic: topic, Partition: partition, NodeId: 2})
			return err
		}
	}
	r.addReplicaErrors("AdminService.TransferLeader", transfer("t", 0), overloaded)
	r.add("AdminService.TransferLeader", unknownTopic, transfer("nobody", 0))
	r.add("AdminService.TransferLeader", unknownPartition, transfer("t", 9))
	r.add("AdminService.TransferLeader", noSuccessor, transfer("t", 0))
	r.add("AdminService.TransferLeader", noSuccessor, r.answering(actors.ErrTransferTimeout, transfer("t", 0)))
}

func (r *errorRig) addStopping() {
	s, ctx := r.stopped, r.ctx
	end := func(_ any, err error) error { return err }
	for rpc, call := range map[string]func() error{
		"LogService.InitProducer": func() error { return end(s.InitProducer(ctx, nil)) },
		"LogService.AppendOnce":   func() error { return end(s.AppendOnce(ctx, nil)) },
		"LogService.Append": func() error {
			return s.Append(&grpc.GenericServerStream[multiraftv1.AppendRequest, multiraftv1.AppendResponse]{})
		},
		"LogService.Read":          func() error { return s.Read(nil, nil) },
		"LogService.Describe":      func() error { return end(s.Describe(ctx, nil)) },
		"AdminService.CreateTopic": func() error { return end(s.CreateTopic(ctx, nil)) },
		"AdminService.AlterTopic": func() error {
			return end(s.AlterTopic(ctx, &multiraftv1.AlterTopicRequest{RetentionMs: proto.Int64(1)}))
		},
		"AdminService.DeleteTopic":    func() error { return end(s.DeleteTopic(ctx, nil)) },
		"AdminService.ListTopics":     func() error { return end(s.ListTopics(ctx, nil)) },
		"AdminService.ClusterStatus":  func() error { return end(s.ClusterStatus(ctx, nil)) },
		"AdminService.ClusterHealth":  func() error { return end(s.ClusterHealth(ctx, nil)) },
		"AdminService.DescribeGroup":  func() error { return end(s.DescribeGroup(ctx, nil)) },
		"AdminService.NodeStatus":     func() error { return end(s.NodeStatus(ctx, nil)) },
		"AdminService.RegisterNode":   func() error { return end(s.RegisterNode(ctx, nil)) },
		"AdminService.JoinNode":       func() error { return end(s.JoinNode(ctx, nil)) },
		"AdminService.DrainNode":      func() error { return end(s.DrainNode(ctx, nil)) },
		"AdminService.RemoveNode":     func() error { return end(s.RemoveNode(ctx, nil)) },
		"AdminService.CanStop":        func() error { return end(s.CanStop(ctx, nil)) },
		"AdminService.MovePartition":  func() error { return end(s.MovePartition(ctx, nil)) },
		"AdminService.TransferLeader": func() error { return end(s.TransferLeader(ctx, nil)) },
	} {
		r.add(rpc, stopping, call)
	}
}

func TestEveryRPCFailsAsItsRowInTheCommittedTableSays(t *testing.T) {
	r := newErrorRig(t)
	r.addAppends()
	r.addReads()
	r.addAdmin()
	r.addStopping()
	seen := map[string][]string{}
	for _, c := range r.cases {
		t.Run(c.rpc+" "+reasons[c.want].name, func(t *testing.T) {
			err := c.call()
			wantReason(t, err, c.want)
			if f := fromStatus(err); c.want == invalidArgument && f.field == "" && c.rpc != "LogService.AppendOnce" {
				t.Errorf("%q names no field", f.message)
			}
		})
		seen[c.rpc] = append(seen[c.rpc], reasons[c.want].name)
	}
	rows := errorRows(t)
	for _, d := range []grpc.ServiceDesc{multiraftv1.LogService_ServiceDesc, multiraftv1.AdminService_ServiceDesc} {
		service := strings.TrimPrefix(d.ServiceName, "multiraft.v1.")
		var rpcs []string
		for _, m := range d.Methods {
			rpcs = append(rpcs, service+"."+m.MethodName)
		}
		for _, m := range d.Streams {
			rpcs = append(rpcs, service+"."+m.StreamName)
		}
		for _, rpc := range rpcs {
			compareRow(t, rpc, rows[rpc], seen[rpc])
		}
	}
	if got := r.services.admitted.items.Load(); got != 0 {
		t.Errorf("%d appends are still admitted", got)
	}
	if h := r.core.Table(); len(h.Meta.Topics()) != 1 || firstHosted(r.testNode).Board.Load().HighWatermark != 2 {
		t.Errorf("something that failed was stored: %d topics, %d records", len(h.Meta.Topics()), firstHosted(r.testNode).Board.Load().HighWatermark)
	}
}

// compareRow holds the reasons that a test has seen against a row of docs/errors.md.
func compareRow(t *testing.T, rpc string, row, seen []string) {
	t.Helper()
	if len(row) == 0 {
		t.Errorf("docs/errors.md has no row for %s", rpc)
		return
	}
	var documented []string
	for i, word := range strings.Split(row[0], "`") {
		if i%2 == 1 {
			documented = append(documented, word)
		}
	}
	slices.Sort(documented)
	slices.Sort(seen)
	if seen = slices.Compact(seen); !slices.Equal(documented, seen) {
		t.Errorf("%s: docs/errors.md says %v, the tests have seen %v", rpc, documented, seen)
	}
}

func TestErrorsNobodyThoughtOfKeepTheirWords(t *testing.T) {
	f := explain(errors.New("odd"), metadata.Empty())
	if f.reason != plain || f.code != codes.Unknown || f.message != "odd" {
		t.Errorf("%+v", f)
	}
	if f := fromStatus(judged(raftcore.Outcome{Verdict: raftcore.Refused})); f.reason != invalidArgument {
		t.Errorf("%+v", f)
	}
}
