package actors

import (
	"errors"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

type unaryResult struct {
	t     testing.TB
	ended bool
	UnaryAnswer
}

func (u *unaryResult) Answered(a UnaryAnswer) {
	if u.ended {
		u.t.Error("a unary request ended twice")
	}
	u.ended, u.UnaryAnswer = true, a
}

func header(from uint64) *raftv1.Header {
	return &raftv1.Header{GroupId: uint64(rigGroup), FromReplica: from, ToReplica: 1, FromNode: from}
}

func (r *rig) vote(from, term uint64) *unaryResult {
	res := &unaryResult{t: r.t}
	r.tell(&Unary{From: raftcore.NodeID(from), Reply: res, Vote: &raftv1.RequestVoteRequest{
		Header: header(from), Term: term, CandidateId: from, LastLogIndex: 9, LastLogTerm: term - 1,
	}})
	return res
}

func TestAVoteByRPCIsAnsweredWhenItIsDurable(t *testing.T) {
	synced := false
	r := newRig(t, func(kv store.KV) store.KV { return spyKV{kv, func() { synced = true }} })
	r.disp.run()
	synced = false
	res := r.vote(2, 7)
	for len(r.disp.queue) > 0 && !res.ended {
		f := r.disp.queue[0]
		r.disp.queue = r.disp.queue[1:]
		f()
		if res.ended && !synced {
			t.Fatal("answered before the vote was synced")
		}
	}
	if res.Err != nil || !res.Vote.GetVoteGranted() || res.Vote.GetTerm() != 7 {
		t.Fatalf("%+v", res.UnaryAnswer)
	}
	again, other := r.vote(2, 7), r.vote(3, 7)
	r.run()
	if !again.Vote.GetVoteGranted() || other.Vote.GetVoteGranted() || other.Vote.GetTerm() != 7 {
		t.Fatalf("the vote changed within a term: %+v, %+v", again.Vote, other.Vote)
	}
}

// spyKV tells when a commit was synced.
type spyKV struct {
	store.KV
	synced func()
}

func (k spyKV) Commit(b *store.Batch, sync bool) error {
	err := k.KV.Commit(b, sync)
	if sync && err == nil {
		k.synced()
	}
	return err
}

func TestEntriesByRPCOfOnePeerAreAnsweredEachByItself(t *testing.T) {
	r := newRig(t, nil)
	r.disp.run()
	var results []*unaryResult
	for i := range uint64(3) {
		res := &unaryResult{t: t}
		results = append(results, res)
		prevTerm := uint64(7)
		if i == 0 {
			prevTerm = 1
		}
		r.tell(&Unary{From: 2, Reply: res, Append: &raftv1.AppendEntriesRequest{
			Header: header(2), Term: 7, LeaderId: 2, PrevLogIndex: 1 + i, PrevLogTerm: prevTerm, Entries: []*raftv1.LogEntry{{Term: 7}},
		}})
	}
	r.run()
	for i, res := range results {
		if res.Err != nil || !res.Append.GetSuccess() {
			t.Fatalf("request %d: %+v", i, res.UnaryAnswer)
		}
	}
	if s := r.status(); s.Last != 4 || s.Leader != 2 {
		t.Fatalf("%+v", s)
	}
}

func TestAMalformedRPCIsRefusedAndChangesNothing(t *testing.T) {
	r := newRig(t, nil)
	r.disp.run()
	before := *r.status()
	res := &unaryResult{t: t}
	r.tell(&Unary{From: 2, Reply: res, Append: &raftv1.AppendEntriesRequest{
		Header: header(2), Term: 7, LeaderId: 3, PrevLogIndex: 1, PrevLogTerm: 1,
	}})
	r.run()
	var refusal *raftcore.Refusal
	if !errors.As(res.Err, &refusal) || refusal.Reason != raftcore.ReasonLeaderID {
		t.Fatalf("%+v", res.UnaryAnswer)
	}
	if after := *r.status(); !after.same(&before) {
		t.Fatalf("before %+v\nafter  %+v", before, after)
	}
}

func TestABacklogOfTicksStartsNoElectionAndDeposesNoLeader(t *testing.T) {
	r := newRig(t, nil)
	r.elect()
	term := r.status().Term
	for range 1000 {
		r.ticks.add()
	}
	r.tell(tick{})
	r.run()
	if s := r.status(); s.Role != raftcore.Leader || s.Term != term {
		t.Fatalf("deposed by its own backlog: %+v", s)
	}
}

func TestRequestsThatAFailedReplicaNeverSawEndAsNotStored(t *testing.T) {
	r := newRig(t, nil)
	r.elect()
	ms, held := proposals(t, "in the log")
	r.tell(ms...)
	r.run()
	ms, queued := proposals(t, "queued behind the panic")
	foreign := &raftpb.Message{Type: raftpb.MsgApp.Enum(), From: new(uint64(2)), To: new(uint64(1))}
	r.tell(&Persisted{Incarnation: 1, Responses: []*raftpb.Message{foreign}}, ms[0])
	r.run()
	ms, later := proposals(t, "sent afterwards")
	r.tell(ms...)
	r.run()
	if len(r.panics) != 1 {
		t.Fatalf("panics: %v", r.panics)
	}
	if !held[0].ended || !errors.Is(held[0].Err, ErrOutcomeUnknown) {
		t.Fatalf("in the log: %+v", held[0])
	}
	if !queued[0].ended || !errors.Is(queued[0].Err, ErrStopped) {
		t.Fatalf("never in the log: %+v", queued[0])
	}
	if later[0].ended { // it went to an actor that is gone: the system's dead letters end it, see router
		t.Fatalf("answered by nobody: %+v", later[0])
	}
}
