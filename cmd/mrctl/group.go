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

func newGroup(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "group", Short: "Look at Raft groups", Args: cobra.NoArgs, RunE: needCommand}
	cmd.AddCommand(&cobra.Command{
		Use:   "describe ID",
		Short: "Show the state of every replica of a group, as it says itself; 1 is the metadata group",
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

	Quiet       bool           `json:"quiet"`
	Mailbox     uint32         `json:"mailbox_messages"`
	RecordBytes int64          `json:"record_bytes"`
	Lagging     []uint64       `json:"lagging"`
	Detail      *replicaDetail `json:"detail"` // null: it did not answer
}

type replicaDetail struct {
	Vote       uint64       `json:"vote"`
	Generation uint64       `json:"generation"`
	Proposals  uint32       `json:"proposals_waiting"`
	Reads      uint32       `json:"reads_waiting"`
	Readers    uint32       `json:"readers_waiting"`
	Unsynced   uint32       `json:"writes_unsynced"`
	Sending    uint32       `json:"snapshots_sending"`
	Receiving  bool         `json:"snapshot_receiving"`
	Members    []memberLine `json:"members"`
	Entries    []entryLine  `json:"entries"`
}

type memberLine struct {
	Replica  uint64 `json:"replica"`
	Node     uint64 `json:"node"`
	Voter    bool   `json:"voter"`
	State    string `json:"state"` // "unspecified" from any replica but the leader
	Match    uint64 `json:"match"`
	Next     uint64 `json:"next"`
	Active   bool   `json:"active"`
	Paused   bool   `json:"paused"`
	Inflight uint32 `json:"inflight"`
	Snapshot uint64 `json:"pending_snapshot"`
}

type entryLine struct {
	Index   uint64 `json:"index"`
	Term    uint64 `json:"term"`
	Kind    string `json:"kind"`
	Appends uint32 `json:"appends"`
	Bytes   uint32 `json:"bytes"`
	Time    int64  `json:"time_ms"`
}

func groupOf(g *multiraftv1.DescribeGroupResponse) *groupDescription {
	d := &groupDescription{Group: g.GetGroupId(), Topic: g.GetTopic(), Partition: g.GetPartition(), Replicas: []replicaLine{}}
	for _, r := range g.GetReplicas() {
		d.Replicas = append(d.Replicas, replicaLine{Node: r.GetNodeId(), Replica: r.GetReplicaId(), Role: enumName(r.GetRole(), "REPLICA_ROLE_"),
			Term: r.GetTerm(), Leader: r.GetLeader(), LastIndex: r.GetLastIndex(), Commit: r.GetCommit(), Applied: r.GetApplied(),
			HighWatermark: r.GetHighWatermark(), LogStart: r.GetLogStart(), Hash: fmt.Sprintf("%016x", r.GetHash()),
			Voters: orEmpty(r.GetVoters()), Learners: orEmpty(r.GetLearners()), Failure: r.GetFailure(),
			Quiet: r.GetQuiet(), Mailbox: r.GetMailboxMessages(), RecordBytes: r.GetRecordBytes(), Lagging: orEmpty(r.GetLagging()), Detail: detailOf(r.GetDetail())})
	}
	return d
}

func detailOf(d *multiraftv1.ReplicaDetail) *replicaDetail {
	if d == nil {
		return nil
	}
	v := &replicaDetail{Vote: d.GetVote(), Generation: d.GetGeneration(), Proposals: d.GetProposalsWaiting(), Reads: d.GetReadsWaiting(),
		Readers: d.GetReadersWaiting(), Unsynced: d.GetWritesUnsynced(), Sending: d.GetSnapshotsSending(), Receiving: d.GetSnapshotReceiving(),
		Members: []memberLine{}, Entries: []entryLine{}}
	for _, m := range d.GetMembers() {
		v.Members = append(v.Members, memberLine{m.GetReplicaId(), m.GetNodeId(), m.GetVoter(), enumName(m.GetState(), "MEMBER_STATE_"),
			m.GetMatch(), m.GetNext(), m.GetActive(), m.GetPaused(), m.GetInflight(), m.GetPendingSnapshot()})
	}
	for _, e := range d.GetEntries() {
		v.Entries = append(v.Entries, entryLine{e.GetIndex(), e.GetTerm(), e.GetKind(), e.GetAppends(), e.GetBytes(), e.GetTimeMs()})
	}
	return v
}

// enumName is the name of an enum's value without what all of them begin with.
func enumName(v fmt.Stringer, prefix string) string {
	return strings.ToLower(strings.TrimPrefix(v.String(), prefix))
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
	fmt.Fprintln(w, "\nNODE\tQUIET\tMAILBOX\tVOTE\tPROPOSALS\tREADS\tREADERS\tUNSYNCED\tSNAPSHOTS-OUT\tSNAPSHOT-IN\tGENERATION")
	for _, r := range d.Replicas {
		if r.Detail == nil {
			fmt.Fprintf(w, "%d\t%t\t%d\t(it did not answer)\n", r.Node, r.Quiet, r.Mailbox)
			continue
		}
		v := r.Detail
		fmt.Fprintf(w, "%d\t%t\t%d\t%s\t%d\t%d\t%d\t%d\t%d\t%t\t%d\n", r.Node, r.Quiet, r.Mailbox, orNone(v.Vote), v.Proposals, v.Reads, v.Readers, v.Unsynced,
			v.Sending, v.Receiving, v.Generation)
	}
	for _, r := range d.Replicas {
		if r.Role == "leader" && r.Detail != nil {
			r.Detail.leaderText(w, r.Node)
		}
	}
}

// leaderText shows how far the members are, and the end of the log, as the leader sees them.
func (v *replicaDetail) leaderText(w io.Writer, node uint64) {
	fmt.Fprintf(w, "\nMembers, as node %d knows them:\n\nNODE\tREPLICA\tVOTER\tSTATE\tMATCH\tNEXT\tACTIVE\tPAUSED\tINFLIGHT\tSNAPSHOT\n", node)
	for _, m := range v.Members {
		fmt.Fprintf(w, "%d\t%d\t%t\t%s\t%d\t%d\t%t\t%t\t%d\t%s\n", m.Node, m.Replica, m.Voter, m.State, m.Match, m.Next, m.Active, m.Paused, m.Inflight, orNone(m.Snapshot))
	}
	fmt.Fprintln(w, "\nLast entries:\n\nINDEX\tTERM\tKIND\tAPPENDS\tBYTES\tTIME")
	for _, e := range v.Entries {
		at := "-"
		if e.Time != 0 {
			at = time.UnixMilli(e.Time).UTC().Format("2006-01-02T15:04:05.000Z")
		}
		fmt.Fprintf(w, "%d\t%d\t%s\t%d\t%d\t%s\n", e.Index, e.Term, e.Kind, e.Appends, e.Bytes, at)
	}
}
