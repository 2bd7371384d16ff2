package client

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
)

// admin makes a call of AdminService that may be repeated.
func admin[T any](ctx context.Context, c *Client, op string, call func(context.Context, multiraftv1.AdminServiceClient) (T, error)) (T, error) {
	var resp T
	err := c.do(ctx, request{op: op, timeout: attemptTimeout, call: func(ctx context.Context, conn *grpc.ClientConn) (err error) {
		resp, err = call(ctx, multiraftv1.NewAdminServiceClient(conn))
		return err
	}})
	return resp, err
}

// DrainNode has everything moved away from a node, or with cancel ends that, and says what is left. It does not
// wait: call it again to see how far the drain is.
func (c *Client) DrainNode(ctx context.Context, node uint64, cancel bool) (*multiraftv1.DrainNodeResponse, error) {
	return admin(ctx, c, fmt.Sprintf("drain node %d", node), func(ctx context.Context, a multiraftv1.AdminServiceClient) (*multiraftv1.DrainNodeResponse, error) {
		return a.DrainNode(ctx, &multiraftv1.DrainNodeRequest{NodeId: node, Cancel: cancel})
	})
}

// RemoveNode ends a node's membership for good; with force also that of one with replicas, which is gone.
func (c *Client) RemoveNode(ctx context.Context, node uint64, force bool) error {
	_, err := admin(ctx, c, fmt.Sprintf("remove node %d", node), func(ctx context.Context, a multiraftv1.AdminServiceClient) (*multiraftv1.RemoveNodeResponse, error) {
		return a.RemoveNode(ctx, &multiraftv1.RemoveNodeRequest{NodeId: node, Force: force})
	})
	return err
}

// CanStop says whether every group goes on without a node, and if not, why.
func (c *Client) CanStop(ctx context.Context, node uint64) (*multiraftv1.CanStopResponse, error) {
	return admin(ctx, c, fmt.Sprintf("can stop node %d", node), func(ctx context.Context, a multiraftv1.AdminServiceClient) (*multiraftv1.CanStopResponse, error) {
		return a.CanStop(ctx, &multiraftv1.CanStopRequest{NodeId: node})
	})
}

// MovePartition moves a partition to nodes, the preferred leader first. It does not wait: MoveProgress says how far
// the move is.
func (c *Client) MovePartition(ctx context.Context, topic string, partition uint32, nodes []uint64) (*multiraftv1.MovePartitionResponse, error) {
	return c.move(ctx, &multiraftv1.MovePartitionRequest{Topic: topic, Partition: partition, Nodes: nodes})
}

// MoveProgress says how far a move is.
func (c *Client) MoveProgress(ctx context.Context, topic string, partition uint32, target uint64) (*multiraftv1.MovePartitionResponse, error) {
	return c.move(ctx, &multiraftv1.MovePartitionRequest{Topic: topic, Partition: partition, TargetId: target})
}

func (c *Client) move(ctx context.Context, req *multiraftv1.MovePartitionRequest) (*multiraftv1.MovePartitionResponse, error) {
	return admin(ctx, c, fmt.Sprintf("move %s/%d", req.GetTopic(), req.GetPartition()), func(ctx context.Context, a multiraftv1.AdminServiceClient) (*multiraftv1.MovePartitionResponse, error) {
		return a.MovePartition(ctx, req)
	})
}

// TransferLeader hands a partition's leadership to a node, 0 = whichever is best, and returns who leads then.
func (c *Client) TransferLeader(ctx context.Context, topic string, partition uint32, node uint64) (uint64, error) {
	resp, err := admin(ctx, c, fmt.Sprintf("transfer leadership of %s/%d", topic, partition), func(ctx context.Context, a multiraftv1.AdminServiceClient) (*multiraftv1.TransferLeaderResponse, error) {
		return a.TransferLeader(ctx, &multiraftv1.TransferLeaderRequest{Topic: topic, Partition: partition, NodeId: node})
	})
	return resp.GetLeader(), err
}
