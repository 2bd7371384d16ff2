package recordbatch

import (
	"encoding/binary"
	"hash/crc32"
	"math"
)

// HeaderBytes is the size of a batch before its first record.
const HeaderBytes = 61

// recordBytesMin is the size of the smallest encoded record: seven one-byte fields.
const recordBytesMin = 7

// Offsets of the fields.
const (
	baseOffsetAt      = 0
	lengthAt          = 8
	leaderEpochAt     = 12
	magicAt           = 16
	crcAt             = 17
	attributesAt      = 21
	lastOffsetDeltaAt = 23
	firstTimestampAt  = 27
	maxTimestampAt    = 35
	producerIDAt      = 43
	producerEpochAt   = 51
	baseSequenceAt    = 53
	countAt           = 57
)

const (
	magic2              = 2
	compressionMask     = 0x7
	compressionCodecMax = 4 // zstd
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Header is a named value beside a record.
type Header struct {
	Key   string
	Value []byte // nil = null
}

// Record is what a user stores. Absent (nil) and empty keys and values are different.
type Record struct {
	Key, Value      []byte
	Headers         []Header
	TimestampMillis int64 // since 1970
	Offset          int64 // set by Decode, ignored by Encode
}

// Bytes is the size that the record limit is about: key, value and headers.
func (r *Record) Bytes() int {
	n := len(r.Key) + len(r.Value)
	for i := range r.Headers {
		n += len(r.Headers[i].Key) + len(r.Headers[i].Value)
	}
	return n
}

// Producer identifies a batch among those of one idempotent producer.
type Producer struct {
	ID       int64
	Epoch    int16
	Sequence int32 // of the first record
}

// None is the producer of a batch that is not protected against duplicates.
var None = Producer{ID: -1, Epoch: -1, Sequence: -1}

// NextSequence is the sequence after count records that begin at base: it wraps from 2^31-1 to 0.
func NextSequence(base int32, count int) int32 {
	return int32((uint32(base) + uint32(count)) & math.MaxInt32)
}

// Info is the header of a batch.
type Info struct {
	BaseOffset      int64
	LeaderEpoch     int32
	Count           int
	LastOffsetDelta int32
	ProducerID      int64 // -1 = none
	Epoch           int16
	BaseSequence    int32
	FirstTimestamp  int64
	MaxTimestamp    int64
	Compression     int // 0 = none
}

// ParseHeader reads the header of b and checks what can be checked without reading on: that b is one whole
// batch of format 2, that its record count fits its offsets and its size, and that its attributes are those
// that a producer may set. It does not allocate, but for errors.
func ParseHeader(b []byte) (Info, error) {
	if err := checkFrame(b); err != nil {
		return Info{}, err
	}
	i := Info{
		BaseOffset:      int64(binary.BigEndian.Uint64(b[baseOffsetAt:])),
		LeaderEpoch:     int32(binary.BigEndian.Uint32(b[leaderEpochAt:])),
		Count:           int(int32(binary.BigEndian.Uint32(b[countAt:]))),
		LastOffsetDelta: int32(binary.BigEndian.Uint32(b[lastOffsetDeltaAt:])),
		ProducerID:      int64(binary.BigEndian.Uint64(b[producerIDAt:])),
		Epoch:           int16(binary.BigEndian.Uint16(b[producerEpochAt:])),
		BaseSequence:    int32(binary.BigEndian.Uint32(b[baseSequenceAt:])),
		FirstTimestamp:  int64(binary.BigEndian.Uint64(b[firstTimestampAt:])),
		MaxTimestamp:    int64(binary.BigEndian.Uint64(b[maxTimestampAt:])),
		Compression:     int(b[attributesAt+1] & compressionMask),
	}
	if err := i.check(len(b)); err != nil {
		return Info{}, err
	}
	return i, nil
}

// checkFrame checks what does not depend on the meaning of the fields.
func checkFrame(b []byte) error {
	if len(b) < HeaderBytes {
		return malformed("length", "%d bytes, a header has %d", len(b), HeaderBytes)
	}
	if b[magicAt] != magic2 {
		return malformed("magic", "%d, want %d", b[magicAt], magic2)
	}
	if n := int64(int32(binary.BigEndian.Uint32(b[lengthAt:]))) + leaderEpochAt; n != int64(len(b)) {
		return malformed("length", "says %d bytes, there are %d", n, len(b))
	}
	// The other bits: log append time (a producer may not set it), transactional, control, reserved.
	if a := binary.BigEndian.Uint16(b[attributesAt:]); a&^compressionMask != 0 || a > compressionCodecMax {
		return malformed("attributes", "%#x, only a compression codec may be set", a)
	}
	return nil
}

func (i *Info) check(size int) error {
	if i.Count < 1 || int32(i.Count-1) != i.LastOffsetDelta {
		return malformed("record count", "%d with last offset delta %d", i.Count, i.LastOffsetDelta)
	}
	if i.Compression == 0 && i.Count > (size-HeaderBytes)/recordBytesMin {
		return malformed("record count", "%d in %d bytes", i.Count, size)
	}
	if i.ProducerID < -1 {
		return malformed("producer id", "%d", i.ProducerID)
	}
	if i.ProducerID >= 0 && (i.Epoch < 0 || i.BaseSequence < 0) {
		return malformed("producer", "id %d with epoch %d and base sequence %d", i.ProducerID, i.Epoch, i.BaseSequence)
	}
	return nil
}

// Check reads the header of b and checks it and the checksum, but not the records: what was stored once comes back
// as it was, compressed or not. It does not allocate, but for errors.
func Check(b []byte) (Info, error) {
	info, err := ParseHeader(b)
	if err == nil && !checksumMatches(b) {
		return Info{}, ErrCorrupt
	}
	return info, err
}

// checksumMatches reports whether the bytes of b are those that its producer checksummed. b has a header.
func checksumMatches(b []byte) bool {
	return binary.BigEndian.Uint32(b[crcAt:]) == crc32.Checksum(b[attributesAt:], castagnoli)
}

// SetBase gives a batch its base offset and leader epoch in place; both are outside the checksum.
// b must have passed ParseHeader.
func SetBase(b []byte, offset int64, leaderEpoch int32) {
	binary.BigEndian.PutUint64(b[baseOffsetAt:], uint64(offset))
	binary.BigEndian.PutUint32(b[leaderEpochAt:], uint32(leaderEpoch))
}

// SetProducer makes a batch one of p's in place, and its checksum right: records that were stored once can be
// appended again, by somebody else. The records stay as they are, compressed or not.
// b must have passed Check, and p must be one that Encode takes.
func SetProducer(b []byte, p Producer) {
	binary.BigEndian.PutUint64(b[producerIDAt:], uint64(p.ID))
	binary.BigEndian.PutUint16(b[producerEpochAt:], uint16(p.Epoch))
	binary.BigEndian.PutUint32(b[baseSequenceAt:], uint32(p.Sequence))
	binary.BigEndian.PutUint32(b[crcAt:], crc32.Checksum(b[attributesAt:], castagnoli))
}
