package router

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"

	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
)

// closings is a service without RPCs that counts how often it is closed.
type closings int

func (c *closings) Register(grpc.ServiceRegistrar) {}
func (c *closings) Close()                         { *c++ }

func TestServeEndsWithItsContextAndSaysWhyItCannotBegin(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	ctx, cancel := context.WithCancel(testContext(t))
	svc := new(closings)
	if err := Serve(ctx, lis.Addr().String(), svc); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Fatalf("%v", err)
	}
	must(t, lis.Close())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, lis.Addr().String(), svc) }()
	conn, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	defer conn.Close()
	_, err = healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{}, grpc.WaitForReady(true))
	must(t, err)
	cancel()
	must(t, <-ended)
	if *svc != 1 {
		t.Fatalf("the service was closed %d times", *svc)
	}
}

func TestAListenerThatBreaksEndsTheServerWithAReason(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := NewServer(lis, ServerConfig{})
	s.Start()
	must(t, s.Err())
	must(t, lis.Close())
	<-s.Done()
	if s.Err() == nil {
		t.Fatal("no reason")
	}
	s.Close()
	s.Close()
}

func TestHealthAndReflectionAreServedAndHealthEndsFirst(t *testing.T) {
	n := single(t)
	ctx := testContext(t)
	for _, name := range []string{"", "multiraft.v1.LogService", "multiraft.v1.AdminService"} {
		resp, err := healthv1.NewHealthClient(n.client).Check(ctx, &healthv1.HealthCheckRequest{Service: name})
		must(t, err)
		if resp.GetStatus() != healthv1.HealthCheckResponse_SERVING {
			t.Errorf("%q: %v", name, resp)
		}
	}
	stream, err := reflectionv1.NewServerReflectionClient(n.client).ServerReflectionInfo(ctx)
	must(t, err)
	must(t, stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}))
	resp, err := stream.Recv()
	must(t, err)
	if got := len(resp.GetListServicesResponse().GetService()); got < 4 {
		t.Errorf("reflection lists %d services", got)
	}
	must(t, stream.CloseSend())
	watch, err := healthv1.NewHealthClient(n.client).Watch(ctx, &healthv1.HealthCheckRequest{})
	must(t, err)
	first, err := watch.Recv()
	must(t, err)
	go n.server.Close()
	second, err := watch.Recv()
	must(t, err)
	if first.GetStatus() != healthv1.HealthCheckResponse_SERVING || second.GetStatus() != healthv1.HealthCheckResponse_NOT_SERVING {
		t.Errorf("watched %v, then %v", first, second)
	}
}

func TestNodeStatusIsTheNodesOwnView(t *testing.T) {
	n := single(t)
	ctx := testContext(t)
	n.createTopic(ctx, "t", 2, 1)
	all, err := n.admin.NodeStatus(ctx, &multiraftv1.NodeStatusRequest{})
	must(t, err)
	one, err := n.admin.NodeStatus(ctx, &multiraftv1.NodeStatusRequest{GroupIds: slices.Repeat([]uint64{3, 99}, 1000)})
	must(t, err)
	if len(all.GetReplicas()) != 3 || all.GetNodeId() != 1 || all.GetStartNumber() != 1 || all.GetMetadataApplied() == 0 {
		t.Errorf("%v", all)
	}
	if len(one.GetReplicas()) != 1 || one.GetReplicas()[0].GetGroupId() != 3 || one.GetReplicas()[0].GetRole() != multiraftv1.ReplicaRole_REPLICA_ROLE_LEADER {
		t.Errorf("%v", one)
	}
}

func TestARegistrationThatCanNeverBeTakenStaysOutOfTheLog(t *testing.T) {
	n := single(t)
	h, _ := n.core.Table().Hosted(1)
	eventually(t, "the controller has recorded who votes, and that the group has heard so", func() bool {
		b := h.Board.Load()
		return b.FollowedTarget != 0 && b.Told && b.Applied == b.Last
	})
	before := h.Board.Load().Last
	_, err := n.admin.RegisterNode(testContext(t), &multiraftv1.RegisterNodeRequest{NodeId: 5, StoreId: "s", StartNumber: 1, ClientAddr: "a:1", PeerAddr: "a:2",
		Rack: strings.Repeat("r", 5<<20)})
	wantReason(t, err, invalidArgument)
	if after := h.Board.Load().Last; after != before {
		t.Errorf("the log went from %d to %d", before, after)
	}
}

func TestATopicsNameIsNotSaidBackWhateverItsLength(t *testing.T) {
	n := single(t)
	_, err := n.log.Describe(testContext(t), &multiraftv1.DescribeRequest{Topic: &multiraftv1.DescribeRequest_Name{Name: strings.Repeat("n", 1<<20)}})
	wantReason(t, err, unknownTopic)
	if got := len(fromStatus(err).message); got > 200 {
		t.Errorf("an error of %d bytes", got)
	}
}

