package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
	"github.com/multiraftd/multiraftd/router"
)

// joiner makes the node a member of a cluster that exists:
//
//	EMPTY, with a store id, synced --JoinNode at any member--> FORMED, with cluster, node id, the members'
//	addresses and an empty replica of the metadata group, in one synced batch
//
// The same store id gets the same node id, so that a crash in between continues.
type joiner struct {
	self  store.Node
	kv    store.KV
	addrs []string // of members: peer or client addresses
	// secure says that there is TLS, which may differ between peer and client addresses: a failed Probe does not tell them
	// apart.
	secure bool
	req    *multiraftv1.JoinNodeRequest
	probe  func(ctx context.Context, addr string) (*raftv1.ProbeResponse, error)
	join   func(ctx context.Context, addr string, req *multiraftv1.JoinNodeRequest) (*multiraftv1.JoinNodeResponse, error)
	saved  func(store.Node)
	log    *slog.Logger
}

// joinTimeout bounds one attempt at one address: the metadata group may be electing.
const joinTimeout = 5 * time.Second

// run returns when the node is a member.
func (j *joiner) run(ctx context.Context) error {
	if j.self.Cluster == "" { // so that the store id outlives a crash
		b := new(store.Batch)
		store.PutNode(b, j.self)
		if err := j.kv.Commit(b, true); err != nil {
			return err
		}
	}
	for round := 0; ; round++ {
		var why []string
		for _, addr := range j.addrs {
			resp, err := j.ask(ctx, addr)
			if err == nil {
				return j.become(resp)
			}
			if refusal := j.refused(err); refusal != nil {
				return refusal
			}
			why = append(why, fmt.Sprintf("%s: %v", addr, err))
		}
		if round%reportEvery == 0 {
			j.log.Info("joining the cluster", "waiting", strings.Join(why, "; "))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("joining the cluster: %s: %w", strings.Join(why, "; "), ctx.Err())
		case <-time.After(probeInterval):
		}
	}
}

// ask joins at addr, which is a peer address, where Probe tells the client address, or a client address.
func (j *joiner) ask(ctx context.Context, addr string) (*multiraftv1.JoinNodeResponse, error) {
	probing, cancel := context.WithTimeout(ctx, probeTimeout)
	answer, err := j.probe(probing, addr)
	cancel()
	switch {
	case err == nil && answer.GetState() != raftv1.StoreState_STORE_STATE_FORMED:
		return nil, errors.New("the node there is not a member of a cluster yet")
	case err == nil && answer.GetClientAddr() != "":
		addr = answer.GetClientAddr()
	case err != nil && status.Code(err) != codes.Unimplemented && !j.secure:
		return nil, err
	}
	ctx, cancel = context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	resp, joinErr := j.join(ctx, addr, j.req)
	if joinErr == nil || err == nil || status.Code(err) == codes.Unimplemented || j.refused(joinErr) != nil {
		return resp, joinErr
	}
	return nil, status.Errorf(codes.Unavailable, "as a peer address: %v; as a client address: %v", err, joinErr)
}

// refused says which answers are final.
func (j *joiner) refused(err error) error {
	if router.IsRetriable(err) || status.Code(err) == codes.Unknown {
		return nil
	}
	switch status.Code(err) {
	case codes.FailedPrecondition:
		return &DataError{fmt.Sprintf("the cluster refuses this node: %v. Start it with --join on an empty data directory", status.Convert(err).Message())}
	case codes.InvalidArgument:
		return &UsageError{[]string{status.Convert(err).Message()}}
	}
	return nil
}

// become writes down what the node is now.
func (j *joiner) become(resp *multiraftv1.JoinNodeResponse) error {
	next := j.self
	next.State, next.Cluster, next.NodeID = raftv1.StoreState_STORE_STATE_FORMED, resp.GetClusterId(), raftcore.NodeID(resp.GetNodeId())
	peers := map[raftcore.NodeID]string{}
	for _, n := range resp.GetNodes() {
		if n.GetNodeId() != resp.GetNodeId() {
			peers[raftcore.NodeID(n.GetNodeId())] = n.GetPeerAddr()
		}
	}
	next.Contacts = FormatBootstrap(peers)
	b := new(store.Batch)
	store.PutNode(b, next)
	store.PutJoin(b, raftcore.MetadataGroup, raftcore.ReplicaID(next.NodeID))
	if err := j.kv.Commit(b, true); err != nil {
		return err
	}
	j.self = next
	j.saved(next)
	j.log.Info(fmt.Sprintf("joined cluster %s as node %d", next.Cluster, next.NodeID), "node", next.NodeID, "peers", next.Contacts)
	return nil
}

// joinAt calls JoinNode at a client address.
func (n *Node) joinAt(ctx context.Context, addr string, req *multiraftv1.JoinNodeRequest) (resp *multiraftv1.JoinNodeResponse, err error) {
	err = n.callAdmin(addr, func(a multiraftv1.AdminServiceClient) error {
		resp, err = a.JoinNode(ctx, req)
		return err
	})
	return resp, err
}

// callAdmin makes a call to a node of which only a client address is known.
func (n *Node) callAdmin(addr string, call func(multiraftv1.AdminServiceClient) error) error {
	conn, err := grpc.NewClient("dns:///"+addr, grpc.WithTransportCredentials(n.certs.client.Dial(nil, nil)), grpc.WithNoProxy())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // it reports only that it was closed before
	return call(multiraftv1.NewAdminServiceClient(conn))
}
