package store

import (
	"errors"
	"reflect"
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/multiraftd/multiraftd/raftcore"
)

func TestGroupsAreListedInAscendingOrderWithTombstones(t *testing.T) {
	eachKV(t, func(t *testing.T, open func(rapid.TB) *crasher) {
		kv := open(t)
		b := new(Batch)
		for _, g := range []raftcore.GroupID{300, 2, 1 << 60, 7} {
			PutBirth(b, Birth{Group: g, Replica: raftcore.ReplicaID(g + 1), Members: testMembers})
		}
		PutTombstone(b, 7, 8)
		must(t, kv.Commit(b, true))
		v := viewOf(t, kv)
		got, err := Groups(v)
		must(t, err)
		want := []StoredGroup{{2, 3, 1, false}, {7, 8, 0, true}, {300, 301, 1, false}, {1 << 60, 1<<60 + 1, 1, false}}
		if !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		must(t, v.Close())
		must(t, kv.Close())
	})
}

func TestATombstoneLeavesNothingElseAndNeighboursAlone(t *testing.T) {
	kv := NewMem()
	b := new(Batch)
	for _, g := range []raftcore.GroupID{testGroup - 1, testGroup, testGroup + 1} {
		PutBirth(b, Birth{Group: g, Replica: 1, Members: testMembers})
		b.Set(append(MachinePrefix(g, 1), 'x'), []byte("1"))
	}
	must(t, kv.Commit(b, true))
	commitAppend(t, kv, openLog(t, kv, 0), appendMsg(entriesFrom(2, 1, 4, 8)...), true)
	b = new(Batch)
	PutTombstone(b, testGroup, 1)
	must(t, kv.Commit(b, true))
	if _, err := OpenLog(kv, testGroup, 0); !errors.Is(err, ErrTombstone) {
		t.Fatalf("got %v, want ErrTombstone", err)
	}
	v := viewOf(t, kv)
	keys := 0
	must(t, v.Scan([]byte{spaceGroups}, []byte{spaceData + 1}, false, func(_, _ []byte) bool { keys++; return true }))
	if keys != 1+2*4 {
		t.Fatalf("%d keys are left, want the tombstone and four for each neighbour", keys)
	}
	must(t, v.Close())
}

func TestAnUnknownGroupIsReportedAsSuch(t *testing.T) {
	kv := NewMem()
	if _, err := OpenLog(kv, testGroup, 0); !errors.Is(err, ErrNoGroup) {
		t.Fatalf("OpenLog: %v", err)
	}
	v := viewOf(t, kv)
	if _, err := CurrentGeneration(v, testGroup); !errors.Is(err, ErrNoGroup) {
		t.Fatalf("CurrentGeneration: %v", err)
	}
	if groups, err := Groups(v); err != nil || len(groups) != 0 {
		t.Fatalf("Groups: %v, %v", groups, err)
	}
}

func TestEntryDataReadsAnEntryFromAView(t *testing.T) {
	eachKV(t, func(t *testing.T, open func(rapid.TB) *crasher) {
		kv := open(t)
		birth(t, kv)
		commitAppend(t, kv, openLog(t, kv, 0), appendMsg(newEntry(2, 3, []byte("data")), newEntry(3, 3, nil)), true)
		v := viewOf(t, kv)
		gen, err := CurrentGeneration(v, testGroup)
		must(t, err)
		at, data, err := EntryData(v, testGroup, gen, 2)
		if err != nil || at != (raftcore.Position{Index: 2, Term: 3}) || string(data) != "data" {
			t.Fatalf("got %v, %q, %v", at, data, err)
		}
		if _, data, err := EntryData(v, testGroup, gen, 3); err != nil || len(data) != 0 {
			t.Fatalf("empty entry: %q, %v", data, err)
		}
		if _, _, err := EntryData(v, testGroup, gen, 4); !errors.Is(err, ErrNotFound) {
			t.Fatalf("missing entry: %v", err)
		}
		must(t, v.Close())
		must(t, kv.Close())
	})
}

func TestAStateIsReadAsItWasStored(t *testing.T) {
	ids := rapid.SliceOfN(rapid.Uint64Min(1), 0, 4)
	rapid.Check(t, func(t *rapid.T) {
		applied := rapid.Uint64Max(indexMax).Draw(t, "applied")
		want := State{
			Applied: raftcore.Index(applied), AppliedTerm: rapid.Uint64().Draw(t, "term"), Hash: rapid.Uint64().Draw(t, "hash"),
			Truncated: raftcore.Position{Index: raftcore.Index(rapid.Uint64Max(applied).Draw(t, "truncated")), Term: 3},
			ConfState: &raftpb.ConfState{
				Voters: ids.Draw(t, "voters"), Learners: ids.Draw(t, "learners"), VotersOutgoing: ids.Draw(t, "outgoing"),
				LearnersNext: ids.Draw(t, "next"), AutoLeave: new(rapid.Bool().Draw(t, "auto")),
			},
			Members: rapid.MapOfN(rapid.Custom(func(t *rapid.T) raftcore.ReplicaID { return raftcore.ReplicaID(rapid.Uint64().Draw(t, "r")) }),
				rapid.Custom(func(t *rapid.T) raftcore.NodeID { return raftcore.NodeID(rapid.Uint64().Draw(t, "n")) }), 0, 5).Draw(t, "members"),
		}
		value := want.encode()
		if !slices.Equal(value, want.encode()) {
			t.Fatal("two encodings differ")
		}
		got, err := decodeState(value)
		must(t, err)
		if !proto.Equal(got.ConfState, want.ConfState) {
			t.Fatalf("ConfState %v, want %v", got.ConfState, want.ConfState)
		}
		clone := got.Clone()
		if got.ConfState, want.ConfState = nil, nil; !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, want %+v", got, want)
		}
		if clone.ConfState == nil || !reflect.DeepEqual(clone.Members, want.Members) {
			t.Fatal("the clone differs")
		}
		for cut := range value {
			if _, err := decodeState(value[:cut]); !errors.Is(err, ErrDamaged) {
				t.Fatalf("cut at %d of %d: %v", cut, len(value), err)
			}
		}
	})
}

func TestCountersCountCommitsAndSyncs(t *testing.T) {
	c := new(Counters)
	kv, err := OpenPebble(PebbleOptions{Dir: t.TempDir(), Counters: c})
	must(t, err)
	base := c.Syncs.Load()
	put(t, kv, false, "a", "1", "b", "2")
	put(t, kv, true, "c", "345")
	if c.Syncs.Load()-base != 1 || c.Commits.Load()-base != 2 {
		t.Fatalf("%d syncs, %d commits", c.Syncs.Load()-base, c.Commits.Load()-base)
	}
	must(t, kv.Close())
	names := map[string]uint64{}
	c.Each(func(name, label, value, help string, v uint64) {
		if label != "" || value != "" || help == "" || names[name] != 0 {
			t.Fatalf("counter %s{%s=%s}: %q", name, label, value, help)
		}
		names[name] = v
	})
	if names["store_commits_total"] != c.Commits.Load() || names["store_committed_bytes_total"] == 0 {
		t.Fatalf("counters %v", names)
	}
}
