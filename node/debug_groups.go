package node

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
)

// The pages on groups: /debug/groups lists the replicas here, by what they show to everybody; /debug/groups/ID is
// one replica's own account, for which it is asked through its mailbox. Both are text, or, with ?format=json or
// Accept: application/json, the JSON of multiraft.v1's messages.
func (n *Node) debugGroups(mux *http.ServeMux) {
	mux.HandleFunc("GET /debug/groups", n.started503(n.groupsPage))
	mux.HandleFunc("GET /debug/groups/{id}", n.started503(n.groupPage))
}

// started503 refuses what needs replicas while there are none yet.
func (n *Node) started503(page http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !n.started.Load() {
			http.Error(w, "the node has no replicas yet: it is no member of a cluster", http.StatusServiceUnavailable)
			return
		}
		page(w, r)
	}
}

func (n *Node) groupsPage(w http.ResponseWriter, r *http.Request) {
	all := n.services.Replicas(r.Context())
	if wantsJSON(r) {
		writeJSON(w, &multiraftv1.DescribeGroupResponse{Replicas: all})
		return
	}
	writeTable(w, func(t io.Writer) {
		fmt.Fprintln(t, "GROUP\tHOLDS\tROLE\tLEADER\tTERM\tLAST\tCOMMIT\tAPPLIED\tMAILBOX\tQUIET\tLAGGING\tFAILURE")
		for _, st := range all {
			fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%s\n", st.GetGroupId(), n.holds(st.GetGroupId()), roleName(st), orDash(st.GetLeader()),
				st.GetTerm(), st.GetLastIndex(), st.GetCommit(), st.GetApplied(), st.GetMailboxMessages(), yes(st.GetQuiet()), lagging(st), textOrDash(st.GetFailure()))
		}
	})
}

func (n *Node) groupPage(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseUint(r.PathValue("id"), 10, 64)
	if err != nil {
		http.Error(w, fmt.Sprintf("a group is a number, not %q", r.PathValue("id")), http.StatusBadRequest)
		return
	}
	st := n.services.Replica(r.Context(), raftcore.GroupID(id))
	if st == nil {
		http.Error(w, fmt.Sprintf("group %d has no replica on node %d", id, n.self.NodeID), http.StatusNotFound)
		return
	}
	if wantsJSON(r) {
		writeJSON(w, st)
		return
	}
	writeTable(w, func(t io.Writer) { n.writeGroup(t, st) })
}

func (n *Node) writeGroup(t io.Writer, st *multiraftv1.ReplicaStatus) {
	fmt.Fprintf(t, "group %d (%s), replica %d on node %d\n\n", st.GetGroupId(), n.holds(st.GetGroupId()), st.GetReplicaId(), st.GetNodeId())
	if st.GetFailure() != "" {
		fmt.Fprintf(t, "failed\t%s\n", st.GetFailure())
	}
	d := st.GetDetail()
	fmt.Fprintf(t, "state\t%s in term %d, leader %s\n", roleName(st), st.GetTerm(), orDash(st.GetLeader()))
	fmt.Fprintf(t, "log\tfirst %d, last %d, committed %d, applied %d, hash %016x\n", st.GetFirstIndex(), st.GetLastIndex(), st.GetCommit(), st.GetApplied(), st.GetHash())
	fmt.Fprintf(t, "records\toffsets %d to %d (exclusive), %d bytes\n", st.GetLogStart(), st.GetHighWatermark(), st.GetRecordBytes())
	fmt.Fprintf(t, "mailbox\t%d messages, quiet: %s, disk stalled: %s\n", st.GetMailboxMessages(), yes(st.GetQuiet()), yes(st.GetStalled()))
	fmt.Fprintf(t, "members\tvoters on nodes %v, learners on %v, joint: %s\n", st.GetVoters(), st.GetLearners(), yes(st.GetJoint()))
	if d == nil {
		fmt.Fprintln(t, "\nthe replica did not answer: this is what it showed last")
		return
	}
	fmt.Fprintf(t, "vote\t%s, generation %d\n", orDash(d.GetVote()), d.GetGeneration())
	fmt.Fprintf(t, "waiting\t%d proposals, %d reads of the end, %d readers, %d unsynced writes\n",
		d.GetProposalsWaiting(), d.GetReadsWaiting(), d.GetReadersWaiting(), d.GetWritesUnsynced())
	fmt.Fprintf(t, "snapshots\t%d being sent, receiving: %s\n", d.GetSnapshotsSending(), yes(d.GetSnapshotReceiving()))
	fmt.Fprintln(t, "\nREPLICA\tNODE\tVOTER\tSTATE\tMATCH\tNEXT\tACTIVE\tPAUSED\tINFLIGHT\tSNAPSHOT")
	for _, m := range d.GetMembers() {
		if m.GetState() == multiraftv1.MemberState_MEMBER_STATE_UNSPECIFIED { // only a leader knows more
			fmt.Fprintf(t, "%d\t%d\t%s\t-\t-\t-\t-\t-\t-\t-\n", m.GetReplicaId(), m.GetNodeId(), yes(m.GetVoter()))
			continue
		}
		fmt.Fprintf(t, "%d\t%d\t%s\t%s\t%d\t%d\t%s\t%s\t%d\t%s\n", m.GetReplicaId(), m.GetNodeId(), yes(m.GetVoter()), memberState(m), m.GetMatch(), m.GetNext(),
			yes(m.GetActive()), yes(m.GetPaused()), m.GetInflight(), orDash(m.GetPendingSnapshot()))
	}
	fmt.Fprintln(t, "\nINDEX\tTERM\tKIND\tAPPENDS\tBYTES\tTIME")
	for _, e := range d.GetEntries() {
		at := "-"
		if e.GetTimeMs() != 0 {
			at = time.UnixMilli(e.GetTimeMs()).UTC().Format(time.RFC3339Nano)
		}
		fmt.Fprintf(t, "%d\t%d\t%s\t%d\t%d\t%s\n", e.GetIndex(), e.GetTerm(), e.GetKind(), e.GetAppends(), e.GetBytes(), at)
	}
}

// holds says what a group is for.
func (n *Node) holds(g uint64) string {
	if raftcore.GroupID(g) == raftcore.MetadataGroup {
		return "metadata"
	}
	t, p, ok := n.core.Table().Meta.Partition(raftcore.GroupID(g))
	if !ok {
		return "deleted"
	}
	return fmt.Sprintf("%s/%d", t.GetName(), p)
}

func roleName(st *multiraftv1.ReplicaStatus) string {
	return strings.ToLower(strings.TrimPrefix(st.GetRole().String(), "REPLICA_ROLE_"))
}

func memberState(m *multiraftv1.MemberProgress) string {
	return strings.ToLower(strings.TrimPrefix(m.GetState().String(), "MEMBER_STATE_"))
}

func lagging(st *multiraftv1.ReplicaStatus) string {
	if len(st.GetLagging()) == 0 {
		return "-"
	}
	return fmt.Sprint(st.GetLagging())
}

func orDash(id uint64) string {
	if id == 0 {
		return "-"
	}
	return strconv.FormatUint(id, 10)
}

func textOrDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func wantsJSON(r *http.Request) bool {
	return r.FormValue("format") == "json" || r.Header.Get("Accept") == "application/json"
}

func writeJSON(w http.ResponseWriter, m proto.Message) {
	data, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true, Multiline: true}.Marshal(m)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(data, '\n')) // the client has gone: nobody to tell
}

func writeTable(w http.ResponseWriter, text func(io.Writer)) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	text(t)
	_ = t.Flush() // as in writeJSON
}
