package client

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/proto/recordbatch"
)

// pigeon is a courier that goes nowhere.
type pigeon struct{ home string }

func (p *pigeon) send(*multiraftv1.AppendItem) {}
func (p *pigeon) address() string              { return p.home }
func (p *pigeon) stop()                        {}

const testWindow = 5

var testEpoch = time.UnixMilli(1_700_000_000_000)

// laneTest drives a lane without a producer, clock or network.
type laneTest struct {
	*testing.T
	l   *lane
	now time.Time
	via courier
}

func newLaneTest(t *testing.T, batches int) *laneTest {
	lt := &laneTest{T: t, l: &lane{producer: recordbatch.Producer{ID: 7}}, now: testEpoch, via: &pigeon{"a"}}
	for i := range batches {
		lt.add(i)
	}
	return lt
}

func (t *laneTest) add(i int) {
	t.l.open = newBatch(t.l, t.now)
	t.l.open.add(Record{Value: []byte{byte(i)}}, 1)
	t.l.open.add(Record{Value: []byte{byte(i)}}, 1)
	t.l.close(t.now)
}

// sendAll sends what may be sent and returns it.
func (t *laneTest) sendAll() []*batch {
	t.Helper()
	var out []*batch
	t.l.drain()
	for b := t.l.next(t.now, testWindow); b != nil; b = t.l.next(t.now, testWindow) {
		if err := t.l.freeze(b); err != nil {
			t.Fatal(err)
		}
		t.l.sent(b, t.via, uint64(len(out)), t.now)
		out = append(out, b)
	}
	return out
}

func (t *laneTest) sequences(bs []*batch) (out []int32) {
	t.Helper()
	for _, b := range bs {
		info, err := recordbatch.ParseHeader(b.encoded)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, info.BaseSequence)
	}
	return out
}

func (t *laneTest) want(what string, got, want int) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: %d, want %d", what, got, want)
	}
}

func answer(reason Reason, retry time.Duration) *Error {
	return &Error{Op: "append", Code: codes.Unavailable, Reason: reason, RetryAfter: retry}
}

func TestALaneSendsAWindowAndNoMore(t *testing.T) {
	lt := newLaneTest(t, 8)
	out := lt.sendAll()
	lt.want("sent", len(out), testWindow)
	lt.l.acked(out[1], Receipt{})
	lt.want("sent while the oldest is open", len(lt.sendAll()), 0)
	lt.l.acked(out[0], Receipt{})
	lt.want("settled in order", len(lt.l.pop(lt.now)), 2)
	lt.want("sent after that", len(lt.sendAll()), 2)
}

func TestARefusedWindowGoesAgainInOrderAsTheSameBytes(t *testing.T) {
	lt := newLaneTest(t, 3)
	out := lt.sendAll()
	first := string(out[0].encoded)
	lt.l.refused(out[0], answer(NotLeader, 0), lt.now)
	lt.l.refused(out[1], answer(SequenceGap, 0), lt.now)
	lt.now = lt.now.Add(time.Minute)
	lt.want("sent before all is answered", len(lt.sendAll()), 0)
	lt.l.refused(out[2], answer(UnknownProducer, 0), lt.now)
	again := lt.sendAll()
	lt.want("sent again", len(again), 3)
	for i, s := range lt.sequences(again) {
		if s != int32(2*i) {
			t.Fatalf("batch %d has sequence %d", i, s)
		}
	}
	if string(again[0].encoded) != first {
		t.Fatal("the bytes of a retry differ")
	}
}

// TestALaneAsksAnotherNodeAtOnceWhenItsOwnStops: the pause that a stopping node asks for was most of the time for which
// appends stood still when a node was restarted with SIGTERM.
func TestALaneAsksAnotherNodeAtOnceWhenItsOwnStops(t *testing.T) {
	lt := newLaneTest(t, 3)
	out := lt.sendAll()
	for _, b := range out {
		lt.want("sent before all is answered", len(lt.sendAll()), 0)
		lt.l.refused(b, answer(Stopping, 100*time.Millisecond), lt.now)
	}
	again := lt.sendAll()
	lt.want("sent again at once", len(again), 3)
	for _, b := range again { // by one that stops as well, or the same one
		lt.l.refused(b, answer(Stopping, 100*time.Millisecond), lt.now)
	}
	lt.want("sent a third time at once", len(lt.sendAll()), 0)
	lt.now = lt.now.Add(125 * time.Millisecond)
	again = lt.sendAll()
	lt.want("sent after the pause", len(again), 3)
	lt.l.acked(again[0], Receipt{})
	lt.l.refused(again[1], answer(Stopping, 100*time.Millisecond), lt.now)
	lt.l.refused(again[2], answer(SequenceGap, 0), lt.now)
	lt.want("sent again at once, after an acknowledgement", len(lt.sendAll()), 2)
}

func TestALaneWaitsAsLongAsTheNodeAsked(t *testing.T) {
	lt := newLaneTest(t, 1)
	lt.l.refused(lt.sendAll()[0], answer(Overloaded, time.Second), lt.now)
	lt.now = lt.now.Add(time.Second - 1)
	lt.want("sent early", len(lt.sendAll()), 0)
	lt.now = lt.now.Add(time.Second)
	lt.want("sent in time", len(lt.sendAll()), 1)
}

