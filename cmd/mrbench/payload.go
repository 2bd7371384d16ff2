package main

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
)

// stampBytes is how much of a record names it: run (4), client and sequence (8), checksum of those (4).
const stampBytes = 16

const (
	clientsMax   = 1 << 12
	sequenceBits = 64 - 12 // client and sequence share 64 bits
	sequenceMask = 1<<sequenceBits - 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// payload makes and recognises the values of one run.
type payload struct {
	run     uint32 // drawn, so that other runs in the same topic are told apart
	pattern []byte // a value of the right size: what follows the stamp is fixed, and does not compress
}

func newPayload(run uint32, size int) *payload {
	p := &payload{run: run, pattern: make([]byte, size)}
	rng := rand.New(rand.NewPCG(uint64(run), uint64(size)))
	for i := range p.pattern {
		p.pattern[i] = byte(rng.Uint32())
	}
	return p
}

// value returns a buffer that stamp can be used on.
func (p *payload) value() []byte { return bytes.Clone(p.pattern) }

// stamp names the record in value, if it is large enough.
func (p *payload) stamp(value []byte, client int, sequence uint64) {
	if len(value) < stampBytes {
		return
	}
	binary.BigEndian.PutUint32(value, p.run)
	binary.BigEndian.PutUint64(value[4:], uint64(client)<<sequenceBits|sequence)
	binary.BigEndian.PutUint32(value[12:], crc32.Checksum(value[:12], castagnoli))
}

// read finds out which record a value is: ours says that it seems to be of this run, intact that nothing in
// it has changed. Without intact the name means nothing.
func (p *payload) read(value []byte) (client int, sequence uint64, ours, intact bool) {
	if len(value) < stampBytes || binary.BigEndian.Uint32(value) != p.run {
		return 0, 0, false, false
	}
	name := binary.BigEndian.Uint64(value[4:])
	intact = binary.BigEndian.Uint32(value[12:]) == crc32.Checksum(value[:12], castagnoli) &&
		bytes.Equal(value[stampBytes:], p.pattern[stampBytes:])
	return int(name >> sequenceBits), name & sequenceMask, true, intact
}
