package partition

import (
	"fmt"
	"math"

	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// Retention says how long records are kept. The zero value keeps them for good.
type Retention struct {
	Millis int64 // an entry older than this goes, by its time; 0 = none does
	Bytes  int64 // the oldest go while at least so many bytes of batches stay; 0 = none does
}

// Oldest is where the first record that is still stored stands. It stays valid until log start moves.
type Oldest struct {
	Offset     raftcore.Offset // the log start
	TimeMillis int64           // of its entry; the largest there is for a partition without records
}

// LoadOldest returns where the log starts.
func LoadOldest(v store.View, prefix []byte) (Oldest, error) {
	b, err := loadBounds(v, prefix)
	if err != nil || b.logStart == b.next {
		return Oldest{b.logStart, math.MaxInt64}, err
	}
	r, err := rowAt(v, prefix, b.logStart, b.next)
	return Oldest{b.logStart, r.timeMillis}, err
}

// slack is the share of a policy's limit by which it may be passed before somebody acts: a truncation for each
// entry would cost more than the space that it gives back.
const slack = 32

// Due says whether it is time for a truncation: the oldest record is older, or there is more, than the policy
// says, by more than a 32nd part. It reads nothing. The truncation then goes up to the limit itself.
func (r Retention) Due(o Oldest, bytes, nowMillis int64) bool {
	old := r.Millis > 0 && o.TimeMillis < nowMillis && nowMillis-o.TimeMillis-r.Millis > r.Millis/slack
	return old || r.Bytes > 0 && bytes-r.Bytes > r.Bytes/slack
}

// Truncation returns what a leader has to propose at a time so that r holds; false when it holds. It is pure:
// the image and the leader's clock decide, and every replica follows what is then committed. A few seeks.
func (r Retention) Truncation(v store.View, prefix []byte, nowMillis int64) (Truncation, bool, error) {
	b, err := loadBounds(v, prefix)
	if err != nil || b.logStart == b.next {
		return Truncation{}, false, err
	}
	to := b.logStart
	if r.Millis > 0 {
		if to, err = b.search(v, prefix, func(r *row, horizon int64) bool { return r.timeMillis >= horizon }, nowMillis-r.Millis); err != nil {
			return Truncation{}, false, err
		}
	}
	if r.Bytes > 0 && b.bytes() > r.Bytes {
		// The last row that still leaves enough after its own start: the first one with too little, less one.
		keep := int64(b.endBytes) - r.Bytes
		after, err := b.search(v, prefix, func(r *row, keep int64) bool { return int64(r.startBytes) > keep }, keep)
		if err != nil {
			return Truncation{}, false, err
		}
		last, err := rowAt(v, prefix, after-1, b.next)
		if err != nil {
			return Truncation{}, false, err
		}
		to = max(to, last.first)
	}
	if to <= b.logStart {
		return Truncation{}, false, nil
	}
	t, err := b.truncationTo(v, prefix, to)
	return t, err == nil, err
}

// truncationTo completes a truncation to the start of a row, or to the high watermark.
func (b *bounds) truncationTo(v store.View, prefix []byte, to raftcore.Offset) (Truncation, error) {
	if to < b.next {
		r, err := rowAt(v, prefix, to, b.next)
		if err == nil && r.first != to {
			err = fmt.Errorf("partition: offset %d is inside the entry of offsets [%d, %d)", to, r.first, r.end())
		}
		return Truncation{To: to, Bytes: r.startBytes, Discard: r.index - 1}, err
	}
	r, err := rowAt(v, prefix, to-1, b.next)
	return Truncation{To: to, Bytes: b.endBytes, Discard: r.index}, err
}

// search returns the first offset of the first row, of those stored, for which after holds, as it does for all
// rows behind it; the high watermark if there is none. Each probe costs one seek.
func (b *bounds) search(v store.View, prefix []byte, after func(*row, int64) bool, limit int64) (raftcore.Offset, error) {
	lo, hi := b.logStart, b.next // rows before lo are not after, those from hi on are
	for lo < hi {
		r, err := rowAt(v, prefix, lo+(hi-lo)/2, b.next)
		if err != nil {
			return 0, err
		}
		if after(&r, limit) {
			hi = r.first
		} else {
			lo = r.end()
		}
	}
	return lo, nil
}
