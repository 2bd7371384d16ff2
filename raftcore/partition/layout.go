package partition

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// The key spaces under the machine's prefix.
const (
	recordSpace  = 0
	rowSpace     = 1
	sessionSpace = 2
)

// Versions of values: their first byte. Version 1 of record and row knew no bytes and no truncation; what it
// left counts as no bytes.
const (
	recordVersion  = 2
	rowVersion     = 2
	sessionVersion = 1
)

// Most bytes of the values, for sizing buffers.
const (
	recordBytesMax  = 1 + 6*binary.MaxVarintLen64
	rowBytesMax     = 1 + 5*binary.MaxVarintLen64 // and binary.MaxVarintLen32 per batch not accepted
	sessionBytesMax = 1 + binary.MaxVarintLen16 + 2*binary.MaxVarintLen64 + 1 + windowBatches*(2*binary.MaxVarintLen32+binary.MaxVarintLen64)
	idBytes         = 1 + 8
)

// offsetMax is the last offset that stored state can be about: far from overflow.
const offsetMax = 1 << 62

// bounds is the machine record.
type bounds struct {
	next       raftcore.Offset // the high watermark: offset of the next record
	logStart   raftcore.Offset
	timeMillis int64 // largest time of any entry
	// Bytes of batches before next and before the row that holds logStart, over the partition's whole life.
	endBytes, startBytes uint64
	discarded            raftcore.Index // the last entry that has no record from logStart on, by truncation; 0 = none
}

// bytes is the size of the batches that are stored.
func (b *bounds) bytes() int64 { return int64(b.endBytes - b.startBytes) }

// row says where the records from offset first on are.
type row struct {
	first      raftcore.Offset // the key
	index      raftcore.Index
	timeMillis int64    // of the entry; never smaller than an earlier row's
	records    int64    // in accepted batches
	startBytes uint64   // of batches before this row, over the partition's whole life
	refused    []uint64 // ordinals of the entry's payloads that are not accepted batches, ascending
}

func (r *row) end() raftcore.Offset { return r.first + raftcore.Offset(r.records) }

func appendID(dst, prefix []byte, space byte, id uint64) []byte {
	dst = append(dst, prefix...)
	dst = append(dst, space)
	return binary.BigEndian.AppendUint64(dst, id)
}

func recordKey(prefix []byte) []byte { return append(bytes.Clone(prefix), recordSpace) }

func rowKey(prefix []byte, first raftcore.Offset) []byte {
	return appendID(nil, prefix, rowSpace, uint64(first))
}

func appendRecord(dst []byte, b bounds) []byte {
	dst = append(dst, recordVersion)
	dst = binary.AppendUvarint(dst, uint64(b.next))
	dst = binary.AppendUvarint(dst, uint64(b.logStart))
	dst = binary.AppendVarint(dst, b.timeMillis)
	dst = binary.AppendUvarint(dst, b.endBytes)
	dst = binary.AppendUvarint(dst, b.startBytes)
	return binary.AppendUvarint(dst, uint64(b.discarded))
}

func appendRow(dst []byte, r *row) []byte {
	dst = append(dst, rowVersion)
	dst = binary.AppendUvarint(dst, uint64(r.index))
	dst = binary.AppendVarint(dst, r.timeMillis)
	dst = binary.AppendUvarint(dst, uint64(r.records))
	dst = binary.AppendUvarint(dst, r.startBytes)
	dst = binary.AppendUvarint(dst, uint64(len(r.refused)))
	for _, ordinal := range r.refused {
		dst = binary.AppendUvarint(dst, ordinal)
	}
	return dst
}

func appendSession(dst []byte, s *session) []byte {
	dst = append(dst, sessionVersion)
	dst = binary.AppendUvarint(dst, uint64(s.epoch))
	dst = binary.AppendUvarint(dst, s.written)
	dst = binary.AppendVarint(dst, s.timeMillis)
	dst = append(dst, byte(s.length))
	for _, w := range s.latest() {
		dst = binary.AppendUvarint(dst, uint64(w.base))
		dst = binary.AppendUvarint(dst, uint64(w.count))
		dst = binary.AppendUvarint(dst, uint64(w.offset))
	}
	return dst
}