func TestCreateTopicAnswersReadyOrAtTheDeadline(t *testing.T) {
	c := newCluster(t, 3)
	ctx := testContext(t)
	c.nodes[1].createTopic(ctx, "t", 2, 3)
	again := c.nodes[3].createTopic(ctx, "t", 2, 3) // the same request id: the same topic
	if again != 1 {
		t.Fatalf("a second topic %d", again)
	}
	// A replica that is alone never has a leader.
	req := &multiraftv1.CreateTopicRequest{Name: "alone", Partitions: 2, Replicas: 3, RequestId: []byte("0123456789abcdef")}
	var leader *testNode
	eventually(t, "the metadata leader is known", func() bool {
		for _, n := range c.nodes {
			if h, _ := n.core.Table().Hosted(1); h.Board.Load().Leader == n.id {
				leader = n
			}
		}
		return leader != nil
	})
	short, cancel := context.WithCancel(ctx)
	topic, ok := leader.core.Table().Meta.TopicByName("t")
	if !ok {
		t.Fatal("the topic is gone")
	}
	// Ready may have been learned from another node: the first heartbeat of a new leader is still to come here.
	eventually(t, "its own replicas know their leaders", func() bool {
		for _, p := range topic.GetPartitions() {
			h, ok := leader.core.Table().Hosted(raftcore.GroupID(p.GetGroupId()))
			if !ok || h.Board.Load() == nil || h.Board.Load().Leader == 0 {
				return false
			}
		}
		return true
	})
	cancel()
	if !leader.services.awaitLeaders(short, topic) {
		t.Error("leaders that are there were waited for")
	}
	unborn := topicOf(req)
	if leader.services.awaitLeaders(short, unborn) {
		t.Error("ready without leaders")
	}
}

func TestEveryCounterHasANameAndHelp(t *testing.T) {
	seen := map[string]bool{}
	c := new(Counters)
	c.Forwarded.Add(3)
	forwarded := uint64(0)
	c.Each(func(name, label, value, help string, v uint64) {
		key := name + label + value
		if seen[key] || help == "" || !strings.HasSuffix(name, "_total") {
			t.Errorf("%s %s=%s: %q", name, label, value, help)
		}
		if seen[key] = true; name == "router_forwarded_total" {
			forwarded = v
		}
	})
	if forwarded != 3 || len(seen) < 10 {
		t.Errorf("%d counters, forwarded %d", len(seen), forwarded)
	}
}

func TestTheCommittedLimitsOfTheClientAddressAreThese(t *testing.T) {
	page, err := os.ReadFile("../docs/hostile.md")
	must(t, err)
	mib := func(n int) string { return fmt.Sprintf("%d MiB", n>>20) }
	for what, want := range map[string]string{
		"Connections": fmt.Sprintf("%d, %d from one host", connectionsMax, hostConnectionsMax), "Time to finish HTTP/2's handshake, and TLS's": seconds(handshakeTimeout),
		"New connections from one host":  fmt.Sprintf("%d at once, %d a second", hostConnectionsMax, connectionsPerSecond),
		"Calls that one host breaks off": fmt.Sprintf("%d at once, %d a second", resetsMax, resetsPerSecond),
		"Offences of one host":           fmt.Sprintf("%d at once, %d a second", offencesMax, offencesPerSecond),
		"Calls on one connection":        fmt.Sprint(connStreamsMax), "Calls in all": fmt.Sprintf("%d, beyond that %d for each connection", streamsMax, streamsFloor),
		"Headers of a call": fmt.Sprintf("%d KiB", headerListMax>>10), "A message": mib(requestBytesMax), "Pings": "one in " + seconds(pingIntervalMin),
		"Messages that have begun and not ended, all connections together": mib(partialBytesMax), "Idle, without a call": fmt.Sprintf("%.0f min", idleConnectionMax.Minutes()),
		"What a stream may hold that nobody has read": fmt.Sprintf("%d KiB, or its message", streamWindowBytes>>10), "Time to take something of what is written": seconds(writeTimeout),
		"Reads and Describes under way": fmt.Sprint(readStreamsMax), "What waits for clients to take it": mib(outflowBytesMax) + ", " + mib(outflowHostBytesMax) + " for one host",
		"Calls that wait for that room": fmt.Sprint(outflowWaitingMax), "Items of one Append stream without a result taken": fmt.Sprint(streamItemsMax),
	} {
		if !strings.Contains(string(page), "\n| "+what+" | "+want+" | ") {
			t.Errorf("docs/hostile.md does not say %q of %q", want, what)
		}
	}
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.0f s", d.Seconds()) }
