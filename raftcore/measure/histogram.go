package measure

import "sync/atomic"

// boundsMax bounds the buckets of a histogram, without the one above all bounds.
const boundsMax = 20

// Upper bounds, inclusive. Durations in nanoseconds.
var (
	durationBounds = [boundsMax]uint64{
		10e3, 25e3, 50e3, 100e3, 250e3, 500e3, 1e6, 2.5e6, 5e6, 10e6, 25e6, 50e6, 100e6, 250e6, 500e6, 1e9, 2.5e9, 5e9, 10e9, 30e9,
	}
	countBounds = [boundsMax]uint64{
		1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024, 4096, 16384, 65536,
	}
	byteBounds = [boundsMax]uint64{
		64, 128, 256, 512, 1 << 10, 2 << 10, 4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10, 128 << 10, 256 << 10, 512 << 10,
		1 << 20, 2 << 20, 4 << 20, 8 << 20, 16 << 20, 32 << 20,
	}
)

// cells are what all histograms are made of. counts[i] holds what is at most bounds[i] and above the bound before;
// the last one what is above all.
type cells struct {
	sum    atomic.Uint64
	counts [boundsMax + 1]atomic.Uint64
}

func (c *cells) add(bounds *[boundsMax]uint64, v, times uint64) {
	lo, hi := 0, boundsMax
	for lo < hi {
		if mid := (lo + hi) / 2; bounds[mid] < v {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	c.counts[lo].Add(times)
	c.sum.Add(v * times)
}

// Reading is what a histogram held at one moment. Count and the counts agree; the sum may be a few observations
// off, since recording takes no lock.
type Reading struct {
	Unit   string    // as OpenTelemetry writes it: "s", "By", or "" for a number of things
	Bounds []float64 // upper bounds, inclusive, ascending
	Counts []uint64  // one more than bounds: the last is what is above all of them
	Sum    float64
}

// Count returns how many observations there were.
func (r Reading) Count() (n uint64) {
	for _, c := range r.Counts {
		n += c
	}
	return n
}

func (c *cells) read(unit string, bounds *[boundsMax]uint64, per float64) Reading {
	r := Reading{Unit: unit, Bounds: make([]float64, boundsMax), Counts: make([]uint64, boundsMax+1), Sum: float64(c.sum.Load()) / per}
	for i, b := range bounds {
		r.Bounds[i] = float64(b) / per
	}
	for i := range c.counts {
		r.Counts[i] = c.counts[i].Load()
	}
	return r
}

// Durations is a histogram of times. It is recorded in nanoseconds and read in seconds.
type Durations struct{ cells cells }

// Observe records one time; what a clock that went back makes negative counts as 0.
func (d *Durations) Observe(nanos int64) { d.ObserveN(nanos, 1) }

// ObserveN records the same time for n things.
func (d *Durations) ObserveN(nanos int64, n int) {
	d.cells.add(&durationBounds, uint64(max(0, nanos)), uint64(max(0, n)))
}

// Read returns what has been recorded.
func (d *Durations) Read() Reading { return d.cells.read("s", &durationBounds, 1e9) }

// Counts is a histogram of how many things went together.
type Counts struct{ cells cells }

// Observe records one number.
func (c *Counts) Observe(n int) { c.cells.add(&countBounds, uint64(max(0, n)), 1) }

// Read returns what has been recorded.
func (c *Counts) Read() Reading { return c.cells.read("", &countBounds, 1) }

// Bytes is a histogram of sizes.
type Bytes struct{ cells cells }

// Observe records one size.
func (b *Bytes) Observe(n int) { b.cells.add(&byteBounds, uint64(max(0, n)), 1) }

// Read returns what has been recorded.
func (b *Bytes) Read() Reading { return b.cells.read("By", &byteBounds, 1) }
