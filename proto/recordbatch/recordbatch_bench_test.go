package recordbatch

import "testing"

func thousandSmall() []Record {
	rs := make([]Record, 1000)
	for i := range rs {
		rs[i] = Record{Key: []byte("key"), Value: []byte("sixteen bytes ok"), TimestampMillis: 1_700_000_000_000 + int64(i)}
	}
	return rs
}

func TestEncodingIntoARoomyBufferAndLookingAtABatchAllocateNothing(t *testing.T) {
	rs := thousandSmall()
	b := encode(t, Producer{1, 0, 0}, rs...)
	buf := make([]byte, 0, 1<<20)
	for name, f := range map[string]func(){
		"Encode":      func() { _, _ = Encode(buf, None, rs) }, // cannot fail: the same records were encoded above
		"ParseHeader": func() { _, _ = ParseHeader(b) },        // likewise
		"Validate":    func() { _, _ = Validate(b, unlimited) },
	} {
		if n := testing.AllocsPerRun(20, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkEncodeAThousand(b *testing.B) {
	rs, buf := thousandSmall(), make([]byte, 0, 1<<20)
	for b.Loop() {
		if _, err := Encode(buf, None, rs); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseHeader(b *testing.B) {
	batch := encode(b, None, thousandSmall()...)
	for b.Loop() {
		if _, err := ParseHeader(batch); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkValidateAThousand(b *testing.B) {
	batch := encode(b, None, thousandSmall()...)
	for b.Loop() {
		if _, err := Validate(batch, unlimited); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeAThousand(b *testing.B) {
	batch := encode(b, None, thousandSmall()...)
	for b.Loop() {
		if _, err := Decode(batch); err != nil {
			b.Fatal(err)
		}
	}
}
