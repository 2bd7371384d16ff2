package transport

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
)

func upOutbox(l Limits) *Outbox {
	o := NewOutbox(l)
	o.Open()
	o.Up()
	return o
}

func wantFate(t *testing.T, got, want Fate) {
	t.Helper()
	if got != want {
		t.Fatalf("fate is %v, want %v", got, want)
	}
}

func wantGroups(t *testing.T, got []uint64, want ...uint64) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("lost groups are %v, want %v", got, want)
	}
}

func TestHeartbeatsAreFoldedToTheNewestAndKeepTheNewestContext(t *testing.T) {
	o := upOutbox(Limits{})
	wantFate(t, o.Add(heartbeat(7, 1, "")), Queued)
	wantFate(t, o.Add(heartbeat(7, 2, "read0001")), Queued)
	wantFate(t, o.Add(heartbeat(7, 3, "read0002")), Folded)
	wantFate(t, o.Add(heartbeat(7, 4, "")), Folded)
	wantFate(t, o.Add(heartbeat(8, 5, "")), Queued)
	answer := message(typeHeartbeatResp, 7, 0, 0)
	wantFate(t, o.Add(answer), Queued)
	f := o.TakeFrame(frameFillBytesMax)
	if len(f.Heartbeats) != 4 || len(f.Envelopes) != 0 {
		t.Fatalf("frame has %d heartbeats and %d envelopes, want 4 and 0", len(f.Heartbeats), len(f.Envelopes))
	}
	want := []struct {
		commit  uint64
		context string
		answer  bool
	}{{4, "", false}, {3, "read0002", false}, {5, "", false}, {0, "", true}}
	for i, h := range f.Heartbeats {
		if h.Commit != want[i].commit || string(h.Context) != want[i].context || h.Response != want[i].answer {
			t.Errorf("heartbeat %d is %v, want %v", i, h, want[i])
		}
	}
	if o.Waiting() || o.bytes != 0 {
		t.Errorf("after the only frame: waiting %v, %d bytes", o.Waiting(), o.bytes)
	}
}

func TestAFoldedHeartbeatAfterATakenFrameIsNew(t *testing.T) {
	o := upOutbox(Limits{})
	o.Add(heartbeat(7, 1, ""))
	o.TakeFrame(frameFillBytesMax)
	wantFate(t, o.Add(heartbeat(7, 2, "")), Queued)
	if f := o.TakeFrame(frameFillBytesMax); f.Heartbeats[0].Commit != 2 {
		t.Fatalf("commit is %d, want 2", f.Heartbeats[0].Commit)
	}
}

func TestControlsAreFoldedAndBounded(t *testing.T) {
	o := upOutbox(Limits{})
	unknown := func(group uint64) *raftv1.Control {
		return &raftv1.Control{Kind: raftv1.Control_KIND_GROUP_UNKNOWN, GroupId: group}
	}
	for g := range uint64(controlsMax) {
		wantFate(t, o.AddControl(unknown(g)), Queued)
	}
	wantFate(t, o.AddControl(unknown(0)), Folded)
	wantFate(t, o.AddControl(unknown(controlsMax)), QueueFull)
	wantFate(t, o.AddControl(nil), Malformed)
	var c Counters
	c.control(o.AddControl(unknown(1)))
	c.Each(func(name, _, _, _ string, v uint64) {
		if name == "transport_controls_folded_total" && v != 1 {
			t.Errorf("%s is %d", name, v)
		}
	})
	if f := o.TakeFrame(frameFillBytesMax); len(f.Controls) != controlsMax {
		t.Fatalf("frame has %d controls, want %d", len(f.Controls), controlsMax)
	}
}

