package lineage

import "bytes"

// Limits.
const (
	IDBytes    = 16
	EarlierMax = 64 // starts before the present one that a node remembers
)

// Start is one start of a node on its store.
type Start struct {
	Number  uint64   // from 1; 0 = none
	ID      []byte   // random; empty = not known
	Earlier [][]byte // ids of the starts Number-1, Number-2, ..., as far as they are known, at most EarlierMax
}

// Next is the start that follows, with the id that was drawn for it.
func (s Start) Next(id []byte) Start {
	next := Start{Number: s.Number + 1, ID: id}
	if len(s.ID) > 0 { // else there is a gap, and nothing is known before it
		next.Earlier = append([][]byte{s.ID}, s.Earlier[:min(len(s.Earlier), EarlierMax-1)]...)
	}
	return next
}

// ForkedFrom says that s is not a later start on the store of known, nor known itself, but one on a copy of it. Where
// the ids that this takes are not known, it is false.
func (s Start) ForkedFrom(known Start) bool {
	if len(known.ID) == 0 || s.Number < known.Number {
		return false
	}
	id := s.ID
	if back := s.Number - known.Number; back > uint64(len(s.Earlier)) {
		return false
	} else if back > 0 {
		id = s.Earlier[back-1]
	}
	return len(id) > 0 && !bytes.Equal(id, known.ID)
}

// Follows says that s is known, or shows that it comes from it. It is also true where no start could: when the id of
// known is not known, or further back than starts are remembered. A start that shows nothing follows none: it is for
// those who know that s has to know its earlier ones, as it does if it told the id of known itself.
func (s Start) Follows(known Start) bool {
	if len(known.ID) == 0 || s.Number > known.Number+EarlierMax {
		return true
	}
	return s.Number >= known.Number && s.Number-known.Number <= uint64(len(s.Earlier)) && !s.ForkedFrom(known) && (s.Number > known.Number || len(s.ID) > 0)
}

// Valid says whether all ids have their length, and there are not too many. An id may be missing.
func (s Start) Valid() bool {
	if len(s.Earlier) > EarlierMax || len(s.ID) != 0 && len(s.ID) != IDBytes {
		return false
	}
	for _, id := range s.Earlier {
		if len(id) != IDBytes {
			return false
		}
	}
	return true
}
