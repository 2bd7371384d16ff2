package decodetest

import (
	"runtime/metrics"
	"testing"
)

// PerByte is what decoding may allocate for each byte of its input: an empty message of two bytes takes a hundred.
const PerByte = 256

// allocBytesMin is what decoding may allocate in any case: the runtime counts as coarsely.
const allocBytesMin = 4 << 20

// Bounded checks that f, which decodes n bytes, allocates no more than perByte for each, PerByte as a rule, whatever
// they claim to hold.
func Bounded(t testing.TB, n, perByte int, f func()) {
	t.Helper()
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	before := sample[0].Value.Uint64()
	f()
	metrics.Read(sample)
	if got := sample[0].Value.Uint64() - before; got > uint64(allocBytesMin+perByte*n) {
		t.Errorf("%d bytes made it allocate %d", n, got)
	}
}
