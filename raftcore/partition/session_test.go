package partition

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/multiraftd/multiraftd/proto/recordbatch"
	"github.com/multiraftd/multiraftd/raftcore"
)

func TestARetriedBatchIsADuplicateAndTellsItsOffsetWhileItIsRemembered(t *testing.T) {
	w := newWorld(t)
	w.apply(1, from(1, 0, 10), from(1, 10, 1), from(1, 11, 2), from(1, 13, 1), from(1, 14, 1))
	expect(t, w.apply(1, from(1, 0, 10), from(1, 11, 2), from(1, 14, 1)), "duplicate 0", "duplicate 11", "duplicate 14")
	w.apply(1, from(1, 15, 1)) // the first is forgotten
	expect(t, w.apply(1, from(1, 0, 10), from(1, 10, 1)), "duplicate -1", "duplicate 10")
	w.reopen()
	expect(t, w.apply(1, from(1, 0, 10), from(1, 10, 1), from(1, 16, 1)), "duplicate -1", "duplicate 10", "accepted 16")
}

func TestABatchThatOverlapsWhatIsRememberedInAnotherWayIsAGap(t *testing.T) {
	w := newWorld(t)
	w.apply(1, from(1, 0, 10), from(1, 10, 1), from(1, 11, 2), from(1, 13, 1), from(1, 14, 1), from(1, 15, 4))
	expect(t, w.apply(1, from(1, 11, 1), from(1, 15, 5), from(1, 9, 2), from(1, 20, 1), from(1, 14, 2)),
		"sequence gap -1", "sequence gap -1", "sequence gap -1", "sequence gap -1", "sequence gap -1")
	expect(t, w.apply(1, from(1, 9, 1)), "duplicate -1")
}

func TestASequenceThatWasNeverUsedIsAGapAndNotAnOldOne(t *testing.T) {
	w := newWorld(t)
	w.apply(1, from(1, 0, 1), from(1, 1, 1), from(1, 2, 1), from(1, 3, 1), from(1, 4, 1), from(1, 5, 1))
	expect(t, w.apply(1, from(1, math.MaxInt32, 1), from(1, math.MaxInt32-5, 2), from(1, 1<<30, 1)), "sequence gap -1", "sequence gap -1", "sequence gap -1")
}

func TestANewEpochBeginsAtZeroAndFencesTheOldOne(t *testing.T) {
	w := newWorld(t)
	epoch := func(e int16, sequence int32) []byte {
		return batchOf(recordbatch.Producer{ID: 1, Epoch: e, Sequence: sequence}, 1)
	}
	expect(t, w.apply(1, epoch(0, 0), epoch(0, 1), epoch(2, 2), epoch(2, 0), epoch(0, 1), epoch(1, 0), epoch(2, 1), epoch(2, 0)),
		"accepted 0", "accepted 1", "sequence gap -1", "accepted 2", "fenced -1", "fenced -1", "accepted 3", "duplicate 2")
	w.reopen()
	expect(t, w.apply(1, epoch(1, 0), epoch(2, 2)), "fenced -1", "accepted 4")
}

func TestSequencesWrap(t *testing.T) {
	w := newWorld(t)
	w.apply(1, from(1, 0, 1))
	s := w.m.sessions.byID[1]
	s.window[0], s.written = batch{math.MaxInt32 - 3, 2, 0}, math.MaxInt32-1 // as if it had written that many
	expect(t, w.apply(1, from(1, math.MaxInt32-1, 4), from(1, 2, 1), from(1, math.MaxInt32-1, 4), from(1, 3, 1), from(1, 4, 1), from(1, 5, 1)),
		"accepted 1", "accepted 5", "duplicate 1", "accepted 6", "accepted 7", "accepted 8")
	expect(t, w.apply(1, from(1, math.MaxInt32-3, 2), from(1, 7, 1), from(1, 6, 1), from(1, math.MaxInt32-1, 4)),
		"duplicate -1", "sequence gap -1", "accepted 9", "duplicate -1")
}

func TestASessionExpiresByTheTimesOfEntriesAndNotBefore(t *testing.T) {
	w := newWorld(t)
	w.apply(1000, from(1, 0, 1), from(2, 0, 1))
	w.apply(2000, from(2, 1, 1))
	w.apply(500, from(3, 0, 1)) // a leader with a slow clock: the log's time stands still
	if got := w.m.sessions.byID[3].timeMillis; got != 2000 {
		t.Fatalf("time %d", got)
	}
	expect(t, w.apply(1000+sessionMillisMax, from(1, 0, 1)), "duplicate 0")
	expect(t, w.apply(1001+sessionMillisMax, from(1, 1, 1)), "unknown producer -1")
	w.reopen()
	expect(t, w.apply(1001+sessionMillisMax, from(1, 0, 1), from(2, 2, 1)), "accepted 4", "accepted 5")
}

func TestExpiryAfterAJumpOfTheClockIsSpreadOverEntries(t *testing.T) {
	w := newWorld(t)
	for id := range int64(3 * expiredPerApplyMax) {
		w.apply(1, from(id, 0, 1))
	}
	for left := 2; left >= 0; left-- {
		w.apply(2 + sessionMillisMax)
		if n := len(w.m.sessions.byID); n != left*expiredPerApplyMax {
			t.Fatalf("%d sessions, want %d", n, left*expiredPerApplyMax)
		}
	}
	w.reopen()
	if n := len(w.m.sessions.byID); n != 0 {
		t.Fatalf("%d sessions are still stored", n)
	}
}

