package store

import (
	"bytes"
	"encoding/binary"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/multiraftd/multiraftd/raftcore"
)

// A snapshot of a group is the records of one generation as they are stored: the applied state, the entries from
// the first of the log to the applied one, and what the machine keeps, in the order of their keys. Never the hard
// state: a copied vote is a double vote. Each record is
//
//	uvarint, length of the key's suffix · suffix (what follows the generation: kind and rest) ·
//	uvarint, length of the value        · value
//
// and their concatenation is cut into chunks anywhere, also inside a record.

// Limits of a record in a snapshot.
const (
	suffixBytesMax = 1 << 10
	valueBytesMax  = 16 << 20 // the transport's bound on a message: an entry above it never replicates
)

// Snapshot reads the snapshot of one group from one view, which it does not close.
type Snapshot struct {
	view    View
	prefix  []byte // of the generation's keys
	State   State
	Replica raftcore.ReplicaID // whose snapshot it is
}

// Cursor is where in a snapshot a chunk begins. The zero Cursor is its start. A Cursor stays good as long as the
// view: a chunk can be read again.
type Cursor struct {
	suffix []byte // of the record, or of the first after it
	skip   int    // bytes of the record that went into the chunk before
}

// OpenSnapshot returns the snapshot of g as it is in v: ErrNoGroup, ErrTombstone, ErrDamaged.
func OpenSnapshot(v View, g raftcore.GroupID) (*Snapshot, error) {
	id, err := loadIdentity(v, g)
	if err != nil {
		return nil, err
	}
	state, err := LoadState(v, g, id.Generation)
	if err != nil {
		return nil, err
	}
	key := dataKey(g, id.Generation, 0)
	return &Snapshot{view: v, prefix: key[:len(key)-1], State: state, Replica: id.Replica}, nil
}

// Position returns the last entry that the snapshot contains.
func (s *Snapshot) Position() raftcore.Position {
	return raftcore.Position{Index: s.State.Applied, Term: s.State.AppliedTerm}
}

// Chunk reads at most bytesMax bytes from at on, and returns where the next chunk begins. last says that there is
// none; only a last chunk may be shorter than bytesMax.
func (s *Snapshot) Chunk(at Cursor, bytesMax int) (data []byte, next Cursor, last bool, err error) {
	f := chunkFill{data: make([]byte, 0, bytesMax), at: at, prefixBytes: len(s.prefix)}
	if at.suffix == nil {
		f.at.suffix = []byte{kindApplied}
	}
	// Entries above the applied one are not part of it, and may be many.
	for _, part := range [...][2][]byte{
		{{kindApplied}, binary.BigEndian.AppendUint64([]byte{kindEntry}, uint64(s.State.Applied)+1)},
		{{kindMachine}, {kindMachine + 1}},
	} {
		lo := part[0]
		if bytes.Compare(f.at.suffix, lo) > 0 {
			lo = f.at.suffix
		}
		if bytes.Compare(lo, part[1]) >= 0 {
			continue
		}
		if err := s.view.Scan(s.key(lo), s.key(part[1]), false, f.add); err != nil {
			return nil, Cursor{}, false, err
		}
		if f.more {
			return f.data, f.at, false, nil
		}
	}
	return f.data, f.at, true, nil
}

func (s *Snapshot) key(suffix []byte) []byte {
	return append(append(make([]byte, 0, len(s.prefix)+len(suffix)), s.prefix...), suffix...)
}

// chunkFill fills one chunk. Invariant: at is where the next byte comes from.
type chunkFill struct {
	data        []byte
	at          Cursor
	more        bool // the chunk is full, and something is left
	prefixBytes int
}

// add takes as much of a record as fits, and says whether to go on.
func (f *chunkFill) add(key, value []byte) bool {
	suffix := key[f.prefixBytes:]
	if !bytes.Equal(suffix, f.at.suffix) { // the cursor stood on the first possible key after the record before
		f.at = Cursor{suffix: bytes.Clone(suffix)}
	}
	skip := f.at.skip
	for _, part := range [...][]byte{recordHead(suffix, len(value)), value} {
		if skip >= len(part) {
			skip -= len(part)
			continue
		}
		rest := part[skip:]
		skip = 0
		n := min(len(rest), cap(f.data)-len(f.data))
		f.data = append(f.data, rest[:n]...)
		f.at.skip += n
		if n < len(rest) {
			f.more = true
			return false
		}
	}
	f.at = Cursor{suffix: append(bytes.Clone(suffix), 0)}
	return true
}

func recordHead(suffix []byte, valueBytes int) []byte {
	head := make([]byte, 0, len(suffix)+2*binary.MaxVarintLen64)
	head = appendBytes(head, suffix)
	return binary.AppendUvarint(head, uint64(valueBytes))
}

// Snapshot is part of raft.Storage. It says what is applied and leaves the data to whoever sends them: the sender
// reads them from a view of its own, which may show an older or a newer state, and says which.
func (l *Log) Snapshot() (*raftpb.Snapshot, error) {
	if l.state.Applied == 0 { // a joining replica has nothing to give; any other error would panic etcd/raft
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	return &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
		Index: new(uint64(l.state.Applied)), Term: new(l.state.AppliedTerm),
		ConfState: proto.Clone(raftpb.EnsureConfState(l.state.ConfState)).(*raftpb.ConfState),
	}}, nil
}
