package node

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
)

// heldIntake is an intake whose frames stay in mailboxes until the test says so.
func heldIntake(ctx context.Context) (i *intake, done map[uint64][]func()) {
	var mu sync.Mutex // of done, while frames go through; the test looks when none does
	done = map[uint64][]func(){}
	i = newIntake(ctx, nil, func(node uint64) bool { return node < 10 })
	i.hand = func(from uint64, _ *raftv1.Frame, f func()) {
		mu.Lock()
		defer mu.Unlock()
		done[from] = append(done[from], f)
	}
	return i, done
}

// frameOf holds so many bytes.
func frameOf(n int) *raftv1.Frame {
	return &raftv1.Frame{Envelopes: []*raftv1.Envelope{nil, {Entries: []*raftv1.LogEntry{nil, {Data: make([]byte, n)}}}}}
}

func TestAPeersFramesWaitForItsOwnAndForNobodyElses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, done := heldIntake(t.Context())
		i.Frame(1, frameOf(intakeBytesMax)) // one always fits
		var through atomic.Int64
		for range 3 {
			go func() { i.Frame(1, frameOf(1)); through.Add(1) }()
		}
		i.Frame(2, frameOf(1000))
		i.Frame(2, frameOf(1000))
		i.Frame(11, frameOf(intakeBytesMax)) // strangers have one room for all of them
		go func() { i.Frame(12, frameOf(1)); through.Add(10) }()
		synctest.Wait()
		if through.Load() != 0 || len(done[1]) != 1 || len(done[2]) != 2 || len(done[11]) != 1 {
			t.Fatalf("%d frames too many went through: %v", through.Load(), done)
		}
		done[1][0]()
		synctest.Wait()
		if n := through.Load(); n != 3 {
			t.Fatalf("%d went through when node 1's frame was done with, want 3", n)
		}
		done[11][0]()
		<-time.After(time.Second) // strangers have a rate as well; the clock is synctest's
		synctest.Wait()
		if through.Load() != 13 {
			t.Fatal("the other stranger's frame did not go through")
		}
		for _, all := range [][]func(){done[1][1:], done[2], done[12]} {
			for _, f := range all {
				f()
			}
		}
		if len(i.held) != 0 {
			t.Errorf("%v is held in the end", i.held)
		}
	})
}

func TestAFrameThatWaitsIsLetGoWhenTheNodeStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		i, done := heldIntake(ctx)
		i.Frame(1, frameOf(intakeBytesMax))
		go i.Frame(1, frameOf(1))
		synctest.Wait()
		stop()
		synctest.Wait() // the goroutine ends, or synctest.Test fails
		if len(done[1]) != 1 {
			t.Error("it was handed over")
		}
	})
}

func TestALargeFrameIsHandedOverInPiecesInItsOrder(t *testing.T) {
	i, done := heldIntake(t.Context())
	var got raftv1.Frame
	hand := i.hand
	i.hand = func(from uint64, f *raftv1.Frame, then func()) {
		if n := len(f.GetHeartbeats()) + len(f.GetEnvelopes()) + len(f.GetControls()); n > pieceMessagesMax {
			t.Errorf("a piece of %d messages", n)
		}
		if len(got.GetEnvelopes()) > 0 && len(f.GetHeartbeats()) > 0 || len(got.GetControls()) > 0 && len(f.GetEnvelopes()) > 0 {
			t.Error("the order is another")
		}
		got.Heartbeats, got.Envelopes = append(got.Heartbeats, f.GetHeartbeats()...), append(got.Envelopes, f.GetEnvelopes()...)
		got.Controls, got.Traces = append(got.Controls, f.GetControls()...), f.GetTraces()
		hand(from, f, then)
		then()
	}
	f := &raftv1.Frame{Header: &raftv1.Header{FromNode: 1}}
	for n := range uint64(3000) {
		f.Heartbeats = append(f.Heartbeats, &raftv1.GroupHeartbeat{GroupId: n})
		f.Envelopes = append(f.Envelopes, &raftv1.Envelope{GroupId: n})
		f.Controls = append(f.Controls, &raftv1.Control{GroupId: n})
	}
	i.Frame(1, f)
	if !slices.Equal(got.GetHeartbeats(), f.GetHeartbeats()) || !slices.Equal(got.GetEnvelopes(), f.GetEnvelopes()) || !slices.Equal(got.GetControls(), f.GetControls()) {
		t.Error("something was lost, doubled or changed places")
	}
	if len(done[1]) != 3*12 {
		t.Errorf("%d pieces", len(done[1]))
	}
	small := &raftv1.Frame{Controls: f.GetControls()[:1], Traces: []*raftv1.TraceContext{{GroupId: 1}}}
	if all := pieces(small); len(all) != 1 || all[0] != small {
		t.Error("a small frame was cut")
	}
}

func TestStrangersAreHeldToARateAndNobodyElseIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, _ := heldIntake(t.Context())
		i.hand = func(_ uint64, _ *raftv1.Frame, done func()) { done() }
		began := time.Now()
		for range 100 {
			i.Frame(1, frameOf(strangersPerSecond/10))
		}
		if d := time.Since(began); d != 0 {
			t.Errorf("a node that is known waits for %v", d)
		}
		for n := range uint64(21) { // the first passes at once
			i.Frame(11+n%2, frameOf(strangersPerSecond/10))
		}
		if d := time.Since(began); d < 2*time.Second || d > 2*time.Second+time.Millisecond*10 {
			t.Errorf("two seconds' worth of strangers' frames took %v", d)
		}
		ctx, stop := context.WithCancel(t.Context())
		i.ctx = ctx
		go i.Frame(11, frameOf(1))
		synctest.Wait()
		stop()
		synctest.Wait() // the goroutine ends, or synctest.Test fails
	})
}
