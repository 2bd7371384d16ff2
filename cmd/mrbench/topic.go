package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/multiraftd/multiraftd/client"
)

// bounds are the offsets of a partition that are of interest; to is exclusive.
type bounds struct{ from, to int64 }

// topicInfo is what a run needs to know of its topic.
type topicInfo struct {
	partitions, replicas int
	bounds               []bounds // stored, linearizable
}

// prepare creates the topic if asked to and looks at it.
func prepare(ctx context.Context, c *client.Client, o *options, stderr io.Writer) (*topicInfo, error) {
	if o.create {
		_, _, err := c.CreateTopic(ctx, o.topic, o.partitions, o.replicas)
		switch {
		case errors.Is(err, client.TopicExists):
			fmt.Fprintf(stderr, "topic %s exists already\n", o.topic)
		case err != nil:
			return nil, err
		}
	}
	t, err := look(ctx, c, o.topic)
	if err == nil && o.partitions > 0 && t.partitions != int(o.partitions) {
		err = fmt.Errorf("topic %s has %d partitions, not %d", o.topic, t.partitions, o.partitions)
	}
	return t, err
}

// look asks every partition's leader for its bounds, and goes on asking while one has none.
func look(ctx context.Context, c *client.Client, topic string) (*topicInfo, error) {
	desc, err := c.Describe(ctx, topic, true)
	if err != nil {
		return nil, err
	}
	t := &topicInfo{partitions: len(desc.GetPartitions())}
	for _, p := range desc.GetPartitions() {
		if p.GetHighWatermark() < 0 {
			return nil, fmt.Errorf("topic %s: the end of partition %d is not known", topic, p.GetPartition())
		}
		t.replicas = len(p.GetReplicas())
		t.bounds = append(t.bounds, bounds{max(p.GetLogStart(), 0), p.GetHighWatermark()})
	}
	if t.partitions == 0 {
		return nil, fmt.Errorf("topic %s has no partitions", topic)
	}
	return t, nil
}
