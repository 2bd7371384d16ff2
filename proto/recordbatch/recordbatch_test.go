package recordbatch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

var unlimited = Limits{RecordBytesMax: math.MaxInt, BatchBytesMax: math.MaxInt}

func bytesOrNil() *rapid.Generator[[]byte] {
	return rapid.OneOf(rapid.Just([]byte(nil)), rapid.SliceOfN(rapid.Byte(), 0, 200))
}

func anyRecords() *rapid.Generator[[]Record] {
	header := rapid.Custom(func(t *rapid.T) Header {
		return Header{Key: rapid.String().Draw(t, "header key"), Value: bytesOrNil().Draw(t, "header value")}
	})
	record := rapid.Custom(func(t *rapid.T) Record {
		r := Record{Key: bytesOrNil().Draw(t, "key"), Value: bytesOrNil().Draw(t, "value"), TimestampMillis: rapid.Int64().Draw(t, "time")}
		if rapid.Bool().Draw(t, "has headers") {
			r.Headers = rapid.SliceOfN(header, 1, 3).Draw(t, "headers")
		}
		return r
	})
	return rapid.SliceOfN(record, 1, 20)
}

func anyProducer() *rapid.Generator[Producer] {
	return rapid.OneOf(rapid.Just(None), rapid.Custom(func(t *rapid.T) Producer {
		return Producer{rapid.Int64Min(0).Draw(t, "id"), rapid.Int16Min(0).Draw(t, "epoch"), rapid.Int32Min(0).Draw(t, "sequence")}
	}))
}

func encode(t testing.TB, p Producer, rs ...Record) []byte {
	t.Helper()
	b, err := Encode(nil, p, rs)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWhatIsEncodedIsValidAndDecodesToTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rs, p := anyRecords().Draw(t, "records"), anyProducer().Draw(t, "producer")
		prefix := rapid.SliceOf(rapid.Byte()).Draw(t, "what was in the buffer")
		dst, err := Encode(prefix, p, rs)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(prefix, dst[:len(prefix)]) {
			t.Fatalf("the buffer's content changed: %v", dst)
		}
		b := dst[len(prefix):]
		base, epoch := rapid.Int64Min(0).Draw(t, "base"), rapid.Int32().Draw(t, "leader epoch")
		SetBase(b, base, epoch)
		info, err := Validate(b, unlimited)
		if err != nil {
			t.Fatal(err)
		}
		if (Producer{info.ProducerID, info.Epoch, info.BaseSequence}) != p || info.BaseOffset != base || info.LeaderEpoch != epoch || info.Count != len(rs) {
			t.Fatalf("header %+v", info)
		}
		got, err := Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		for i := range rs {
			rs[i].Offset = base + int64(i)
		}
		if !reflect.DeepEqual(rs, got) {
			t.Fatalf("got %v, want %v", got, rs)
		}
	})
}

func TestKmsgReadsWhatIsEncoded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rs, p := anyRecords().Draw(t, "records"), anyProducer().Draw(t, "producer")
		b, err := Encode(nil, p, rs)
		if err != nil {
			t.Fatal(err)
		}
		var k kmsg.RecordBatch
		if err := k.ReadFrom(b); err != nil {
			t.Fatal(err)
		}
		if k.ProducerID != p.ID || k.ProducerEpoch != p.Epoch || k.FirstSequence != p.Sequence || int(k.NumRecords) != len(rs) ||
			k.Magic != 2 || int(k.Length) != len(b)-12 || k.Attributes != 0 || int(k.LastOffsetDelta) != len(rs)-1 {
			t.Fatalf("header %+v", k)
		}
		rest := k.Records
		for i, want := range rs {
			length, n := binary.Varint(rest)
			var r kmsg.Record
			if err := r.ReadFrom(rest[:n+int(length)]); err != nil {
				t.Fatalf("record %d: %v", i, err)
			}
			rest = rest[n+int(length):]
			got := Record{Key: r.Key, Value: r.Value, TimestampMillis: k.FirstTimestamp + r.TimestampDelta64}
			for _, h := range r.Headers {
				got.Headers = append(got.Headers, Header{h.Key, h.Value})
			}
			if !reflect.DeepEqual(want, got) || int(r.OffsetDelta) != i {
				t.Fatalf("record %d, delta %d: got %v, want %v", i, r.OffsetDelta, got, want)
			}
		}
		if len(rest) != 0 {
			t.Fatalf("%d bytes left", len(rest))
		}
	})
}

