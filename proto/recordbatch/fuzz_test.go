package recordbatch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"reflect"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/multiraftd/multiraftd/proto/decodetest"
)

// fuzzAllocPerByte: a header of a record takes two bytes encoded and forty decoded.
const fuzzAllocPerByte = 64

// FuzzDecode: no input panics; Validate, Decode and ParseHeader agree; and what decodes, encodes to a batch
// with the same records, the same producer and no more bytes than were promised. Sealed makes length and
// checksum right, which no mutation would.
func FuzzDecode(f *testing.F) {
	f.Add(encode(f, None, Record{Key: []byte("k"), Headers: []Header{{"h", nil}}}), true)
	f.Add(encode(f, Producer{1, 2, 3}, Record{}, Record{Value: make([]byte, 100)}), false)
	f.Add(encode(f, Producer{math.MaxInt64, math.MaxInt16, math.MaxInt32}, Record{TimestampMillis: math.MaxInt64}, Record{TimestampMillis: math.MinInt64}), true)
	f.Add(encode(f, None, thousandSmall()[:40]...), true)
	f.Add([]byte{}, true)
	f.Fuzz(func(t *testing.T, b []byte, sealed bool) {
		if b = slices.Clone(b); sealed && len(b) >= HeaderBytes {
			binary.BigEndian.PutUint32(b[lengthAt:], uint32(len(b)-leaderEpochAt))
			reseal(b)
		}
		decodetest.Bounded(t, len(b), fuzzAllocPerByte, func() {
			_, invalid := Validate(b, unlimited)
			records, undecodable := Decode(b)
			info, headless := ParseHeader(b)
			if (invalid == nil) != (undecodable == nil) || invalid == nil && (headless != nil || info.Count != len(records)) {
				t.Fatalf("Validate: %v, Decode: %v, %d records, ParseHeader: %+v, %v", invalid, undecodable, len(records), info, headless)
			}
			if invalid != nil {
				checkKind(t, invalid)
				return
			}
			checkReencoded(t, info, records)
		})
	})
}

// checkKind: an error is one of those in errors.go.
func checkKind(t *testing.T, err error) {
	n := 0
	for _, kind := range []error{ErrCorrupt, ErrCompressed, ErrTooLarge, ErrMalformed} {
		if errors.Is(err, kind) {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%v is of %d kinds", err, n)
	}
}

// checkReencoded: a batch has many encodings (varints of any length, delta bases), but one meaning.
func checkReencoded(t *testing.T, info Info, records []Record) {
	p := Producer{info.ProducerID, info.Epoch, info.BaseSequence}
	b, err := Encode(nil, p, records)
	if err != nil {
		t.Fatalf("%d records do not encode again: %v", len(records), err)
	}
	bytesMax := HeaderBytes
	for i := range records {
		bytesMax += records[i].EncodedBytesMax()
	}
	if len(b) > bytesMax {
		t.Errorf("%d bytes, at most %d were promised", len(b), bytesMax)
	}
	SetBase(b, info.BaseOffset, info.LeaderEpoch)
	again, err := Decode(b)
	if err != nil || !reflect.DeepEqual(again, records) {
		t.Errorf("%v became %v, %v", records, again, err)
	}
	if other, err := ParseHeader(b); err != nil || (Producer{other.ProducerID, other.Epoch, other.BaseSequence}) != p || other.BaseOffset != info.BaseOffset {
		t.Errorf("%+v became %+v, %v", info, other, err)
	}
	if twice, err := Encode(nil, p, again); err != nil || sealedPart(twice) != sealedPart(b) {
		t.Errorf("the encoding of an encoding differs: %v", err)
	}
	SetProducer(b, None)
	anonymous, err := Encode(nil, None, again)
	if _, bad := Check(b); err != nil || bad != nil || sealedPart(anonymous) != sealedPart(b) {
		t.Errorf("another producer changes more than the producer: %v, %v", err, bad)
	}
}

// sealedPart is what of a batch is under its checksum, for comparing.
func sealedPart(b []byte) string { return string(b[crcAt:]) }

// FuzzEncode: whatever records are given, they are encoded so that Kafka's own decoder and ours read them back.
func FuzzEncode(f *testing.F) {
	f.Add([]byte("key"), []byte("value"), []byte("header"), int64(5), int64(1), int16(2), int32(3), uint8(3))
	f.Add([]byte(nil), []byte{}, []byte(nil), int64(math.MinInt64), int64(-1), int16(-1), int32(-1), uint8(1))
	f.Add([]byte(nil), []byte{}, []byte{}, int64(math.MaxInt64), int64(-2), int16(0), int32(0), uint8(0))
	f.Fuzz(func(t *testing.T, key, value, header []byte, timeMillis, id int64, epoch int16, sequence int32, count uint8) {
		records := make([]Record, count%16)
		for i := range records {
			records[i] = Record{Key: key, Value: value, TimestampMillis: timeMillis - int64(i), Headers: []Header{{string(header), header}}[:i%2]}
			if i%2 == 0 {
				records[i].Headers = nil
			}
		}
		p := Producer{id, epoch, sequence}
		b, err := Encode(nil, p, records)
		if good := len(records) > 0 && (id == -1 || id >= 0 && epoch >= 0 && sequence >= 0); (err == nil) != good {
			t.Fatalf("%d records of %+v: %v", len(records), p, err)
		}
		if err != nil {
			checkKind(t, err)
			return
		}
		got, err := Decode(b)
		for i := range records {
			records[i].Offset = int64(i)
		}
		if err != nil || !reflect.DeepEqual(got, records) {
			t.Fatalf("%v became %v, %v", records, got, err)
		}
		var k kmsg.RecordBatch
		if err := k.ReadFrom(b); err != nil || int(k.NumRecords) != len(records) || k.ProducerID != id || !bytes.HasSuffix(b, k.Records) {
			t.Fatalf("kmsg reads %+v, %v", k, err)
		}
	})
}
