package store

import (
	"bytes"
	"cmp"
	"errors"
	"math"
	"slices"
	"testing"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/multiraftd/multiraftd/proto/decodetest"
	"github.com/multiraftd/multiraftd/proto/lineage"
	"github.com/multiraftd/multiraftd/raftcore"
)

// storedValues are the values of this package: each decodes a value and encodes what it has got again.
var storedValues = map[string]func(value []byte) (again []byte, err error){
	"hard state": func(value []byte) ([]byte, error) {
		hs, err := decodeHardState(value)
		return encodeHardState(hs.GetTerm(), hs.GetVote(), hs.GetCommit()), err
	},
	"identity": func(value []byte) ([]byte, error) {
		s, err := decodeIdentity(testGroup, value)
		return s.encode(), err
	},
	"applied state": func(value []byte) ([]byte, error) {
		s, err := decodeState(value)
		return s.encode(), err
	},
	"entry": func(value []byte) ([]byte, error) {
		e, err := decodeEntry(9, value)
		if err != nil {
			return nil, err
		}
		if entrySize(e) != uint64(proto.Size(e)) {
			return nil, errors.New("its size is counted wrongly")
		}
		return append(appendEntryHeader(nil, e), e.GetData()...), nil
	},
	"node": func(value []byte) ([]byte, error) { return throughNode(kindNode, value) },
	"starts": func(value []byte) ([]byte, error) {
		again, err := throughNode(kindStarts, value)
		if errors.Is(err, errNotStored) { // boot ids of another start than the latest
			return value, nil
		}
		return again, err
	},
	"format": func(value []byte) ([]byte, error) {
		again, err := throughNode(kindFormat, value)
		if errors.Is(err, ErrForeign) || errors.Is(err, ErrNewerFormat) {
			err = ErrDamaged // by the names that its own error has
		}
		return again, err
	},
}

// throughNode loads the node of a store that has value for its kind, and returns what PutNode puts there.
func throughNode(kind byte, value []byte) ([]byte, error) {
	good, kv := new(Batch), NewMem()
	PutNode(good, Node{Cluster: "c", StoreID: "s", NodeID: 3, Start: 1})
	good.Set(nodeKey(kind), value)
	if err := kv.Commit(good, true); err != nil {
		return nil, err
	}
	v, err := kv.View()
	if err != nil {
		return nil, err
	}
	n, _, err := LoadNode(v)
	if err != nil || n.Format == 0 { // 0 is what PutNode takes for "the present one"
		return value, errors.Join(err, v.Close())
	}
	b := new(Batch)
	PutNode(b, n)
	for _, op := range b.Ops() {
		if bytes.Equal(op.Key, nodeKey(kind)) {
			return op.Value, v.Close()
		}
	}
	return nil, errNotStored
}

var errNotStored = errors.New("nothing was stored")

// FuzzStoredValue: a stored value is damaged, or the one encoding of what it says.
func FuzzStoredValue(f *testing.F) {
	names := slices.Sorted(func(yield func(string) bool) {
		for name := range storedValues {
			if !yield(name) {
				return
			}
		}
	})
	state := State{Applied: 9, AppliedTerm: 3, Hash: 1 << 60, Truncated: raftcore.Position{Index: 4, Term: 2},
		ConfState: &raftpb.ConfState{Voters: []uint64{1, 2}, Learners: []uint64{3}, AutoLeave: new(true)}, Members: testMembers}
	identity := StoredGroup{Group: testGroup, Replica: 2, Generation: 1}
	gone := StoredGroup{Group: testGroup, Replica: 2, Tombstone: true}
	e := newEntry(9, 300, []byte("data"))
	node := new(Batch)
	boot := bytes.Repeat([]byte{7}, lineage.IDBytes)
	PutNode(node, Node{Cluster: "c", StoreID: "s", NodeID: 3, Start: 1, State: 2, Bootstrap: "1=a:1,2=b:2", BootID: boot, EarlierBootIDs: [][]byte{boot, boot}})
	for _, value := range [][]byte{
		state.encode(), identity.encode(), gone.encode(), append(appendEntryHeader(nil, e), e.GetData()...), encodeHardState(1<<40, 2, 300),
		node.Ops()[0].Value, node.Ops()[1].Value, node.Ops()[2].Value, {}, {valueVersion, math.MaxUint8},
	} {
		for i := range names {
			f.Add(uint8(i), value)
		}
	}
	f.Fuzz(func(t *testing.T, kind uint8, value []byte) {
		name := names[int(kind)%len(names)]
		decodetest.Bounded(t, len(value), decodetest.PerByte, func() {
			again, err := storedValues[name](value)
			if err != nil {
				if !errors.Is(err, ErrDamaged) {
					t.Errorf("%s: %v", name, err)
				}
			} else if !bytes.Equal(again, value) {
				t.Errorf("%s %x became %x", name, value, again)
			}
		})
	})
}

