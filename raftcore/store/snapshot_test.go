package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"pgregory.net/rapid"

	"github.com/multiraftd/multiraftd/raftcore"
)

// lagging is the replica that a snapshot fills in these tests: of testGroup, with replica 9 as a learner.
const lagging raftcore.ReplicaID = 9

var snapshotMembers = map[raftcore.ReplicaID]raftcore.NodeID{1: 11, 2: 12, 3: 13, lagging: 19}

// putSource makes a group with entries 2 to last of term 3, applied to applied, truncated to truncated, and a
// machine with a key for each applied entry.
func putSource(t rapid.TB, kv KV, last, applied, truncated uint64, dataBytes int) *Log {
	t.Helper()
	birth(t, kv)
	l := openLog(t, kv, 0)
	m := appendMsg(entriesFrom(2, 3, int(last)-1, dataBytes)...)
	m.Term, m.Vote, m.Commit = new(uint64(3)), new(uint64(2)), new(applied)
	commitAppend(t, kv, l, m, true)
	b := new(Batch)
	for i := uint64(2); i <= applied; i++ {
		b.Set(machineKey(l.Generation(), i), fmt.Append(nil, "row ", i))
	}
	s := l.State().Clone()
	s.Applied, s.AppliedTerm, s.Hash = raftcore.Index(applied), 3, 0xfeed
	s.Truncated = raftcore.Position{Index: raftcore.Index(truncated), Term: 3}
	if truncated <= 1 {
		s.Truncated = birthPosition
	}
	s.Members = snapshotMembers
	s.ConfState = &raftpb.ConfState{Voters: []uint64{1, 2, 3}, Learners: []uint64{uint64(lagging)}, AutoLeave: new(false)}
	l.PutState(b, s)
	must(t, kv.Commit(b, true))
	return l
}

func machineKey(gen, i uint64) []byte {
	return binary.BigEndian.AppendUint64(MachinePrefix(testGroup, gen), i)
}

// chunksOf reads the snapshot of testGroup in chunks.
func chunksOf(t rapid.TB, kv KV, bytesMax int) (*Snapshot, [][]byte) {
	t.Helper()
	v := viewOf(t, kv)
	s, err := OpenSnapshot(v, testGroup)
	must(t, err)
	var chunks [][]byte
	for at := (Cursor{}); ; {
		data, next, last, err := s.Chunk(at, bytesMax)
		must(t, err)
		again, _, _, err := s.Chunk(at, bytesMax)
		must(t, err)
		if !bytes.Equal(data, again) || len(data) > bytesMax || !last && len(data) < bytesMax {
			t.Fatalf("chunk of %d bytes, last %v, then %d bytes; at most %d", len(data), last, len(again), bytesMax)
		}
		chunks, at = append(chunks, data), next
		if last {
			break
		}
	}
	must(t, v.Close())
	return s, chunks
}

func snapshotMsg(s *Snapshot, entries ...*raftpb.Entry) *raftpb.Message {
	at := s.Position()
	m := appendMsg(entries...)
	m.Term, m.Vote, m.Commit = new(uint64(4)), new(uint64(0)), new(uint64(at.Index))
	m.Snapshot = &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: new(uint64(at.Index)), Term: new(at.Term), ConfState: s.State.ConfState}}
	return m
}

// joined makes an empty replica in a store of its own.
func joined(t rapid.TB, kv KV) *Log {
	t.Helper()
	b := new(Batch)
	PutJoin(b, testGroup, lagging)
	must(t, kv.Commit(b, true))
	return openLog(t, kv, 1<<20)
}

// receive stages chunks into l, each in a batch of its own.
func receive(t rapid.TB, kv KV, l *Log, s *Snapshot, chunks [][]byte) {
	t.Helper()
	b := new(Batch)
	staging := l.Stage(b, s.Position(), s.State.ConfState)
	for i, data := range chunks {
		must(t, staging.Add(b, data, i == len(chunks)-1))
		must(t, kv.Commit(b, false))
		b = new(Batch)
	}
	if !staging.Complete() {
		t.Fatal("not complete after the last chunk")
	}
}

// keysOf returns the group's keys in the data space, without their generation, and what they hold.
func keysOf(t rapid.TB, v View, gen uint64) map[string]string {
	t.Helper()
	all := map[string]string{}
	lo := dataKey(testGroup, gen, 0)[:dataKeyBytes-1]
	must(t, v.Scan(lo, prefixEnd(lo), false, func(key, value []byte) bool {
		all[string(key[len(lo):])] = string(value)
		return true
	}))
	return all
}