func TestTheLeastRecentlyUsedSessionsGoWhenThereAreTooMany(t *testing.T) {
	w := newWorld(t)
	var payloads [][]byte
	for id := range int64(sessionsMax) {
		payloads = append(payloads, from(id, 0, 1))
	}
	w.apply(1, payloads...)
	w.apply(1, from(0, 1, 1), from(sessionsMax, 0, 1), from(sessionsMax+1, 0, 1)) // 0 is recent now: 1 and 2 are next
	w.reopen()
	expect(t, w.apply(1, from(0, 2, 1), from(1, 1, 1), from(2, 1, 1), from(3, 1, 1)),
		"accepted 32771", "unknown producer -1", "unknown producer -1", "accepted 32772")
	if n := len(w.m.sessions.byID); n != sessionsMax {
		t.Fatalf("%d sessions", n)
	}
}

// simple is what sessions are supposed to do, by remembering everything.
type simple struct {
	accepted map[int64][]simpleBatch // of the present epoch
	epoch    map[int64]int16
	next     raftcore.Offset
}

type simpleBatch struct {
	sequence int32
	count    int
	offset   raftcore.Offset
}

func (m *simple) judge(p recordbatch.Producer, count int) raftcore.Outcome {
	before := m.accepted[p.ID]
	expected := int32(0)
	for _, b := range before {
		expected += int32(b.count)
	}
	o := raftcore.Outcome{Offset: -1, Count: uint32(count)}
	switch {
	case p.ID == -1:
	case before == nil && p.Sequence != 0:
		o.Verdict = raftcore.UnknownProducer
	case before == nil:
	case p.Epoch < m.epoch[p.ID]:
		o.Verdict = raftcore.Fenced
	case p.Epoch > m.epoch[p.ID] && p.Sequence != 0:
		o.Verdict = raftcore.SequenceGap
	case p.Epoch > m.epoch[p.ID]:
		before = nil
	case p.Sequence != expected:
		return m.recall(before, p.Sequence, o)
	}
	if o.Verdict != raftcore.Accepted {
		return o
	}
	o.Offset = m.next
	m.next += raftcore.Offset(count)
	if p.ID != -1 {
		m.accepted[p.ID], m.epoch[p.ID] = append(before, simpleBatch{p.Sequence, count, o.Offset}), p.Epoch
	}
	return o
}

func (m *simple) recall(before []simpleBatch, sequence int32, o raftcore.Outcome) raftcore.Outcome {
	o.Verdict = raftcore.SequenceGap
	window := before[max(0, len(before)-windowBatches):]
	if int64(sequence)+int64(o.Count) <= int64(window[0].sequence) {
		o.Verdict = raftcore.Duplicate
	}
	for _, b := range window {
		if b.sequence == sequence && b.count == int(o.Count) {
			o.Verdict, o.Offset = raftcore.Duplicate, b.offset
		}
	}
	return o
}

func TestAnyConversationIsJudgedLikeTheSimpleModelOnTwoReplicasAndAcrossRestarts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		steady, restarting := newWorld(t), newWorld(t)
		model := &simple{accepted: map[int64][]simpleBatch{}, epoch: map[int64]int16{}}
		for range rapid.IntRange(1, 25).Draw(t, "entries") {
			var payloads [][]byte
			var want []raftcore.Outcome
			for range rapid.IntRange(0, 6).Draw(t, "batches") {
				p, count := anyBatch(t)
				payloads = append(payloads, batchOf(p, count))
				want = append(want, model.judge(p, count))
			}
			if rapid.Bool().Draw(t, "restart") {
				restarting.reopen()
			}
			for _, w := range []*world{steady, restarting} {
				if got := w.apply(int64(len(payloads)), payloads...); !slices.Equal(summary(got), summary(want)) {
					t.Fatalf("got %v, want %v", summary(got), summary(want))
				}
			}
		}
		restarting.reopen()
		if got, want := summaryOfState(restarting.m), summaryOfState(steady.m); !slices.Equal(got, want) {
			t.Fatalf("replicas differ: %v, %v", got, want)
		}
	})
}

func anyBatch(t *rapid.T) (recordbatch.Producer, int) {
	id := rapid.Int64Range(-1, 2).Draw(t, "producer")
	if id < 0 {
		return recordbatch.None, rapid.IntRange(1, 3).Draw(t, "count")
	}
	epoch := rapid.SampledFrom([]int16{0, 0, 0, 0, 0, 1, 1, 2}).Draw(t, "epoch")
	return recordbatch.Producer{ID: id, Epoch: epoch, Sequence: rapid.Int32Range(0, 14).Draw(t, "sequence")}, rapid.IntRange(1, 2).Draw(t, "count")
}

// summaryOfState lists bounds and sessions, by recency.
func summaryOfState(m *Machine) (s []string) {
	s = append(s, string(appendRecord(nil, m.bounds)))
	for p := m.sessions.oldest; p != nil; p = p.newer {
		s = append(s, string(appendSession(nil, p)))
	}
	return s
}
