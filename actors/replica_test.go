package actors

import (
	"errors"
	"testing"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
)

func TestAppendsOfOneTurnAreMergedIntoOneEntry(t *testing.T) {
	r := newRig(t, nil)
	r.elect()
	ms, results := proposals(t, "a", "b", "c")
	r.tell(ms...)
	app := only(t, r.run(), raftv1.MessageType_MESSAGE_TYPE_APPEND, 2)
	if len(app.Entries) != 1 {
		t.Fatalf("%d entries, want 1", len(app.Entries))
	}
	e, err := raftcore.DecodeEntry(app.Entries[0].Data)
	if err != nil || len(e.Payloads) != 3 || string(e.Payloads[2]) != "c" {
		t.Fatalf("entry %+v, %v", e, err)
	}
	for _, res := range results {
		if res.ended {
			t.Fatal("answered before a majority has it")
		}
	}
	r.tell(ack(app))
	r.run()
	for i, res := range results {
		if !res.ended || res.Err != nil || res.Outcome.Offset != raftcore.Offset(i) || res.Fsynced < 2 {
			t.Fatalf("result %d: %+v", i, res)
		}
	}
}

func TestAFollowersAcknowledgementWaitsForItsFsync(t *testing.T) {
	r := newRig(t, nil)
	r.disp.run() // opens, campaigns; nobody answers
	term := r.status().Term + 5
	r.tell(inbound(2, &raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_APPEND, Term: term, Index: 1, LogTerm: 1, Commit: 1,
		Entries: []*raftv1.LogEntry{{Term: term, Index: 2}}}))
	// Run only the replica: the LogWriter's mailbox is the next in the queue and must be what sends the answer.
	r.out = nil
	f := r.disp.queue[0]
	r.disp.queue = r.disp.queue[1:]
	f()
	if len(r.out) != 0 {
		t.Fatalf("sent %v before the log was synced", r.out)
	}
	syncs := r.counters.Syncs.Load()
	resp := only(t, r.run(), raftv1.MessageType_MESSAGE_TYPE_APPEND_RESPONSE, 2)
	if resp.Index != 2 || resp.Reject || r.counters.Syncs.Load() != syncs+1 {
		t.Fatalf("answer %v after %d syncs", resp, r.counters.Syncs.Load()-syncs)
	}
}

func TestLosingLeadershipEndsEveryWaiterAsUnknown(t *testing.T) {
	r := newRig(t, nil)
	r.elect()
	ms, results := proposals(t, "a", "b")
	r.tell(ms...)
	r.run()
	r.tell(inbound(3, &raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_HEARTBEAT, Term: r.status().Term + 1}))
	r.run()
	for _, res := range results {
		if !res.ended || !errors.Is(res.Err, ErrOutcomeUnknown) {
			t.Fatalf("%+v", res)
		}
	}
	ms, results = proposals(t, "c")
	r.tell(ms...)
	r.run()
	var not *NotLeaderError
	if !errors.As(results[0].Err, &not) || not.Leader != 3 {
		t.Fatalf("%v, want not leader with a hint to node 3", results[0].Err)
	}
}

func TestProposalsThatNeverEnteredTheLogAreRefusedNotUnknown(t *testing.T) {
	r := newRig(t, nil)
	r.disp.run()
	ms, results := proposals(t, "a")
	r.tell(ms...)
	r.run()
	var not *NotLeaderError
	if !errors.As(results[0].Err, &not) || not.Leader != 0 {
		t.Fatalf("%v, want not leader without a hint", results[0].Err)
	}
}

func TestHostileMessagesChangeNothing(t *testing.T) {
	r := newRig(t, nil)
	r.elect()
	before := *r.status()
	for _, env := range []*raftv1.Envelope{
		{Type: raftv1.MessageType_MESSAGE_TYPE_UNSPECIFIED, Term: 9},
		{Type: raftv1.MessageType_MESSAGE_TYPE_VOTE, Term: ^uint64(0), Index: 9, LogTerm: 9, Context: []byte("CampaignTransfer")},
		{Type: raftv1.MessageType_MESSAGE_TYPE_HEARTBEAT, Term: 0, Commit: 1000},
		{Type: raftv1.MessageType_MESSAGE_TYPE_APPEND, Term: before.Term, Index: 1, LogTerm: 1, Entries: []*raftv1.LogEntry{{Term: 1, Index: 7}}},
		{Type: raftv1.MessageType_MESSAGE_TYPE_HEARTBEAT, Term: before.Term + 1, ToReplica: 9},
	} {
		r.tell(inbound(3, env))
	}
	r.tell(inbound(99, &raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_HEARTBEAT, Term: before.Term + 1, Commit: 1000}))
	if out := r.run(); len(out) != 0 {
		t.Fatalf("answered %v", out)
	}
	if after := *r.status(); !after.same(&before) {
		t.Fatalf("before %+v\nafter  %+v", before, after)
	}
	if len(r.panics) != 0 {
		t.Fatalf("panicked: %v", r.panics)
	}
}

