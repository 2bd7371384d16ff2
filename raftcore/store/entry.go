package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/multiraftd/multiraftd/raftcore"
)

// storedEntry is an entry with the fields that its pointers point to: one allocation in place of four.
type storedEntry struct {
	raftpb.Entry
	term, index uint64
	kind        raftpb.EntryType
}

// The value of an entry: version, type and term as uvarints, then the data as it is.
// The header is at most:
const entryHeaderBytesMax = 1 + 2*binary.MaxVarintLen64

func appendEntryHeader(dst []byte, e *raftpb.Entry) []byte {
	dst = append(dst, valueVersion)
	dst = binary.AppendUvarint(dst, uint64(e.GetType()))
	return binary.AppendUvarint(dst, e.GetTerm())
}

// splitEntryValue returns type and term of a stored entry, and its data, which aliases value.
func splitEntryValue(value []byte) (kind raftpb.EntryType, term uint64, data []byte, err error) {
	d := decode("entry", value)
	kind, term, data = raftpb.EntryType(d.enum()), d.uvarint(), d.rest
	if d.bad {
		return 0, 0, nil, fmt.Errorf("%w: entry record", ErrDamaged)
	}
	return kind, term, data, nil
}

// decodeEntry copies what it keeps of value.
func decodeEntry(i raftcore.Index, value []byte) (*raftpb.Entry, error) {
	kind, term, data, err := splitEntryValue(value)
	if err != nil {
		return nil, err
	}
	s := &storedEntry{index: uint64(i), term: term, kind: kind}
	s.Index, s.Term, s.Type = &s.index, &s.term, &s.kind
	if len(data) > 0 {
		s.Data = append([]byte(nil), data...)
	}
	return &s.Entry, nil
}

// entrySize is proto.Size(e) without reflection: Log.Entries needs it for every entry that it returns.
func entrySize(e *raftpb.Entry) uint64 {
	n := 0
	if e.Type != nil {
		n += 1 + uvarintSize(uint64(*e.Type))
	}
	if e.Term != nil {
		n += 1 + uvarintSize(*e.Term)
	}
	if e.Index != nil {
		n += 1 + uvarintSize(*e.Index)
	}
	if e.Data != nil {
		n += 1 + uvarintSize(uint64(len(e.Data))) + len(e.Data)
	}
	return uint64(n)
}

func uvarintSize(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// limitSize returns the longest prefix of ents of at most maxBytes, but at least one entry, and its size.
func limitSize(ents []*raftpb.Entry, maxBytes uint64) ([]*raftpb.Entry, uint64) {
	size := uint64(0)
	for i, e := range ents {
		next := size + entrySize(e)
		if i > 0 && next > maxBytes {
			return ents[:i:i], size
		}
		size = next
	}
	return ents[:len(ents):len(ents)], size
}

// EntryData returns where entry i of a group stands and its data, which the caller may keep, for readers that
// have no Log. ErrNotFound if it is not in the log.
func EntryData(v View, g raftcore.GroupID, gen uint64, i raftcore.Index) (raftcore.Position, []byte, error) {
	value, err := v.Get(entryKey(make([]byte, 0, entryKeyBytes), dataKey(g, gen, kindEntry), i))
	if errors.Is(err, ErrNotFound) {
		return raftcore.Position{}, nil, fmt.Errorf("%w: entry %d of group %d", ErrNotFound, i, g)
	}
	if err != nil {
		return raftcore.Position{}, nil, err
	}
	_, term, data, err := splitEntryValue(value)
	if err != nil {
		return raftcore.Position{}, nil, fmt.Errorf("entry %d of group %d: %w", i, g, err)
	}
	return raftcore.Position{Index: i, Term: term}, data, nil
}

func encodeHardState(term, vote, commit uint64) []byte {
	v := binary.AppendUvarint(newValue(1+3*binary.MaxVarintLen64), term)
	v = binary.AppendUvarint(v, vote)
	return binary.AppendUvarint(v, commit)
}

func decodeHardState(value []byte) (*raftpb.HardState, error) {
	d := decode("hard state", value)
	hs := &raftpb.HardState{Term: new(d.uvarint()), Vote: new(d.uvarint()), Commit: new(d.uvarint())}
	return hs, d.err()
}
