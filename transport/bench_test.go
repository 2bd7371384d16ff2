package transport

import (
	"net"
	"testing"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
)

// flowing is a Receiver that says how many envelopes each frame had.
type flowing chan int

func (c flowing) Frame(_ uint64, f *raftv1.Frame) { c <- len(f.GetEnvelopes()) }

func (c flowing) Lost(uint64, []uint64) {}

func (c flowing) Gone(uint64) {}

// connectedPair returns two connected transports on loopback; node 2's frames go to the receiver.
func connectedPair(b *testing.B, receivers [2]Receiver) (pair [2]*Transport) {
	b.Helper()
	for i := range pair {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		t, err := Listen(Config{Listener: l, Probe: emptyProbe})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			if err := t.Close(); err != nil {
				b.Error(err)
			}
		})
		if err := t.Start(identity(uint64(i+1), 1, "x"), receivers[i], &fakeRPC{}); err != nil {
			b.Fatal(err)
		}
		pair[i] = t
	}
	pair[0].SetPeers(map[uint64]string{2: pair[1].Addr().String()})
	pair[1].SetPeers(map[uint64]string{1: pair[0].Addr().String()})
	until(func() bool { return pair[0].Connected(2) && pair[1].Connected(1) })
	return pair
}

func BenchmarkOutboxAddAndTake(b *testing.B) {
	o := upOutbox(Limits{})
	e := message(typeAppend, 1, 1, 128)
	b.ReportAllocs()
	for i := range b.N {
		o.Add(e)
		if i%64 == 63 {
			o.TakeFrame(frameFillBytesMax)
		}
	}
}

// BenchmarkStreamOf1KiB keeps at most window envelopes of 1 KiB in flight between two transports.
func BenchmarkStreamOf1KiB(b *testing.B) {
	const window = 4096
	sink := make(flowing, window)
	nodes := connectedPair(b, [2]Receiver{sink, sink})
	data := make([]byte, 1024)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	b.ResetTimer()
	inFlight := 0
	for i := range b.N {
		for inFlight >= window {
			inFlight -= <-sink
		}
		inFlight++
		nodes[0].Send(2, &raftv1.Envelope{GroupId: uint64(i % 48), FromReplica: 1, ToReplica: 2, Type: typeAppend, Term: 3, Index: uint64(i),
			Entries: []*raftv1.LogEntry{{Term: 3, Index: uint64(i), Data: data}}})
	}
	for inFlight > 0 {
		inFlight -= <-sink
	}
	b.ReportMetric(float64(b.N)/float64(nodes[0].Counters().FramesSent.Load()), "envelopes/frame")
}

// echo answers each frame with one envelope.
type echo struct {
	to *Transport
	e  *raftv1.Envelope
}

func (r *echo) Frame(uint64, *raftv1.Frame) { r.to.Send(1, r.e) }

func (r *echo) Lost(uint64, []uint64) {}

func (r *echo) Gone(uint64) {}

// BenchmarkRoundTrip is one envelope there and one back.
func BenchmarkRoundTrip(b *testing.B) {
	sink, mirror := make(flowing, 1), &echo{e: message(typeAppendResponse, 1, 1, 0)}
	nodes := connectedPair(b, [2]Receiver{sink, mirror})
	mirror.to = nodes[1]
	e := message(typeAppend, 1, 1, 128)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		nodes[0].Send(2, e)
		<-sink
	}
}