func TestAHeartbeatBeyondTheLogQuarantinesTheReplica(t *testing.T) {
	r := newRig(t, nil)
	r.disp.run()
	r.tell(inbound(2, &raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_HEARTBEAT, Term: r.status().Term + 1, Commit: 1000}))
	r.run()
	if s := r.status(); s.Failure == "" {
		t.Fatalf("not quarantined: %+v", s)
	}
	ms, results := proposals(t, "a")
	r.tell(ms...)
	r.run()
	if !errors.Is(results[0].Err, ErrStopped) {
		t.Fatalf("%v, want %v", results[0].Err, ErrStopped)
	}
}

func TestAPanicStopsTheReplicaAndEndsItsRequests(t *testing.T) {
	r := newRig(t, nil)
	r.elect()
	ms, results := proposals(t, "a", "panic", "b")
	r.tell(ms...)
	app := only(t, r.run(), raftv1.MessageType_MESSAGE_TYPE_APPEND, 2)
	r.tell(ack(app))
	r.run()
	if len(r.panics) != 1 {
		t.Fatalf("panics: %v", r.panics)
	}
	for _, res := range results {
		if !res.ended || !errors.Is(res.Err, ErrOutcomeUnknown) {
			t.Fatalf("%+v", res)
		}
	}
}

type bounds struct {
	ended bool
	high  raftcore.Offset
	err   error
}

func (b *bounds) ReadEnd(_, high raftcore.Offset, _ uint64, err error) {
	b.ended, b.high, b.err = true, high, err
}

func TestTheEndIsAnsweredAfterOneReadIndexForAllReadsOfATurn(t *testing.T) {
	r := newRig(t, nil)
	r.elect()
	ms, _ := proposals(t, "a")
	r.tell(ms...)
	r.tell(ack(only(t, r.run(), raftv1.MessageType_MESSAGE_TYPE_APPEND, 2)))
	r.run()
	reads := []*bounds{{}, {}}
	r.tell(&ReadEnd{reads[0]}, &ReadEnd{reads[1]})
	beat := only(t, r.run(), raftv1.MessageType_MESSAGE_TYPE_HEARTBEAT, 2)
	if len(beat.Context) != 8 || reads[0].ended {
		t.Fatalf("heartbeat %v, answered early: %v", beat, reads[0].ended)
	}
	r.tell(inbound(2, &raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_HEARTBEAT_RESPONSE, Term: beat.Term, Context: beat.Context}))
	r.run()
	for _, b := range reads {
		if !b.ended || b.err != nil || b.high != 1 {
			t.Fatalf("%+v", b)
		}
	}
}

func TestAReadThatIsNeverConfirmedEnds(t *testing.T) {
	r := newRig(t, nil)
	r.elect()
	read := &bounds{}
	r.tell(&ReadEnd{read})
	r.run()
	for range 200 {
		r.ticks.add()
		r.tell(tick{})
		r.run()
	}
	if !read.ended || read.err == nil {
		t.Fatalf("%+v", read)
	}
}

func TestWaitersForRecordsAreToldWhenAViewHasThem(t *testing.T) {
	r := newRig(t, nil)
	r.elect()
	done := make(chan error, 1)
	gone := make(chan error, 1)
	r.tell(&WaitReadable{ID: 1, Offset: 0, Reply: done}, &WaitReadable{ID: 2, Offset: 0, Reply: gone}, &CancelWait{ID: 2})
	ms, _ := proposals(t, "a")
	r.tell(ms...)
	app := only(t, r.run(), raftv1.MessageType_MESSAGE_TYPE_APPEND, 2)
	if len(done) != 0 {
		t.Fatal("told before the record is committed")
	}
	r.tell(ack(app))
	r.run()
	if len(done) != 1 || <-done != nil || len(gone) != 0 {
		t.Fatalf("told: %d, canceled one told: %d", len(done), len(gone))
	}
}

