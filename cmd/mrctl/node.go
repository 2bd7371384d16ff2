package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/multiraftd/multiraftd/client"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
)

// pollInterval is the pause between two looks at how far something is.
const pollInterval = 250 * time.Millisecond

func newNode(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "node", Short: "List nodes, drain and remove them", Args: cobra.NoArgs, RunE: needCommand}
	cmd.AddCommand(newNodeList(o), newNodeDrain(o), newNodeRemove(o), newNodeCanStop(o))
	return cmd
}

func newNodeList(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the cluster's nodes",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.call(cmd, func(ctx context.Context, c *client.Client) error {
				st, err := c.ClusterStatus(ctx)
				if err != nil {
					return err
				}
				nodes := statusOf(st).Nodes
				return o.print(cmd.OutOrStdout(), nodes, func(w io.Writer) { nodeTable(w, nodes) })
			})
		},
	}
}

func nodeID(arg string) (uint64, error) {
	id, err := strconv.ParseUint(arg, 10, 64)
	if err != nil || id == 0 {
		return 0, usage(fmt.Errorf("a node is a number of at least 1, not %q", arg))
	}
	return id, nil
}

// follow asks how far something is until it is done, says so on stderr whenever that has changed, and gives up
// when nothing has changed for the time limit.
func (o *options) follow(cmd *cobra.Command, what string, ask func(context.Context, *client.Client) (state string, done bool, err error)) error {
	c, err := o.open()
	if err != nil {
		return err
	}
	return errors.Join(o.followWith(cmd, c, what, ask), c.Close())
}

func (o *options) followWith(cmd *cobra.Command, c *client.Client, what string, ask func(context.Context, *client.Client) (string, bool, error)) error {
	last, changed := "", time.Now()
	for {
		ctx, cancel := context.WithTimeout(cmd.Context(), o.timeout)
		state, done, err := ask(ctx, c)
		cancel()
		if err != nil {
			return err
		}
		if state != last {
			last, changed = state, time.Now()
			fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s\n", what, state)
		}
		if done {
			return nil
		}
		if time.Since(changed) > o.timeout {
			return fmt.Errorf("%s: no progress for %v (%s); it goes on by itself, and the same command follows it again", what, o.timeout, last)
		}
		select {
		case <-cmd.Context().Done():
			return cmd.Context().Err()
		case <-time.After(pollInterval):
		}
	}
}

type drained struct {
	Node         uint64 `json:"node"`
	Done         bool   `json:"done"`
	ReplicasLeft uint32 `json:"replicas_left"`
	LeadersLeft  uint32 `json:"leaders_left"`
	Votes        bool   `json:"votes"`
	Canceled     bool   `json:"canceled"`
}

func newNodeDrain(o *options) *cobra.Command {
	var cancel bool
	cmd := &cobra.Command{
		Use:   "drain ID [--cancel]",
		Short: "Move everything away from a node, leaders first, and wait until nothing is left",
		Long: "Move everything away from a node, leaders first, and wait until nothing is left. An interrupted drain goes on in\n" +
			"the cluster; the same command follows it again. --cancel ends it: what has moved stays where it is.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := nodeID(args[0])
			if err != nil {
				return err
			}
			var resp *multiraftv1.DrainNodeResponse
			err = o.follow(cmd, fmt.Sprintf("node %d", id), func(ctx context.Context, c *client.Client) (string, bool, error) {
				var err error
				if resp, err = c.DrainNode(ctx, id, cancel); err != nil {
					return "", false, err
				}
				return drainText(resp, cancel), resp.GetDone() || cancel, nil
			})
			if err != nil {
				return err
			}
			d := drained{id, resp.GetDone(), resp.GetReplicasLeft(), resp.GetLeadersLeft(), resp.GetVotes(), cancel}
			return o.print(cmd.OutOrStdout(), d, func(w io.Writer) {
				status := "DRAINED"
				if cancel {
					status = "IN USE"
				}
				fmt.Fprintf(w, "NODE\tSTATUS\tREPLICAS\tLEADERS\n%d\t%s\t%d\t%d\n", id, status, d.ReplicasLeft, d.LeadersLeft)
			})
		},
	}
	cmd.Flags().BoolVar(&cancel, "cancel", false, "end the drain")
	return cmd
}

func drainText(r *multiraftv1.DrainNodeResponse, cancel bool) string {
	switch {
	case cancel:
		return "takes replicas again"
	case r.GetDone():
		return "nothing is left on it"
	}
	s := fmt.Sprintf("%d replicas and %d leaders left", r.GetReplicasLeft(), r.GetLeadersLeft())
	if r.GetVotes() {
		s += ", votes in the metadata group"
	}
	if r.GetStuck() != "" {
		s += "; " + r.GetStuck() + "; try: " + r.GetTry()
	}
	return s
}

func newNodeRemove(o *options) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "remove ID [--force]",
		Short: "End a node's membership for good; --force for one that is gone and still has replicas",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := nodeID(args[0])
			if err != nil {
				return err
			}
			return o.call(cmd, func(ctx context.Context, c *client.Client) error {
				if err := c.RemoveNode(ctx, id, force); err != nil {
					return err
				}
				v := struct {
					Node    uint64 `json:"node"`
					Removed bool   `json:"removed"`
				}{id, true}
				return o.print(cmd.OutOrStdout(), v, func(w io.Writer) { fmt.Fprintf(w, "NODE\tSTATUS\n%d\tREMOVED\n", id) })
			})
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "the node is gone for good: nobody waits for its replicas any more")
	return cmd
}

type canStop struct {
	Node    uint64         `json:"node"`
	CanStop bool           `json:"can_stop"`
	Reasons []healthReason `json:"reasons"`
}

func newNodeCanStop(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "can-stop ID",
		Short: "Say whether every group goes on without a node, and why not; exits with 10 for no",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := nodeID(args[0])
			if err != nil {
				return err
			}
			return o.call(cmd, func(ctx context.Context, c *client.Client) error {
				resp, err := c.CanStop(ctx, id)
				if err != nil {
					return err
				}
				v := canStop{id, resp.GetCanStop(), reasonsOf(resp.GetReasons())}
				if err := o.print(cmd.OutOrStdout(), v, v.text); err != nil {
					return err
				}
				if !v.CanStop {
					return errNo
				}
				return nil
			})
		},
	}
}

func (v *canStop) text(w io.Writer) {
	fmt.Fprintf(w, "Can stop:\t%t\n", v.CanStop)
	reasonsText(w, v.Reasons)
}

func reasonsOf(all []*multiraftv1.HealthReason) []healthReason {
	reasons := []healthReason{}
	for _, r := range all {
		reasons = append(reasons, healthReason{r.GetWhat(), r.GetWhy(), r.GetTry()})
	}
	return reasons
}

func reasonsText(w io.Writer, reasons []healthReason) {
	for _, r := range reasons {
		fmt.Fprintf(w, "\nWhat:\t%s\nWhy:\t%s\nTry:\t%s\n", r.What, r.Why, r.Try)
	}
}
