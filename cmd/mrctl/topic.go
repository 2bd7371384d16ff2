package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/multiraftd/multiraftd/client"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
)

func newTopic(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "topic", Short: "Create, list, describe, alter and delete topics", Args: cobra.NoArgs, RunE: needCommand}
	cmd.AddCommand(newTopicCreate(o), newTopicList(o), newTopicDescribe(o), newTopicAlter(o), newTopicDelete(o))
	return cmd
}

func newTopicCreate(o *options) *cobra.Command {
	var partitions, replicas uint32
	var keep retentionFlags
	cmd := &cobra.Command{
		Use:   "create NAME --partitions N --replicas N [--retention DURATION] [--retention-bytes SIZE]",
		Short: "Create a topic; done when every partition has a leader",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			age, bytes, err := keep.values()
			if err != nil {
				return err
			}
			return o.call(cmd, func(ctx context.Context, c *client.Client) error {
				id, ready, err := c.CreateTopicWith(ctx, args[0], partitions, replicas, client.Retention{Age: age, Bytes: bytes})
				if err != nil {
					return err
				}
				return printCreated(o, cmd, args[0], id, ready)
			})
		},
	}
	cmd.Flags().Uint32Var(&partitions, "partitions", 0, "number of partitions")
	cmd.Flags().Uint32Var(&replicas, "replicas", 0, "replicas of each")
	keep.bind(cmd)
	for _, f := range []string{"partitions", "replicas"} {
		require(cmd, f)
	}
	return cmd
}

// require makes a flag obligatory, as a usage error.
func require(cmd *cobra.Command, flag string) {
	next := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if !cmd.Flags().Changed(flag) {
			return usage(fmt.Errorf("%s needs --%s", cmd.CommandPath(), flag))
		}
		if next != nil {
			return next(cmd, args)
		}
		return nil
	}
}

func printCreated(o *options, cmd *cobra.Command, name string, id uint64, ready bool) error {
	v := struct {
		Name  string `json:"name"`
		ID    uint64 `json:"id"`
		Ready bool   `json:"ready"`
	}{name, id, ready}
	err := o.print(cmd.OutOrStdout(), v, func(w io.Writer) {
		status := "OK"
		if !ready {
			status = "CREATED, NOT READY"
		}
		fmt.Fprintf(w, "TOPIC\tSTATUS\n%s\t%s\n", name, status)
	})
	if err == nil && !ready {
		err = errors.New("the topic is created, but some partition has no leader yet: see mrctl cluster health")
	}
	return err
}

type topicLine struct {
	Name       string `json:"name"`
	ID         uint64 `json:"id"`
	Partitions uint32 `json:"partitions"`
	Replicas   uint32 `json:"replicas"`

	RetentionMs    int64 `json:"retention_ms"`    // 0 = unlimited
	RetentionBytes int64 `json:"retention_bytes"` // 0 = unlimited
}

func newTopicList(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List topics",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.call(cmd, func(ctx context.Context, c *client.Client) error {
				topics, err := c.ListTopics(ctx)
				if err != nil {
					return err
				}
				lines := make([]topicLine, 0, len(topics))
				for _, t := range topics {
					lines = append(lines, topicLine{t.GetName(), t.GetTopicId(), t.GetPartitions(), t.GetReplicas(),
						t.GetRetention().GetRetentionMs(), t.GetRetention().GetRetentionBytes()})
				}
				return o.print(cmd.OutOrStdout(), lines, func(w io.Writer) {
					fmt.Fprintln(w, "NAME\tPARTITIONS\tREPLICAS\tRETENTION\tRETENTION-BYTES")
					for _, l := range lines {
						fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\n", l.Name, l.Partitions, l.Replicas, ageText(l.RetentionMs), sizeText(l.RetentionBytes))
					}
				})
			})
		},
	}
}

type topicDescription struct {
	Name       string                 `json:"name"`
	ID         uint64                 `json:"id"`
	Partitions []partitionDescription `json:"partitions"`

	RetentionMs    int64 `json:"retention_ms"`    // 0 = unlimited
	RetentionBytes int64 `json:"retention_bytes"` // 0 = unlimited
}

type partitionDescription struct {
	Partition     uint32   `json:"partition"`
	Group         uint64   `json:"group"`
	Leader        uint64   `json:"leader"`
	Term          uint64   `json:"term"`
	Replicas      []uint64 `json:"replicas"`
	Learners      []uint64 `json:"learners"`
	HighWatermark int64    `json:"high_watermark"`
	LogStart      int64    `json:"log_start"`
}

func newTopicDescribe(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "describe NAME",
		Short: "Show a topic's partitions, where they are led, and their bounds",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.call(cmd, func(ctx context.Context, c *client.Client) error {
				desc, err := describe(ctx, c, args[0])
				if err != nil {
					return err
				}
				return o.print(cmd.OutOrStdout(), desc, desc.text)
			})
		},
	}
}

// describe asks for the linearizable bounds, and without a leader takes what a node knows.
func describe(ctx context.Context, c *client.Client, topic string) (*topicDescription, error) {
	// The plain question first: it finds an unknown topic, and it is the answer when the other has none.
	plain, err := c.Describe(ctx, topic, false)
	if err != nil {
		return nil, err
	}
	exact, cancel := context.WithTimeout(ctx, linearizableTimeout)
	defer cancel()
	if desc, err := c.Describe(exact, topic, true); err == nil {
		return descriptionOf(desc), nil
	}
	return descriptionOf(plain), ctx.Err()
}

func descriptionOf(desc *multiraftv1.DescribeResponse) *topicDescription {
	t := &topicDescription{Name: desc.GetName(), ID: desc.GetTopicId(), Partitions: []partitionDescription{},
		RetentionMs: desc.GetRetentionMs(), RetentionBytes: desc.GetRetentionBytes()}
	for _, p := range desc.GetPartitions() {
		t.Partitions = append(t.Partitions, partitionDescription{Partition: p.GetPartition(), Group: p.GetGroupId(),
			Leader: p.GetLeader(), Term: p.GetTerm(), Replicas: orEmpty(p.GetReplicas()), Learners: orEmpty(p.GetLearners()),
			HighWatermark: p.GetHighWatermark(), LogStart: p.GetLogStart()})
	}
	return t
}

// text uses the columns of rpk topic describe -p; EPOCH is the Raft term.
func (t *topicDescription) text(w io.Writer) {
	fmt.Fprintf(w, "NAME\t%s\nID\t%d\nPARTITIONS\t%d\nRETENTION\t%s\nRETENTION-BYTES\t%s\n\n", t.Name, t.ID, len(t.Partitions), ageText(t.RetentionMs), sizeText(t.RetentionBytes))
	fmt.Fprintln(w, "PARTITION\tLEADER\tEPOCH\tREPLICAS\tLOG-START-OFFSET\tHIGH-WATERMARK\tLEARNERS\tGROUP")
	for _, p := range t.Partitions {
		fmt.Fprintf(w, "%d\t%s\t%d\t%s\t%s\t%s\t%s\t%d\n", p.Partition, orNone(p.Leader), p.Term, list(p.Replicas),
			orUnknown(p.LogStart), orUnknown(p.HighWatermark), list(p.Learners), p.Group)
	}
}

func orNone(id uint64) string {
	if id == 0 {
		return "none"
	}
	return fmt.Sprint(id)
}

func orUnknown(offset int64) string {
	if offset < 0 {
		return "-"
	}
	return fmt.Sprint(offset)
}
