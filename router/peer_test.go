package router

import (
	"context"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/multiraftd/multiraftd/actors"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/transport"
)

var _ transport.RPC = (*Peers)(nil)

// lonely starts one node of three: the test is the others.
func lonely(t *testing.T) *testNode {
	t.Helper()
	c := newSilentCluster(t)
	n := c.start(1, c.members(3), nil)
	eventually(t, "the replica has opened", func() bool {
		h, ok := n.core.Table().Hosted(1)
		return ok && h.Board.Load() != nil
	})
	return n
}

func header(group, from uint64) *raftv1.Header {
	return &raftv1.Header{ClusterId: "test", GroupId: group, FromReplica: from, ToReplica: 1, FromNode: from, StartNumber: 1}
}

func TestTheCanonicalRPCsVoteAndAppendDurably(t *testing.T) {
	n := lonely(t)
	ctx := testContext(t)
	p := n.services.Peers()
	const term = 50
	vote, err := p.RequestVote(ctx, &raftv1.RequestVoteRequest{Header: header(1, 2), Term: term, CandidateId: 2, LastLogIndex: 1, LastLogTerm: 1, LeadershipTransfer: true})
	must(t, err)
	if !vote.GetVoteGranted() || vote.GetTerm() != term {
		t.Fatalf("%v", vote)
	}
	if h := vote.GetHeader(); h.GetFromNode() != 1 || h.GetToReplica() != 2 || h.GetFromReplica() != 1 || h.GetGroupId() != 1 ||
		h.GetClusterId() != "test" || h.GetStartNumber() != 1 || len(h.GetBootId()) != 16 {
		t.Errorf("answered with header %v", h)
	}
	app, err := p.AppendEntries(ctx, &raftv1.AppendEntriesRequest{Header: header(1, 2), Term: term, LeaderId: 2, PrevLogIndex: 1, PrevLogTerm: 1,
		Entries: []*raftv1.LogEntry{{Term: term}}, LeaderCommit: 2})
	must(t, err)
	if !app.GetSuccess() || app.GetTerm() != term {
		t.Fatalf("%v", app)
	}
	app, err = p.AppendEntries(ctx, &raftv1.AppendEntriesRequest{Header: header(1, 3), Term: term - 1, LeaderId: 3, PrevLogIndex: 1, PrevLogTerm: 1})
	must(t, err)
	if app.GetSuccess() || app.GetTerm() != term {
		t.Fatalf("a stale leader was answered %v", app)
	}
}

func TestPeersGetCodesForWhatIsRefused(t *testing.T) {
	n := lonely(t)
	ctx := testContext(t)
	p := n.services.Peers()
	_, err := p.RequestVote(ctx, &raftv1.RequestVoteRequest{Header: header(99, 2), Term: 5, CandidateId: 2})
	wantCode(t, err, codes.NotFound)
	_, err = p.RequestVote(ctx, &raftv1.RequestVoteRequest{Header: header(1, 2), Term: 5, CandidateId: 3})
	wantCode(t, err, codes.InvalidArgument)
	_, err = p.AppendEntries(ctx, &raftv1.AppendEntriesRequest{Header: header(1, 2), Term: 0, LeaderId: 2})
	wantCode(t, err, codes.InvalidArgument)
	n.held.intercept(func(it Routed) bool { _, ok := it.Msg.(*actors.Unary); return ok })
	short, cancel := context.WithCancel(ctx)
	cancel()
	_, err = p.AppendEntries(short, &raftv1.AppendEntriesRequest{Header: header(1, 2), Term: 5, LeaderId: 2})
	wantCode(t, err, codes.Canceled)
	n.held.intercept(func(it Routed) bool {
		it.Msg.(*actors.Unary).Reply.Answered(actors.UnaryAnswer{Err: actors.ErrStopped})
		return true
	})
	_, err = p.AppendEntries(ctx, &raftv1.AppendEntriesRequest{Header: header(1, 2), Term: 5, LeaderId: 2})
	wantCode(t, err, codes.Unavailable)
	n.services.Close()
	_, err = p.RequestVote(ctx, &raftv1.RequestVoteRequest{Header: header(1, 2), Term: 5, CandidateId: 2})
	wantCode(t, err, codes.Unavailable)
}

func wantCode(t *testing.T, err error, want codes.Code) {
	t.Helper()
	if status.Code(err) != want {
		t.Fatalf("%v, want %v", err, want)
	}
}
