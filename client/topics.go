package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
)

// Retention says how long the records of a partition are kept. Of what is past a limit, whole log entries go,
// oldest first, at the latest when it is passed by a 32nd part and a little time.
type Retention struct {
	// Age: older records go, by the time at which a leader took them, in whole milliseconds; 0 = whatever their age.
	Age time.Duration
	// Bytes: the oldest records go as long as at least so many bytes stay; 0 = however many.
	Bytes int64
}

func (r Retention) proto() *multiraftv1.Retention {
	return &multiraftv1.Retention{RetentionMs: r.Age.Milliseconds(), RetentionBytes: r.Bytes}
}

func retentionOf(r *multiraftv1.Retention) Retention {
	return Retention{Age: time.Duration(r.GetRetentionMs()) * time.Millisecond, Bytes: r.GetRetentionBytes()}
}

// CreateTopic creates a topic whose records are kept for good; see CreateTopicWith.
func (c *Client) CreateTopic(ctx context.Context, name string, partitions, replicas uint32) (id uint64, ready bool, err error) {
	return c.CreateTopicWith(ctx, name, partitions, replicas, Retention{})
}

// CreateTopicWith creates a topic. It is retried under one request id, so that it is created once: TopicExists
// means another caller's topic. ready = false says that some partition has no leader yet.
func (c *Client) CreateTopicWith(ctx context.Context, name string, partitions, replicas uint32, keep Retention) (id uint64, ready bool, err error) {
	var requestID [RequestIDBytes]byte
	if _, err := rand.Read(requestID[:]); err != nil {
		return 0, false, fmt.Errorf("client: request id: %w", err)
	}
	return c.CreateTopicAs(ctx, requestID, name, partitions, replicas, keep)
}

// RequestIDBytes is the size of a request id.
const RequestIDBytes = 16

// CreateTopicAs is CreateTopicWith under a request id of the caller's: the topic that was created under it before, if
// it is still there, whoever asked, or a new one.
func (c *Client) CreateTopicAs(ctx context.Context, requestID [RequestIDBytes]byte, name string, partitions, replicas uint32, keep Retention) (id uint64, ready bool, err error) {
	req := &multiraftv1.CreateTopicRequest{Name: name, Partitions: partitions, Replicas: replicas, RequestId: requestID[:], Retention: keep.proto()}
	var resp *multiraftv1.CreateTopicResponse
	err = c.do(ctx, request{op: "create topic " + name, timeout: createTimeout, call: func(ctx context.Context, conn *grpc.ClientConn) (err error) {
		resp, err = multiraftv1.NewAdminServiceClient(conn).CreateTopic(ctx, req)
		return err
	}})
	return resp.GetTopicId(), resp.GetReady(), err
}

// RetentionChange says what AlterTopic changes; nil = nothing.
type RetentionChange struct {
	Age   *time.Duration
	Bytes *int64
}

// AlterTopic changes how long a topic's records are kept, and returns what holds now.
func (c *Client) AlterTopic(ctx context.Context, name string, change RetentionChange) (id uint64, now Retention, err error) {
	req := &multiraftv1.AlterTopicRequest{RetentionBytes: change.Bytes}
	if change.Age != nil {
		req.RetentionMs = proto.Int64(change.Age.Milliseconds())
	}
	id, err = c.onTopic(ctx, name, func(id uint64) error {
		req.Topic = &multiraftv1.AlterTopicRequest_TopicId{TopicId: id}
		return c.do(ctx, request{op: "alter topic " + name, timeout: attemptTimeout, call: func(ctx context.Context, conn *grpc.ClientConn) error {
			resp, err := multiraftv1.NewAdminServiceClient(conn).AlterTopic(ctx, req)
			now = retentionOf(resp.GetRetention())
			return err
		}})
	})
	return id, now, err
}

// DeleteTopic deletes a topic with all its records, for good, and returns the id that it had. The name is free
// at once. Who still holds the id, a Producer or Reader too, gets UnknownTopic, whatever has the name then.
func (c *Client) DeleteTopic(ctx context.Context, name string) (id uint64, err error) {
	defer c.unresolve(name)
	return c.onTopic(ctx, name, func(id uint64) error {
		lost := false // an attempt may have had its effect
		op := "delete topic " + name
		return c.do(ctx, request{op: op, timeout: attemptTimeout, call: func(ctx context.Context, conn *grpc.ClientConn) error {
			resp, err := multiraftv1.NewAdminServiceClient(conn).DeleteTopic(ctx, &multiraftv1.DeleteTopicRequest{
				Topic: &multiraftv1.DeleteTopicRequest_TopicId{TopicId: id}})
			switch {
			case err != nil:
				lost = lost || fromStatus(op, err).maybeStored()
			case resp.GetWasDeleted() && !lost: // by somebody else
				return &Error{Op: op, Code: codes.NotFound, Reason: UnknownTopic, Message: fmt.Sprintf("the topic with id %d is deleted already", id)}
			}
			return err
		}})
	})
}

// onTopic resolves a name and calls f with the id. The node that answered may not know yet that a topic was
// deleted, and perhaps created again: an unknown id is resolved anew.
func (c *Client) onTopic(ctx context.Context, name string, f func(id uint64) error) (uint64, error) {
	for tries := 0; ; tries++ {
		desc, err := c.Describe(ctx, name, false)
		if err != nil {
			return 0, err
		}
		if err = f(desc.GetTopicId()); !errors.Is(err, UnknownTopic) || tries == unknownTopicTriesMax {
			return desc.GetTopicId(), err
		}
		if err := sleep(ctx, pause(tries, 0)); err != nil {
			return 0, err
		}
	}
}
