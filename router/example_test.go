package router_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/multiraftd/multiraftd/actors"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
	"github.com/multiraftd/multiraftd/router"
)

// alone is the outside world of a node without peers.
type alone struct{}

func (alone) Send(raftcore.NodeID, *raftv1.Envelope)       {}
func (alone) SendControl(raftcore.NodeID, *raftv1.Control) {}

func (alone) SendReport(raftcore.NodeID, *raftv1.NodeReport) {}
func (alone) NowMillis() int64                               { return time.Now().UnixMilli() }

// startAlone starts the actors of a node whose metadata group it is the only member of, on a store in memory.
func startAlone(counters *router.Counters) (*router.Core, error) {
	kv := store.NewMem()
	b := new(store.Batch)
	store.PutBirth(b, store.Birth{Group: raftcore.MetadataGroup, Replica: 1, Members: map[raftcore.ReplicaID]raftcore.NodeID{1: 1}})
	if err := kv.Commit(b, true); err != nil {
		return nil, err
	}
	return router.StartCore(router.Config{
		Replica: actors.ReplicaConfig{Node: 1, Start: 1, Log: kv, Clock: alone{}, Counters: &actors.Counters{}, Core: &raftcore.Counters{},
			Logger: slog.New(slog.DiscardHandler)},
		Writer: actors.LogWriterConfig{OnFailure: func(error) {}, Counters: &actors.Counters{}},
		Sender: alone{}, Tables: router.NewTables(), Counters: counters,
	}), nil
}

// Serve any services on an address: here those of a node that is a cluster of its own. A program that wants a
// whole node takes package node, which does this and more.
func ExampleServe() {
	var counters router.Counters
	core, err := startAlone(&counters)
	if err != nil {
		fmt.Println(err)
		return
	}
	services := router.NewServices(router.ServicesConfig{Core: core, Cluster: "example", Start: 1, Counters: &counters,
		RecordBytesMax: 1 << 20, BatchBytesMax: 4 << 20, ElectionTimeout: time.Second})
	addr := freeAddr()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- router.Serve(ctx, addr, services) }()

	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		fmt.Println(err)
		return
	}
	status, err := multiraftv1.NewAdminServiceClient(conn).NodeStatus(ctx, &multiraftv1.NodeStatusRequest{}, grpc.WaitForReady(true))
	fmt.Println("node", status.GetNodeId(), err)

	cancel()
	fmt.Println("served:", <-ended)
	fmt.Println("closed:", conn.Close(), core.Stop())
	// Output:
	// node 1 <nil>
	// served: <nil>
	// closed: <nil> <nil>
}

func freeAddr() string {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err.Error()
	}
	defer lis.Close()
	return lis.Addr().String()
}