func TestOnlyTheNewestReportWaitsAndAConnectionTakesItWithIt(t *testing.T) {
	o := NewOutbox(Limits{})
	report := func(n uint32) *raftv1.NodeReport { return &raftv1.NodeReport{LedCount: n} }
	if f := o.SetReport(report(1)); f != NotConnected || o.Waiting() {
		t.Fatalf("down: %v", f)
	}
	o.Open()
	o.Up()
	if a, b := o.SetReport(report(2)), o.SetReport(report(3)); a != Queued || b != Folded {
		t.Fatalf("%v, %v", a, b)
	}
	if f := o.TakeFrame(1); f.GetReport().GetLedCount() != 3 || o.Waiting() || o.bytes != 0 {
		t.Fatalf("%v; %d bytes left", f, o.bytes)
	}
	huge := &raftv1.NodeReport{Failed: []*raftv1.FailedReplica{{Reason: string(make([]byte, reportBytesMax))}}}
	if a, b := o.SetReport(nil), o.SetReport(huge); a != Malformed || b != EnvelopeTooBig {
		t.Fatalf("%v, %v", a, b)
	}
	o.SetReport(report(4))
	o.Fail()
	o.Open()
	o.Up()
	if o.Waiting() || o.bytes != 0 {
		t.Fatal("a report outlived its connection")
	}
}

func TestSmallMessagesPassBulkOfOtherGroupsButNotOfTheirOwn(t *testing.T) {
	o := upOutbox(Limits{})
	o.Add(message(typeAppend, 1, 1, 900<<10))
	o.Add(message(typeAppend, 1, 2, 900<<10))
	o.Add(message(typeAppendResponse, 1, 3, 0)) // behind its group's bulk
	o.Add(message(typeAppendResponse, 2, 4, 0))
	o.Add(heartbeat(1, 5, ""))
	var order []uint64
	for f := o.TakeFrame(frameFillBytesMax); f != nil; f = o.TakeFrame(frameFillBytesMax) {
		for _, h := range f.Heartbeats {
			order = append(order, h.Commit)
		}
		for _, e := range f.Envelopes {
			order = append(order, e.Index)
		}
		if size := proto.Size(f); size > frameFillBytesMax {
			t.Errorf("frame has %d bytes, want at most %d", size, frameFillBytesMax)
		}
	}
	if want := []uint64{5, 4, 1, 2, 3}; !slices.Equal(order, want) {
		t.Fatalf("order is %v, want %v", order, want)
	}
	wantFate(t, o.Add(message(typeAppendResponse, 1, 6, 0)), Queued)
	if len(o.bulkGroups) != 0 || o.small.len() != 1 {
		t.Fatalf("with bulk gone, its group is still in the bulk lane: %v", o.bulkGroups)
	}
}

func TestAnEnvelopeAboveTheFillGoesOutWithOneFrame(t *testing.T) {
	o := upOutbox(Limits{})
	o.Add(message(typeAppend, 1, 1, 4<<20))
	o.Add(message(typeAppend, 2, 2, 4<<20))
	for want := uint64(1); want <= 2; want++ {
		f := o.TakeFrame(frameFillBytesMax)
		if len(f.Envelopes) != 1 || f.Envelopes[0].Index != want {
			t.Fatalf("frame %d has %d envelopes", want, len(f.Envelopes))
		}
	}
}

func TestOverBudgetOnlyAppendsAreDroppedUntilTheReserveIsFullToo(t *testing.T) {
	o := upOutbox(Limits{EnvelopeBytesMax: 1 << 20, QueueBytesMax: 1 << 20})
	wantFate(t, o.Add(message(typeAppend, 1, 1, 2<<20)), EnvelopeTooBig)
	wantFate(t, o.Add(message(typeAppend, 1, 1, 900<<10)), Queued)
	wantFate(t, o.Add(message(typeAppend, 2, 1, 900<<10)), AppendQueueFull)
	wantFate(t, o.Add(message(typeAppend, 3, 1, 0)), Queued)
	wantFate(t, o.Add(message(typeVote, 4, 1, 0)), Queued)
	wantGroups(t, o.TakeLost(), 1, 2)
	// A vote carries no entries; here they make it large.
	fates := [fates]int{}
	for i := range uint64(20) {
		fates[o.Add(message(typeVote, 5, i, 1<<20-1024))]++
	}
	if fates[Queued] != 16 || fates[QueueFull] != 4 {
		t.Fatalf("fates are %v, want 16 queued and 4 dropped", fates)
	}
	if o.HasLost() {
		t.Fatalf("a lost vote was reported: %v", o.TakeLost())
	}
}

