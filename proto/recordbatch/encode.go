package recordbatch

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// headerOverheadMax and recordOverheadMax bound what encoding adds to the bytes of a header and a record.
const (
	headerOverheadMax = 2 * binary.MaxVarintLen32
	recordOverheadMax = 1 + 5*binary.MaxVarintLen32 + binary.MaxVarintLen64
)

// EncodedBytesMax bounds the bytes that r adds to a batch.
func (r *Record) EncodedBytesMax() int {
	return r.Bytes() + recordOverheadMax + headerOverheadMax*len(r.Headers)
}

// Encode appends one uncompressed batch of rs to dst, which grows at most once. On an error dst comes back
// as it was. The base offset is 0 and the leader epoch -1 until SetBase.
func Encode(dst []byte, p Producer, rs []Record) ([]byte, error) {
	if err := checkEncode(p, rs); err != nil {
		return dst, err
	}
	bytesMax := HeaderBytes
	for i := range rs {
		bytesMax += rs[i].EncodedBytesMax()
	}
	if bytesMax > math.MaxInt32 {
		return dst, fmt.Errorf("%w: up to %d bytes, the format ends at %d", ErrBatchTooLarge, bytesMax, math.MaxInt32)
	}
	dst = slices.Grow(dst, bytesMax)
	start := len(dst)
	dst = dst[:start+HeaderBytes]
	first, latest := rs[0].TimestampMillis, rs[0].TimestampMillis
	for i := range rs {
		latest = max(latest, rs[i].TimestampMillis)
		dst = appendRecord(dst, &rs[i], i, first)
	}
	putHeader(dst[start:], p, len(rs), first, latest)
	return dst, nil
}

func checkEncode(p Producer, rs []Record) error {
	if len(rs) == 0 || len(rs) > math.MaxInt32 {
		return malformed("record count", "%d", len(rs))
	}
	if p.ID < -1 || p.ID >= 0 && (p.Epoch < 0 || p.Sequence < 0) {
		return malformed("producer", "id %d with epoch %d and base sequence %d", p.ID, p.Epoch, p.Sequence)
	}
	return nil
}

func putHeader(b []byte, p Producer, count int, firstMillis, latestMillis int64) {
	SetBase(b, 0, -1)
	binary.BigEndian.PutUint32(b[lengthAt:], uint32(len(b)-leaderEpochAt))
	b[magicAt] = magic2
	binary.BigEndian.PutUint16(b[attributesAt:], 0)
	binary.BigEndian.PutUint32(b[lastOffsetDeltaAt:], uint32(count-1))
	binary.BigEndian.PutUint64(b[firstTimestampAt:], uint64(firstMillis))
	binary.BigEndian.PutUint64(b[maxTimestampAt:], uint64(latestMillis))
	binary.BigEndian.PutUint32(b[countAt:], uint32(count))
	SetProducer(b, p)
}

// appendRecord needs the record's length before its content: it computes it rather than moving bytes.
func appendRecord(dst []byte, r *Record, delta int, firstMillis int64) []byte {
	timestampDelta := r.TimestampMillis - firstMillis
	size := 1 + varintBytes(timestampDelta) + varintBytes(int64(delta)) + fieldBytes(r.Key) + fieldBytes(r.Value) +
		varintBytes(int64(len(r.Headers)))
	for i := range r.Headers {
		h := &r.Headers[i]
		size += varintBytes(int64(len(h.Key))) + len(h.Key) + fieldBytes(h.Value)
	}
	dst = appendVarint(dst, int64(size))
	dst = append(dst, 0) // attributes, unused in the format
	dst = appendVarint(dst, timestampDelta)
	dst = appendVarint(dst, int64(delta))
	dst = appendField(dst, r.Key)
	dst = appendField(dst, r.Value)
	dst = appendVarint(dst, int64(len(r.Headers)))
	for i := range r.Headers {
		h := &r.Headers[i]
		dst = appendVarint(dst, int64(len(h.Key)))
		dst = append(dst, h.Key...)
		dst = appendField(dst, h.Value)
	}
	return dst
}

// appendField appends b after its length, or -1 for nil.
func appendField(dst, b []byte) []byte {
	if b == nil {
		return appendVarint(dst, -1)
	}
	dst = appendVarint(dst, int64(len(b)))
	return append(dst, b...)
}

func fieldBytes(b []byte) int {
	if b == nil {
		return 1
	}
	return varintBytes(int64(len(b))) + len(b)
}

// appendVarint appends v in zigzag form; most are one byte, and that path is inlined.
func appendVarint(dst []byte, v int64) []byte {
	if u := zigzag(v); u < 0x80 {
		return append(dst, byte(u))
	}
	return binary.AppendVarint(dst, v)
}

func varintBytes(v int64) int {
	n := 1
	for u := zigzag(v); u >= 0x80; u >>= 7 {
		n++
	}
	return n
}

func zigzag(v int64) uint64 { return uint64(v<<1) ^ uint64(v>>63) }
