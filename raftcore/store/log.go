package store

import (
	"errors"
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/multiraftd/multiraftd/raftcore"
)

// Log is the Raft log and state of one group: raft.Storage for reading, and operations for a Batch for
// writing. It belongs to the replica's actor and is not safe for other goroutines; only the batches travel.
//
// Append and PutState change what the Log answers at once, and become durable when the batch is committed.
// That is safe because etcd/raft asks its storage only for entries whose append it knows to be stable, and
// because all batches of a group are committed in the order in which they were made, so that what survives a
// crash is a prefix. Two things follow for the caller: a batch made must be committed, and when a commit
// fails, the Log and its Core are dead with it.
//
// A broken invariant panics: the replica stops, and the other groups go on.
//
// Invariant: state.Truncated.Index <= state.Applied <= last.
// Invariant: entries (state.Truncated.Index, last] are contiguous, in the store or on their way to it.
type Log struct {
	kv         KV
	group      raftcore.GroupID
	replica    raftcore.ReplicaID
	generation uint64
	hard       *raftpb.HardState
	state      State
	last       raftcore.Index
	cache      entryCache
	memo       raftcore.Position // the last entry read from the store: its term is asked for next, and again and again
	staging    *Staging          // the snapshot that is being received, or nil
	strays     bool              // there were keys of other generations when it was opened

	hardKey, stateKey, entryPrefix []byte
}

var _ raft.Storage = (*Log)(nil)

// OpenLog opens the log of g. cacheBytes bounds its entry cache; 0 means no cache.
// It returns ErrNoGroup, ErrTombstone, or ErrDamaged for a log that must not run.
func OpenLog(kv KV, g raftcore.GroupID, cacheBytes int) (*Log, error) {
	v, err := kv.View()
	if err != nil {
		return nil, err
	}
	l := &Log{kv: kv, group: g, cache: entryCache{bytesMax: max(cacheBytes, 0)}}
	if err := errors.Join(l.load(v), v.Close()); err != nil {
		return nil, fmt.Errorf("open group %d: %w", g, err)
	}
	return l, nil
}

func (l *Log) load(v View) error {
	id, err := loadIdentity(v, l.group)
	if err != nil {
		return err
	}
	l.replica, l.hardKey = id.Replica, groupKey(l.group, kindHard)
	l.setGeneration(id.Generation)
	if l.state, err = LoadState(v, l.group, l.generation); err != nil {
		return err
	}
	if err := l.loadHardState(v); err != nil {
		return err
	}
	if err := l.loadBounds(v); err != nil {
		return err
	}
	if l.strays, err = hasStrays(v, l.group, l.generation); err != nil {
		return err
	}
	if commit := raftcore.Index(l.hard.GetCommit()); commit > l.last {
		return fmt.Errorf("%w: committed to %d, but the log ends at %d", ErrDamaged, commit, l.last)
	}
	return nil
}

func (l *Log) setGeneration(gen uint64) {
	l.generation, l.stateKey, l.entryPrefix = gen, dataKey(l.group, gen, kindApplied), dataKey(l.group, gen, kindEntry)
}

// loadHardState applies rule 4: the apply batch is not synced, yet it may have survived a crash that the
// hard state's commit index did not. What was applied was committed.
func (l *Log) loadHardState(v View) error {
	value, err := v.Get(l.hardKey)
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%w: no hard state", ErrDamaged)
	}
	if err != nil {
		return err
	}
	if l.hard, err = decodeHardState(value); err != nil {
		return err
	}
	l.hard.Commit = new(max(l.hard.GetCommit(), uint64(l.state.Applied)))
	return nil
}

// loadBounds finds the ends of the log and checks them. It does not read what is between.
func (l *Log) loadBounds(v View) error {
	lo, hi := l.key(0), entriesEnd(l.entryPrefix)
	firstKey, errFirst := edgeKey(v, lo, hi, false)
	lastKey, errLast := edgeKey(v, lo, hi, true)
	if err := errors.Join(errFirst, errLast); err != nil {
		return err
	}
	l.last = l.state.Truncated.Index
	if firstKey == nil {
		return nil
	}
	first, errFirst := l.entryIndex(firstKey)
	last, errLast := l.entryIndex(lastKey)
	if err := errors.Join(errFirst, errLast); err != nil {
		return err
	}
	if first != l.last+1 {
		return fmt.Errorf("%w: truncated to %d, but the log starts at %d", ErrDamaged, l.last, first)
	}
	l.last = last
	return nil
}

// edger is a View that finds the first or last key of a range without reading its value: at the end of a log
// that may be megabytes, for each group of the node.
type edger interface {
	edge(lo, hi []byte, reverse bool) ([]byte, error)
}

// edgeKey returns the first key in [lo, hi), or the last with reverse, or nil if there is none.
func edgeKey(v View, lo, hi []byte, reverse bool) ([]byte, error) {
	if e, ok := v.(edger); ok {
		return e.edge(lo, hi, reverse)
	}
	var found []byte
	err := v.Scan(lo, hi, reverse, func(key, _ []byte) bool {
		found = append(found, key...)
		return false
	})
	return found, err
}

