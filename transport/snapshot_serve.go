package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
)

type snapshotServer = grpc.ClientStreamingServer[raftv1.InstallSnapshotRequest, raftv1.InstallSnapshotResponse]

// InstallSnapshot hands chunk by chunk on. The next one is not taken before the one before has been: the window of
// the stream holds the sender back. At most SnapshotsMax are served at once.
func (s *service) InstallSnapshot(stream snapshotServer) error {
	resp, err := s.t.receiveSnapshot(stream)
	if err != nil {
		s.t.counters.refuse(err)
		return toStatus(err)
	}
	return stream.SendAndClose(resp)
}

// snapshotKey is what one stream at a time may fill.
type snapshotKey struct{ node, group, replica uint64 }

func (t *Transport) receiveSnapshot(stream snapshotServer) (*raftv1.InstallSnapshotResponse, error) {
	// Receiving cannot be interrupted but by the handler's return, so it has a goroutine of its own, which ends
	// soon after.
	chunks := make(chan chunk)
	t.running.Go(func() { receiveChunks(stream, chunks) })
	var first *raftv1.Header
	superseded := newGate()
	late := time.NewTimer(t.cfg.SnapshotStallTimeout)
	defer late.Stop()
	for {
		select {
		case c := <-chunks:
			if errors.Is(c.err, io.EOF) {
				return nil, fmt.Errorf("%w: the stream ended before the last chunk", ErrMalformed)
			}
			if c.err != nil {
				return nil, c.err
			}
			if first == nil {
				first = c.req.GetHeader()
				key := snapshotKey{first.GetFromNode(), first.GetGroupId(), first.GetToReplica()}
				if err := t.enterSnapshot(stream.Context(), first, key, superseded); err != nil {
					return nil, err
				}
				defer t.leaveSnapshot(key, superseded)
			}
			resp, err := t.takeChunk(stream.Context(), first, c.req)
			if resp != nil || err != nil {
				return resp, err
			}
			late.Reset(t.cfg.SnapshotStallTimeout)
		case <-superseded.done:
			return nil, ErrSuperseded
		case <-late.C:
			return nil, ErrSnapshotStalled
		case <-stream.Context().Done():
			return nil, stream.Context().Err()
		case <-t.ctx.Done():
			return nil, ErrClosed
		}
	}
}

// chunk is what receiving one request came to.
type chunk struct {
	req *raftv1.InstallSnapshotRequest
	err error
}

func receiveChunks(stream snapshotServer, to chan<- chunk) {
	for {
		req, err := stream.Recv()
		select {
		case to <- chunk{req, err}:
		case <-stream.Context().Done():
			return
		}
		if err != nil {
			return
		}
	}
}

func (t *Transport) takeChunk(ctx context.Context, first *raftv1.Header, req *raftv1.InstallSnapshotRequest) (*raftv1.InstallSnapshotResponse, error) {
	se := t.session.Load()
	// Each time: the sender may have been superseded by a later incarnation of its node.
	if err := t.checkCall(ctx, se, req.GetHeader()); err != nil {
		return nil, err
	}
	if !sameHeader(req.GetHeader(), first) {
		return nil, ErrForeignFrame
	}
	if err := t.paceIn.Wait(ctx, len(req.GetData())); err != nil {
		return nil, err
	}
	t.counters.SnapshotChunksReceived.Add(1)
	return se.rpc.InstallSnapshot(ctx, req)
}

// enterSnapshot admits a stream. An earlier one of the same sender for the same replica ends: its connection has
// broken, though this side may not know yet.
func (t *Transport) enterSnapshot(ctx context.Context, h *raftv1.Header, key snapshotKey, superseded *gate) error {
	se := t.session.Load()
	if se == nil {
		return ErrNotStarted
	}
	if err := t.checkCall(ctx, se, h); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.snapshotsIn[key]
	if old == nil && len(t.snapshotsIn) >= t.cfg.SnapshotsMax {
		return fmt.Errorf("%w: %d are being received", ErrTooManySnapshots, len(t.snapshotsIn))
	}
	if old != nil {
		old.close()
	}
	t.snapshotsIn[key] = superseded
	return nil
}

func (t *Transport) leaveSnapshot(key snapshotKey, own *gate) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.snapshotsIn[key] == own {
		delete(t.snapshotsIn, key)
	}
}
