package main

import (
	"encoding/binary"
	"fmt"

	"github.com/multiraftd/multiraftd/cmd/mrsim/history"
	"github.com/multiraftd/multiraftd/proto/recordbatch"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/partition"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// ledger is what anybody was ever told about a partition: the value at an offset is told once, for good.
type ledger struct {
	group  raftcore.GroupID
	topic  uint64
	number uint32
	values map[raftcore.Offset]uint64
	past   history.History
	// deleting: a client has asked for the end of its topic.
	deleting bool
}

// told compares values that somebody was shown with what others were.
func (w *world) told(l *ledger, by string, offset raftcore.Offset, values []uint64) {
	for i, v := range values {
		at := offset + raftcore.Offset(i)
		known, ok := l.values[at]
		if !ok {
			l.values[at] = v
			continue
		}
		if known != v {
			w.violate("a record changes", "group %d, offset %d: %s has %d, it was %d", l.group, at, by, v, known)
			return
		}
	}
}

// piece is what was read in one go, and where its last record stands in the Raft log.
type piece struct {
	values []uint64
	next   raftcore.Offset
	last   raftcore.Position
	start  raftcore.Offset
	high   raftcore.Offset
}

// readPiece reads like router's Read call: from one view, never past what it holds.
func readPiece(v store.View, g raftcore.GroupID, from raftcore.Offset, bytesMax int) (piece, error) {
	generation, err := store.CurrentGeneration(v, g)
	if err != nil {
		return piece{}, err
	}
	var p piece
	source := func(i raftcore.Index) (raftcore.Position, []byte, error) {
		at, data, err := store.EntryData(v, g, generation, i)
		p.last = at
		return at, data, err
	}
	chunk, err := partition.Read(v, store.MachinePrefix(g, generation), source, from, bytesMax)
	if err != nil {
		return piece{}, err
	}
	p.next, p.start, p.high = chunk.Next, chunk.LogStart, chunk.HighWatermark
	for _, b := range chunk.Batches {
		records, err := recordbatch.Decode(b)
		if err != nil {
			return piece{}, err
		}
		for _, r := range records {
			if raftcore.Offset(r.Offset) < from {
				continue
			}
			if want := from + raftcore.Offset(len(p.values)); raftcore.Offset(r.Offset) != want {
				return piece{}, fmt.Errorf("offset %d follows %d", r.Offset, want-1)
			}
			if len(r.Value) != 8 {
				return piece{}, fmt.Errorf("offset %d holds %d bytes, not 8", r.Offset, len(r.Value))
			}
			p.values = append(p.values, binary.BigEndian.Uint64(r.Value))
		}
	}
	return p, nil
}

// readAll reads a whole partition from a node's disk.
func (n *node) readAll(g raftcore.GroupID) (start raftcore.Offset, values []uint64, err error) {
	v, err := n.mem.View()
	if err != nil {
		return 0, nil, err
	}
	defer v.Close()
	generation, err := store.CurrentGeneration(v, g)
	if err != nil {
		return 0, nil, err
	}
	start, high, err := partition.ReadBounds(v, store.MachinePrefix(g, generation))
	if err != nil {
		return 0, nil, err
	}
	for next := start; next < high; {
		p, err := readPiece(v, g, next, 1<<20)
		if err != nil {
			return 0, nil, err
		}
		if len(p.values) == 0 {
			return 0, nil, fmt.Errorf("nothing at offset %d, below the watermark %d", next, high)
		}
		values, next = append(values, p.values...), p.next
	}
	return start, values, nil
}
