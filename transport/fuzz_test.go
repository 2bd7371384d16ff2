package transport

import (
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/multiraftd/multiraftd/proto/decodetest"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
)

func marshalled(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func opening(h *raftv1.Handshake) *raftv1.ExchangeRequest {
	return &raftv1.ExchangeRequest{Message: &raftv1.ExchangeRequest_Handshake{Handshake: h}}
}

func carrying(f *raftv1.Frame) *raftv1.ExchangeRequest {
	return &raftv1.ExchangeRequest{Message: &raftv1.ExchangeRequest_Frame{Frame: f}}
}

// sampleFrame has everything that a frame can have.
func sampleFrame() *raftv1.Frame {
	e, from := message(typeAppend, 7, 9, 20), identity(2, 5, "b")
	e.Snapshot = &raftv1.SnapshotMetadata{Index: 3, Term: 2, ConfState: &raftv1.ConfState{Voters: []uint64{1, 2, 1 << 60}}}
	return &raftv1.Frame{
		Header:     from.header(),
		Heartbeats: []*raftv1.GroupHeartbeat{{GroupId: 7, FromReplica: 1, ToReplica: 2, Term: 3, Commit: 4, Context: []byte("12345678")}},
		Envelopes:  []*raftv1.Envelope{e, heartbeat(8, 5, ""), heartbeat(8, 6, "12345678"), message(typeVote, 8, 9, 0), message(typeAppend, 7, 10, 3000)},
		Controls:   []*raftv1.Control{{Kind: raftv1.Control_KIND_GROUP_UNKNOWN, GroupId: 9}, {Kind: raftv1.Control_KIND_REPLICA_FAILED, GroupId: 7, ReplicaId: 2}},
		Traces:     []*raftv1.TraceContext{{GroupId: 7, Index: 10, Traceparent: "00-1-2-01"}},
	}
}

// FuzzExchange: whatever opens an Exchange and comes next is admitted or refused with a reason that has a code,
// in a short sentence; what is admitted is remembered as it was and admitted again.
func FuzzExchange(f *testing.F) {
	good := hello(identity(2, 5, "b"), nil)
	f.Add(marshalled(f, opening(good)), marshalled(f, carrying(sampleFrame())))
	f.Add(marshalled(f, opening(hello(identity(3, 9, "b"), nil))), marshalled(f, opening(good)))
	for _, c := range refusedHandshakes {
		f.Add(marshalled(f, opening(c.h)), []byte{})
	}
	f.Fuzz(func(t *testing.T, first, next []byte) {
		s := newIncarnations(identity(1, 1, "a"), knowNode3, expectNode2)
		if err := s.admit(good); err != nil {
			t.Fatal(err)
		}
		decodetest.Bounded(t, len(first)+len(next), decodetest.PerByte, func() {
			var opened, followed raftv1.ExchangeRequest
			if proto.Unmarshal(first, &opened) != nil || proto.Unmarshal(next, &followed) != nil {
				return
			}
			h, frame := opened.GetHandshake(), followed.GetFrame()
			x := &inbound{header: h.GetHeader()}
			wantRefusal(t, x.checkFrame(frame))
			new(Counters).received(frame)
			wantRefusal(t, s.checkHeader(frame.GetHeader()))
			err := s.admit(h)
			if wantRefusal(t, err); err != nil {
				return
			}
			if seen := s.seen[h.GetHeader().GetFromNode()]; !seen.same(h.GetHeader()) || seen.store != h.GetStoreId() {
				t.Errorf("%v is remembered as %+v", h, seen)
			}
			if err := s.admit(h); err != nil {
				t.Errorf("the same again: %v", err)
			}
			wantRefusal(t, s.checkHeader(frame.GetHeader()))
		})
	})
}

const refusalBytesMax = 512

func wantRefusal(t *testing.T, err error) {
	t.Helper()
	if err != nil && (refusalOf(err) < 0 || len(err.Error()) > refusalBytesMax) {
		t.Errorf("refused with %d bytes: %.100v", len(err.Error()), err)
	}
}

// FuzzOutbox: whatever is sent, frames are no larger than what was accounted for, hold each group's envelopes
// in their order, unchanged but for folding, and leave an empty Outbox.
func FuzzOutbox(f *testing.F) {
	f.Add(marshalled(f, sampleFrame()), uint16(1000))
	f.Add(marshalled(f, sampleFrame()), uint16(0))
	f.Add(marshalled(f, &raftv1.Frame{Envelopes: []*raftv1.Envelope{message(typeAppend, 7, 1, 5000), message(typeAppend, 7, 2, 9000), {}}}), uint16(1))
	f.Fuzz(func(t *testing.T, data []byte, fill uint16) {
		var sent raftv1.Frame
		if (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(data, &sent) != nil {
			return
		}
		o := upOutbox(Limits{EnvelopeBytesMax: 8 << 10, QueueBytesMax: 16 << 10})
		byGroup := map[uint64][]*raftv1.Envelope{}
		for _, e := range sent.GetEnvelopes() {
			if got, most := frameBytes(e), envelopeSize(e); got > most {
				t.Errorf("%d bytes in a frame, at most %d were expected: %v", got, most, e)
			}
			if fate := o.Add(e); fate == Queued && e.GetType() != typeHeartbeat && e.GetType() != typeHeartbeatResp {
				byGroup[e.GetGroupId()] = append(byGroup[e.GetGroupId()], e)
			}
		}
		for _, c := range sent.GetControls() {
			if fate := o.AddControl(c); fate.Dropped() && len(sent.GetControls()) <= controlsMax {
				t.Errorf("a control was dropped: %v", fate)
			}
		}
		for o.Waiting() {
			before := o.bytes
			frame := o.TakeFrame(int(fill))
			if got := proto.Size(frame); got > before-o.bytes {
				t.Fatalf("a frame of %d bytes, %d were released", got, before-o.bytes)
			}
			for _, e := range frame.GetEnvelopes() {
				waiting := byGroup[e.GetGroupId()]
				if len(waiting) == 0 || !proto.Equal(waiting[0], e) {
					t.Fatalf("%v left, next in its group was %v", e, waiting)
				}
				byGroup[e.GetGroupId()] = waiting[1:]
			}
		}
		for group, left := range byGroup {
			if len(left) > 0 {
				t.Errorf("group %d: %v never left", group, left)
			}
		}
		if o.bytes != 0 || len(o.bulkGroups) != 0 {
			t.Errorf("empty, and %d bytes of %v wait", o.bytes, o.bulkGroups)
		}
	})
}

// frameBytes is what e takes in a frame.
func frameBytes(e *raftv1.Envelope) int {
	return protowire.SizeTag(3) + protowire.SizeBytes(proto.Size(e))
}
