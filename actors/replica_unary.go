package actors

import (
	"slices"

	"github.com/asynkron/protoactor-go/actor"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/multiraftd/multiraftd/raftcore"
)

// stepUnaries steps the requests of canonical RPCs, one per peer and turn: Raft answers each with at most one
// message, which is then unambiguous. What was stepped before has been flushed.
func (r *Replica) stepUnaries(ctx actor.Context) {
	if len(r.unaries) == 0 {
		return
	}
	waiting := r.unaries
	r.unaries = nil
	var served []uint64
	for _, u := range waiting {
		if peer := u.peer(); !slices.Contains(served, peer) {
			served = append(served, peer)
			if u.Snapshot != nil {
				r.takeChunk(ctx, u)
			} else {
				r.stepUnary(ctx, u)
			}
			continue
		}
		r.unaries = append(r.unaries, u)
	}
	if len(r.unaries) > 0 {
		ctx.Send(ctx.Self(), flush{})
	}
}

func (r *Replica) stepUnary(ctx actor.Context, u *Unary) {
	err := r.convert(u)
	if err != nil {
		r.refused(err)
	} else {
		if u.Trace.Valid() {
			r.traces.arriveUnary(u)
		}
		err = r.core.Step(u.From, u.msg)
		if r.debug {
			r.logRPC(u.From, u.msg, err)
		}
	}
	if err != nil {
		u.Reply.Answered(UnaryAnswer{Err: err})
		return
	}
	if !r.flush(ctx, u) { // Raft has nothing to say: {current term, false}
		u.Reply.Answered(r.answerTo(u, nil))
	}
}

func (r *Replica) convert(u *Unary) (err error) {
	if u.Append != nil {
		u.msg, err = r.core.FromAppendEntries(u.Append)
	} else {
		u.msg, err = r.core.FromRequestVote(u.Vote)
	}
	return err
}

func (r *Replica) answerTo(u *Unary, resp *raftpb.Message) UnaryAnswer {
	term := r.core.Status().Term
	switch {
	case u.Append != nil:
		return UnaryAnswer{Append: r.core.AppendEntriesAnswer(u.Append, u.msg, resp)}
	case u.Snapshot != nil:
		return UnaryAnswer{Snapshot: raftcore.InstallSnapshotAnswer(u.msg, resp, term)}
	default:
		return UnaryAnswer{Vote: raftcore.RequestVoteAnswer(u.msg, resp, term)}
	}
}

func (u *Unary) peer() uint64 {
	switch {
	case u.Append != nil:
		return u.Append.GetHeader().GetFromReplica()
	case u.Snapshot != nil:
		return u.Snapshot.GetHeader().GetFromReplica()
	default:
		return u.Vote.GetHeader().GetFromReplica()
	}
}

// matches says whether m is Raft's answer to u.
func (u *Unary) matches(m *raftpb.Message) bool { return u != nil && raftcore.IsAnswer(u.msg, m) }
