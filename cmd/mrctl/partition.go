package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/multiraftd/multiraftd/client"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
)

func newPartition(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "partition", Short: "Move partitions and their leaders", Args: cobra.NoArgs, RunE: needCommand}
	cmd.AddCommand(newPartitionMove(o), newPartitionTransfer(o))
	return cmd
}

func partitionArg(arg string) (uint32, error) {
	p, err := strconv.ParseUint(arg, 10, 32)
	if err != nil {
		return 0, usage(fmt.Errorf("a partition is a number, not %q", arg))
	}
	return uint32(p), nil
}

func nodeIDs(list string) ([]uint64, error) {
	var nodes []uint64
	for part := range strings.SplitSeq(list, ",") {
		id, err := nodeID(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, id)
	}
	return nodes, nil
}

type moved struct {
	Topic     string   `json:"topic"`
	Partition uint32   `json:"partition"`
	TargetID  uint64   `json:"target_id"`
	Done      bool     `json:"done"`
	Voters    []uint64 `json:"voters"`
	Learners  []uint64 `json:"learners"`
}

func newPartitionMove(o *options) *cobra.Command {
	var to string
	var noWait bool
	cmd := &cobra.Command{
		Use:   "move TOPIC PARTITION --to NODE,NODE,... [--no-wait]",
		Short: "Move a partition to these nodes, the preferred leader first, and wait until it is there",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := partitionArg(args[1])
			if err != nil {
				return err
			}
			nodes, err := nodeIDs(to)
			if err != nil {
				return err
			}
			return o.move(cmd, args[0], p, nodes, noWait)
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "the nodes that should have a replica")
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not wait: the cluster goes on with it, and the same command follows it")
	require(cmd, "to")
	return cmd
}

func (o *options) move(cmd *cobra.Command, topic string, p uint32, nodes []uint64, noWait bool) error {
	var resp *multiraftv1.MovePartitionResponse
	err := o.follow(cmd, fmt.Sprintf("%s/%d", topic, p), func(ctx context.Context, c *client.Client) (string, bool, error) {
		var err error
		if resp == nil {
			resp, err = c.MovePartition(ctx, topic, p, nodes)
		} else {
			resp, err = c.MoveProgress(ctx, topic, p, resp.GetTargetId())
		}
		if err != nil {
			return "", false, err
		}
		return moveText(resp), resp.GetDone() || noWait, nil
	})
	if err != nil {
		return err
	}
	if resp.GetDone() && !sameNodes(resp.GetVoters(), nodes) {
		return fmt.Errorf("%s/%d is on nodes %v: another move took the place of this one", topic, p, resp.GetVoters())
	}
	m := moved{topic, p, resp.GetTargetId(), resp.GetDone(), orEmpty(resp.GetVoters()), orEmpty(resp.GetLearners())}
	return o.print(cmd.OutOrStdout(), m, func(w io.Writer) {
		status := "MOVED"
		if !m.Done {
			status = "MOVING"
		}
		fmt.Fprintf(w, "TOPIC\tPARTITION\tSTATUS\tREPLICAS\n%s\t%d\t%s\t%s\n", topic, p, status, list(m.Voters))
	})
}

func moveText(r *multiraftv1.MovePartitionResponse) string {
	s := fmt.Sprintf("on nodes %v", r.GetVoters())
	if r.GetDone() {
		return s
	}
	if len(r.GetLearners()) > 0 {
		s += fmt.Sprintf(", being filled on %v", r.GetLearners())
	}
	if r.GetWaits() != "" {
		s += ", waits for " + r.GetWaits()
	}
	return s
}

func sameNodes(a, b []uint64) bool {
	if len(a) != len(b) {
		return false
	}
	in := map[uint64]bool{}
	for _, n := range a {
		in[n] = true
	}
	for _, n := range b {
		if !in[n] {
			return false
		}
	}
	return true
}

func newPartitionTransfer(o *options) *cobra.Command {
	var to uint64
	cmd := &cobra.Command{
		Use:   "transfer-leader TOPIC PARTITION --to NODE",
		Short: "Hand a partition's leadership to a node that has a replica",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := partitionArg(args[1])
			if err == nil && to == 0 {
				err = usage(errors.New("--to is a node, at least 1"))
			}
			if err != nil {
				return err
			}
			return o.call(cmd, func(ctx context.Context, c *client.Client) error {
				leader, err := c.TransferLeader(ctx, args[0], p, to)
				if err != nil {
					return err
				}
				v := struct {
					Topic     string `json:"topic"`
					Partition uint32 `json:"partition"`
					Leader    uint64 `json:"leader"`
				}{args[0], p, leader}
				return o.print(cmd.OutOrStdout(), v, func(w io.Writer) {
					fmt.Fprintf(w, "TOPIC\tPARTITION\tLEADER\n%s\t%d\t%d\n", args[0], p, leader)
				})
			})
		},
	}
	cmd.Flags().Uint64Var(&to, "to", 0, "the node")
	require(cmd, "to")
	return cmd
}
