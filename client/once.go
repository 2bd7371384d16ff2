package client

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/proto/recordbatch"
)

// AppendOnce stores records of one partition as one batch, in one unary call, without protection against
// duplicates: where an attempt may have been stored it is not repeated, and the error is OutcomeUnknown.
// A Producer is the better way for all but the occasional record.
func (c *Client) AppendOnce(ctx context.Context, topic string, partition int, records ...Record) (Receipt, error) {
	desc, err := c.resolve(ctx, topic)
	if err != nil {
		return Receipt{}, err
	}
	if partition < 0 || partition >= len(desc.GetPartitions()) {
		return Receipt{}, refuse(UnknownPartition, codes.NotFound, "topic %s has partitions 0 to %d, not %d", topic, len(desc.GetPartitions())-1, partition)
	}
	item, err := onceItem(desc, partition, records)
	if err != nil {
		return Receipt{}, err
	}
	span := c.startAppend(topic, uint32(partition), len(records))
	item.Traceparent = span.At().Traceparent()
	var receipt *multiraftv1.Receipt
	err = c.do(ctx, request{op: "append", node: desc.GetPartitions()[partition].GetLeader(), timeout: answerTimeout, once: true,
		call: func(ctx context.Context, conn *grpc.ClientConn) error {
			r, e := appendOnce(ctx, multiraftv1.NewLogServiceClient(conn), item)
			if e != nil {
				return e
			}
			receipt = r
			return nil
		}})
	endAppend(span, receiptOf(receipt), err)
	if err != nil {
		c.unresolve(topic)
		return Receipt{}, err
	}
	return receiptOf(receipt), nil
}

func onceItem(desc *multiraftv1.DescribeResponse, partition int, records []Record) (*multiraftv1.AppendItem, error) {
	now := time.Now().UnixMilli()
	stamped := append([]Record(nil), records...)
	for i := range stamped {
		if limit := int(desc.GetRecordBytesMax()); limit > 0 && stamped[i].Bytes() > limit {
			return nil, refuse(RecordTooLarge, codes.InvalidArgument, "a record of %d bytes, the limit is %d", stamped[i].Bytes(), limit)
		}
		if stamped[i].TimestampMillis == 0 {
			stamped[i].TimestampMillis = now
		}
	}
	batch, err := recordbatch.Encode(nil, recordbatch.None, stamped)
	if err != nil {
		return nil, errors.Join(InvalidBatch, err)
	}
	return &multiraftv1.AppendItem{TopicId: desc.GetTopicId(), Partition: uint32(partition), Content: &multiraftv1.AppendItem_Batch{Batch: batch}}, nil
}

// resolve describes a topic once, until an append fails.
func (c *Client) resolve(ctx context.Context, topic string) (*multiraftv1.DescribeResponse, error) {
	c.mu.Lock()
	desc := c.topics[topic]
	c.mu.Unlock()
	if desc != nil {
		return desc, nil
	}
	desc, err := c.Describe(ctx, topic, false)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.topics[topic] = desc
	c.mu.Unlock()
	return desc, nil
}

func (c *Client) unresolve(topic string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.topics, topic)
}
