package load

import (
	"math/bits"
	"time"
)

const (
	subBucketBits = 7                                                               // buckets per power of two: 128, each less than 1/128 of its values wide
	valueBits     = 40                                                              // values from 2^40 ns (18 minutes) on share the last bucket
	buckets       = (valueBits-subBucketBits)<<subBucketBits + 1<<subBucketBits + 1 // the first 256 values have one each
)

// histogram counts durations in buckets that grow with their values. It never allocates after the first.
type histogram struct {
	counts []uint64
	total  uint64
	max    time.Duration
}

func newHistogram() *histogram { return &histogram{counts: make([]uint64, buckets)} }

func (h *histogram) record(d time.Duration) {
	d = max(d, 0)
	h.max = max(h.max, d)
	h.counts[bucketOf(uint64(d))]++
	h.total++
}

func bucketOf(v uint64) int {
	shift := max(bits.Len64(v)-subBucketBits-1, 0)
	return min(shift<<subBucketBits+int(v>>shift), buckets-1)
}

// upperEdge is the largest value of a bucket.
func upperEdge(bucket int) uint64 {
	shift := max(bucket>>subBucketBits-1, 0)
	first := uint64(bucket - shift<<subBucketBits)
	return (first+1)<<shift - 1
}

// quantile is a value that at least the share q of all values do not exceed: the upper edge of the bucket
// that the smallest such value is in.
func (h *histogram) quantile(q float64) time.Duration {
	rank := uint64(q*float64(h.total) + 0.999999)
	seen := uint64(0)
	for i, n := range h.counts[:buckets-1] {
		if seen += n; seen >= rank && seen > 0 {
			return min(time.Duration(upperEdge(i)), h.max)
		}
	}
	return h.max
}

func (h *histogram) add(other *histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.total += other.total
	h.max = max(h.max, other.max)
}
