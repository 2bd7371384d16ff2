package router

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/multiraftd/multiraftd/actors"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// Peers answers the canonical peer RPCs: the same path as frames take, router -> mailbox -> Step. Who may speak
// for a node is transport's to check, who for a replica raftcore's.
type Peers struct{ s *Services }

// Peers returns what the node's transport asks.
func (s *Services) Peers() *Peers { return &Peers{s} }

// unaryAnswer carries the end of a Unary to the call that waits.
type unaryAnswer chan actors.UnaryAnswer

// Answered is part of actors.UnaryReply.
func (u unaryAnswer) Answered(a actors.UnaryAnswer) {
	select {
	case u <- a:
	default: // a second answer has nobody to go to
	}
}

// AppendEntries is answered when what it made the replica promise is durable.
func (p *Peers) AppendEntries(ctx context.Context, req *raftv1.AppendEntriesRequest) (*raftv1.AppendEntriesResponse, error) {
	at, span := p.s.tracePeer(ctx, raftv1.RaftService_AppendEntries_FullMethodName)
	a, err := p.ask(ctx, req.GetHeader(), &actors.Unary{Append: req, Trace: at})
	endCall(span, err)
	if err != nil {
		return nil, err
	}
	a.Append.Header = p.header(req.GetHeader())
	return a.Append, nil
}

// RequestVote is answered when the vote is durable.
func (p *Peers) RequestVote(ctx context.Context, req *raftv1.RequestVoteRequest) (*raftv1.RequestVoteResponse, error) {
	at, span := p.s.tracePeer(ctx, raftv1.RaftService_RequestVote_FullMethodName)
	a, err := p.ask(ctx, req.GetHeader(), &actors.Unary{Vote: req, Trace: at})
	endCall(span, err)
	if err != nil {
		return nil, err
	}
	a.Vote.Header = p.header(req.GetHeader())
	return a.Vote, nil
}

// InstallSnapshot takes one chunk. It is answered after the last one, when the snapshot is in force, durably; or at
// once, when there is nothing to wait for.
func (p *Peers) InstallSnapshot(ctx context.Context, req *raftv1.InstallSnapshotRequest) (*raftv1.InstallSnapshotResponse, error) {
	a, err := p.ask(ctx, req.GetHeader(), &actors.Unary{Snapshot: req, Trace: p.s.contextOf(ctx)})
	if err != nil || a.Snapshot == nil {
		return nil, err
	}
	a.Snapshot.Header = p.header(req.GetHeader())
	return a.Snapshot, nil
}

func (p *Peers) ask(ctx context.Context, h *raftv1.Header, u *actors.Unary) (actors.UnaryAnswer, error) {
	if err := p.s.enter(); err != nil {
		return actors.UnaryAnswer{}, peerError(err)
	}
	defer p.s.exit()
	ctx, cancel := bounded(ctx)
	defer cancel()
	answer := make(unaryAnswer, 1)
	u.From, u.Reply = raftcore.NodeID(h.GetFromNode()), answer
	p.s.core.Dispatch(Routed{raftcore.GroupID(h.GetGroupId()), u})
	select {
	case a := <-answer:
		return a, peerError(a.Err)
	case <-ctx.Done():
		return actors.UnaryAnswer{}, status.FromContextError(ctx.Err()).Err()
	case <-p.s.closed.Done():
		return actors.UnaryAnswer{}, peerError(errStopping())
	}
}

func (p *Peers) header(h *raftv1.Header) *raftv1.Header {
	return &raftv1.Header{
		ClusterId: p.s.cfg.Cluster, GroupId: h.GetGroupId(), FromReplica: h.GetToReplica(), ToReplica: h.GetFromReplica(),
		FromNode: uint64(p.s.core.Node()), StartNumber: p.s.cfg.Start, BootId: p.s.cfg.BootID,
	}
}

// peerError is the switch from errors to codes for peers, which read no reasons.
func peerError(err error) error {
	var refusal *raftcore.Refusal
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrNotHosted):
		return status.Error(codes.NotFound, err.Error())
	case errors.As(err, &refusal), errors.Is(err, store.ErrSnapshotContent), errors.Is(err, actors.ErrSnapshotChunk):
		return status.Error(codes.InvalidArgument, err.Error())
	case errors.Is(err, actors.ErrSnapshotChecksum):
		return status.Error(codes.DataLoss, err.Error())
	case errors.Is(err, actors.ErrNoSpace):
		return status.Error(codes.ResourceExhausted, err.Error())
	default: // stopped, quarantined, stopping
		return status.Error(codes.Unavailable, err.Error())
	}
}
