package store

import (
	"errors"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

// Damage must not pass for content: a deleted replica whose flag has turned into 16 would come back to life.
func TestWhatNoEncoderWritesIsDamage(t *testing.T) {
	state := State{Applied: 9, AppliedTerm: 3, ConfState: &raftpb.ConfState{Voters: []uint64{1, 2}}, Members: testMembers}
	members := func(pairs ...byte) []byte {
		s := State{Applied: 9, ConfState: &raftpb.ConfState{}}
		value := s.encode()
		return append(append(value[:len(value)-1], byte(len(pairs)/2)), pairs...)
	}
	if _, err := decodeState(members(1, 11, 2, 12)); err != nil {
		t.Fatalf("what is written: %v", err)
	}
	state.Applied = indexMax + 1
	for name, row := range map[string]struct {
		kind  string
		value []byte
	}{
		"a tombstone flag of 16":            {"identity", []byte{valueVersion, 2, 1, 16}},
		"a number in two bytes":             {"identity", []byte{valueVersion, 0x82, 0, 1, 0}},
		"an entry type beyond its range":    {"entry", []byte{valueVersion, 0x80, 0x80, 0x80, 0x80, 0x20, 3, 'x'}},
		"a state beyond its range":          {"node", []byte{valueVersion, 1, 'c', 1, 's', 3, 1, 0x80, 0x80, 0x80, 0x80, 0x20, 0}},
		"an applied index near overflow":    {"applied state", state.encode()},
		"members that descend":              {"applied state", members(2, 12, 1, 11)},
		"a member twice":                    {"applied state", members(1, 11, 1, 12)},
		"a membership that is left by 2":    {"applied state", []byte{valueVersion, 9, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0}},
		"a hard state with more behind it":  {"hard state", append(encodeHardState(1, 0, 1), 0)},
		"a format record in another length": {"format", []byte(formatMagic)},
	} {
		if _, err := storedValues[row.kind](row.value); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := new(Log).entryIndex(entryKey(nil, dataKey(testGroup, 1, kindEntry), indexMax+1)); !errors.Is(err, ErrDamaged) {
		t.Errorf("an entry's key near overflow: got %v", err)
	}
}
