package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
)

// SendSnapshot sends s to a node, on a connection of its own, so that it delays nothing else, and no faster than
// Config allows. It never blocks, and calls s.Ended exactly once: at once when the node is unknown, or when as many
// snapshots as may be are on their way.
func (t *Transport) SendSnapshot(to uint64, s SnapshotSource) {
	if err := t.startSending(to, s); err != nil {
		t.counters.SnapshotsRefused.Add(1)
		s.Ended(nil, err)
	}
}

func (t *Transport) startSending(to uint64, s SnapshotSource) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, se := (*t.peers.Load())[to], t.session.Load()
	switch {
	case t.closed || se == nil:
		return ErrClosed
	case p == nil:
		return fmt.Errorf("%w: node %d", ErrUnknownNode, to)
	case t.snapshotsOut >= t.cfg.SnapshotsMax:
		return fmt.Errorf("%w: %d are being sent", ErrTooManySnapshots, t.snapshotsOut)
	}
	t.snapshotsOut++
	o := &outgoingSnapshot{t: t, node: to, addr: p.addr, source: s, course: newCourse(s, se.header)}
	t.running.Go(o.run)
	return nil
}

// outgoingSnapshot is one snapshot on its way: stream after stream until there is an answer.
type outgoingSnapshot struct {
	t      *Transport
	node   uint64
	addr   string
	source SnapshotSource
	course *course
}

func (o *outgoingSnapshot) run() {
	o.t.counters.SnapshotsSent.Add(1)
	resp, err := o.send()
	o.t.mu.Lock()
	o.t.snapshotsOut--
	o.t.mu.Unlock()
	if err != nil {
		o.t.counters.SnapshotsBroken.Add(1)
	}
	o.source.Ended(resp, err)
}

func (o *outgoingSnapshot) send() (*raftv1.InstallSnapshotResponse, error) {
	if err := o.course.open(); err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient("passthrough:///"+o.addr, o.t.dialOptions(o.node)...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // it reports only that it was closed before
	for {
		resp, err := o.stream(raftv1.NewRaftServiceClient(conn))
		var over bool
		if err == nil {
			over, err = o.course.answered(resp)
		} else {
			resp = nil
			o.t.cfg.Logger.Debug("snapshot stream broke", "peer", o.node, "group", o.course.base.GetHeader().GetGroupId(), "at", o.course.at(), "err", err)
			over, err = o.course.broke(err)
		}
		if over {
			return resp, err
		}
		o.t.counters.SnapshotStreamsResumed.Add(1)
		if !o.pause() {
			return nil, ErrClosed
		}
	}
}

// stream sends requests until the last, an answer or an error. Each must get away in time.
func (o *outgoingSnapshot) stream(client raftv1.RaftServiceClient) (*raftv1.InstallSnapshotResponse, error) {
	ctx, cancel := context.WithCancelCause(o.t.ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(o.t.cfg.SnapshotStallTimeout, func() { cancel(ErrSnapshotStalled) })
	defer stalled.Stop()
	stream, err := client.InstallSnapshot(o.traced(ctx))
	if err != nil {
		return nil, because(ctx, err)
	}
	for last := false; !last; {
		var req *raftv1.InstallSnapshotRequest
		if req, last, err = o.course.request(); err != nil {
			return nil, err
		}
		if err := o.t.paceOut.Wait(ctx, len(req.GetData())); err != nil {
			return nil, err
		}
		if err := stream.Send(req); errors.Is(err, io.EOF) {
			break // it has been answered, or has broken: receiving tells
		} else if err != nil {
			return nil, because(ctx, err)
		}
		o.t.counters.SnapshotChunksSent.Add(1)
		stalled.Reset(o.t.cfg.SnapshotStallTimeout)
	}
	resp, err := stream.CloseAndRecv()
	if err != nil {
		return nil, because(ctx, err)
	}
	return resp, nil
}

// traced adds the context of a sampled snapshot to a call, as W3C has it.
func (o *outgoingSnapshot) traced(ctx context.Context) context.Context {
	if s, ok := o.source.(interface{ Traceparent() string }); ok && s.Traceparent() != "" {
		return metadata.AppendToOutgoingContext(ctx, "traceparent", s.Traceparent())
	}
	return ctx
}

// pause waits between two streams, and says whether to go on.
func (o *outgoingSnapshot) pause() bool {
	timer := time.NewTimer(backoffDelay(o.course.setbacks-1, o.t.cfg.Rand))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-o.t.ctx.Done():
		return false
	}
}
