package actors

import (
	"errors"
	"fmt"
	"hash/crc32"
	"sync/atomic"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/proto/trace"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// SnapshotSender takes snapshots for other nodes. It never blocks, and ends every one exactly once with Ended:
// also those that it has no room for.
type SnapshotSender interface {
	SendSnapshot(to raftcore.NodeID, s *SnapshotSource)
}

// SnapshotChunkBytesMax is the most data that is taken in one chunk, snapshotChunkBytes what is sent in one: so
// much is lost with a stream that breaks, and so long do other groups' writes wait behind one.
const (
	SnapshotChunkBytesMax = 1 << 20
	snapshotChunkBytes    = 256 << 10
)

// How the sending of a snapshot may end without an answer.
var (
	// ErrSnapshotCancelled: the leader that announced it does not want it sent any more.
	ErrSnapshotCancelled = errors.New("the snapshot is not wanted any more")
	// ErrNoSnapshots: this node sends none, or does not know where to.
	ErrNoSnapshots = errors.New("snapshots cannot be sent")
	// ErrSnapshotTooOld: what the store shows does not contain the member that it is for. A later one will.
	ErrSnapshotTooOld = errors.New("the stored state is older than the membership of the receiver")
)

// How the receiving of one may end without an answer.
var (
	// ErrSnapshotChecksum: a chunk has changed on its way. It can be sent again.
	ErrSnapshotChecksum = errors.New("the chunk's checksum is wrong")
	// ErrSnapshotChunk: a chunk is larger than one may be.
	ErrSnapshotChunk = errors.New("the chunk is too large")
	// ErrNoSpace: the disk is nearly full, and a snapshot is more of it.
	ErrNoSpace = errors.New("the disk is nearly full")
)

// castagnoli is the polynomial of CRC32C.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// SnapshotChecksum is the checksum of a chunk's data.
func SnapshotChecksum(data []byte) uint32 { return crc32.Checksum(data, castagnoli) }

// SnapshotSource is one snapshot that a leader has announced, as whoever carries it to the other node sees it:
// Open, then Chunk by Chunk, then Ended. They are called by one goroutine at a time. What is sent is read from one
// view, which Open takes and Ended closes: a chunk can be asked for again.
type SnapshotSource struct {
	log      Log
	group    raftcore.GroupID
	from, to raftcore.ReplicaID
	term     uint64
	id       uint64
	traced   trace.Context // what the leader traces of it
	// chunkBytes is how much goes into a chunk.
	chunkBytes int
	tell       func(*snapshotEnded)

	view    store.View
	content *store.Snapshot
	cursors []store.Cursor // where each chunk begins

	floor     atomic.Uint64 // the log must not be truncated above it
	chunks    atomic.Int64  // read so far: the leader's sign that it goes on
	cancelled atomic.Bool
	ended     atomic.Bool
}

// snapshotEnded tells the leader's replica how the sending of a snapshot has ended.
type snapshotEnded struct {
	source *SnapshotSource
	resp   *raftv1.InstallSnapshotResponse // nil = no answer
	err    error
}

// Open takes the view and returns what all chunks say: everything but offset, data, done, checksum, and the header's
// cluster and node. The position is that of the view, not the one which was announced.
func (s *SnapshotSource) Open() (*raftv1.InstallSnapshotRequest, error) {
	var err error
	if s.view, err = s.log.View(); err != nil {
		return nil, err
	}
	if s.content, err = store.OpenSnapshot(s.view, s.group); err != nil {
		return nil, err
	}
	if s.content.Replica != s.from {
		return nil, fmt.Errorf("%w: it is now replica %d's", ErrSnapshotCancelled, s.content.Replica)
	}
	if s.content.State.Members[s.to] == 0 {
		return nil, ErrSnapshotTooOld
	}
	at := s.content.Position()
	s.floor.Store(uint64(at.Index))
	s.cursors = []store.Cursor{{}}
	return &raftv1.InstallSnapshotRequest{
		Header: &raftv1.Header{GroupId: uint64(s.group), FromReplica: uint64(s.from), ToReplica: uint64(s.to)},
		Term:   s.term, LeaderId: uint64(s.from), LastIncludedIndex: uint64(at.Index), LastIncludedTerm: at.Term,
		ConfState: raftcore.ToConfState(s.content.State.ConfState), SnapshotId: s.id,
	}, nil
}

// Traceparent names the span of the sending, as W3C has it; empty = it is not sampled.
func (s *SnapshotSource) Traceparent() string { return s.traced.Traceparent() }

// Chunk returns chunk i and whether it is the last. Each is asked for after those before it; again, at any time.
func (s *SnapshotSource) Chunk(i int) (data []byte, last bool, err error) {
	if s.cancelled.Load() {
		return nil, false, ErrSnapshotCancelled
	}
	data, next, last, err := s.content.Chunk(s.cursors[i], s.chunkBytes)
	if err != nil {
		return nil, false, err
	}
	if !last && i+1 == len(s.cursors) {
		s.cursors = append(s.cursors, next)
	}
	s.chunks.Add(1)
	return data, last, nil
}

// Ended closes the view and tells the replica, the first time that it is called. resp is the receiver's answer,
// or nil; err says why there is none.
func (s *SnapshotSource) Ended(resp *raftv1.InstallSnapshotResponse, err error) {
	if !s.ended.CompareAndSwap(false, true) {
		return
	}
	if s.view != nil {
		err = errors.Join(err, s.view.Close())
	}
	s.tell(&snapshotEnded{s, resp, err})
}
