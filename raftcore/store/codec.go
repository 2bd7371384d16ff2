package store

import (
	"encoding/binary"
	"fmt"
	"math"
)

// valueVersion is the first byte of every value.
const valueVersion = 1

func newValue(size int) []byte { return append(make([]byte, 0, size), valueVersion) }

func appendBytes[T ~string | ~[]byte](dst []byte, s T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// decoder takes fields off a value. After the first fault all fields are zero and err tells. What has more than
// one encoding is a fault in all but the one that is written: damage must not pass for content.
type decoder struct {
	rest []byte
	what string
	bad  bool
}

func decode(what string, value []byte) *decoder {
	d := &decoder{what: what}
	if len(value) == 0 || value[0] != valueVersion {
		d.bad = true
		return d
	}
	d.rest = value[1:]
	return d
}

func (d *decoder) uvarint() uint64 {
	if d.bad {
		return 0
	}
	v, n := binary.Uvarint(d.rest)
	if n <= 0 || n > 1 && d.rest[n-1] == 0 {
		d.bad = true
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

// upTo takes a number that is at most top.
func (d *decoder) upTo(top uint64) uint64 {
	v := d.uvarint()
	if v > top {
		d.bad = true
		return 0
	}
	return v
}

func (d *decoder) flag() bool { return d.upTo(1) == 1 }

// enum takes a value of a protobuf enum.
func (d *decoder) enum() int32 { return int32(d.upTo(math.MaxInt32)) }

func (d *decoder) uint64() uint64 {
	if d.bad || len(d.rest) < 8 {
		d.bad = true
		return 0
	}
	v := binary.BigEndian.Uint64(d.rest)
	d.rest = d.rest[8:]
	return v
}

// count takes a length that says how much follows, one byte or more for each.
func (d *decoder) count() int {
	n := d.uvarint()
	if n > uint64(len(d.rest)) {
		d.bad = true
		return 0
	}
	return int(n)
}

func (d *decoder) bytes() []byte {
	n := d.count()
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

// err is nil if every field was there and nothing is left.
func (d *decoder) err() error {
	if d.bad || len(d.rest) != 0 {
		return fmt.Errorf("%w: %s record", ErrDamaged, d.what)
	}
	return nil
}
