package client

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/multiraftd/multiraftd/client/clienttest"
	"github.com/multiraftd/multiraftd/proto/recordbatch"
)

var testProducerID = recordbatch.Producer{ID: 1}

func setBase(b []byte, offset int64) { recordbatch.SetBase(b, offset, 1) }

func TestConfigsReportEveryFault(t *testing.T) {
	cfg := Config{Addrs: []string{"nowhere", "a:1", "b:"}, UnreachableTimeout: -1}
	if err := cfg.Validate(); err == nil || len(err.(interface{ Unwrap() []error }).Unwrap()) != 3 {
		t.Errorf("config: %v", err)
	}
	if _, err := Open(Config{}); err == nil {
		t.Error("the zero Config opens")
	}
	producer := ProducerConfig{BatchBytes: -1, InFlight: 6, DeliveryTimeout: -1}
	if err := producer.Validate(); err == nil || len(err.(interface{ Unwrap() []error }).Unwrap()) != 3 {
		t.Errorf("producer config: %v", err)
	}
}

func TestATopicIsCreatedOnceThoughTheAnswerIsLost(t *testing.T) {
	cluster, c := startCluster(t, 2)
	calls := 0
	cluster.SetFault(func(clienttest.Call) clienttest.Fault {
		calls++
		return clienttest.BreakAfter
	})
	id, ready, err := c.CreateTopic(testContext(t), "t", 3, 2)
	if err != nil || id != 1 || !ready || calls != 1 {
		t.Fatalf("id %d, ready %v, %d creations, %v", id, ready, calls, err)
	}
	if _, _, err := c.CreateTopic(testContext(t), "t", 3, 2); !errors.Is(err, TopicExists) {
		t.Errorf("again: %v", err)
	}
	if _, _, err := c.CreateTopic(testContext(t), "u", 3, 3); !errors.Is(err, NotEnoughNodes) {
		t.Errorf("three replicas on two nodes: %v", err)
	}
	topics, err := c.ListTopics(testContext(t))
	if err != nil || len(topics) != 1 || topics[0].GetName() != "t" {
		t.Errorf("topics %v, %v", topics, err)
	}
}

func TestAdminCallsAnswerWhileANodeIsDown(t *testing.T) {
	cluster, c := startCluster(t, 3)
	cluster.StopNode(2)
	st, err := c.ClusterStatus(testContext(t))
	if err != nil || len(st.GetNodes()) != 3 || st.GetNodes()[1].GetAlive() {
		t.Errorf("status %v, %v", st, err)
	}
	health, err := c.ClusterHealth(testContext(t))
	if err != nil || health.GetHealthy() {
		t.Errorf("health %v, %v", health, err)
	}
	if g, err := c.DescribeGroup(testContext(t), 1); err != nil || len(g.GetReplicas()) != 3 {
		t.Errorf("group %v, %v", g, err)
	}
	if _, err := c.DescribeGroup(testContext(t), 99); !errors.Is(err, UnknownGroup) {
		t.Errorf("group 99: %v", err)
	}
}

func TestACallSaysThatNobodyIsThere(t *testing.T) {
	cluster, _ := startCluster(t, 1)
	cluster.StopNode(1)
	c, err := Open(Config{Addrs: cluster.Addrs(), UnreachableTimeout: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.ListTopics(testContext(t)); !errors.Is(err, ErrUnreachable) {
		t.Errorf("error is %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := c.ListTopics(testContext(t)); !errors.Is(err, ErrClosed) {
		t.Errorf("after close: %v", err)
	}
}

func TestACallEndsWithItsContext(t *testing.T) {
	cluster, c := startCluster(t, 1)
	cluster.StopNode(1)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if _, err := c.ListTopics(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
}

func TestAnUnprotectedAppendIsNotRepeatedWhenItMayBeStored(t *testing.T) {
	cluster, c := startCluster(t, 2)
	cluster.CreateTopic("t", 1)
	for i, fault := range []clienttest.Fault{clienttest.NotLeader, clienttest.NoLeader, clienttest.Overloaded, clienttest.UnknownStored, clienttest.BreakAfter} {
		calls := 0
		cluster.SetFault(func(clienttest.Call) clienttest.Fault {
			calls++
			if calls == 1 {
				return fault
			}
			return clienttest.None
		})
		receipt, err := c.AppendOnce(testContext(t), "t", 0, Record{Value: []byte("x")})
		if unknown := fault >= clienttest.UnknownStored; errors.Is(err, OutcomeUnknown) != unknown || unknown && calls != 1 {
			t.Errorf("fault %d: %v after %d calls", fault, err, calls)
		}
		records, rerr := cluster.Records("t", 0)
		if rerr != nil || len(records) != i+1 || err == nil && receipt.Offset != int64(i) {
			t.Errorf("fault %d: %d records, receipt %+v, %v", fault, len(records), receipt, rerr)
		}
	}
}

func TestStatusesBecomeErrorsThatProgramsCanAsk(t *testing.T) {
	plain := fromStatus("read", status.Error(codes.Unavailable, "connection refused"))
	if !errors.Is(plain, ErrUnreachable) || !plain.retriable() || !plain.maybeStored() {
		t.Errorf("a lost connection: %+v", plain)
	}
	refused := &Error{Op: "append", Code: codes.Unavailable, Reason: NotLeader, Metadata: map[string]string{"leader_id": "3", "leader_addr": "c:1"}}
	if node, addr := refused.leader(); node != 3 || addr != "c:1" || errors.Is(refused, ErrUnreachable) || refused.maybeStored() {
		t.Errorf("not leader: %d, %q", node, addr)
	}
	if !errors.Is(fmt.Errorf("x: %w", refused), NotLeader) || errors.Is(refused, NoLeader) {
		t.Error("reasons do not match with errors.Is")
	}
	if late := fromStatus("read", context.DeadlineExceeded); late.Code != codes.DeadlineExceeded || !late.retriable() {
		t.Errorf("deadline: %+v", late)
	}
}

func TestTheDirectoryAsksDeadNodesLast(t *testing.T) {
	d := newDirectory([]string{"a:1", "b:1", "c:1"})
	d.hint(2, "b:1")
	d.failed("b:1", testEpoch)
	if addr := d.addr(2, testEpoch); addr != "" {
		t.Errorf("a dead node is offered as %q", addr)
	}
	for range 3 {
		if order := d.order(2, testEpoch); len(order) != 3 || order[2] != "b:1" {
			t.Errorf("order %v", order)
		}
	}
	if order := d.order(2, testEpoch.Add(time.Minute)); order[0] != "b:1" {
		t.Errorf("order after the pause %v", order)
	}
	d.succeeded("b:1")
	if addr := d.addr(2, testEpoch); addr != "b:1" {
		t.Errorf("address %q", addr)
	}
}

func TestAStreamThatEndsWithAPauseIsBegunAgain(t *testing.T) {
	busy, err := status.New(codes.ResourceExhausted, "busy").WithDetails(&errdetails.ErrorInfo{Reason: string(Overloaded), Domain: errorDomain},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Millisecond)})
	if err != nil {
		t.Fatal(err)
	}
	if e := streamEnd(busy.Err()); !e.retriable() || !e.maybeStored() {
		t.Errorf("%+v: retriable %v, maybe stored %v", e, e.retriable(), e.maybeStored())
	}
	if e := streamEnd(status.Error(codes.ResourceExhausted, "a message above the limit")); e.retriable() {
		t.Errorf("%+v is retriable", e)
	}
}
