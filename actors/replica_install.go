package actors

import (
	"fmt"

	"github.com/asynkron/protoactor-go/actor"
	"go.etcd.io/raft/v3/raftpb"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/proto/trace"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// incoming is the snapshot that is being received:
//
//	chunk --checked--> LogWriter (next generation, unsynced) --> chunkStored --> the next chunk is asked for
//	                                                                  | after the last
//	                                                                  v
//	      reload <-- synced: generation, hard state, old keys gone <-- MsgSnap stepped, in force in the append
//	        |
//	        v
//	storage response stepped; the sender is answered
//
// A chunk that does not follow the one before is answered with the position that does: the stream can go on there.
type incoming struct {
	staging *store.Staging
	key     incomingKey
	next    uint64 // position after what has been staged
	idle    int    // ticks without a chunk
	span    *trace.Span
}

// incomingKey says which snapshot it is. All that have the same one are the same bytes.
type incomingKey struct {
	node    raftcore.NodeID
	replica uint64
	start   uint64
	boot    string
	id      uint64
	at      raftcore.Position
}

// chunkStored says that a chunk is in the store.
type chunkStored struct {
	incarnation uint64
	u           *Unary
	of          *incoming
	last        bool
}

func keyOf(from raftcore.NodeID, req *raftv1.InstallSnapshotRequest) incomingKey {
	h := req.GetHeader()
	return incomingKey{
		node: from, replica: h.GetFromReplica(), start: h.GetStartNumber(), boot: string(h.GetBootId()), id: req.GetSnapshotId(),
		at: raftcore.Position{Index: raftcore.Index(req.GetLastIncludedIndex()), Term: req.GetLastIncludedTerm()},
	}
}

// takeChunk stages one chunk, or answers why not.
func (r *Replica) takeChunk(ctx actor.Context, u *Unary) {
	req := u.Snapshot
	var err error
	if u.msg, err = r.core.FromInstallSnapshot(u.From, req); err == nil {
		err = checkChunk(req)
	}
	if err != nil {
		r.cfg.Counters.ChunksRefused.Add(1)
		u.Reply.Answered(UnaryAnswer{Err: err})
		return
	}
	if !r.core.NeedsSnapshot(u.msg) {
		r.install(ctx, u)
		return
	}
	if r.cfg.Space.Level() == SpaceShort {
		u.Reply.Answered(UnaryAnswer{Err: ErrNoSpace})
		return
	}
	w := &Write{Batch: new(store.Batch), To: ctx.Self()}
	if req.GetOffset() == 0 {
		r.beginSnapshot(w.Batch, u)
	}
	in := r.incoming
	if in == nil || in.key != keyOf(u.From, req) || in.next != req.GetOffset() {
		u.Reply.Answered(UnaryAnswer{Snapshot: r.goOnAt(u)})
		return
	}
	if err := in.add(w.Batch, req); err != nil {
		r.cfg.Logger.Warn("snapshot: refused", "group", r.cfg.Group, "from", u.From, "snapshot", req.GetSnapshotId(), "err", err)
		r.dropIncoming(ctx)
		r.cfg.Counters.ChunksRefused.Add(1)
		u.Reply.Answered(UnaryAnswer{Err: err})
		return
	}
	r.cfg.Counters.SnapshotChunks.Add(1)
	w.Done = &chunkStored{r.cfg.Incarnation, u, in, req.GetDone()}
	ctx.Send(r.cfg.Writer, w)
}

func checkChunk(req *raftv1.InstallSnapshotRequest) error {
	if n := len(req.GetData()); n > SnapshotChunkBytesMax {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrSnapshotChunk, n, SnapshotChunkBytesMax)
	}
	if sum := SnapshotChecksum(req.GetData()); sum != req.GetChecksum() {
		return fmt.Errorf("%w: %08x, it says %08x", ErrSnapshotChecksum, sum, req.GetChecksum())
	}
	return nil
}

// beginSnapshot forgets any other: the sender that begins last is the one that Raft will hear of.
func (r *Replica) beginSnapshot(b *store.Batch, u *Unary) {
	key := keyOf(u.From, u.Snapshot)
	r.incoming.end(ErrSnapshotCancelled)
	r.incoming = &incoming{key: key, staging: r.log.Stage(b, key.at, u.msg.GetSnapshot().GetMetadata().GetConfState())}
	if u.Trace.Valid() {
		r.traceIncoming(r.incoming, u)
	}
	r.cfg.Counters.SnapshotsBegun.Add(1)
	r.cfg.Logger.Debug("snapshot: begins to arrive", "group", r.cfg.Group, "from", u.From, "snapshot", key.id,
		"index", key.at.Index, "term", u.msg.GetTerm())
}

// add stages a chunk. After the last one nothing comes but the question whether it has arrived.
func (in *incoming) add(b *store.Batch, req *raftv1.InstallSnapshotRequest) error {
	in.idle = 0
	if in.staging.Complete() && len(req.GetData()) == 0 {
		return nil
	}
	if err := in.staging.Add(b, req.GetData(), req.GetDone()); err != nil {
		return err
	}
	in.next += uint64(len(req.GetData()))
	return nil
}