// FuzzOpenLog: a log opens from whatever its records are, or is damaged; one that has opened keeps its
// invariants, answers etcd/raft, and goes on from there.
func FuzzOpenLog(f *testing.F) {
	birth := func(change func(*State)) []byte {
		s := State{Applied: 1, AppliedTerm: 1, Truncated: birthPosition, ConfState: &raftpb.ConfState{Voters: []uint64{1, 2, 3}}, Members: testMembers}
		change(&s)
		return s.encode()
	}
	identity := StoredGroup{Group: testGroup, Replica: 2, Generation: 1}
	entry := append(appendEntryHeader(nil, newEntry(2, 1, nil)), "data"...)
	f.Add(identity.encode(), encodeHardState(1, 0, 1), birth(func(*State) {}), uint64(2), entry, entry)
	f.Add(identity.encode(), encodeHardState(5, 1, 2), birth(func(s *State) { s.Applied, s.AppliedTerm = 3, 1 }), uint64(2), entry, entry)
	f.Add(identity.encode(), encodeHardState(5, 1, 9), birth(func(s *State) { s.Truncated.Index, s.Applied = 9, 9 }), uint64(10), entry, entry)
	f.Add(identity.encode(), encodeHardState(5, 1, 9), birth(func(s *State) { s.Truncated.Index, s.Applied = math.MaxUint64, math.MaxUint64 }), uint64(0), []byte{}, []byte{})
	f.Add(identity.encode(), encodeHardState(5, 1, math.MaxUint64), birth(func(*State) {}), uint64(math.MaxUint64), entry, entry)
	f.Fuzz(func(t *testing.T, identity, hard, state []byte, first uint64, one, two []byte) {
		kv, b := NewMem(), new(Batch)
		id, err := decodeIdentity(testGroup, identity)
		if err != nil {
			id.Generation = 1
		}
		b.Set(groupKey(testGroup, kindIdentity), identity)
		b.Set(groupKey(testGroup, kindHard), hard)
		b.Set(dataKey(testGroup, id.Generation, kindApplied), state)
		prefix := dataKey(testGroup, id.Generation, kindEntry)
		for i, value := range [][]byte{one, two} {
			if len(value) > 0 {
				b.Set(entryKey(nil, prefix, raftcore.Index(first+uint64(i))), value)
			}
		}
		must(t, kv.Commit(b, true))
		decodetest.Bounded(t, len(identity)+len(hard)+len(state)+len(one)+len(two), decodetest.PerByte, func() {
			l, err := OpenLog(kv, testGroup, 1<<10)
			switch {
			case err == nil:
				checkOpened(t, kv, l)
			case !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrTombstone):
				t.Errorf("got %v", err)
			}
		})
	})
}