func TestASnapshotCarriesWhatIsAppliedAndNothingElse(t *testing.T) {
	eachKV(t, func(t *testing.T, open func(rapid.TB) *crasher) {
		for _, bytesMax := range []int{1, 7, 100, 1 << 20} {
			from, to := open(t), open(t)
			src := putSource(t, from, 40, 30, 12, 64) // ten entries are not applied
			s, chunks := chunksOf(t, from, bytesMax)
			l := joined(t, to)
			receive(t, to, l, s, chunks)
			commitAppend(t, to, l, snapshotMsg(s), true)

			v, w := viewOf(t, from), viewOf(t, to)
			want, got := keysOf(t, v, 1), keysOf(t, w, 2)
			for i := uint64(31); i <= 40; i++ {
				delete(want, string(binary.BigEndian.AppendUint64([]byte{kindEntry}, i)))
			}
			if len(want) != 1+18+29 || len(got) != len(want) {
				t.Fatalf("%d keys went in, %d came out", len(want), len(got))
			}
			for k, value := range want {
				if got[k] != value {
					t.Fatalf("key %x: %x, want %x", k, got[k], value)
				}
			}
			hard, _, err := l.InitialState()
			must(t, err)
			if hard.GetVote() != 0 || hard.GetTerm() != 4 || src.hard.GetVote() != 2 {
				t.Fatalf("hard state %v: the sender voted for 2 in term 3", hard)
			}
			must(t, errors.Join(v.Close(), w.Close(), from.Close(), to.Close()))
		}
	})
}

func TestAnActivatedSnapshotIsALogLikeAnyOther(t *testing.T) {
	eachKV(t, func(t *testing.T, open func(rapid.TB) *crasher) {
		from, to := open(t), open(t)
		putSource(t, from, 30, 30, 12, 64)
		s, chunks := chunksOf(t, from, 100)
		l := joined(t, to)
		receive(t, to, l, s, chunks)
		commitAppend(t, to, l, snapshotMsg(s, entriesFrom(31, 4, 3, 8)...), true)
		to = to.crash(t)
		again := openLog(t, to, 0)
		for _, log := range []*Log{l, again} {
			first, _ := log.FirstIndex()
			last, _ := log.LastIndex()
			if first != 13 || last != 33 || log.Generation() != 2 || log.Replica() != lagging || log.State().Applied != 30 || log.State().Hash != 0xfeed {
				t.Fatalf("entries [%d, %d], %+v", first, last, log)
			}
		}
		ents, err := again.Entries(13, 34, 1<<30)
		must(t, err)
		if len(ents) != 21 || ents[0].GetTerm() != 3 || ents[20].GetTerm() != 4 || !bytes.HasPrefix(ents[17].GetData(), []byte("3.30")) {
			t.Fatalf("%d entries, the first %v, the last %v", len(ents), ents[0], ents[20])
		}
		if core := newCore(t, again); core.Status().Commit != 30 {
			t.Fatalf("%+v", core.Status())
		}
		must(t, errors.Join(from.Close(), to.Close()))
	})
}

func TestALogMayBeReplacedWhileItHasEntriesAndAMachine(t *testing.T) {
	eachKV(t, func(t *testing.T, open func(rapid.TB) *crasher) {
		from, to := open(t), open(t)
		putSource(t, from, 30, 30, 12, 64)
		s, chunks := chunksOf(t, from, 100)
		birth(t, to)
		l := openLog(t, to, 1<<20)
		commitAppend(t, to, l, appendMsg(entriesFrom(2, 2, 50, 8)...), true) // longer, and none of it committed
		receive(t, to, l, s, chunks)
		commitAppend(t, to, l, snapshotMsg(s), true)
		if term, err := l.Term(30); err != nil || term != 3 {
			t.Fatalf("term of entry 30: %d, %v", term, err)
		}
		if _, err := l.Term(31); err == nil {
			t.Fatal("an entry of the old log is still there")
		}
		v := viewOf(t, to)
		if old := keysOf(t, v, 1); len(old) != 0 {
			t.Fatalf("%d keys of the old generation are left", len(old))
		}
		must(t, errors.Join(v.Close(), from.Close(), to.Close()))
	})
}

