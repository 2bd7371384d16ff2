package partition

import (
	"bytes"
	"fmt"
	"math"

	"github.com/multiraftd/multiraftd/proto/recordbatch"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// rowsPerScan bounds the rows that a read holds at once.
const rowsPerScan = 32

// Source returns a stored entry's position and data, from the view that the read is about.
type Source func(i raftcore.Index) (raftcore.Position, []byte, error)

// Chunk is a run of record batches as they stand in the partition.
type Chunk struct {
	Batches       [][]byte        // with base offset and leader epoch; the caller's own
	Next          raftcore.Offset // after the last batch; without batches, the offset that was asked for
	HighWatermark raftcore.Offset
	LogStart      raftcore.Offset
}

// ReadBounds returns what Machine.Bounds returned when the view's state had been applied.
func ReadBounds(v store.View, prefix []byte) (logStart, highWatermark raftcore.Offset, err error) {
	b, err := loadBounds(v, prefix)
	return b.logStart, b.next, err
}

// Read returns batches from the one that contains from on, up to about maxBytes: at least one if there is
// any. The first may begin before from. At the high watermark the chunk is empty; outside the bounds the
// error is an *OutOfRangeError.
func Read(v store.View, prefix []byte, src Source, from raftcore.Offset, maxBytes int) (Chunk, error) {
	b, err := loadBounds(v, prefix)
	if err != nil {
		return Chunk{}, err
	}
	if from < b.logStart || from > b.next {
		return Chunk{}, &OutOfRangeError{from, b.logStart, b.next}
	}
	f := filler{chunk: Chunk{Next: from, HighWatermark: b.next, LogStart: b.logStart}, src: src, room: maxBytes}
	for f.chunk.Next < b.next && !f.full {
		rows, err := rowsFrom(v, prefix, f.chunk.Next, b.next)
		if err != nil {
			return Chunk{}, err
		}
		for i := 0; i < len(rows) && !f.full; i++ {
			if err := f.addRow(&rows[i]); err != nil {
				return Chunk{}, err
			}
		}
	}
	return f.chunk, nil
}

// OffsetAt returns the offset of the first record that was stored at or after a time, by the log's clock;
// the high watermark if there is none.
func OffsetAt(v store.View, prefix []byte, timestampMillis int64) (raftcore.Offset, error) {
	b, err := loadBounds(v, prefix)
	if err != nil {
		return 0, err
	}
	o, err := b.search(v, prefix, func(r *row, millis int64) bool { return r.timeMillis >= millis }, timestampMillis)
	return max(o, b.logStart), err // log start may be inside a row
}

// rowAt returns the row that holds an offset, and no other from end on.
func rowAt(v store.View, prefix []byte, o, end raftcore.Offset) (row, error) {
	found := row{}
	var undecodable error
	err := v.Scan(rowKey(prefix, 0), rowKey(prefix, o+1), true, func(key, value []byte) bool {
		found, undecodable = decodeRow(prefix, key, value)
		return false
	})
	switch {
	case err != nil:
		return row{}, fmt.Errorf("partition: index row of offset %d: %w", o, err)
	case undecodable != nil:
		return row{}, undecodable
	case o < found.first || o >= found.end() || found.end() > end:
		return row{}, corrupt("no index row before offset %d holds offset %d", end, o)
	}
	return found, nil
}

// rowsFrom returns a few rows from the one that holds an offset on, and before end. It finishes the scan
// before anything else is read, so that a view need not allow both at once.
func rowsFrom(v store.View, prefix []byte, o, end raftcore.Offset) ([]row, error) {
	r, err := rowAt(v, prefix, o, end)
	if err != nil {
		return nil, err
	}
	rows := []row{r}
	if r.end() >= end { // the common case of a reader at the end: one seek is enough
		return rows, nil
	}
	var undecodable error
	err = v.Scan(rowKey(prefix, r.end()), rowKey(prefix, end), false, func(key, value []byte) bool {
		if r, undecodable = decodeRow(prefix, key, value); undecodable == nil {
			rows = append(rows, r)
		}
		return undecodable == nil && len(rows) < rowsPerScan
	})
	if err != nil {
		return nil, fmt.Errorf("partition: index rows from offset %d: %w", o, err)
	}
	return rows, undecodable
}

// filler fills a chunk.
type filler struct {
	chunk Chunk
	src   Source
	room  int
	full  bool
}

// addRow adds the batches of one entry.
func (f *filler) addRow(r *row) error {
	if f.chunk.Next < r.first || f.chunk.Next >= r.end() || r.end() > f.chunk.HighWatermark {
		return corrupt("index row for [%d, %d) where offset %d is next", r.first, r.end(), f.chunk.Next)
	}
	at, data, err := f.src(r.index)
	if err != nil {
		return fmt.Errorf("partition: entry %d: %w", r.index, err)
	}
	e, err := raftcore.DecodeEntry(data)
	if err != nil {
		return corrupt("entry %d: %v", r.index, err)
	}
	offset, refused := r.first, r.refused
	for i, payload := range e.Payloads {
		if len(refused) > 0 && refused[0] == uint64(i) {
			refused = refused[1:]
			continue
		}
		info, err := recordbatch.ParseHeader(payload)
		if err != nil {
			return corrupt("entry %d, batch %d: %v", r.index, i, err)
		}
		if f.add(payload, offset, info.Count, at.Term); f.full {
			return nil
		}
		offset += raftcore.Offset(info.Count)
	}
	if offset != r.end() {
		return corrupt("entry %d ends at offset %d, its index row at %d", r.index, offset, r.end())
	}
	return nil
}

// add copies one batch, unless it lies before what is wanted or does not fit.
func (f *filler) add(payload []byte, offset raftcore.Offset, count int, term uint64) {
	end := offset + raftcore.Offset(count)
	if end <= f.chunk.Next {
		return
	}
	if len(f.chunk.Batches) > 0 && len(payload) > f.room {
		f.full = true
		return
	}
	own := bytes.Clone(payload)
	recordbatch.SetBase(own, int64(offset), int32(min(term, math.MaxInt32)))
	f.chunk.Batches = append(f.chunk.Batches, own)
	f.chunk.Next = end
	f.room -= len(payload)
}
