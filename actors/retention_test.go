package actors

import (
	"errors"
	"slices"
	"testing"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/proto/recordbatch"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/partition"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

const rigRetentionTicks = 5

// recordsRig is a rig whose replica keeps real records.
func recordsRig(t *testing.T, change func(*ReplicaConfig)) *rig {
	t.Helper()
	return newRigWith(t, nil, func(c *ReplicaConfig) {
		c.OpenMachine = func(v store.View, prefix []byte) (Machine, error) { return partition.Open(v, prefix) }
		c.RetentionTicks = rigRetentionTicks
		change(c)
	})
}

func batchOf(records int) []byte {
	b, err := recordbatch.Encode(nil, recordbatch.None, make([]recordbatch.Record, records))
	if err != nil {
		panic(err)
	}
	return b
}

// entryOf encodes payloads as the content of an entry.
func entryOf(millis int64, payloads ...[]byte) []byte {
	e := raftcore.Entry{Time: millis, Payloads: payloads}
	return e.AppendTo(nil)
}

// append stores one entry through the leader and returns its index.
func (r *rig) append(payload []byte) raftcore.Index {
	r.t.Helper()
	res := &result{t: r.t}
	r.tell(&Propose{Payload: payload, Reply: res})
	r.settle(r.run())
	if !res.ended || res.Err != nil || res.Outcome.Verdict != raftcore.Accepted {
		r.t.Fatalf("%+v", res)
	}
	return res.At.Index
}

// settle has node 2 acknowledge whatever is sent to it until nothing more is.
func (r *rig) settle(out []sent) {
	for len(out) > 0 {
		for _, s := range out {
			switch {
			case s.to != 2:
			case s.env.Type == raftv1.MessageType_MESSAGE_TYPE_APPEND:
				r.tell(ack(s.env))
			case s.env.Type == raftv1.MessageType_MESSAGE_TYPE_HEARTBEAT:
				r.tell(inbound(2, &raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_HEARTBEAT_RESPONSE, Term: s.env.Term}))
			}
		}
		out = r.run()
	}
}

// pass lets ticks pass.
func (r *rig) pass(ticks int) {
	for range ticks {
		r.ticks.add()
		r.tell(tick{})
		r.settle(r.run())
	}
}

// stored returns the indexes of the entries in the store, and the state beside them.
func (r *rig) stored() (entries []raftcore.Index, st store.State) {
	r.t.Helper()
	v, err := r.kv.View()
	if err != nil {
		r.t.Fatal(err)
	}
	if st, err = store.LoadState(v, rigGroup, 1); err != nil {
		r.t.Fatal(err)
	}
	for i := raftcore.Index(1); i <= r.status().Last; i++ {
		if _, _, err := store.EntryData(v, rigGroup, 1, i); err == nil {
			entries = append(entries, i)
		} else if !errors.Is(err, store.ErrNotFound) {
			r.t.Fatal(err)
		}
	}
	if err := v.Close(); err != nil {
		r.t.Fatal(err)
	}
	return entries, st
}

func TestALeaderProposesOneTruncationForWhatIsTooOldAndTheEntriesGo(t *testing.T) {
	r := recordsRig(t, func(c *ReplicaConfig) { c.Retention = partition.Retention{Millis: 1000} })
	r.elect()
	r.append(batchOf(2))
	second := r.append(batchOf(3))
	r.now = 500
	third := r.append(batchOf(4))
	r.pass(3 * rigRetentionTicks)
	if n := r.counters.Truncations.Load(); n != 0 || r.status().LogStart != 0 {
		t.Fatalf("%d truncations before anything is too old, log start %d", n, r.status().LogStart)
	}
	r.now = 1400
	r.pass(3 * rigRetentionTicks)
	if n := r.counters.Truncations.Load(); n != 1 {
		t.Fatalf("%d truncations, want 1", n)
	}
	if s := r.status(); s.LogStart != 5 || s.HighWatermark != 9 || s.FirstIndex != second+1 || s.Bytes != int64(len(batchOf(4))) {
		t.Fatalf("%+v", s)
	}
	entries, st := r.stored()
	if entries[0] != third || st.Truncated.Index != second || st.Truncated.Term != r.status().Term {
		t.Fatalf("entries %v, truncated %+v", entries, st.Truncated)
	}
	r.now = 10_000
	r.pass(3 * rigRetentionTicks)
	if s := r.status(); s.LogStart != 9 || s.Bytes != 0 || r.counters.Truncations.Load() != 2 {
		t.Fatalf("%+v after %d truncations", s, r.counters.Truncations.Load())
	}
}