// checkOpened holds a log that has opened against the invariants of Log.
func checkOpened(t *testing.T, kv KV, l *Log) {
	first, errFirst := l.FirstIndex()
	last, errLast := l.LastIndex()
	hs, cs, err := l.InitialState()
	must(t, errors.Join(errFirst, errLast, err))
	applied := uint64(l.State().Applied)
	if first == 0 || first-1 != uint64(l.State().Truncated.Index) || first-1 > applied || applied > hs.GetCommit() || hs.GetCommit() > last {
		t.Fatalf("first %d, applied %d, commit %d, last %d", first, applied, hs.GetCommit(), last)
	}
	for _, i := range []uint64{0, first - 1, first, last, last + 1, math.MaxUint64} {
		if _, err := l.Term(i); err != nil && !isExpected(err) {
			t.Fatalf("term of %d: %v", i, err)
		}
		if _, err := l.Entries(i, i+1, math.MaxUint64); err != nil && !isExpected(err) {
			t.Fatalf("entry %d: %v", i, err)
		}
	}
	startCore(t, l, cs)
	if last == indexMax {
		return
	}
	commitAppend(t, kv, l, appendMsg(newEntry(last+1, hs.GetTerm()+1, []byte("next"))), true)
	commitState(t, kv, l, func(s *State) { s.Applied = raftcore.Index(last + 1) })
	again := openLog(t, kv, 0)
	if end, err := again.LastIndex(); err != nil || end != last+1 || again.State().Applied != raftcore.Index(last+1) {
		t.Fatalf("reopened, it ends at %d, applied %d, %v", end, again.State().Applied, err)
	}
}

func isExpected(err error) bool {
	return errors.Is(err, raft.ErrCompacted) || errors.Is(err, raft.ErrUnavailable) || errors.Is(err, ErrDamaged)
}

// startCore starts a replica on the log: it runs, or says what is inconsistent.
func startCore(t *testing.T, l *Log, cs *raftpb.ConfState) {
	_, err := raftcore.New(raftcore.Config{
		Group: testGroup, Self: l.Replica(), Storage: l, Applied: l.State().Applied, Members: l.State().Members, ElectionTicks: 10, HeartbeatTicks: 1,
	})
	if err != nil && !errors.Is(err, raftcore.ErrState) && !errors.Is(err, raftcore.ErrConfig) && !errors.Is(err, ErrDamaged) {
		t.Fatalf("on %v: %v", cs, err)
	}
}

// FuzzGroups: whatever keys and values stand among the groups, they are listed in order or damaged.
func FuzzGroups(f *testing.F) {
	identity := StoredGroup{Group: testGroup, Replica: 2, Generation: 1}
	f.Add(groupKey(testGroup, kindIdentity), identity.encode(), groupKey(testGroup, kindHard), encodeHardState(1, 0, 1))
	f.Add(groupKey(1, kindIdentity), identity.encode(), groupKey(math.MaxUint64, kindIdentity), identity.encode())
	f.Add([]byte{spaceGroups, 1}, []byte{}, []byte{spaceGroups}, []byte{})
	f.Fuzz(func(t *testing.T, key1, value1, key2, value2 []byte) {
		kv, b := NewMem(), new(Batch)
		b.Set(key1, value1)
		b.Set(key2, value2)
		must(t, kv.Commit(b, true))
		v := viewOf(t, kv)
		decodetest.Bounded(t, len(value1)+len(value2), decodetest.PerByte, func() {
			groups, err := Groups(v)
			if err != nil && !errors.Is(err, ErrDamaged) {
				t.Errorf("got %v", err)
			}
			for _, g := range groups {
				if value, err := v.Get(groupKey(g.Group, kindIdentity)); err != nil || !bytes.Equal(value, g.encode()) {
					t.Errorf("%+v is listed, stored is %x, %v", g, value, err)
				}
			}
			if !slices.IsSortedFunc(groups, func(a, b StoredGroup) int { return cmp.Compare(a.Group, b.Group) }) {
				t.Errorf("not in order: %v", groups)
			}
		})
	})
}