func TestTheEndOfTheLeadersProcessStartsAnElectionAtOnce(t *testing.T) {
	r := newRig(t, nil)
	r.disp.run()
	term := r.status().Term + 3
	r.tell(inbound(3, &raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_HEARTBEAT, Term: term}))
	r.run()
	r.tell(&NodeGone{Node: 2})
	if out := r.run(); len(out) != 0 || r.status().Leader != 3 {
		t.Fatalf("the end of a node that does not lead changed something: %v, %+v", out, r.status())
	}
	r.tell(&NodeGone{Node: 3})
	ask := only(t, r.run(), raftv1.MessageType_MESSAGE_TYPE_PRE_VOTE, 2)
	if ask.Term != term+1 {
		t.Fatalf("asks for term %d, want %d", ask.Term, term+1)
	}
	// Wrong news: the leader lives. Its next heartbeat is followed, and the campaign ends.
	r.tell(inbound(3, &raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_HEARTBEAT, Term: term}))
	r.run()
	for range 5 {
		r.ticks.add()
		r.tell(tick{})
		for _, s := range r.run() {
			if s.env.Type == raftv1.MessageType_MESSAGE_TYPE_PRE_VOTE {
				t.Fatal("campaigns against a leader that it follows")
			}
		}
	}
	if s := r.status(); s.Leader != 3 || s.Term != term {
		t.Fatalf("%+v", s)
	}
}

func TestALeaderWhoseDiskStallsSaysNothingMoreAsALeader(t *testing.T) {
	r := newRig(t, nil)
	r.elect()
	// beats counts the heartbeats of so many ticks; node 2 answers, so that CheckQuorum is content.
	beats := func(ticks int) (n int) {
		for range ticks {
			r.ticks.add()
			r.tell(tick{})
			for _, s := range r.run() {
				if s.to == 2 && s.env.Type == raftv1.MessageType_MESSAGE_TYPE_HEARTBEAT {
					n++
					r.tell(inbound(2, &raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_HEARTBEAT_RESPONSE, Term: s.env.Term}))
				}
			}
		}
		return n
	}
	if n := beats(30); n != 30 {
		t.Fatalf("%d heartbeats in 30 ticks without anything to sync", n)
	}
	r.stalled = true
	ms, _ := proposals(t, "a")
	r.tell(ms...)
	r.run()
	if n := beats(30); n < 8 || n > 11 {
		t.Fatalf("%d heartbeats in 30 ticks of a stalled disk, want those of one election timeout", n)
	}
	// An append resets its followers' election timeouts as a heartbeat does.
	ms, ends := proposals(t, "b")
	r.tell(ms...)
	for _, s := range r.run() {
		if s.env.Type == raftv1.MessageType_MESSAGE_TYPE_APPEND {
			t.Fatalf("sends %v with a stalled disk", s.env)
		}
	}
	if s := r.status(); s.Role == raftcore.Leader && !errors.Is(ends[0].Err, ErrDiskStalled) {
		t.Fatalf("a proposal ends with %v", ends[0].Err)
	}
	r.stalled = false
	for _, w := range r.held {
		r.system.Root.Send(r.writer, w)
	}
	r.run()
	if s := r.status(); s.Role == raftcore.Leader {
		if n := beats(5); n != 5 {
			t.Fatalf("%d heartbeats in 5 ticks after the disk came back", n)
		}
	}
}

// Found by the simulator, seed 6 of its first version.
func TestAnEntryCommittedInTheTurnThatEndsLeadershipIsReportedAsFsyncedOnAMajority(t *testing.T) {
	r := newRig(t, nil)
	r.elect()
	ms, ends := proposals(t, "a")
	r.tell(ms...)
	app := only(t, r.run(), raftv1.MessageType_MESSAGE_TYPE_APPEND, 2)
	r.tell(ack(app), inbound(3, &raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_HEARTBEAT, Term: app.Term + 1}))
	r.run()
	if s := r.status(); s.Role == raftcore.Leader || ends[0].Err != nil || ends[0].Fsynced != 2 {
		t.Fatalf("%+v as %v, want 2 replicas and no leader any more", ends[0].ProposeResult, s.Role)
	}
}