func (l *Log) key(i raftcore.Index) []byte {
	return entryKey(make([]byte, 0, entryKeyBytes), l.entryPrefix, i)
}

// Replica returns the id of this replica.
func (l *Log) Replica() raftcore.ReplicaID { return l.replica }

// Generation returns the generation of the group's keys.
func (l *Log) Generation() uint64 { return l.generation }

// State returns the last state that was loaded or put. It belongs to the Log: Clone it to change it.
func (l *Log) State() *State { return &l.state }

// DropCache frees the cached entries: a group that has gone quiet keeps none. The term of the last one stays known:
// it is what every election asks for.
func (l *Log) DropCache() {
	if n := len(l.cache.ents); n > 0 {
		l.memo = raftcore.Position{Index: l.last, Term: l.cache.ents[n-1].GetTerm()}
	}
	l.cache.drop()
}

// InitialState is part of raft.Storage. Commit is at least Applied.
func (l *Log) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	return proto.Clone(l.hard).(*raftpb.HardState), proto.Clone(raftpb.EnsureConfState(l.state.ConfState)).(*raftpb.ConfState), nil
}

// FirstIndex is part of raft.Storage.
func (l *Log) FirstIndex() (uint64, error) { return uint64(l.state.Truncated.Index) + 1, nil }

// LastIndex is part of raft.Storage.
func (l *Log) LastIndex() (uint64, error) { return uint64(l.last), nil }

// Term is part of raft.Storage.
func (l *Log) Term(i uint64) (uint64, error) {
	at := raftcore.Index(i)
	switch {
	case at < l.state.Truncated.Index:
		return 0, raft.ErrCompacted
	case at > l.last:
		return 0, raft.ErrUnavailable
	case at == l.state.Truncated.Index:
		return l.state.Truncated.Term, nil
	case at >= l.cache.first(l.last+1):
		return l.cache.slice(at, at+1, l.last+1)[0].GetTerm(), nil
	case at == l.memo.Index:
		return l.memo.Term, nil
	}
	term := uint64(0)
	err := l.scan(at, at+1, func(value []byte) (bool, error) {
		var err error
		_, term, _, err = splitEntryValue(value)
		return false, err
	})
	if err == nil {
		l.memo = raftcore.Position{Index: at, Term: term}
	}
	return term, err
}

// Entries is part of raft.Storage. Recent entries come from the cache as they are; older ones are read from
// one view and are not cached: a follower that catches up would push out what all others need.
func (l *Log) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	from, to, next := raftcore.Index(lo), raftcore.Index(hi), l.last+1
	switch {
	case from <= l.state.Truncated.Index:
		return nil, raft.ErrCompacted
	case to > next:
		return nil, raft.ErrUnavailable
	case from >= to:
		return nil, nil
	}
	cached := l.cache.first(next)
	if from >= cached {
		ents, _ := limitSize(l.cache.slice(from, to, next), maxSize)
		return ents, nil
	}
	ents, size, err := l.stored(from, min(to, cached), maxSize)
	if err != nil || to <= cached || from+raftcore.Index(len(ents)) < cached {
		return ents, err
	}
	for _, e := range l.cache.slice(cached, to, next) {
		if size += entrySize(e); size > maxSize {
			break
		}
		ents = append(ents, e)
	}
	return ents, nil
}

// stored reads entries [lo, hi), at most maxBytes of them, but at least one, and returns their size.
func (l *Log) stored(lo, hi raftcore.Index, maxBytes uint64) (ents []*raftpb.Entry, size uint64, err error) {
	err = l.scan(lo, hi, func(value []byte) (bool, error) {
		e, err := decodeEntry(lo+raftcore.Index(len(ents)), value)
		if err != nil {
			return false, err
		}
		n := entrySize(e)
		if len(ents) > 0 && size+n > maxBytes {
			return false, nil
		}
		ents, size = append(ents, e), size+n
		return true, nil
	})
	if len(ents) > 0 {
		tail := ents[len(ents)-1]
		l.memo = raftcore.Position{Index: raftcore.Index(tail.GetIndex()), Term: tail.GetTerm()}
	}
	return ents, size, err
}

// scan calls f with the values of the entries [lo, hi) until it returns false. A missing entry is an error.
func (l *Log) scan(lo, hi raftcore.Index, f func(value []byte) (bool, error)) error {
	v, err := l.kv.View()
	if err != nil {
		return err
	}
	next, more := lo, true
	var fault error
	err = v.Scan(l.key(lo), l.key(hi), false, func(key, value []byte) bool {
		i, err := l.entryIndex(key)
		if err != nil || i != next {
			fault = err
			return false
		}
		next++
		more, fault = f(value)
		return more && fault == nil
	})
	err = errors.Join(err, fault, v.Close())
	if err == nil && more && next < hi {
		err = fmt.Errorf("%w: group %d has entries to %d, but not entry %d", ErrDamaged, l.group, l.last, next)
	}
	return err
}
