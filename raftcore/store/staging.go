package store

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/multiraftd/multiraftd/raftcore"
)

// Staging receives a snapshot into the generation after the group's own. Nothing of it is in force, or can be read,
// until the Log appends a message with that snapshot; what is not in force is deleted when the log opens, when
// another snapshot comes, and by Drop. It belongs to its Log, and only the latest of a Log is of use.
//
// It checks that the content is one state with its log and says what was announced; that the leader who sent it
// told the truth, nobody can check.
type Staging struct {
	log  *Log
	at   raftcore.Position
	conf *raftpb.ConfState

	state    State
	expected raftcore.Index // the next entry; 0 before the state has come
	lastKey  []byte         // its suffix: they ascend
	lastTerm uint64         // of the last entry
	rest     []byte         // the beginning of a record that is not complete
	complete bool
}

// Stage begins to receive the snapshot at a position, with its membership, and adds to b what deletes any other
// that was being received. The batches of a Staging are committed in their order, like those of its Log.
func (l *Log) Stage(b *Batch, at raftcore.Position, conf *raftpb.ConfState) *Staging {
	l.DropStaging(b)
	l.staging = &Staging{log: l, at: at, conf: conf}
	return l.staging
}

// DropStaging adds to b what deletes a snapshot that is not in force, complete or not.
func (l *Log) DropStaging(b *Batch) {
	lo, hi := generationsAfter(l.group, l.generation)
	b.DeleteRange(lo, hi)
	l.staging = nil
}

// DropStrays adds to b what deletes all generations but the current one, of which a crash may have left keys. It
// returns false when there is nothing to delete.
func (l *Log) DropStrays(b *Batch) bool {
	if !l.strays || l.staging != nil {
		return false
	}
	l.strays = false
	lo, hi := groupData(l.group)
	b.DeleteRange(lo, dataKey(l.group, l.generation, 0)[:dataKeyBytes-1])
	after, _ := generationsAfter(l.group, l.generation)
	b.DeleteRange(after, hi)
	return true
}

// hasStrays says whether there are keys of other generations than gen.
func hasStrays(v View, g raftcore.GroupID, gen uint64) (bool, error) {
	lo, hi := groupData(g)
	first, err := edgeKey(v, lo, dataKey(g, gen, 0)[:dataKeyBytes-1], false)
	if first != nil || err != nil {
		return first != nil, err
	}
	after, _ := generationsAfter(g, gen)
	first, err = edgeKey(v, after, hi, false)
	return first != nil, err
}

// generationsAfter returns the range of the keys of all generations of g after gen.
func generationsAfter(g raftcore.GroupID, gen uint64) (lo, hi []byte) {
	_, hi = groupData(g)
	return dataKey(g, gen+1, 0)[:dataKeyBytes-1], hi
}

// Add takes the next chunk and adds to b what stores its complete records. last says that it is the last chunk.
// After an error, which wraps ErrSnapshotContent, drop the staging. data is copied where it is kept.
func (s *Staging) Add(b *Batch, data []byte, last bool) error {
	if s.complete {
		return content("something follows the end")
	}
	rest := append(s.rest, data...)
	for {
		suffix, value, n, err := splitRecord(rest)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		if err := s.record(b, suffix, value); err != nil {
			return err
		}
		rest = rest[n:]
	}
	s.rest = append([]byte(nil), rest...) // b keeps slices of the old one
	if !last {
		return nil
	}
	return s.end()
}

// splitRecord returns the first record of data and its size, 0 when it is not complete.
func splitRecord(data []byte) (suffix, value []byte, n int, err error) {
	suffix, n, err = splitBytes(data, suffixBytesMax)
	if n == 0 || err != nil {
		return nil, nil, 0, err
	}
	value, m, err := splitBytes(data[n:], valueBytesMax)
	if m == 0 || err != nil {
		return nil, nil, 0, err
	}
	return suffix, value, n + m, nil
}

func splitBytes(data []byte, bytesMax uint64) (field []byte, n int, err error) {
	size, n := binary.Uvarint(data)
	if n < 0 || n > 0 && size > bytesMax {
		return nil, 0, content("a field of %d bytes, at most %d", size, bytesMax)
	}
	if n == 0 || uint64(len(data)-n) < size {
		return nil, 0, nil
	}
	end := n + int(size)
	return data[n:end:end], end, nil
}

