package raftcore

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"
)

// entryVersion is the first byte of an encoded Entry.
const entryVersion = 1

// Origin is the incarnation that proposed an entry: a replica, and how often its node had started.
type Origin struct {
	Replica ReplicaID
	Start   uint64
}

// Entry is the content of one normal log entry: everything that was waiting when the leader proposed it.
// Payloads are record batches in a partition and commands in the metadata group.
//
// Payload i carries the proposal tag (Origin, FirstSeq+i). Waiters are matched by that tag, never by index:
// another leader's entry may come to stand at the index that was expected.
type Entry struct {
	Origin   Origin
	FirstSeq uint64
	Time     int64 // the proposing leader's clock, ms since 1970
	Payloads [][]byte
}

// ErrUndecodable says that an entry's content is not an encoded Entry. Every replica refuses it alike.
var ErrUndecodable = errors.New("undecodable entry")

// AppendTo appends the encoding of e to dst: a version byte; origin, first sequence, time and the number of
// payloads as uvarints; then each payload after its length.
func (e *Entry) AppendTo(dst []byte) []byte {
	dst = append(dst, entryVersion)
	dst = binary.AppendUvarint(dst, uint64(e.Origin.Replica))
	dst = binary.AppendUvarint(dst, e.Origin.Start)
	dst = binary.AppendUvarint(dst, e.FirstSeq)
	dst = binary.AppendUvarint(dst, uint64(e.Time))
	dst = binary.AppendUvarint(dst, uint64(len(e.Payloads)))
	for _, p := range e.Payloads {
		dst = binary.AppendUvarint(dst, uint64(len(p)))
		dst = append(dst, p...)
	}
	return dst
}

// EntryOverheadMax bounds what encoding adds to the payloads of an entry with n of them, in bytes.
func EntryOverheadMax(n int) int { return 1 + 5*binary.MaxVarintLen64 + n*binary.MaxVarintLen32 }

// DecodeEntry decodes data. The payloads alias it. Memory used is bounded by len(data).
func DecodeEntry(data []byte) (Entry, error) {
	if len(data) == 0 || data[0] != entryVersion {
		return Entry{}, fmt.Errorf("%w: version", ErrUndecodable)
	}
	var head [5]uint64
	rest := data[1:]
	for i := range head {
		v, n := uvarint(rest)
		if n <= 0 {
			return Entry{}, fmt.Errorf("%w: header field %d", ErrUndecodable, i)
		}
		head[i], rest = v, rest[n:]
	}
	if head[4] > uint64(len(rest)) {
		return Entry{}, fmt.Errorf("%w: %d payloads in %d bytes", ErrUndecodable, head[4], len(rest))
	}
	e := Entry{Origin: Origin{ReplicaID(head[0]), head[1]}, FirstSeq: head[2], Time: int64(head[3]), Payloads: make([][]byte, head[4])}
	for i := range e.Payloads {
		size, n := uvarint(rest)
		if n <= 0 || size > uint64(len(rest)-n) {
			return Entry{}, fmt.Errorf("%w: payload %d", ErrUndecodable, i)
		}
		e.Payloads[i], rest = rest[n:n+int(size):n+int(size)], rest[n+int(size):]
	}
	if len(rest) != 0 {
		return Entry{}, fmt.Errorf("%w: %d bytes after the last payload", ErrUndecodable, len(rest))
	}
	return e, nil
}

// uvarint is binary.Uvarint for numbers in their shortest form, so that an entry has one encoding.
func uvarint(data []byte) (v uint64, n int) {
	if v, n = binary.Uvarint(data); n > 1 && data[n-1] == 0 {
		return 0, 0
	}
	return v, n
}

// Chain extends a group's running hash by one applied entry of any kind. Replicas with equal hashes at
// equal applied indexes have applied the same entries (64-bit xxhash: it finds faults, not forgeries).
func Chain(hash uint64, at Position, kind int32, data []byte) uint64 {
	var head [28]byte
	binary.BigEndian.PutUint64(head[0:], hash)
	binary.BigEndian.PutUint64(head[8:], uint64(at.Index))
	binary.BigEndian.PutUint64(head[16:], at.Term)
	binary.BigEndian.PutUint32(head[24:], uint32(kind))
	var d xxhash.Digest
	d.Reset()
	d.Write(head[:])
	d.Write(data)
	return d.Sum64()
}

// Verdict is what a state machine decided about one payload.
type Verdict uint8

// The verdicts. Only Accepted changes state.
const (
	Accepted        Verdict = iota
	Duplicate               // stored before; Outcome.Offset tells where, or -1 when that is no longer known
	SequenceGap             // the producer's sequence does not follow the last one stored
	UnknownProducer         // the producer has no session here and its sequence is not 0
	Fenced                  // a newer epoch of the producer has written
	TooLarge                // above a limit that apply checks
	Invalid                 // not decodable as what the machine expects
	Refused                 // a command's precondition does not hold; Outcome.Value is an error
)

var verdictNames = [...]string{"accepted", "duplicate", "sequence gap", "unknown producer", "fenced", "too large", "invalid", "refused"}

func (v Verdict) String() string { return verdictNames[v] }

// Outcome is a machine's answer to one payload.
type Outcome struct {
	Verdict Verdict
	Offset  Offset // first offset, for Accepted and Duplicate in a partition
	Count   uint32 // records, likewise
	Value   any    // metadata: the result of a command, or the error of a Refused one
}
