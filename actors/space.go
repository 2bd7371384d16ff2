package actors

import "sync/atomic"

// SpaceLevel says how much room a node's disk has left.
type SpaceLevel int32

// The levels.
const (
	SpaceEnough SpaceLevel = iota
	// SpaceLow: what clients append is refused, so that room is left for what frees space: truncations,
	// deletions, and the store's own work.
	SpaceLow
	// SpaceShort: the next large write may be the store's last. Appends of peers are not taken either, but for
	// small ones, and nothing holds back what a truncation frees.
	SpaceShort
)

var spaceNames = [...]string{"enough", "low", "short"}

func (l SpaceLevel) String() string { return spaceNames[l] }

// Space is where whoever watches the disk says how it is, for all actors and services of the node to read.
type Space struct {
	level       atomic.Int32
	free, total atomic.Uint64
}

// Set publishes the level.
func (s *Space) Set(l SpaceLevel) { s.level.Store(int32(l)) }

// SetBytes publishes how many bytes are free for the node, of how many; for people, nothing decides by them.
func (s *Space) SetBytes(free, total uint64) {
	s.free.Store(free)
	s.total.Store(total)
}

// Bytes returns what SetBytes published; 0, 0 where nobody watches.
func (s *Space) Bytes() (free, total uint64) {
	if s == nil {
		return 0, 0
	}
	return s.free.Load(), s.total.Load()
}

// Level returns the latest level; SpaceEnough where nobody watches.
func (s *Space) Level() SpaceLevel {
	if s == nil {
		return SpaceEnough
	}
	return SpaceLevel(s.level.Load())
}
