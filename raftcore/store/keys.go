package store

import (
	"encoding/binary"

	"github.com/multiraftd/multiraftd/raftcore"
)

// The spaces: first byte of every key.
const (
	spaceNode   byte = 0
	spaceGroups byte = 1
	spaceData   byte = 2
)

// The kinds of keys in their space.
const (
	kindFormat   byte = 'F' // node space
	kindNode     byte = 'N'
	kindStarts   byte = 'S'
	kindHard     byte = 'H' // group space, after the group
	kindIdentity byte = 'I'
	kindApplied  byte = 'A' // data space, after group and generation
	kindEntry    byte = 'L'
	kindMachine  byte = 'M'
)

const (
	groupKeyBytes  = 1 + 8 + 1         // space, group, kind
	dataKeyBytes   = 1 + 8 + 8 + 1     // space, group, generation, kind
	entryKeyBytes  = dataKeyBytes + 8  // and the index
	generationByte = groupKeyBytes - 1 // where the generation starts in a data key
)

// indexMax is the last index that an entry can have, as raftcore takes them from peers: far from overflow.
const indexMax = 1 << 62

// firstGeneration is the generation of a group's keys at birth. A snapshot stages the next one.
const firstGeneration = 1

func nodeKey(kind byte) []byte { return []byte{spaceNode, kind} }

func groupKey(g raftcore.GroupID, kind byte) []byte {
	k := make([]byte, 0, groupKeyBytes)
	k = append(k, spaceGroups)
	k = binary.BigEndian.AppendUint64(k, uint64(g))
	return append(k, kind)
}

func dataKey(g raftcore.GroupID, gen uint64, kind byte) []byte {
	k := make([]byte, 0, dataKeyBytes)
	k = append(k, spaceData)
	k = binary.BigEndian.AppendUint64(k, uint64(g))
	k = binary.BigEndian.AppendUint64(k, gen)
	return append(k, kind)
}

// entryKey appends the key of entry i to dst. prefix is the dataKey of the group's entries.
func entryKey(dst, prefix []byte, i raftcore.Index) []byte {
	return binary.BigEndian.AppendUint64(append(dst, prefix...), uint64(i))
}

// entriesEnd is the first key after all entries under prefix.
func entriesEnd(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	end[len(end)-1]++
	return end
}

// groupData returns the range of all keys of g in the data space, of every generation.
func groupData(g raftcore.GroupID) (lo, hi []byte) {
	lo = dataKey(g, 0, 0)[:generationByte]
	return lo, prefixEnd(lo)
}

// prefixEnd returns the first key after all keys that start with prefix, or nil when there is none.
func prefixEnd(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

// MachinePrefix returns the prefix under which the state machine of g keeps its keys.
func MachinePrefix(g raftcore.GroupID, gen uint64) []byte { return dataKey(g, gen, kindMachine) }
