package actors

import (
	"errors"
	"fmt"

	"github.com/asynkron/protoactor-go/actor"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// Keep is how much of what is applied stays in a log that its replica truncates by itself, for followers that are
// behind: more of either makes snapshots rarer, and holds more space. Set both.
type Keep struct {
	Entries int
	Bytes   int
}

// tail holds the sizes of the newest applied entries. Those from before the replica started, or from a snapshot,
// are older than all of it, and only counted.
type tail struct {
	last  raftcore.Index
	sizes []int // of the entries up to last
	bytes int
	full  bool // something was forgotten: what is older than the rest is too much
}

// note adds applied entries, and forgets the oldest as soon as the rest exceeds keep by a quarter.
func (t *tail) note(keep Keep, applied []*raftpb.Entry) {
	if keep.Entries == 0 || len(applied) == 0 {
		return
	}
	if raftcore.Index(applied[0].GetIndex()) != t.last+1 {
		*t = tail{}
	}
	for _, e := range applied {
		t.sizes = append(t.sizes, len(e.GetData()))
		t.bytes += len(e.GetData())
	}
	t.last = raftcore.Index(applied[len(applied)-1].GetIndex())
	if len(t.sizes) <= keep.Entries+keep.Entries/4 && t.bytes <= keep.Bytes+keep.Bytes/4 {
		return
	}
	n := 0
	for ; len(t.sizes)-n > keep.Entries || t.bytes > keep.Bytes; n++ {
		t.bytes -= t.sizes[n]
	}
	t.sizes, t.full = t.sizes[n:], true
}

// spare returns the last entry that exceeds keep, in a log that was truncated to old.
func (t *tail) spare(keep Keep, old raftcore.Index) raftcore.Index {
	switch {
	case keep.Entries == 0:
		return 0
	case t.full:
		return t.last - raftcore.Index(len(t.sizes))
	case t.last > old+raftcore.Index(keep.Entries+keep.Entries/4):
		return t.last - raftcore.Index(keep.Entries)
	default:
		return 0
	}
}

// discard moves the start of the Raft log to where it may be, and says whether it has moved. The entries go
// with the batch that stores the state. They stay as long as
//
//   - a record is in them, or in one before them, and, of a log that its replica truncates by itself, as long as
//     there are no more than it keeps;
//   - Raft does not know that they are applied: it scans what follows its own applied index before it campaigns,
//     and panics when that is gone;
//   - a snapshot under way ends before them: who has received it goes on from there. On a disk that is nearly full
//     they go all the same, and another snapshot has to follow.
func (r *Replica) discard() bool {
	if r.reloading {
		return false
	}
	to := r.tail.spare(r.cfg.Keep, r.state.Truncated.Index)
	if records, ok := r.machine.(Records); ok {
		to = max(to, records.Discarded())
	}
	if to <= r.state.Truncated.Index {
		return false
	}
	to = min(to, r.core.Status().Applied)
	if floor, busy := r.snapshotFloor(); busy && r.cfg.Space.Level() != SpaceShort {
		to = min(to, floor)
	}
	if to <= r.state.Truncated.Index {
		return false
	}
	term, err := r.log.Term(uint64(to))
	if errors.Is(err, store.ErrDamaged) {
		panic(fmt.Errorf("group %d: term of entry %d, up to which its log is to go: %w", r.cfg.Group, to, err))
	}
	if err != nil { // the store has failed or is closed, which ends the node
		return false
	}
	r.cfg.Logger.Debug("discards its log", "group", r.cfg.Group, "from", r.state.Truncated.Index+1, "to", to)
	r.cfg.Counters.Discards.Add(1)
	r.cfg.Counters.Discarded.Add(uint64(to - r.state.Truncated.Index))
	r.state.Truncated = raftcore.Position{Index: to, Term: term}
	return true
}

// discardLate discards what could not go when its truncation was applied.
func (r *Replica) discardLate(ctx actor.Context) {
	if r.failure != nil || !r.discard() {
		return
	}
	w := &Write{Batch: new(store.Batch), To: ctx.Self()}
	r.log.PutState(w.Batch, r.state)
	ctx.Send(r.cfg.Writer, w)
}