func TestWhatKmsgWritesDecodes(t *testing.T) {
	r := kmsg.Record{TimestampDelta64: 5, Key: []byte("k"), Value: []byte("v"), Headers: []kmsg.Header{{Key: "h", Value: nil}}}
	r.Length = int32(len(r.AppendTo(nil))) - 1
	k := kmsg.RecordBatch{FirstOffset: 7, Magic: 2, FirstTimestamp: 100, MaxTimestamp: 105, ProducerID: -1, ProducerEpoch: -1,
		FirstSequence: -1, NumRecords: 1, Records: r.AppendTo(nil)}
	k.Length = int32(len(k.Records)) + 49
	b := k.AppendTo(nil)
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
	got, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	want := []Record{{Key: []byte("k"), Value: []byte("v"), Headers: []Header{{"h", nil}}, TimestampMillis: 105, Offset: 7}}
	if !reflect.DeepEqual(want, got) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

// reseal makes the checksum right after a change.
func reseal(b []byte) {
	binary.BigEndian.PutUint32(b[crcAt:], crc32.Checksum(b[attributesAt:], castagnoli))
}

func TestAHeaderThatCannotBeTrueIsRefusedByTheNameOfItsField(t *testing.T) {
	put16 := func(at int, v uint16) func([]byte) []byte {
		return func(b []byte) []byte { binary.BigEndian.PutUint16(b[at:], v); return b }
	}
	put32 := func(at int, v uint32) func([]byte) []byte {
		return func(b []byte) []byte { binary.BigEndian.PutUint32(b[at:], v); return b }
	}
	for _, c := range []struct {
		name, field string
		change      func([]byte) []byte
	}{
		{"nothing", "length", func([]byte) []byte { return nil }},
		{"shorter than a header", "length", func(b []byte) []byte { return b[:60] }},
		{"cut", "length", func(b []byte) []byte { return b[:len(b)-1] }},
		{"followed by something", "length", func(b []byte) []byte { return append(b, 0) }},
		{"a negative length", "length", put32(lengthAt, 1<<31)},
		{"magic 1", "magic", func(b []byte) []byte { b[magicAt] = 1; return b }},
		{"a codec that does not exist", "attributes", put16(attributesAt, 5)},
		{"log append time", "attributes", put16(attributesAt, 1<<3)},
		{"transactional", "attributes", put16(attributesAt, 1<<4)},
		{"control", "attributes", put16(attributesAt, 1<<5)},
		{"a reserved bit", "attributes", put16(attributesAt, 1<<15)},
		{"count other than last delta + 1", "record count", put32(countAt, 3)},
		{"no records", "record count", func(b []byte) []byte { return put32(lastOffsetDeltaAt, math.MaxUint32)(put32(countAt, 0)(b)) }},
		{"more records than bytes", "record count", func(b []byte) []byte { return put32(lastOffsetDeltaAt, 999)(put32(countAt, 1000)(b)) }},
		{"a negative count", "record count", func(b []byte) []byte { return put32(lastOffsetDeltaAt, 1<<31)(put32(countAt, 1<<31+1)(b)) }},
		{"producer id -2", "producer id", func(b []byte) []byte {
			return put32(producerIDAt, math.MaxUint32)(put32(producerIDAt+4, math.MaxUint32-1)(b))
		}},
		{"a producer without an epoch", "producer", put16(producerEpochAt, math.MaxUint16)},
		{"a producer without a sequence", "producer", put32(baseSequenceAt, math.MaxUint32)},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := c.change(encode(t, Producer{1, 0, 0}, Record{Value: []byte("a")}, Record{Value: []byte("b")}))
			_, err := ParseHeader(b)
			if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), c.field) {
				t.Fatalf("got %v, want a malformed %s", err, c.field)
			}
			if _, err := Decode(b); !errors.Is(err, ErrMalformed) {
				t.Fatalf("Decode: %v", err)
			}
		})
	}
}

func TestRecordsThatDoNotFitTheirBatchAreRefused(t *testing.T) {
	for name, change := range map[string]func(records []byte){
		"length too long":       func(b []byte) { b[0] += 2 },
		"length too short":      func(b []byte) { b[0] -= 2 },
		"length negative":       func(b []byte) { b[0] = 1 },
		"wrong offset delta":    func(b []byte) { b[3] = 2 },
		"key beyond the record": func(b []byte) { b[4] = 100 },
		"value of length -2":    func(b []byte) { b[5] = 3 },
		"a header not there":    func(b []byte) { b[len(b)-1] = 2 },
		"headers negative":      func(b []byte) { b[len(b)-1] = 1 },
		"an endless varint":     func(b []byte) { b[2] = 0xff; b[3] = 0xff; b[4] = 0xff; b[5] = 0xff },
	} {
		t.Run(name, func(t *testing.T) {
			b := encode(t, None, Record{Value: []byte("ab")})
			change(b[HeaderBytes:])
			reseal(b)
			if _, err := Validate(b, unlimited); !errors.Is(err, ErrMalformed) {
				t.Fatalf("Validate: %v", err)
			}
			if _, err := Decode(b); !errors.Is(err, ErrMalformed) {
				t.Fatalf("Decode: %v", err)
			}
		})
	}
}