func TestWhatIsLostWithAConnectionIsToldOncePerGroup(t *testing.T) {
	o := upOutbox(Limits{})
	o.Add(message(typeAppend, 9, 1, 0))
	o.TakeFrame(frameFillBytesMax) // on the way
	o.Add(message(typeAppend, 3, 1, 0))
	o.Add(message(typeAppend, 3, 2, 0))
	o.Add(message(typeVote, 4, 1, 0))
	o.Add(heartbeat(5, 1, ""))
	if envelopes, _ := o.Fail(); envelopes != 4 {
		t.Errorf("%d envelopes dropped, want 4", envelopes)
	}
	wantGroups(t, o.TakeLost(), 3, 9)
	wantFate(t, o.Add(message(typeAppend, 3, 3, 0)), NotConnected)
	wantFate(t, o.Add(message(typeAppend, 6, 1, 0)), NotConnected)
	wantGroups(t, o.TakeLost(), 6)
	o.Open()
	o.Add(message(typeAppend, 3, 4, 0)) // a failed attempt is the same outage
	o.Fail()
	wantGroups(t, o.TakeLost())
	o.Open()
	o.Up()
	o.Fail()
	wantGroups(t, o.TakeLost())
	wantFate(t, o.Add(message(typeAppend, 3, 5, 0)), NotConnected)
	wantGroups(t, o.TakeLost(), 3)
}

func TestAppendsLongDeliveredDoNotCountAsLost(t *testing.T) {
	o := upOutbox(Limits{})
	send := func(group uint64, bytes int) {
		o.Add(message(typeAppend, group, 1, bytes))
		o.TakeFrame(frameFillBytesMax)
	}
	send(1, 0)
	for range 2*lostWindowBytes/(8<<20) + 1 {
		send(2, 8<<20)
	}
	send(3, 0)
	o.Fail()
	wantGroups(t, o.TakeLost(), 2, 3)
}

func TestAnOutboxThatIsNotUpGivesNoFrame(t *testing.T) {
	o := NewOutbox(Limits{})
	wantFate(t, o.Add(message(typeVote, 1, 1, 0)), NotConnected)
	wantFate(t, o.AddControl(&raftv1.Control{}), NotConnected)
	wantFate(t, o.Add(nil), Malformed)
	o.Open()
	wantFate(t, o.Add(message(typeVote, 1, 1, 0)), Queued)
	if o.Waiting() || o.TakeFrame(frameFillBytesMax) != nil {
		t.Fatal("a frame was taken before the handshake")
	}
	o.Up()
	if f := o.TakeFrame(frameFillBytesMax); len(f.GetEnvelopes()) != 1 {
		t.Fatal("what waited for the handshake is gone")
	}
}