func TestARetainChangesWhatIsKept(t *testing.T) {
	r := recordsRig(t, func(*ReplicaConfig) {})
	r.elect()
	for range 4 {
		r.append(batchOf(1))
	}
	r.now = 1 << 40
	r.pass(2 * rigRetentionTicks)
	if r.status().LogStart != 0 {
		t.Fatal("records went that are kept for good")
	}
	r.tell(&Retain{partition.Retention{Bytes: int64(2 * len(batchOf(1)))}})
	r.pass(2 * rigRetentionTicks)
	if s := r.status(); s.LogStart != 2 {
		t.Fatalf("log start %d, want 2", s.LogStart)
	}
}

func TestAFollowerTruncatesOnlyByWhatIsCommitted(t *testing.T) {
	r := recordsRig(t, func(c *ReplicaConfig) { c.Retention = partition.Retention{Millis: 1} })
	r.disp.run()
	r.follow(5, entryOf(1, batchOf(1)), entryOf(2, batchOf(1)))
	r.now = 1 << 40
	for range 4 * rigRetentionTicks {
		r.ticks.add()
		r.tell(tick{}, inbound(2, &raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_APPEND, Term: 5, Index: 3, LogTerm: 5, Commit: 3}))
		r.run()
	}
	if s := r.status(); s.Leader != 2 || s.LogStart != 0 || r.counters.Truncations.Load() != 0 {
		t.Fatalf("%+v after %d truncations", s, r.counters.Truncations.Load())
	}
}

// follow has node 2, leader of a term, append entries from index 2 on and commit them.
func (r *rig) follow(term uint64, entries ...[]byte) {
	app := &raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_APPEND, Term: term, Index: 1, LogTerm: 1, Commit: 1 + uint64(len(entries))}
	for i, data := range entries {
		app.Entries = append(app.Entries, &raftv1.LogEntry{Term: term, Index: uint64(2 + i), Data: data})
	}
	r.tell(inbound(2, app))
	r.run()
}

// Raft looks at all that follows what it knows to be applied before it campaigns; gone entries panic it.
func TestEntriesStayUntilRaftKnowsThatTheyAreApplied(t *testing.T) {
	r := recordsRig(t, func(*ReplicaConfig) {})
	r.disp.run()
	r.holdApplies = true
	r.follow(5, entryOf(1, batchOf(1)), entryOf(2, batchOf(1)),
		entryOf(3, partition.Truncation{To: 1, Bytes: uint64(len(batchOf(1))), Discard: 2}.AppendTo(nil)))
	if s := r.status(); s.LogStart != 1 || s.FirstIndex != 2 {
		t.Fatalf("log start %d, first index %d: the machine has moved, the log must not have", s.LogStart, s.FirstIndex)
	}
	for range 30 {
		r.ticks.add()
		r.tell(tick{})
		r.run()
	}
	if len(r.panics) > 0 || r.status().Failure != "" {
		t.Fatalf("%v, %q", r.panics, r.status().Failure)
	}
	if role := r.status().Role; role != raftcore.PreCandidate {
		t.Fatalf("it is a %v: it should have campaigned", role)
	}
	r.holdApplies = false
	for _, w := range r.held {
		r.system.Root.Send(r.writer, w)
	}
	r.run()
	if entries, st := r.stored(); r.status().FirstIndex != 3 || st.Truncated.Index != 2 || !slices.Equal(entries, []raftcore.Index{3, 4}) {
		t.Fatalf("first index %d, truncated %+v, entries %v", r.status().FirstIndex, st.Truncated, entries)
	}
}