func TestWhatIsNotTheAnnouncedSnapshotIsRefused(t *testing.T) {
	from := NewMem()
	putSource(t, from, 30, 30, 12, 64)
	s, chunks := chunksOf(t, from, 1<<20)
	whole := chunks[0]
	record := func(suffix string, value []byte) []byte {
		return append(recordHead([]byte(suffix), len(value)), value...)
	}
	entry := func(i, term uint64) []byte {
		return record("L"+string(binary.BigEndian.AppendUint64(nil, i)), appendEntryHeader(nil, newEntry(i, term, nil)))
	}
	state := record("A", s.State.encode())
	full := bytes.Clone(state)
	for i := uint64(13); i <= 30; i++ {
		full = append(full, entry(i, 3)...)
	}
	other := s.State.Clone()
	other.Members = map[raftcore.ReplicaID]raftcore.NodeID{1: 11, 2: 12, 3: 13}
	for name, row := range map[string]struct {
		data []byte
		at   raftcore.Position
		conf *raftpb.ConfState
	}{
		"another position":            {data: whole, at: raftcore.Position{Index: 30, Term: 4}},
		"another membership":          {data: whole, conf: &raftpb.ConfState{Voters: []uint64{1, 2}}},
		"nothing":                     {},
		"cut off":                     {data: whole[:len(whole)-1]},
		"a member without a node":     {data: record("A", other.encode())},
		"no state":                    {data: entry(13, 3)},
		"the state twice":             {data: slices.Concat(full, state)},
		"a gap in the log":            {data: slices.Concat(state, entry(14, 3))},
		"a log that ends too soon":    {data: full[:len(full)-len(entry(30, 3))]},
		"a log that goes on":          {data: slices.Concat(full, entry(31, 3))},
		"a log of falling terms":      {data: slices.Concat(state, entry(13, 2))},
		"a log of a later term":       {data: slices.Concat(state, entry(13, 4))},
		"an entry that is none":       {data: slices.Concat(state, record("L"+string(binary.BigEndian.AppendUint64(nil, 13)), []byte{9}))},
		"an entry under a short key":  {data: slices.Concat(state, record("L1", nil))},
		"keys that do not ascend":     {data: slices.Concat(full, record("Mb", nil), record("Ma", nil))},
		"the same key twice":          {data: slices.Concat(full, record("Mb", nil), record("Mb", nil))},
		"a hard state":                {data: slices.Concat(full, record("H", encodeHardState(9, 2, 9)))},
		"a key without a kind":        {data: slices.Concat(full, record("", nil))},
		"a key that is too long":      {data: slices.Concat(full, record("M"+string(make([]byte, suffixBytesMax)), nil))},
		"a value that is too long":    {data: slices.Concat(full, recordHead([]byte("M"), valueBytesMax+1))},
		"a length that has no end":    {data: slices.Concat(full, bytes.Repeat([]byte{0x80}, 12))},
		"a state that is not decoded": {data: record("A", []byte{9})},
		"a state under a longer key":  {data: record("Ax", s.State.encode())},
	} {
		at, conf := row.at, row.conf
		if at.Index == 0 {
			at = s.Position()
		}
		if conf == nil {
			conf = s.State.ConfState
		}
		b := new(Batch)
		if err := joined(t, NewMem()).Stage(b, at, conf).Add(b, row.data, true); !errors.Is(err, ErrSnapshotContent) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, data := range map[string][]byte{"the snapshot as it is": whole, "a machine without keys": full} {
		b := new(Batch)
		if err := joined(t, NewMem()).Stage(b, s.Position(), s.State.ConfState).Add(b, data, true); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnAppendOfASnapshotThatIsNotStagedPanics(t *testing.T) {
	from, to := NewMem(), NewMem()
	putSource(t, from, 30, 30, 12, 64)
	s, chunks := chunksOf(t, from, 1<<20)
	wantPanic(t, func() { joined(t, to).Append(new(Batch), snapshotMsg(s)) })

	l := openLog(t, to, 0)
	b := new(Batch)
	must(t, l.Stage(b, s.Position(), s.State.ConfState).Add(b, chunks[0][:100], false))
	wantPanic(t, func() { l.Append(new(Batch), snapshotMsg(s)) })

	l = openLog(t, to, 0)
	receive(t, to, l, s, chunks)
	other := snapshotMsg(s)
	other.Snapshot.Metadata.Index = new(uint64(29))
	wantPanic(t, func() { l.Append(new(Batch), other) })
}

func TestOnlyTheCurrentGenerationIsLeftAfterOpen(t *testing.T) {
	eachKV(t, func(t *testing.T, open func(rapid.TB) *crasher) {
		from, to := open(t), open(t)
		putSource(t, from, 30, 30, 12, 64)
		s, chunks := chunksOf(t, from, 100)
		l := putSource(t, to, 20, 10, 1, 8)
		before := viewOf(t, to)
		want := keysOf(t, before, 1)
		must(t, before.Close())
		if l.DropStrays(new(Batch)) {
			t.Fatal("a store without other generations has something to delete")
		}
		receive(t, to, l, s, chunks)
		must(t, to.Commit(new(Batch), true)) // as another group's sync would
		to = to.crash(t)
		l = openLog(t, to, 0)
		b := new(Batch)
		if !l.DropStrays(b) {
			t.Fatal("nothing was staged")
		}
		must(t, to.Commit(b, true))
		v := viewOf(t, to)
		if got := keysOf(t, v, 2); len(got) != 0 {
			t.Fatalf("%d staged keys are left", len(got))
		}
		if got := keysOf(t, v, 1); len(got) != len(want) {
			t.Fatalf("%d keys in force, want %d", len(got), len(want))
		}
		must(t, errors.Join(v.Close(), from.Close(), to.Close()))
	})
}

// commitList is a KV that remembers its commits.
type commitList struct {
	KV
	commits [][]Op
}

func (c *commitList) Commit(b *Batch, sync bool) error {
	c.commits = append(c.commits, copyOps(b.Ops()))
	return c.KV.Commit(b, sync)
}

// Any prefix of the commits of a replacement is a store in which the group is wholly old or wholly new.
func TestEveryPrefixOfAReplacementIsConsistent(t *testing.T) {
	eachKV(t, func(t *testing.T, open func(rapid.TB) *crasher) {
		from := NewMem()
		putSource(t, from, 30, 30, 12, 64)
		s, chunks := chunksOf(t, from, 150)
		list := &commitList{KV: NewMem()}
		l := putSource(t, list, 20, 10, 1, 8)
		b := new(Batch)
		given := l.Stage(b, s.Position(), s.State.ConfState)
		for _, data := range chunks[:len(chunks)/2] {
			must(t, given.Add(b, data, false))
			must(t, list.Commit(b, false))
			b = new(Batch)
		}
		l.DropStaging(b) // given up
		must(t, list.Commit(b, false))
		receive(t, list, l, s, chunks)
		activation := len(list.commits)
		commitAppend(t, list, l, snapshotMsg(s), true)
		commitAppend(t, list, l, appendMsg(entriesFrom(31, 4, 2, 8)...), true)
		kv := open(t)
		for n, ops := range list.commits {
			must(t, kv.Commit(&Batch{ops: ops}, true))
			if n < 2 { // birth and its first append
				continue
			}
			log := openLog(t, kv, 0)
			gen, applied, keys := uint64(1), raftcore.Index(10), 1+19+9
			if n >= activation {
				gen, applied, keys = 2, 30, 1+18+29+2*(n-activation)
			}
			if log.Generation() != gen || log.State().Applied != applied {
				t.Fatalf("after commit %d: generation %d, applied %d", n, log.Generation(), log.State().Applied)
			}
			newCore(t, log)
			v := viewOf(t, kv)
			if got := keysOf(t, v, gen); len(got) != keys {
				t.Fatalf("after commit %d: %d keys of generation %d, want %d", n, len(got), gen, keys)
			}
			must(t, v.Close())
		}
		if len(list.commits) != activation+2 || activation < 20 {
			t.Fatalf("%d commits, the activation was number %d", len(list.commits), activation)
		}
		must(t, kv.Close())
	})
}

func FuzzStaging(f *testing.F) {
	from := NewMem()
	putSource(f, from, 30, 30, 12, 64)
	s, chunks := chunksOf(f, from, 1<<20)
	f.Add(chunks[0], 10)
	f.Fuzz(func(t *testing.T, data []byte, cut int) {
		l := joined(t, NewMem())
		b := new(Batch)
		staging := l.Stage(b, s.Position(), s.State.ConfState)
		cut = min(max(cut, 0), len(data))
		err := staging.Add(b, data[:cut], false)
		if err == nil {
			err = staging.Add(b, data[cut:], true)
		}
		if (err == nil) != staging.Complete() {
			t.Fatalf("complete %v, error %v", staging.Complete(), err)
		}
		lo, hi := generationsAfter(testGroup, 1)
		for _, op := range b.Ops() {
			if op.Kind == Set && (bytes.Compare(op.Key, lo) < 0 || bytes.Compare(op.Key, hi) >= 0) {
				t.Fatalf("key %x is outside of what is staged", op.Key)
			}
		}
	})
}