// goOnAt tells a sender where its snapshot goes on.
func (r *Replica) goOnAt(u *Unary) *raftv1.InstallSnapshotResponse {
	resp := &raftv1.InstallSnapshotResponse{Term: r.core.Status().Term}
	if in := r.incoming; in != nil && in.key == keyOf(u.From, u.Snapshot) {
		resp.NextOffset = in.next
	}
	return resp
}

// chunkStored lets the next chunk come, or, after the last, puts the snapshot in force at the end of the turn.
func (r *Replica) chunkStored(m *chunkStored) {
	switch {
	case m.incarnation != r.cfg.Incarnation || r.failure != nil:
		m.u.Reply.Answered(UnaryAnswer{Err: ErrStopped})
	case !m.last:
		m.u.Reply.Answered(UnaryAnswer{})
	case m.of != r.incoming && r.core.NeedsSnapshot(m.u.msg): // dropped, or another has begun
		m.u.Reply.Answered(UnaryAnswer{Snapshot: r.goOnAt(m.u)})
	default:
		r.installs = append(r.installs, m.u)
	}
}

// installSnapshots steps what has arrived, when everything before has been flushed.
func (r *Replica) installSnapshots(ctx actor.Context) {
	waiting := r.installs
	r.installs = nil
	for _, u := range waiting {
		r.install(ctx, u)
	}
}

// install steps the message that stands for a whole snapshot. In force is what comes out of it in an append; when
// Raft has no use for it, what was staged is dropped.
func (r *Replica) install(ctx actor.Context, u *Unary) {
	err := r.core.Step(u.From, u.msg)
	if r.debug {
		r.logRPC(u.From, u.msg, err)
	}
	if err != nil {
		u.Reply.Answered(UnaryAnswer{Err: err})
	} else {
		r.noteSpeaker(raftcore.ReplicaID(u.msg.GetFrom()), u.From)
		if !r.flush(ctx, u) { // an older term than this replica's, and Raft has nothing to say
			u.Reply.Answered(r.answerTo(u, nil))
		}
	}
	in := r.incoming
	if in != nil && (in.key == keyOf(u.From, u.Snapshot) || in.key.at.Index <= r.core.Status().Commit) {
		r.cfg.Logger.Debug("snapshot: not needed", "group", r.cfg.Group, "snapshot", in.key.id, "index", in.key.at.Index)
		r.dropIncoming(ctx)
	}
}

// dropIncoming deletes what has been staged.
func (r *Replica) dropIncoming(ctx actor.Context) {
	w := &Write{Batch: new(store.Batch)}
	r.log.DropStaging(w.Batch)
	r.incoming.end(ErrSnapshotCancelled)
	r.incoming = nil
	r.cfg.Counters.SnapshotsDropped.Add(1)
	ctx.Send(r.cfg.Writer, w)
}

// staged is what the core asks before it steps a snapshot.
func (r *Replica) staged(at raftcore.Position) bool {
	return r.incoming != nil && r.incoming.staging.Complete() && r.incoming.key.at == at
}

// ageIncoming drops what does not go on: its sender may have gone, and the space would stay in use.
func (r *Replica) ageIncoming(ctx actor.Context, ticks int) {
	if r.incoming == nil {
		return
	}
	if r.incoming.idle += ticks; r.incoming.idle >= snapshotIdleTimeouts*r.cfg.ElectionTicks {
		r.cfg.Logger.Warn("snapshot: dropped, nothing has arrived for too long", "group", r.cfg.Group, "snapshot", r.incoming.key.id)
		r.dropIncoming(ctx)
	}
}

// activated takes note that the snapshot in an append is in force in the log. The store follows, and then reload.
func (r *Replica) activated(m *raftpb.Message) {
	at := m.GetSnapshot().GetMetadata()
	r.traceInstall(r.incoming)
	r.incoming, r.reloading = nil, true
	r.cfg.Counters.SnapshotsInstalled.Add(1)
	r.cfg.Logger.Debug("snapshot: replaces the log", "group", r.cfg.Group, "index", at.GetIndex(), "generation", r.log.Generation())
}

// reload opens the machine anew, from the snapshot that has become durable, before Raft hears of it: from then on
// it hands out the entries that follow.
func (r *Replica) reload() {
	if err := r.openMachine(); err != nil {
		panic(fmt.Errorf("the snapshot of group %d does not open: %w", r.cfg.Group, err))
	}
	r.reloading = false
	r.core.SetMembers(r.state.Members)
	r.core.SetFollowedTarget(r.state.FollowedTarget)
	r.membersChanged = true
	clear(r.speakers)
	_, high := r.machine.Bounds()
	r.becomeReadable(high)
	r.cfg.Logger.Debug("snapshot: the state machine is reloaded", withTrace(r.traces.install, "group", r.cfg.Group, "applied", r.state.Applied, "end", high)...)
	r.traces.install.End()
	r.traces.install = nil
	if r.cfg.OnApplied != nil {
		r.cfg.OnApplied(r.machine)
	}
}