// record checks one record against those before it and stores it.
func (s *Staging) record(b *Batch, suffix, value []byte) error {
	if len(suffix) == 0 || string(suffix) <= string(s.lastKey) {
		return content("key %x follows key %x", suffix, s.lastKey)
	}
	if (suffix[0] == kindApplied) != (s.lastKey == nil) {
		return content("key %x, but the applied state is not the first record, or not the only one", suffix)
	}
	var err error
	switch suffix[0] {
	case kindApplied:
		err = s.takeState(suffix, value)
	case kindEntry:
		err = s.takeEntry(suffix, value)
	case kindMachine:
	default:
		err = content("key %x is of no kind that a snapshot has", suffix)
	}
	if err != nil {
		return err
	}
	s.lastKey = bytes.Clone(suffix)
	key := dataKey(s.log.group, s.log.generation+1, suffix[0])
	b.Set(append(key, suffix[1:]...), value)
	return nil
}

func (s *Staging) takeState(suffix, value []byte) error {
	state, err := decodeState(value)
	if err != nil {
		return content("%v", err)
	}
	if len(suffix) != 1 {
		return content("key %x among the applied state", suffix)
	}
	if at := (raftcore.Position{Index: state.Applied, Term: state.AppliedTerm}); at != s.at {
		return content("it is one at %+v, announced was %+v", at, s.at)
	}
	if err := s.conf.Equivalent(state.ConfState); err != nil {
		return content("its membership is not the one announced: %v", err)
	}
	for _, ids := range [...][]uint64{state.ConfState.GetVoters(), state.ConfState.GetLearners(), state.ConfState.GetVotersOutgoing()} {
		for _, id := range ids {
			if state.Members[raftcore.ReplicaID(id)] == 0 {
				return content("it names no node for replica %d", id)
			}
		}
	}
	s.state, s.expected, s.lastTerm = state, state.Truncated.Index+1, state.Truncated.Term
	return nil
}

func (s *Staging) takeEntry(suffix, value []byte) error {
	if len(suffix) != entryKeyBytes-dataKeyBytes+1 {
		return content("key %x among the entries", suffix)
	}
	i := raftcore.Index(binary.BigEndian.Uint64(suffix[1:]))
	if i != s.expected || i > s.at.Index {
		return content("entry %d where entry %d of %d is next", i, s.expected, s.at.Index)
	}
	_, term, _, err := splitEntryValue(value)
	if err != nil {
		return content("entry %d: %v", i, err)
	}
	if term < s.lastTerm || term > s.at.Term {
		return content("entry %d is of term %d, after one of term %d, in a log to term %d", i, term, s.lastTerm, s.at.Term)
	}
	s.expected, s.lastTerm = i+1, term
	return nil
}

// end checks that nothing is missing.
func (s *Staging) end() error {
	switch {
	case len(s.rest) > 0:
		return content("it ends inside a record")
	case s.expected == 0:
		return content("it has no applied state")
	case s.expected != s.at.Index+1:
		return content("its entries end before %d, it was applied to %d", s.expected, s.at.Index)
	case s.lastTerm != s.at.Term:
		return content("its last entry is of term %d, announced was %d", s.lastTerm, s.at.Term)
	}
	s.complete = true
	return nil
}

// Complete says that the whole snapshot was added without an error.
func (s *Staging) Complete() bool { return s.complete }

// Position returns what was announced.
func (s *Staging) Position() raftcore.Position { return s.at }

// activate puts the staged snapshot in the place of the log and the state. The batch holds all of it: what was
// staged is already in the store, or on its way there before this batch.
func (l *Log) activate(b *Batch, at raftcore.Position) {
	s := l.staging
	if s == nil || !s.complete || s.at != at || at.Index <= l.state.Applied {
		panic(fmt.Sprintf("group %d: a snapshot at %+v in an append, but staged is %+v", l.group, at, s))
	}
	old := dataKey(l.group, l.generation, 0)[:dataKeyBytes-1]
	identity := StoredGroup{Group: l.group, Replica: l.replica, Generation: l.generation + 1}
	b.Set(groupKey(l.group, kindIdentity), identity.encode())
	b.DeleteRange(old, prefixEnd(old))
	l.setGeneration(l.generation + 1)
	l.state, l.last = s.state, at.Index
	l.staging, l.memo = nil, raftcore.Position{}
	l.cache.drop()
}

func content(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrSnapshotContent, fmt.Sprintf(format, args...))
}
