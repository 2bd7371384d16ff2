package load

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
)

// StampBytes is how much of a record names it: run (4), client and sequence (8), checksum of those (4).
const StampBytes = 16

// ClientsMax is how many clients a record can name.
const ClientsMax = 1 << 12

const (
	sequenceBits = 64 - 12 // client and sequence share 64 bits
	sequenceMask = 1<<sequenceBits - 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Payload makes and recognises the values of one run.
type Payload struct {
	run     uint32 // drawn, so that other runs in the same topic are told apart
	pattern []byte // a value of the right size: what follows the stamp is fixed, and does not compress
}

// NewPayload makes the payload of a run, with values of size bytes.
func NewPayload(run uint32, size int) *Payload {
	p := &Payload{run: run, pattern: make([]byte, size)}
	rng := rand.New(rand.NewPCG(uint64(run), uint64(size)))
	for i := range p.pattern {
		p.pattern[i] = byte(rng.Uint32())
	}
	return p
}

// Value returns a buffer that Stamp can be used on.
func (p *Payload) Value() []byte { return bytes.Clone(p.pattern) }

// Stamp names the record in value, if it is large enough.
func (p *Payload) Stamp(value []byte, client int, sequence uint64) {
	if len(value) < StampBytes {
		return
	}
	binary.BigEndian.PutUint32(value, p.run)
	binary.BigEndian.PutUint64(value[4:], uint64(client)<<sequenceBits|sequence)
	binary.BigEndian.PutUint32(value[12:], crc32.Checksum(value[:12], castagnoli))
}

// Read finds out which record a value is: ours says that it seems to be of this run, intact that nothing in
// it has changed. Without intact the name means nothing.
func (p *Payload) Read(value []byte) (client int, sequence uint64, ours, intact bool) {
	if len(value) < StampBytes || binary.BigEndian.Uint32(value) != p.run {
		return 0, 0, false, false
	}
	name := binary.BigEndian.Uint64(value[4:])
	intact = binary.BigEndian.Uint32(value[12:]) == crc32.Checksum(value[:12], castagnoli) &&
		bytes.Equal(value[StampBytes:], p.pattern[StampBytes:])
	return int(name >> sequenceBits), Sequence(value), true, intact
}

// Sequence is the sequence in a stamped value, for producers that get values back instead of names.
func Sequence(value []byte) uint64 { return binary.BigEndian.Uint64(value[4:]) & sequenceMask }
