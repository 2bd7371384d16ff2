package router

import (
	"context"

	"google.golang.org/grpc"

	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
)

// retentionProto is how the API says how long a topic's records are kept.
func retentionProto(c *metav1.TopicConfig) *multiraftv1.Retention {
	return &multiraftv1.Retention{RetentionMs: c.GetRetentionMs(), RetentionBytes: c.GetRetentionBytes()}
}

// topicConfig is the way back; nil where nothing is asked for.
func topicConfig(r *multiraftv1.Retention) *metav1.TopicConfig {
	if r.GetRetentionMs() == 0 && r.GetRetentionBytes() == 0 {
		return nil
	}
	return &metav1.TopicConfig{RetentionMs: r.GetRetentionMs(), RetentionBytes: r.GetRetentionBytes()}
}

// topicNamer is a request that names a topic, by name or id.
type topicNamer interface {
	GetName() string
	GetTopicId() uint64
}

// topicIDOf resolves a name, as this node knows it. An id stays what it is: the machine judges it.
func topicIDOf(table *Table, req topicNamer) (uint64, error) {
	if id := req.GetTopicId(); id != 0 {
		return id, nil
	}
	if req.GetName() == "" {
		return 0, badField("topic", "neither name nor topic_id is set")
	}
	t, ok := table.Meta.TopicByName(req.GetName())
	if !ok {
		return 0, table.noTopic("no topic named %.80q", req.GetName())
	}
	return t.GetTopicId(), nil
}

// AlterTopic changes how long a topic's records are kept.
func (s *Services) AlterTopic(ctx context.Context, req *multiraftv1.AlterTopicRequest) (*multiraftv1.AlterTopicResponse, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.exit()
	ctx, cancel := bounded(ctx)
	defer cancel()
	if req.RetentionMs == nil && req.RetentionBytes == nil {
		return nil, badField("retention_ms", "nothing is to change: set it, or retention_bytes")
	}
	return atLeader(ctx, s, raftcore.MetadataGroup, lostUnknown,
		func(ctx context.Context, h *Hosted) (*multiraftv1.AlterTopicResponse, error) {
			id, err := topicIDOf(s.core.Table(), req)
			if err != nil {
				return nil, err
			}
			o, err := s.command(ctx, h, &metav1.Command{Command: &metav1.Command_AlterTopic{AlterTopic: &metav1.AlterTopic{
				TopicId: id, RetentionMs: req.RetentionMs, RetentionBytes: req.RetentionBytes}}})
			if err != nil {
				return nil, err
			}
			topic, ok := o.Value.(*metav1.Topic)
			if !ok {
				return nil, fail(replicaFailed, "the metadata machine answered AlterTopic with %T", o.Value)
			}
			return &multiraftv1.AlterTopicResponse{TopicId: id, Retention: retentionProto(topic.GetConfig())}, nil
		},
		func(ctx context.Context, conn *grpc.ClientConn) (*multiraftv1.AlterTopicResponse, error) {
			return multiraftv1.NewAdminServiceClient(conn).AlterTopic(ctx, req)
		})
}

// DeleteTopic deletes a topic. The nodes delete its replicas when they have applied the order.
func (s *Services) DeleteTopic(ctx context.Context, req *multiraftv1.DeleteTopicRequest) (*multiraftv1.DeleteTopicResponse, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.exit()
	ctx, cancel := bounded(ctx)
	defer cancel()
	return atLeader(ctx, s, raftcore.MetadataGroup, lostUnknown,
		func(ctx context.Context, h *Hosted) (*multiraftv1.DeleteTopicResponse, error) {
			id, err := topicIDOf(s.core.Table(), req)
			if err != nil {
				return nil, err
			}
			o, err := s.command(ctx, h, &metav1.Command{Command: &metav1.Command_DeleteTopic{DeleteTopic: &metav1.DeleteTopic{TopicId: id}}})
			return &multiraftv1.DeleteTopicResponse{TopicId: id, WasDeleted: o.Verdict == raftcore.Duplicate}, err
		},
		func(ctx context.Context, conn *grpc.ClientConn) (*multiraftv1.DeleteTopicResponse, error) {
			return multiraftv1.NewAdminServiceClient(conn).DeleteTopic(ctx, req)
		})
}
