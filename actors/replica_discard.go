package actors

import (
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/multiraftd/multiraftd/raftcore"
)

// Keep is how much of what is applied stays in a log that its replica truncates by itself, for followers that are
// behind: more of either makes snapshots rarer, and holds more space.
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
}

func (t *tail) add(applied []*raftpb.Entry) {
	if raftcore.Index(applied[0].GetIndex()) != t.last+1 {
		*t = tail{}
	}
	for _, e := range applied {
		t.sizes = append(t.sizes, len(e.GetData()))
		t.bytes += len(e.GetData())
	}
	t.last = raftcore.Index(applied[len(applied)-1].GetIndex())
}

// shrink forgets the oldest until the rest is within keep, and says whether there were any.
func (t *tail) shrink(keep Keep) bool {
	n := 0
	for ; len(t.sizes)-n > keep.Entries || t.bytes > keep.Bytes; n++ {
		t.bytes -= t.sizes[n]
	}
	t.sizes = t.sizes[n:]
	return n > 0
}

// discard moves the start of a log that its replica truncates by itself, a quarter of what it keeps at a time, so
// that deleting costs little. Never past a snapshot on its way: who receives it needs what follows.
func (r *Replica) discard(applied []*raftpb.Entry) {
	keep, old := r.cfg.Keep, r.state.Truncated
	if keep.Entries == 0 || len(applied) == 0 {
		return
	}
	r.tail.add(applied)
	if n := int(r.state.Applied - old.Index); n <= keep.Entries+keep.Entries/4 && r.tail.bytes <= keep.Bytes+keep.Bytes/4 {
		return
	}
	to := r.state.Applied - raftcore.Index(keep.Entries)
	if r.tail.shrink(keep) {
		to = r.state.Applied - raftcore.Index(len(r.tail.sizes))
	}
	if floor, busy := r.snapshotFloor(); busy {
		to = min(to, floor)
	}
	if to <= old.Index {
		return
	}
	term, err := r.log.Term(uint64(to))
	if err != nil {
		panic(fmt.Errorf("group %d: term of applied entry %d: %w", r.cfg.Group, to, err))
	}
	r.cfg.Counters.Discarded.Add(uint64(to - old.Index))
	r.cfg.Logger.Debug("applied entries discarded", "group", r.cfg.Group, "after", old.Index, "to", to)
	r.state.Truncated = raftcore.Position{Index: to, Term: term}
}
