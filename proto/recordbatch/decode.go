package recordbatch

import (
	"encoding/binary"
	"fmt"
)

// Limits bound what Validate lets pass. A limit of 0 refuses everything.
type Limits struct {
	RecordBytesMax int // key, value and headers of one record
	BatchBytesMax  int // a whole batch
}

// Validate checks b entirely: its header, size, checksum, and each of its records. It allocates nothing but
// errors. A batch that passes can be decoded by anybody.
func Validate(b []byte, lim Limits) (Info, error) {
	if len(b) > lim.BatchBytesMax {
		return Info{}, fmt.Errorf("%w: %d bytes, the limit is %d", ErrBatchTooLarge, len(b), lim.BatchBytesMax)
	}
	info, err := open(b)
	if err != nil {
		return Info{}, err
	}
	r := reader{rest: b[HeaderBytes:]}
	for i := range info.Count {
		rec := r.record()
		size := len(rec.key) + len(rec.value) + rec.skipHeaders()
		if err := rec.check(&r, i); err != nil {
			return Info{}, err
		}
		if size > lim.RecordBytesMax {
			return Info{}, fmt.Errorf("%w: record %d has %d bytes, the limit is %d", ErrRecordTooLarge, i, size, lim.RecordBytesMax)
		}
	}
	return info, r.checkEnd()
}

// Decode checks b like Validate, without limits, and returns its records. Keys and values alias b.
// Memory used is bounded by a small multiple of len(b).
func Decode(b []byte) ([]Record, error) {
	info, err := open(b)
	if err != nil {
		return nil, err
	}
	records := make([]Record, info.Count)
	r := reader{rest: b[HeaderBytes:]}
	for i := range records {
		rec := r.record()
		records[i] = Record{Key: rec.key, Value: rec.value, Headers: rec.readHeaders(),
			TimestampMillis: info.FirstTimestamp + rec.timestampDelta, Offset: info.BaseOffset + int64(i)}
		if err := rec.check(&r, i); err != nil {
			return nil, err
		}
	}
	return records, r.checkEnd()
}

// open checks all that is not in the records.
func open(b []byte) (Info, error) {
	info, err := Check(b)
	if err != nil {
		return Info{}, err
	}
	if info.Compression != 0 {
		return Info{}, fmt.Errorf("%w (codec %d)", ErrCompressed, info.Compression)
	}
	return info, nil
}

// reader takes fields off the front of its bytes. The first that is not there makes it bad; from then on it
// yields zeroes, so that callers check once.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) fail() {
	r.rest, r.bad = nil, true
}

func (r *reader) varint() int64 {
	if len(r.rest) > 0 && r.rest[0] < 0x80 {
		u := int64(r.rest[0])
		r.rest = r.rest[1:]
		return u>>1 ^ -(u & 1)
	}
	v, n := binary.Varint(r.rest)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) take(n int64) []byte {
	if n < 0 || n > int64(len(r.rest)) {
		r.fail()
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

// field takes a length and that many bytes; nil for length -1.
func (r *reader) field() []byte {
	n := r.varint()
	if n == -1 {
		return nil
	}
	return r.take(n)
}

// record is one record, its headers still encoded in body.
type record struct {
	body                        reader
	timestampDelta, offsetDelta int64
	key, value                  []byte
	headerCount                 int64
}

func (r *reader) record() record {
	rec := record{body: reader{rest: r.take(r.varint())}}
	if len(rec.body.take(1)) == 0 { // attributes
		return rec
	}
	rec.timestampDelta = rec.body.varint()
	rec.offsetDelta = rec.body.varint()
	rec.key = rec.body.field()
	rec.value = rec.body.field()
	rec.headerCount = rec.body.varint()
	// A header takes two bytes at least, which bounds the loops and allocations over them.
	if rec.headerCount < 0 || rec.headerCount > int64(len(rec.body.rest)/2) {
		rec.body.fail()
		rec.headerCount = 0
	}
	return rec
}

func (rec *record) skipHeaders() (size int) {
	for range rec.headerCount {
		size += len(rec.body.take(rec.body.varint())) + len(rec.body.field())
	}
	return size
}

func (rec *record) readHeaders() []Header {
	if rec.headerCount == 0 {
		return nil
	}
	headers := make([]Header, rec.headerCount)
	for i := range headers {
		headers[i].Key = string(rec.body.take(rec.body.varint()))
		headers[i].Value = rec.body.field()
	}
	return headers
}

// check is called after the headers have been taken from rec: then nothing may be left in it.
func (rec *record) check(r *reader, i int) error {
	if r.bad || rec.body.bad || len(rec.body.rest) != 0 {
		return malformed("records", "record %d does not match its length", i)
	}
	if rec.offsetDelta != int64(i) {
		return malformed("records", "record %d has offset delta %d", i, rec.offsetDelta)
	}
	return nil
}

func (r *reader) checkEnd() error {
	if len(r.rest) != 0 {
		return malformed("records", "%d bytes after the last one", len(r.rest))
	}
	return nil
}