// FuzzKeys: keys sort as what they are made of, entry keys give back their index, and a group's range holds
// its keys and no other group's.
func FuzzKeys(f *testing.F) {
	f.Add(uint64(1), uint64(1), uint64(2), uint64(1), uint64(1), uint64(255))
	f.Add(uint64(255), uint64(math.MaxUint64), uint64(0), uint64(256), uint64(0), uint64(math.MaxUint64))
	f.Add(uint64(math.MaxUint64), uint64(1), uint64(1), uint64(math.MaxUint64), uint64(2), uint64(1))
	f.Fuzz(func(t *testing.T, g1, gen1, i1, g2, gen2, i2 uint64) {
		key := func(g, gen, i uint64) []byte {
			return entryKey(nil, dataKey(raftcore.GroupID(g), gen, kindEntry), raftcore.Index(i))
		}
		one, two := key(g1, gen1, i1), key(g2, gen2, i2)
		want := cmp.Or(cmp.Compare(g1, g2), cmp.Compare(gen1, gen2), cmp.Compare(i1, i2))
		if got := bytes.Compare(one, two); got != want {
			t.Errorf("%x and %x compare as %d, want %d", one, two, got, want)
		}
		if i, err := new(Log).entryIndex(one); i1 <= indexMax && (err != nil || i != raftcore.Index(i1)) || i1 > indexMax && !errors.Is(err, ErrDamaged) {
			t.Errorf("index %d became %d, %v", i1, i, err)
		}
		lo, hi := groupData(raftcore.GroupID(g1))
		inside := func(k []byte) bool { return bytes.Compare(lo, k) <= 0 && bytes.Compare(k, hi) < 0 }
		if machine := MachinePrefix(raftcore.GroupID(g1), gen1); !inside(one) || !inside(machine) || inside(two) != (g1 == g2) {
			t.Errorf("group %d is [%x, %x): key %x of group %d is in it: %t", g1, lo, hi, two, g2, inside(two))
		}
		if end := entriesEnd(dataKey(raftcore.GroupID(g1), gen1, kindEntry)); bytes.Compare(one, end) >= 0 || bytes.Compare(end, MachinePrefix(raftcore.GroupID(g1), gen1)) > 0 {
			t.Errorf("entries end at %x", end)
		}
	})
}

// FuzzScanLog: no content of a file of Pebble's log makes the check before Open panic or read it as valid
// beyond its end.
func FuzzScanLog(f *testing.F) {
	chunk := func(log uint32, kind byte, payload []byte) []byte {
		b := make([]byte, walSyncHeaderBytes, walSyncHeaderBytes+len(payload))
		b[4], b[5], b[6] = byte(len(payload)), byte(len(payload)>>8), kind
		b[7] = byte(log)
		b = append(b, payload...)
		sum := walChecksum(b[6:])
		b[0], b[1], b[2], b[3] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
		return b
	}
	noted := append(make([]byte, batchHeaderBytes), batchKindLogData, byte(syncNoteBytes))
	noted = syncNote{Log: 3, Synced: 30}.encode(noted)
	whole := append(chunk(3, walTypeSyncFull, []byte("batch of some twelve bytes")), chunk(3, walTypeSyncFull, noted)...)
	f.Add(uint32(3), whole)
	f.Add(uint32(3), append([]byte{9}, whole...))
	f.Add(uint32(3), append(slices.Clone(whole), 0, 0, 0, 0, 0, 0, walTypeFull, 4, 0, 0, 0))
	f.Fuzz(func(t *testing.T, log uint32, data []byte) {
		data = data[:min(len(data), 4*walBlockBytes)] // behind damage the scan tries every byte
		decodetest.Bounded(t, len(data), decodetest.PerByte, func() {
			s := &walScan{map[uint32]string{}, map[uint32]uint64{}, map[uint32]uint64{}}
			must(t, s.scan(log, "000003.log", bytes.NewReader(data)))
			if s.valid[log] > uint64(len(data)) {
				t.Errorf("%d bytes are valid to byte %d", len(data), s.valid[log])
			}
			if err := s.verdict(); (err != nil) != (s.synced[log] > s.valid[log]) || err != nil && !errors.Is(err, ErrDamaged) {
				t.Errorf("synced %v, valid %v: %v", s.synced, s.valid, err)
			}
		})
	})
}
