package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
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

type groupDescription struct {
	Group     uint64        `json:"group"`
	Topic     string        `json:"topic"`
	Partition uint32        `json:"partition"`
	Replicas  []replicaLine `json:"replicas"`
}

type replicaLine struct {
	Node          uint64   `json:"node"`
	Replica       uint64   `json:"replica"`
	Role          string   `json:"role"`
	Term          uint64   `json:"term"`
	Leader        uint64   `json:"leader"`
	LastIndex     uint64   `json:"last_index"`
	Commit        uint64   `json:"commit"`
	Applied       uint64   `json:"applied"`
	HighWatermark int64    `json:"high_watermark"`
	LogStart      int64    `json:"log_start"`
	Hash          string   `json:"hash"` // of what is applied, in hexadecimal: 64 bits do not fit a JSON number
	Voters        []uint64 `json:"voters"`
	Learners      []uint64 `json:"learners"`
	Failure       string   `json:"failure"`
}

func groupOf(g *multiraftv1.DescribeGroupResponse) *groupDescription {
	d := &groupDescription{Group: g.GetGroupId(), Topic: g.GetTopic(), Partition: g.GetPartition(), Replicas: []replicaLine{}}
	for _, r := range g.GetReplicas() {
		d.Replicas = append(d.Replicas, replicaLine{Node: r.GetNodeId(), Replica: r.GetReplicaId(), Role: roleName(r.GetRole()),
			Term: r.GetTerm(), Leader: r.GetLeader(), LastIndex: r.GetLastIndex(), Commit: r.GetCommit(), Applied: r.GetApplied(),
			HighWatermark: r.GetHighWatermark(), LogStart: r.GetLogStart(), Hash: fmt.Sprintf("%016x", r.GetHash()),
			Voters: orEmpty(r.GetVoters()), Learners: orEmpty(r.GetLearners()), Failure: r.GetFailure()})
	}
	return d
}

func roleName(r multiraftv1.ReplicaRole) string {
	return strings.ToLower(strings.TrimPrefix(r.String(), "REPLICA_ROLE_"))
}

func (d *groupDescription) text(w io.Writer) {
	fmt.Fprintf(w, "GROUP\t%d\n", d.Group)
	if d.Topic == "" {
		fmt.Fprintf(w, "HOLDS\tmetadata\n\n")
	} else {
		fmt.Fprintf(w, "HOLDS\t%s/%d\n\n", d.Topic, d.Partition)
	}
	fmt.Fprintln(w, "NODE\tREPLICA\tROLE\tLEADER\tRAFT-TERM\tRAFT-INDEX\tRAFT-COMMIT\tRAFT-APPLIED-INDEX\tLOG-START-OFFSET\tHIGH-WATERMARK\tHASH\tVOTERS\tLEARNERS\tERRORS")
	for _, r := range d.Replicas {
		failure := r.Failure
		if failure == "" {
			failure = "-"
		}
		fmt.Fprintf(w, "%d\t%d\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t%s\n", r.Node, r.Replica, r.Role, orNone(r.Leader), r.Term, r.LastIndex,
			r.Commit, r.Applied, r.LogStart, r.HighWatermark, r.Hash, list(r.Voters), list(r.Learners), failure)
	}
}

func newGroup(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "group", Short: "Look at Raft groups", Args: cobra.NoArgs, RunE: needCommand}
	cmd.AddCommand(&cobra.Command{
		Use:   "describe ID",
		Short: "Show the state of every replica of a group; 1 is the metadata group",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := strconv.ParseUint(args[0], 10, 64)
			if err != nil {
				return usage(fmt.Errorf("a group is a number, not %q", args[0]))
			}
			return o.call(cmd, func(ctx context.Context, c *client.Client) error {
				resp, err := c.DescribeGroup(ctx, id)
				if err != nil {
					return err
				}
				g := groupOf(resp)
				return o.print(cmd.OutOrStdout(), g, g.text)
			})
		},
	})
	return cmd
}