func TestASnapshotUnderWayHoldsTheLogBackUnlessTheDiskIsNearlyFull(t *testing.T) {
	for _, c := range []struct {
		name     string
		snapshot raftcore.Index
		level    SpaceLevel
		first    raftcore.Index
	}{
		{"no snapshot", 0, SpaceEnough, 4},
		{"snapshot", 2, SpaceEnough, 3},
		{"snapshot on a disk that is low", 2, SpaceLow, 3},
		{"snapshot on a disk that is nearly full", 2, SpaceShort, 4},
		{"snapshot from further on", 5, SpaceEnough, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			space := &Space{}
			space.Set(c.level)
			r := recordsRig(t, func(cfg *ReplicaConfig) { cfg.Space = space })
			r.disp.run()
			if c.snapshot != 0 {
				s := &sending{source: &SnapshotSource{}}
				s.source.floor.Store(uint64(c.snapshot))
				r.self.sending = []*sending{s}
			}
			r.follow(5, entryOf(1, batchOf(1)), entryOf(2, batchOf(1)), entryOf(3, batchOf(1)))
			app := &raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_APPEND, Term: 5, Index: 4, LogTerm: 5, Commit: 5,
				Entries: []*raftv1.LogEntry{{Term: 5, Index: 5, Data: entryOf(4, partition.Truncation{To: 2, Bytes: uint64(2 * len(batchOf(1))), Discard: 3}.AppendTo(nil))}}}
			r.tell(inbound(2, app))
			r.run()
			if s := r.status(); s.LogStart != 2 || s.FirstIndex != c.first {
				t.Fatalf("log start %d, first index %d, want %d", s.LogStart, s.FirstIndex, c.first)
			}
			r.self.sending = nil
			r.tell(flush{})
			r.run()
			if entries, _ := r.stored(); r.status().FirstIndex != 4 || entries[0] != 4 {
				t.Fatalf("after its end: first index %d, entries %v", r.status().FirstIndex, entries)
			}
		})
	}
}

func TestAFollowerWhoseDiskIsNearlyFullTakesOnlySmallAppends(t *testing.T) {
	space := &Space{}
	r := recordsRig(t, func(c *ReplicaConfig) { c.Space = space })
	r.disp.run()
	small, large := entryOf(1, batchOf(1)), entryOf(1, make([]byte, shortEntriesBytesMax))
	space.Set(SpaceLow)
	r.follow(5, large)
	if last := r.status().Last; last != 2 {
		t.Fatalf("last index %d: a disk that is low takes what is replicated", last)
	}
	space.Set(SpaceShort)
	third := func(data []byte) *Inbound {
		return inbound(2, &raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_APPEND, Term: 5, Index: 2, LogTerm: 5, Commit: 2,
			Entries: []*raftv1.LogEntry{{Term: 5, Index: 3, Data: data}}})
	}
	r.tell(third(large))
	if out := r.run(); len(out) > 0 || r.status().Last != 2 || r.counters.AppendsShort.Load() != 1 {
		t.Fatalf("sent %v, last index %d, counted %d", out, r.status().Last, r.counters.AppendsShort.Load())
	}
	r.tell(third(small))
	only(t, r.run(), raftv1.MessageType_MESSAGE_TYPE_APPEND_RESPONSE, 2)
	if r.status().Last != 3 {
		t.Fatalf("last index %d", r.status().Last)
	}
	space.Set(SpaceEnough)
	r.tell(third(large))
	r.run()
	if r.status().Last != 3 || len(r.panics) > 0 {
		t.Fatalf("last index %d, %v", r.status().Last, r.panics)
	}
}

func TestALeaderWhoseDiskStallsAsksAFollowerThatHasAllToTakeOver(t *testing.T) {
	for phase := range 11 { // of the election timeout, at whose end Raft forgets who was heard of
		r := newRig(t, nil)
		r.elect()
		asked := 0
		pass := func(ticks int) {
			for range ticks {
				r.ticks.add()
				r.tell(tick{})
				for _, s := range r.run() {
					switch s.env.Type {
					case raftv1.MessageType_MESSAGE_TYPE_HEARTBEAT: // none comes once the disk has stalled
						if s.to == 2 {
							r.tell(inbound(2, &raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_HEARTBEAT_RESPONSE, Term: s.env.Term}))
						}
					case raftv1.MessageType_MESSAGE_TYPE_TIMEOUT_NOW:
						if asked++; s.to != 2 {
							t.Fatalf("node %d was asked", s.to)
						}
					}
				}
			}
		}
		pass(phase)
		r.stalled = true
		ms, _ := proposals(t, "a")
		r.tell(ms...)
		r.tell(ack(only(t, r.run(), raftv1.MessageType_MESSAGE_TYPE_APPEND, 2)))
		r.run()
		if pass(9); asked > 0 || r.status().Stalled {
			t.Fatalf("phase %d: asked before an election timeout was over", phase)
		}
		if pass(3); asked != 1 || r.counters.StallHandovers.Load() != 1 || !r.status().Stalled {
			t.Errorf("phase %d: asked %d times, counted %d, %+v", phase, asked, r.counters.StallHandovers.Load(), r.status())
		}
	}
}
