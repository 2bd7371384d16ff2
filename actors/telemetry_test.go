package actors

import (
	"testing"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore/measure"
)

// measured returns what a histogram shows.
func measured(c *Counters, name, value string) (found measure.Reading) {
	c.EachHistogram(func(n, _, v, _ string, r measure.Reading) {
		if n == name && v == value {
			found = r
		}
	})
	return found
}

// timed is a rig whose clock of durations goes on by a millisecond each time that it is read.
func timed(t *testing.T) *rig {
	r := newRig(t, nil)
	now := int64(0)
	r.counters.Nanos = func() int64 { now += 1e6; return now }
	return r
}

func TestAMessageForNobodyIsCounted(t *testing.T) {
	r := newRig(t, nil)
	r.elect()
	delete(r.self.state.Members, 2)
	r.ticks.add()
	r.tell(tick{})
	r.run()
	shown := map[string]uint64{}
	r.counters.Each(func(name, _, _, _ string, v uint64) { shown[name] = v })
	if shown["replica_messages_without_member_total"] == 0 {
		t.Error("a heartbeat for a replica that is on no node was not counted")
	}
}

// passAll lets ticks pass, and has both followers acknowledge whatever they are sent, until nothing is on its way.
func (r *rig) passAll(ticks int, ms ...any) {
	for range ticks {
		r.ticks.add()
		r.tell(tick{})
	}
	r.tell(ms...)
	for out := r.run(); len(out) > 0; out = r.run() {
		for _, s := range out {
			switch s.env.GetType() {
			case raftv1.MessageType_MESSAGE_TYPE_APPEND:
				in := ack(s.env)
				in.From, in.Envelopes[0].FromReplica = s.to, uint64(s.to)
				r.tell(in)
			case raftv1.MessageType_MESSAGE_TYPE_HEARTBEAT:
				r.tell(inbound(s.to, &raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_HEARTBEAT_RESPONSE, Term: s.env.GetTerm(), Context: s.env.GetContext()}))
			}
		}
	}
}

func TestEachAppendIsTimedByStageAndEachEntryByWhatItHolds(t *testing.T) {
	r := timed(t)
	r.elect()
	before := r.counters.EntryAppends.Read()
	ms, results := proposals(t, "a", "b", "c")
	for _, m := range ms {
		m.(*Propose).Since = r.counters.now()
	}
	r.passAll(0, ms...)
	for _, res := range results {
		if !res.ended || res.Err != nil || res.Settled == 0 {
			t.Fatalf("not acknowledged: %+v", res)
		}
	}
	for _, stage := range []string{"queue", "fsync", "commit", "apply"} {
		if got := measured(&r.counters, "append_stage_duration_seconds", stage); got.Count() != 3 || got.Sum <= 0 {
			t.Errorf("stage %s: %d appends, %v s", stage, got.Count(), got.Sum)
		}
	}
	after := r.counters.EntryAppends.Read()
	if after.Count()-before.Count() != 1 || after.Sum-before.Sum != 3 {
		t.Errorf("%d entries with %v appends, want 1 with 3", after.Count()-before.Count(), after.Sum-before.Sum)
	}
	if got := measured(&r.counters, "replica_replication_duration_seconds", ""); got.Count() == 0 {
		t.Error("no replication was timed")
	}
	if w, b := r.counters.QueueWrites.Load(), r.counters.QueueBytes.Load(); w != 0 || b != 0 {
		t.Errorf("%d writes of %d bytes are in the queue of an idle disk", w, b)
	}
}

func TestWithoutAClockNothingIsTimed(t *testing.T) {
	r := newRig(t, nil)
	r.elect()
	ms, _ := proposals(t, "a")
	r.passAll(0, ms...)
	r.counters.EachHistogram(func(name, _, _, _ string, m measure.Reading) {
		if m.Unit == "s" && m.Count() > 0 {
			t.Errorf("%s has %d observations", name, m.Count())
		}
	})
}

func TestWhatTheDiskHasNotTakenIsInItsQueue(t *testing.T) {
	r := newRig(t, nil)
	r.elect()
	r.stalled = true
	ms, _ := proposals(t, "a")
	r.tell(ms...)
	r.run()
	if n := r.counters.QueueWrites.Load(); n != 0 {
		t.Errorf("%d writes in the queue of a disk that was given none", n)
	}
	w := r.held[0].(*Write)
	r.system.Root.Send(r.writer, w) // which has not run yet
	if n, b := r.counters.QueueWrites.Load(), r.counters.QueueBytes.Load(); n != 1 || b != int64(w.Batch.Bytes()) || b == 0 {
		t.Errorf("%d writes of %d bytes in the queue, want one of %d", n, b, w.Batch.Bytes())
	}
	r.run()
	if n, b := r.counters.QueueWrites.Load(), r.counters.QueueBytes.Load(); n != 0 || b != 0 {
		t.Errorf("%d writes of %d bytes are in the queue of an idle disk", n, b)
	}
}

func TestElectionsAndTermsAreCountedWhenTheyBegin(t *testing.T) {
	r := timed(t)
	r.elect()
	if e, terms := r.counters.Elections.Load(), r.counters.TermChanges.Load(); e != 1 || terms != 1 {
		t.Errorf("%d elections, %d terms", e, terms)
	}
	if n := measured(&r.counters, "replica_leaderless_duration_seconds", "").Count(); n != 1 {
		t.Errorf("%d times without a leader ended", n)
	}
}
