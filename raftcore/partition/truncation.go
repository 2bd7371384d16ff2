package partition

import (
	"encoding/binary"

	"github.com/multiraftd/multiraftd/raftcore"
)

// truncationMagic begins a truncation. What tells one from a record batch for sure is its size, below a batch's
// header: nothing that a node admits as a batch can be one, whatever its first bytes are, which its sender
// chooses.
const (
	truncationMagic    = "mrtrunc\x01" // the last byte is the version
	truncationBytesMax = len(truncationMagic) + 3*binary.MaxVarintLen64
)

// Truncation is a payload that orders all replicas to drop the records before an offset. Only the leader's
// replica makes them; no client can.
type Truncation struct {
	To      raftcore.Offset // the new log start; a row begins there, or it is the high watermark
	Bytes   uint64          // in batches before To, over the partition's whole life
	Discard raftcore.Index  // the last entry that has no record from To on
}

// AppendTo appends the encoding of t to dst.
func (t Truncation) AppendTo(dst []byte) []byte {
	dst = append(dst, truncationMagic...)
	dst = binary.AppendUvarint(dst, uint64(t.To))
	dst = binary.AppendUvarint(dst, t.Bytes)
	return binary.AppendUvarint(dst, uint64(t.Discard))
}

// decodeTruncation says whether a payload is a truncation. One of another version is none.
func decodeTruncation(payload []byte) (Truncation, bool) {
	if len(payload) < len(truncationMagic) || len(payload) > truncationBytesMax || string(payload[:len(truncationMagic)]) != truncationMagic {
		return Truncation{}, false
	}
	f := fields{rest: payload[len(truncationMagic):]}
	t := Truncation{To: raftcore.Offset(f.uvarint()), Bytes: f.uvarint(), Discard: raftcore.Index(f.uvarint())}
	return t, f.done()
}

// truncate moves the log start. What a deposed leader ordered before another did is a duplicate. What no
// leader can have meant changes nothing: every replica refuses it alike. first is the high watermark before the
// entry, whose own records a truncation in it can't drop.
func (m *Machine) truncate(t Truncation, at raftcore.Index, first raftcore.Offset) raftcore.Outcome {
	b := &m.bounds
	switch {
	case t.To <= b.logStart && t.Discard <= b.discarded:
		return raftcore.Outcome{Verdict: raftcore.Duplicate, Offset: b.logStart}
	case t.To <= b.logStart || t.To > first || t.Discard < b.discarded || t.Discard >= at || t.Bytes < b.startBytes || t.Bytes > b.endBytes:
		return raftcore.Outcome{Verdict: raftcore.Invalid, Offset: -1}
	}
	b.logStart, b.startBytes, b.discarded = t.To, t.Bytes, t.Discard
	return raftcore.Outcome{Verdict: raftcore.Accepted, Offset: t.To}
}