// fields takes numbers off a value. The first that is not there, or not in its shortest form, makes it bad for
// good: a value has one encoding, the one that is written.
type fields struct {
	version byte
	rest    []byte
	bad     bool
}

// open takes the version off a value, which must not be newer than what is known.
func open(value []byte, newest byte) fields {
	if len(value) == 0 || value[0] == 0 || value[0] > newest {
		return fields{bad: true}
	}
	return fields{version: value[0], rest: value[1:]}
}

func (f *fields) uvarint() uint64 {
	v, n := binary.Uvarint(f.rest)
	f.advance(n)
	return v
}

// upTo takes a number that is at most top.
func (f *fields) upTo(top uint64) uint64 {
	v := f.uvarint()
	f.bad = f.bad || v > top
	return v
}

func (f *fields) varint() int64 {
	v, n := binary.Varint(f.rest)
	f.advance(n)
	return v
}

func (f *fields) advance(n int) {
	if n <= 0 || n > 1 && f.rest[n-1] == 0 {
		f.rest, f.bad = nil, true
		return
	}
	f.rest = f.rest[n:]
}

// done says whether the value had the fields taken from it and nothing else.
func (f *fields) done() bool { return !f.bad && len(f.rest) == 0 }

// loadBounds returns the zero bounds for a partition that has never applied an entry.
func loadBounds(v store.View, prefix []byte) (bounds, error) {
	value, err := v.Get(recordKey(prefix))
	if errors.Is(err, store.ErrNotFound) {
		return bounds{}, nil
	}
	if err != nil {
		return bounds{}, fmt.Errorf("partition: machine record: %w", err)
	}
	f := open(value, recordVersion)
	b := bounds{next: raftcore.Offset(f.upTo(offsetMax)), logStart: raftcore.Offset(f.upTo(offsetMax)), timeMillis: f.varint()}
	if f.version >= 2 {
		b.endBytes, b.startBytes, b.discarded = f.upTo(math.MaxInt64), f.uvarint(), raftcore.Index(f.uvarint())
	}
	if !f.done() || b.logStart > b.next || b.startBytes > b.endBytes {
		return bounds{}, corrupt("machine record %x", value)
	}
	return b, nil
}

// idOf returns the number at the end of a row's or session's key; the largest one for a key of another length.
func idOf(prefix, key []byte) uint64 {
	if len(key) != len(prefix)+idBytes {
		return math.MaxUint64
	}
	return binary.BigEndian.Uint64(key[len(key)-8:])
}

func decodeRow(prefix, key, value []byte) (row, error) {
	f := open(value, rowVersion)
	r := row{first: raftcore.Offset(idOf(prefix, key)), index: raftcore.Index(f.uvarint()),
		timeMillis: f.varint(), records: int64(f.upTo(offsetMax))}
	if f.version >= 2 {
		r.startBytes = f.uvarint()
	}
	if n := f.uvarint(); n > 0 && n <= uint64(len(f.rest)) { // each takes a byte at least
		r.refused = make([]uint64, n)
	} else if n > 0 {
		f.bad = true
	}
	for i := range r.refused {
		r.refused[i] = f.uvarint()
		f.bad = f.bad || i > 0 && r.refused[i] <= r.refused[i-1]
	}
	if !f.done() || r.first < 0 || r.first > offsetMax || r.records == 0 || r.end() > offsetMax {
		return row{}, corrupt("index row %x: %x", key, value)
	}
	return r, nil
}

func decodeSession(prefix, key, value []byte) (*session, error) {
	f := open(value, sessionVersion)
	s := &session{id: int64(idOf(prefix, key)), epoch: int16(f.upTo(math.MaxInt16)), written: f.uvarint(), timeMillis: f.varint()}
	n := f.uvarint()
	if f.bad || s.id < 0 || n == 0 || n > windowBatches {
		return nil, corrupt("session %x: %x", key, value)
	}
	for range n {
		b := batch{base: int32(f.upTo(math.MaxInt32)), count: int32(f.upTo(math.MaxInt32)), offset: raftcore.Offset(f.upTo(offsetMax))}
		f.bad = f.bad || b.count == 0
		s.push(b)
	}
	if !f.done() {
		return nil, corrupt("session %x: %x", key, value)
	}
	return s, nil
}
