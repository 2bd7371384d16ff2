package router

import (
	"fmt"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/multiraftd/multiraftd/actors"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
)

// What a report holds, and how often it goes out.
const (
	reportsPerElectionTimeout = 5
	ledPerReportMax           = 1000 // groups; a node that leads more tells of them in turn
	failedPerReportMax        = 1000
	deletedPerReportMax       = 1000
	reasonBytesMax            = 256
)

// report tells the node that leads the metadata group about this one.
func (r *Router) report(ctx actor.Context) {
	if r.hearing.now%max(1, r.electionTicks()/reportsPerElectionTimeout) != 0 {
		return
	}
	h := r.groups[raftcore.MetadataGroup]
	if h == nil {
		return
	}
	st := h.Board.Load()
	if st == nil || st.Leader == 0 {
		return
	}
	rep := r.nodeReport()
	if st.Leader == r.cfg.Replica.Node {
		r.reported(ctx, st.Leader, rep)
		return
	}
	r.cfg.Sender.SendReport(st.Leader, rep)
}

func (r *Router) reported(ctx actor.Context, from raftcore.NodeID, rep *raftv1.NodeReport) {
	if r.controller != nil {
		ctx.Send(r.controller, &actors.Reported{From: from, Report: rep})
	}
}

func (r *Router) nodeReport() *raftv1.NodeReport {
	rep := &raftv1.NodeReport{}
	var led []*actors.Status
	for _, g := range r.ids {
		st := r.groups[g].Board.Load()
		if st == nil {
			continue
		}
		rep.DiskStalled = rep.DiskStalled || st.Stalled
		if st.Failure != "" && len(rep.GetFailed()) < failedPerReportMax {
			rep.Failed = append(rep.Failed, &raftv1.FailedReplica{
				GroupId: uint64(g), ReplicaId: uint64(st.Replica), Reason: fmt.Sprintf("%.*s", reasonBytesMax, st.Failure)})
		}
		if st.Failure == "" && st.Role == raftcore.Leader {
			led = append(led, st)
		}
	}
	for _, d := range r.deleted() {
		if len(rep.GetDeleted()) < deletedPerReportMax {
			rep.Deleted = append(rep.Deleted, &raftv1.DeletedReplica{GroupId: uint64(d.Group), ReplicaId: uint64(d.Replica)})
		}
	}
	rep.LedCount = uint32(len(led))
	for i := range min(len(led), ledPerReportMax) {
		rep.Led = append(rep.Led, ledGroup(led[(r.reportFrom+i)%len(led)]))
	}
	r.reportFrom += len(rep.GetLed())
	rep.DiskFull = r.cfg.Replica.Space.Level() != actors.SpaceEnough
	rep.DiskFreeBytes, rep.DiskBytes = r.cfg.Replica.Space.Bytes()
	return rep
}

func ledGroup(st *actors.Status) *raftv1.LedGroup {
	g := &raftv1.LedGroup{
		GroupId: uint64(st.Group), Term: st.Term, LeaderId: uint64(st.Replica), Waits: st.Waits.String(),
		ConfState: &raftv1.ConfState{Voters: replicaNumbers(st.VoterIDs), Learners: replicaNumbers(st.LearnerIDs), VotersOutgoing: replicaNumbers(st.OutgoingIDs)},
	}
	if st.Told { // else it is not settled, see raftcore.Core.Told
		g.TargetId = st.FollowedTarget
	}
	for _, p := range st.Progress {
		if p.Replica != st.Replica && !p.CaughtUp(st.Commit) {
			g.Lagging = append(g.Lagging, uint64(p.Replica))
		}
	}
	return g
}

func replicaNumbers(ids []raftcore.ReplicaID) []uint64 {
	all := make([]uint64, len(ids))
	for i, id := range ids {
		all[i] = uint64(id)
	}
	return all
}