func TestAnyChangedBitUnderTheChecksumIsFound(t *testing.T) {
	b := encode(t, Producer{9, 1, 3}, Record{Key: []byte("key"), Value: []byte("value")}, Record{})
	for i := crcAt; i < len(b); i++ {
		for bit := range 8 {
			b[i] ^= 1 << bit
			if _, err := Validate(b, unlimited); err == nil {
				t.Fatalf("byte %d bit %d: passed", i, bit)
			}
			b[i] ^= 1 << bit
		}
	}
	b[len(b)-1] ^= 1
	if _, err := Validate(b, unlimited); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("got %v", err)
	}
}

func TestACompressedBatchIsRefusedWithAReasonButItsHeaderIsReadable(t *testing.T) {
	b := encode(t, None, Record{Value: []byte("a")})
	b[attributesAt+1] = 4
	reseal(b)
	if info, err := ParseHeader(b); err != nil || info.Compression != 4 {
		t.Fatalf("%+v, %v", info, err)
	}
	if _, err := Validate(b, unlimited); !errors.Is(err, ErrCompressed) {
		t.Fatalf("got %v", err)
	}
	if _, err := Decode(b); !errors.Is(err, ErrCompressed) {
		t.Fatalf("got %v", err)
	}
}

func TestLimitsHoldToTheByte(t *testing.T) {
	b := encode(t, None, Record{Key: []byte("kk"), Value: []byte("vvv"), Headers: []Header{{"h", []byte("xx")}}})
	for _, c := range []struct {
		lim  Limits
		want error
	}{
		{Limits{8, len(b)}, nil},
		{Limits{7, len(b)}, ErrRecordTooLarge},
		{Limits{8, len(b) - 1}, ErrBatchTooLarge},
		{Limits{}, ErrTooLarge},
	} {
		if _, err := Validate(b, c.lim); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%+v: got %v, want %v", c.lim, err, c.want)
		}
	}
}

func TestEncodeRefusesWhatItCouldNotReadBack(t *testing.T) {
	dst := []byte("kept")
	for name, c := range map[string]struct {
		p  Producer
		rs []Record
	}{
		"no records":             {None, nil},
		"a producer id below -1": {Producer{-2, 0, 0}, []Record{{}}},
		"a negative sequence":    {Producer{1, 0, -1}, []Record{{}}},
		"a negative epoch":       {Producer{1, -1, 0}, []Record{{}}},
	} {
		if got, err := Encode(dst, c.p, c.rs); !errors.Is(err, ErrMalformed) || string(got) != "kept" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestSequencesWrapToZeroAfterTheLargestInt32(t *testing.T) {
	for _, c := range []struct {
		base  int32
		count int
		want  int32
	}{{0, 1, 1}, {math.MaxInt32, 1, 0}, {math.MaxInt32 - 1, 1, math.MaxInt32}, {math.MaxInt32 - 1, 5, 3}, {math.MaxInt32, math.MaxInt32, math.MaxInt32 - 1}} {
		if got := NextSequence(c.base, c.count); got != c.want {
			t.Errorf("%d + %d: got %d, want %d", c.base, c.count, got, c.want)
		}
	}
}

func TestABatchChangesItsProducerAndNothingElseCompressedOrNot(t *testing.T) {
	for _, codec := range []byte{0, 4} {
		b := encode(t, Producer{5, 1, 70}, Record{Key: []byte("k"), Value: []byte("v"), TimestampMillis: 9}, Record{})
		SetBase(b, 40, 3)
		b[attributesAt+1] = codec
		reseal(b)
		before := bytes.Clone(b)
		SetProducer(b, Producer{math.MaxInt64, math.MaxInt16, math.MaxInt32})
		info, err := Check(b)
		if err != nil || info.ProducerID != math.MaxInt64 || info.Epoch != math.MaxInt16 || info.BaseSequence != math.MaxInt32 {
			t.Fatalf("codec %d: %+v, %v", codec, info, err)
		}
		SetProducer(b, Producer{5, 1, 70})
		if !bytes.Equal(b, before) {
			t.Errorf("codec %d: there and back, it is %x and was %x", codec, b, before)
		}
		b[len(b)-1]++
		if _, err := Check(b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("codec %d: a changed byte: %v", codec, err)
		}
	}
}