func TestANewTermEndsThePauseAfterALostLeader(t *testing.T) {
	lt := newLaneTest(t, 1)
	lt.l.term = 4
	lt.l.refused(lt.sendAll()[0], answer(NoLeader, time.Second), lt.now)
	lt.l.led(2, 4, lt.now)
	lt.want("sent to the old leader", len(lt.sendAll()), 0)
	lt.l.leader = 0
	lt.l.led(3, 5, lt.now)
	lt.want("sent to the new one", len(lt.sendAll()), 1)
}

func TestAGapOfTheOldestBatchIsFinal(t *testing.T) {
	lt := newLaneTest(t, 2)
	out := lt.sendAll()
	lt.l.refused(out[0], answer(SequenceGap, 0), lt.now)
	lt.l.refused(out[1], answer(SequenceGap, 0), lt.now)
	lt.want("sent under the broken sequence", len(lt.sendAll()), 0)
	popped := lt.l.pop(lt.now)
	lt.want("settled", len(popped), 1)
	if !errors.Is(popped[0].ack.Err, SequenceGap) {
		t.Fatalf("error is %v", popped[0].ack.Err)
	}
	if !lt.l.renewable() {
		t.Fatal("the lane does not ask for a producer id")
	}
	lt.l.renew(recordbatch.Producer{ID: 8})
	again := lt.sendAll()
	lt.want("sent under the new id", len(again), 1)
	if info, err := recordbatch.ParseHeader(again[0].encoded); err != nil || info.ProducerID != 8 || info.BaseSequence != 0 {
		t.Fatalf("header %+v, %v", info, err)
	}
}

func TestAForgottenProducerBeginsAnew(t *testing.T) {
	lt := newLaneTest(t, 2)
	for _, b := range lt.sendAll() {
		lt.l.refused(b, answer(UnknownProducer, 0), lt.now)
	}
	lt.want("sent without an id", len(lt.sendAll()), 0)
	lt.l.renew(recordbatch.Producer{ID: 9})
	again := lt.sendAll()
	lt.want("sent anew", len(again), 2)
	if s := lt.sequences(again); s[0] != 0 || s[1] != 2 {
		t.Fatalf("sequences %v", s)
	}
}

func TestABatchThatMayBeStoredIsNeverRenumbered(t *testing.T) {
	lt := newLaneTest(t, 2)
	out := lt.sendAll()
	lt.l.lost(lt.via, &Error{Op: "append", Code: codes.Unavailable}, lt.now)
	lt.now = lt.now.Add(time.Minute)
	lt.want("sent again", len(lt.sendAll()), 2)
	for _, b := range out {
		lt.l.refused(b, answer(UnknownProducer, 0), lt.now)
	}
	lt.l.drain()
	popped := lt.l.pop(lt.now)
	lt.want("settled", len(popped), 2)
	for _, b := range popped {
		if !errors.Is(b.ack.Err, OutcomeUnknown) {
			t.Fatalf("error is %v", b.ack.Err)
		}
	}
}

func TestGivingUpTellsWhatMayBeStoredFromWhatIsNot(t *testing.T) {
	lt := newLaneTest(t, 7)
	lt.sendAll()
	lt.l.abandon(ErrTimedOut)
	popped := lt.l.pop(lt.now)
	lt.want("settled", len(popped), 7)
	for i, b := range popped {
		sent := i < testWindow
		if errors.Is(b.ack.Err, OutcomeUnknown) != sent || errors.Is(b.ack.Err, ErrTimedOut) == sent {
			t.Fatalf("batch %d: %v", i, b.ack.Err)
		}
	}
}

func TestAConnectionThatNeverWasStoresNothing(t *testing.T) {
	lt := newLaneTest(t, 1)
	lt.sendAll()
	lt.l.lost(lt.via, &Error{Op: "append", Code: codes.Unavailable, unsent: true}, lt.now)
	lt.l.abandon(errors.Join(ErrTimedOut, lt.l.lastErr))
	if err := lt.l.pop(lt.now)[0].ack.Err; !errors.Is(err, ErrUnreachable) || !errors.Is(err, ErrTimedOut) {
		t.Fatalf("error is %v", err)
	}
}

func TestSequencesWrap(t *testing.T) {
	lt := newLaneTest(t, 2)
	lt.l.producer.Sequence = 1<<31 - 1
	if s := lt.sequences(lt.sendAll()); s[0] != 1<<31-1 || s[1] != 1 {
		t.Fatalf("sequences %v", s)
	}
}

// A node may judge the second of two batches before the first, which came to it by way of another node.
func TestAGapThatAPredecessorCausedIsNotFinalThoughThePredecessorIsStored(t *testing.T) {
	now := time.Now()
	l := &lane{producer: recordbatch.Producer{ID: 7}}
	via := &pigeon{}
	var batches []*batch
	for i := range 2 {
		l.open = newBatch(l, now)
		l.open.add(Record{Value: []byte("v")}, 10)
		l.close(now)
		b := l.next(now, 5)
		if err := l.freeze(b); err != nil {
			t.Fatal(err)
		}
		l.sent(b, via, uint64(i), now)
		batches = append(batches, b)
	}
	gap := &Error{Reason: SequenceGap, Code: codes.FailedPrecondition}
	l.acked(batches[0], Receipt{Count: 1})
	l.refused(batches[1], gap, now)
	l.drain()
	if batches[1].settled {
		t.Fatalf("failed for good: %v", batches[1].ack.Err)
	}
	b := l.next(now, 5)
	if b != batches[1] {
		t.Fatal("it is not sent again")
	}
	l.sent(b, via, 3, now)
	l.refused(b, gap, now)
	if !b.settled && !l.broken {
		t.Fatal("a gap of a batch that nothing is before is final")
	}
}
