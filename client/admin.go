package client

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
)

// Describe resolves a topic and says where its partitions are led. With linearizable, each partition's
// leader is asked for its high watermark; without, the bounds may be unknown (-1) or a little old.
func (c *Client) Describe(ctx context.Context, topic string, linearizable bool, partitions ...uint32) (*multiraftv1.DescribeResponse, error) {
	req := &multiraftv1.DescribeRequest{Topic: &multiraftv1.DescribeRequest_Name{Name: topic}, Linearizable: linearizable, Partitions: partitions}
	var resp *multiraftv1.DescribeResponse
	err := c.do(ctx, request{op: "describe " + topic, timeout: attemptTimeout, call: func(ctx context.Context, conn *grpc.ClientConn) (err error) {
		resp, err = multiraftv1.NewLogServiceClient(conn).Describe(ctx, req)
		return err
	}})
	if err != nil {
		return nil, err
	}
	c.dir.learn(resp.GetNodes())
	return resp, nil
}

// ListTopics lists all topics by name.
func (c *Client) ListTopics(ctx context.Context) ([]*multiraftv1.TopicSummary, error) {
	var resp *multiraftv1.ListTopicsResponse
	err := c.do(ctx, request{op: "list topics", timeout: attemptTimeout, call: func(ctx context.Context, conn *grpc.ClientConn) (err error) {
		resp, err = multiraftv1.NewAdminServiceClient(conn).ListTopics(ctx, &multiraftv1.ListTopicsRequest{})
		return err
	}})
	return resp.GetTopics(), err
}

// ClusterStatus is the cluster as the node that answered sees it.
func (c *Client) ClusterStatus(ctx context.Context) (*multiraftv1.ClusterStatusResponse, error) {
	var resp *multiraftv1.ClusterStatusResponse
	err := c.do(ctx, request{op: "cluster status", timeout: attemptTimeout, call: func(ctx context.Context, conn *grpc.ClientConn) (err error) {
		resp, err = multiraftv1.NewAdminServiceClient(conn).ClusterStatus(ctx, &multiraftv1.ClusterStatusRequest{})
		return err
	}})
	return resp, err
}

// ClusterHealth says whether the cluster is healthy, and if not, why and what to do.
func (c *Client) ClusterHealth(ctx context.Context) (*multiraftv1.ClusterHealthResponse, error) {
	var resp *multiraftv1.ClusterHealthResponse
	err := c.do(ctx, request{op: "cluster health", timeout: attemptTimeout, call: func(ctx context.Context, conn *grpc.ClientConn) (err error) {
		resp, err = multiraftv1.NewAdminServiceClient(conn).ClusterHealth(ctx, &multiraftv1.ClusterHealthRequest{})
		return err
	}})
	return resp, err
}

// DescribeGroup asks all replicas of a Raft group for their state. Group 1 is the metadata group.
func (c *Client) DescribeGroup(ctx context.Context, group uint64) (*multiraftv1.DescribeGroupResponse, error) {
	var resp *multiraftv1.DescribeGroupResponse
	err := c.do(ctx, request{op: fmt.Sprintf("describe group %d", group), timeout: attemptTimeout, call: func(ctx context.Context, conn *grpc.ClientConn) (err error) {
		resp, err = multiraftv1.NewAdminServiceClient(conn).DescribeGroup(ctx, &multiraftv1.DescribeGroupRequest{GroupId: group})
		return err
	}})
	return resp, err
}

// initProducer gets a producer id that nobody has had. Repeating it wastes an id at worst.
func (c *Client) initProducer(ctx context.Context) (*multiraftv1.InitProducerResponse, error) {
	var resp *multiraftv1.InitProducerResponse
	err := c.do(ctx, request{op: "init producer", timeout: attemptTimeout, call: func(ctx context.Context, conn *grpc.ClientConn) (err error) {
		resp, err = multiraftv1.NewLogServiceClient(conn).InitProducer(ctx, &multiraftv1.InitProducerRequest{})
		return err
	}})
	return resp, err
}
