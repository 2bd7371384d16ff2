package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/multiraftd/multiraftd/client"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
)

// linearizableTimeout is how long describe tries to reach every partition's leader.
const linearizableTimeout = 5 * time.Second

func newCluster(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "cluster", Short: "Show the cluster's state and health", Args: cobra.NoArgs, RunE: needCommand}
	cmd.AddCommand(newClusterStatus(o), newClusterHealth(o))
	return cmd
}

type clusterStatus struct {
	ClusterID       string     `json:"cluster_id"`
	MetadataLeader  uint64     `json:"metadata_leader"`
	Nodes           []nodeLine `json:"nodes"`
	Groups          uint32     `json:"groups"`
	Leaderless      []uint64   `json:"leaderless"`
	UnderReplicated []uint64   `json:"under_replicated"`
}

type nodeLine struct {
	ID         uint64 `json:"id"`
	ClientAddr string `json:"client_addr"`
	PeerAddr   string `json:"peer_addr"`
	Rack       string `json:"rack"`
	Alive      bool   `json:"alive"`
	Leaders    uint32 `json:"leaders"`
	Replicas   uint32 `json:"replicas"`
	Draining   bool   `json:"draining"`
}

func statusOf(st *multiraftv1.ClusterStatusResponse) *clusterStatus {
	s := &clusterStatus{ClusterID: st.GetClusterId(), MetadataLeader: st.GetMetadataLeader(), Nodes: []nodeLine{}, Groups: st.GetGroups(),
		Leaderless: orEmpty(st.GetLeaderless()), UnderReplicated: orEmpty(st.GetUnderReplicated())}
	for _, n := range st.GetNodes() {
		s.Nodes = append(s.Nodes, nodeLine{n.GetNodeId(), n.GetClientAddr(), n.GetPeerAddr(), n.GetRack(), n.GetAlive(), n.GetLeaders(), n.GetReplicas(), n.GetDraining()})
	}
	return s
}

func (s *clusterStatus) text(w io.Writer) {
	down := []uint64{}
	for _, n := range s.Nodes {
		if !n.Alive {
			down = append(down, n.ID)
		}
	}
	fmt.Fprintf(w, "Cluster ID:\t%s\n", s.ClusterID)
	fmt.Fprintf(w, "Metadata leader:\t%s\n", orNone(s.MetadataLeader))
	fmt.Fprintf(w, "Groups:\t%d\n", s.Groups)
	fmt.Fprintf(w, "Nodes down (%d):\t%v\n", len(down), down)
	fmt.Fprintf(w, "Leaderless groups (%d):\t%v\n", len(s.Leaderless), s.Leaderless)
	fmt.Fprintf(w, "Under-replicated groups (%d):\t%v\n\n", len(s.UnderReplicated), s.UnderReplicated)
	nodeTable(w, s.Nodes)
}

func nodeTable(w io.Writer, nodes []nodeLine) {
	fmt.Fprintln(w, "ID\tCLIENT-ADDR\tPEER-ADDR\tRACK\tALIVE\tLEADERS\tREPLICAS\tDRAINING")
	for _, n := range nodes {
		rack := n.Rack
		if rack == "" {
			rack = "-"
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%t\t%d\t%d\t%t\n", n.ID, n.ClientAddr, n.PeerAddr, rack, n.Alive, n.Leaders, n.Replicas, n.Draining)
	}
}

func newClusterStatus(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show nodes, leaders, and groups in trouble",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.call(cmd, func(ctx context.Context, c *client.Client) error {
				st, err := c.ClusterStatus(ctx)
				if err != nil {
					return err
				}
				s := statusOf(st)
				return o.print(cmd.OutOrStdout(), s, s.text)
			})
		},
	}
}

type clusterHealth struct {
	Healthy bool           `json:"healthy"`
	Reasons []healthReason `json:"reasons"`
}

type healthReason struct {
	What string `json:"what"`
	Why  string `json:"why"`
	Try  string `json:"try"`
}

func (h *clusterHealth) text(w io.Writer) {
	fmt.Fprintf(w, "Healthy:\t%t\n", h.Healthy)
	reasonsText(w, h.Reasons)
}

func newClusterHealth(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "health",
		Short: "Say whether the cluster is healthy, why not, and what to try; exits with 10 when it is not",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.call(cmd, func(ctx context.Context, c *client.Client) error {
				resp, err := c.ClusterHealth(ctx)
				if err != nil {
					return err
				}
				h := &clusterHealth{Healthy: resp.GetHealthy(), Reasons: reasonsOf(resp.GetReasons())}
				if err := o.print(cmd.OutOrStdout(), h, h.text); err != nil {
					return err
				}
				if !h.Healthy {
					return errNo
				}
				return nil
			})
		},
	}
}