func TestEveryGroupsEnvelopesKeepTheirOrderAndNothingVanishes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := upOutbox(Limits{EnvelopeBytesMax: 1 << 20, QueueBytesMax: 2 << 20})
		var next, sent, queued uint64
		last := map[uint64]uint64{}
		take := func() {
			f := o.TakeFrame(rapid.IntRange(0, 256<<10).Draw(t, "fill"))
			if n := proto.Size(f); n > 256<<10+1<<20+bulkEnvelopeBytesMin {
				t.Fatalf("frame of %d bytes", n)
			}
			for _, e := range f.GetEnvelopes() {
				if e.Index <= last[e.GroupId] {
					t.Fatalf("group %d: %d after %d", e.GroupId, e.Index, last[e.GroupId])
				}
				last[e.GroupId] = e.Index
				sent++
			}
		}
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			if rapid.IntRange(0, 3).Draw(t, "what") == 0 {
				take()
				continue
			}
			next++
			bytes := rapid.SampledFrom([]int{0, 10, 60 << 10, 70 << 10, 500 << 10}).Draw(t, "bytes")
			if o.Add(message(typeAppend, rapid.Uint64Range(1, 4).Draw(t, "group"), next, bytes)) == Queued {
				queued++
			}
		}
		for o.Waiting() {
			take()
		}
		if sent != queued || o.bytes != 0 || len(o.bulkGroups) != 0 {
			t.Fatalf("sent %d of %d; %d bytes and bulk groups %v are left", sent, queued, o.bytes, o.bulkGroups)
		}
	})
}

func TestEstimatedSizesAreUpperBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		u := func(name string) uint64 { return rapid.Uint64().Draw(t, name) }
		ids := func(name string) []uint64 { return rapid.SliceOfN(rapid.Uint64(), 0, 6).Draw(t, name) }
		e := &raftv1.Envelope{
			GroupId: u("group"), FromReplica: u("from"), ToReplica: u("to"), Type: raftv1.MessageType(rapid.Int32().Draw(t, "type")),
			Term: u("term"), LogTerm: u("logterm"), Index: u("index"), Commit: u("commit"), Reject: true, RejectHint: u("hint"),
			Context: rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "context"),
		}
		for range rapid.IntRange(0, 4).Draw(t, "entries") {
			e.Entries = append(e.Entries, &raftv1.LogEntry{Term: u("t"), Index: u("i"), Type: -1, Data: make([]byte, rapid.IntRange(0, 70<<10).Draw(t, "data"))})
		}
		if rapid.Bool().Draw(t, "snapshot") {
			e.Snapshot = &raftv1.SnapshotMetadata{Index: u("si"), Term: u("st"), ConfState: &raftv1.ConfState{
				Voters: ids("v"), Learners: ids("l"), VotersOutgoing: ids("o"), LearnersNext: ids("n"), AutoLeave: true}}
		}
		if got, want := envelopeSize(e), proto.Size(&raftv1.Frame{Envelopes: []*raftv1.Envelope{e}}); got < want {
			t.Fatalf("envelope estimated at %d bytes has %d", got, want)
		}
		h := fold(e)
		h.Response = true
		if got, want := heartbeatSize(h), proto.Size(&raftv1.Frame{Heartbeats: []*raftv1.GroupHeartbeat{h}}); got < want {
			t.Fatalf("heartbeat estimated at %d bytes has %d", got, want)
		}
		c := &raftv1.Control{Kind: -1, GroupId: u("cg"), ReplicaId: u("cr"), Term: u("ct"), Commit: u("cc")}
		if want := proto.Size(&raftv1.Frame{Controls: []*raftv1.Control{c}}); controlBytes < want {
			t.Fatalf("control estimated at %d bytes has %d", controlBytes, want)
		}
	})
}

func TestAFifoKeepsOrderAndNumbersWhileItGivesMemoryBack(t *testing.T) {
	var q fifo[int]
	next, taken := 0, 0
	for round := range 200 {
		for range 300 {
			if got := q.push(next); got != uint64(next) {
				t.Fatalf("item %d has number %d", next, got)
			}
			next++
		}
		for range 100 + round {
			if got := *q.at(uint64(taken)); got != taken || *q.front() != taken || q.pop() != taken {
				t.Fatalf("item %d: got %d", taken, got)
			}
			taken++
		}
	}
	if cap(q.items) > 2*(next-taken)+4*fifoCompactItemsMin+fifoKeepItemsMax {
		t.Errorf("%d items wait in memory for %d", q.len(), cap(q.items))
	}
}
