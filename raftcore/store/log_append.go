package store

import (
	"encoding/binary"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/multiraftd/multiraftd/raftcore"
)

func (l *Log) entryIndex(key []byte) (raftcore.Index, error) {
	if len(key) != entryKeyBytes {
		return 0, fmt.Errorf("%w: key of %d bytes among the entries", ErrDamaged, len(key))
	}
	i := binary.BigEndian.Uint64(key[dataKeyBytes:])
	if i > indexMax {
		return 0, fmt.Errorf("%w: an entry with index %d", ErrDamaged, i)
	}
	return raftcore.Index(i), nil
}

// Append adds the operations of one MsgStorageAppend to b: snapshot, hard state and entries. The entries are
// shared with the cache from then on; nobody may change them. Sync the commit if m has Responses. With a snapshot,
// which must be the one that is staged, the group's keys are of another generation from then on.
func (l *Log) Append(b *Batch, m *raftpb.Message) {
	if m.GetSnapshot() != nil {
		meta := m.GetSnapshot().GetMetadata()
		l.activate(b, raftcore.Position{Index: raftcore.Index(meta.GetIndex()), Term: meta.GetTerm()})
	}
	if m.GetTerm() != 0 || m.GetVote() != 0 || m.GetCommit() != 0 { // else there is no hard state in it
		l.hard = &raftpb.HardState{Term: new(m.GetTerm()), Vote: new(m.GetVote()), Commit: new(m.GetCommit())}
		b.Set(l.hardKey, encodeHardState(m.GetTerm(), m.GetVote(), m.GetCommit()))
	}
	if len(m.GetEntries()) > 0 {
		l.appendEntries(b, m.GetEntries())
	}
}

// appendEntries applies rule 5: what the entries replace is deleted in the same batch, all of it, also where
// the new tail is shorter.
func (l *Log) appendEntries(b *Batch, ents []*raftpb.Entry) {
	first := raftcore.Index(ents[0].GetIndex())
	if first > l.last+1 || first <= l.state.Applied {
		panic(fmt.Sprintf("group %d: append at %d, but applied %d and last %d", l.group, first, l.state.Applied, l.last))
	}
	if first <= l.last {
		b.DeleteRange(l.key(first), entriesEnd(l.entryPrefix))
		if l.memo.Index >= first {
			l.memo = raftcore.Position{}
		}
	}
	l.setEntries(b, ents)
	l.cache.push(ents, l.last+1)
	l.last = first + raftcore.Index(len(ents)) - 1
}

// setEntries puts keys and headers into one allocation and leaves the data where it is.
func (l *Log) setEntries(b *Batch, ents []*raftpb.Entry) {
	buf := make([]byte, 0, len(ents)*(entryKeyBytes+entryHeaderBytesMax))
	for i, e := range ents {
		if e.GetIndex() != ents[0].GetIndex()+uint64(i) {
			panic(fmt.Sprintf("group %d: entry %d follows entry %d in an append", l.group, e.GetIndex(), ents[i-1].GetIndex()))
		}
		key := len(buf)
		buf = entryKey(buf, l.entryPrefix, raftcore.Index(e.GetIndex()))
		head := len(buf)
		buf = appendEntryHeader(buf, e)
		b.SetParts(buf[key:head:head], buf[head:len(buf):len(buf)], e.GetData())
	}
}

// PutState adds the state of an apply batch to b, beside what the machine has put into it. When Truncated has
// moved, the entries up to it are deleted in the same batch. s.ConfState and s.Members are shared with the
// Log: replace them, never change them.
func (l *Log) PutState(b *Batch, s State) {
	old := l.state
	if s.Applied < old.Applied || s.Applied > l.last || s.Truncated.Index < old.Truncated.Index || s.Truncated.Index > s.Applied {
		panic(fmt.Sprintf("group %d: state (applied %d, truncated %d) after (applied %d, truncated %d) of a log to %d",
			l.group, s.Applied, s.Truncated.Index, old.Applied, old.Truncated.Index, l.last))
	}
	if s.Truncated.Index > old.Truncated.Index {
		b.DeleteRange(l.key(old.Truncated.Index+1), l.key(s.Truncated.Index+1))
		l.cache.dropTo(s.Truncated.Index, l.last+1)
	}
	b.Set(l.stateKey, s.encode())
	l.state = s
}
