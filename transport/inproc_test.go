package transport

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
)

// agenda is a virtual clock: it runs what is scheduled, in order of time, then of scheduling.
type agenda struct {
	now    time.Duration
	events []event
}

type event struct {
	at time.Duration
	f  func()
}

func (a *agenda) schedule(delay time.Duration, f func()) {
	a.events = append(a.events, event{a.now + delay, f})
}

func (a *agenda) run() {
	for len(a.events) > 0 {
		slices.SortStableFunc(a.events, func(x, y event) int { return cmp.Compare(x.at, y.at) })
		next := a.events[0]
		a.events = a.events[1:]
		a.now = next.at
		next.f()
	}
}

// world is a network of two recorded nodes on an agenda.
type world struct {
	agenda
	net    *Inproc
	seen   [3]recorder
	a, b   *InprocLink
	random *rand.Rand
}

func newWorld(seed uint64, f Faults) *world {
	w := &world{random: rand.New(rand.NewPCG(seed, 1))}
	w.net = NewInproc(w.schedule, w.random.Uint64N)
	w.net.SetFaults(f)
	w.a = w.net.Attach(identity(1, 1, "a"), &w.seen[1])
	w.b = w.net.Attach(identity(2, 1, "b"), &w.seen[2])
	return w
}

func (w *world) indexes(node int) []uint64 {
	var got []uint64
	for _, e := range w.seen[node].envelopes() {
		got = append(got, e.Index)
	}
	return got
}

func TestInprocCoalescesAndSharesNoMemory(t *testing.T) {
	w := newWorld(1, Faults{})
	e := message(typeAppend, 1, 1, 8)
	w.a.Send(2, e)
	w.a.Send(2, message(typeAppend, 2, 2, 8))
	w.a.SendControl(2, &raftv1.Control{Kind: raftv1.Control_KIND_GROUP_UNKNOWN, GroupId: 5})
	w.run()
	e.Entries[0].Data[0] = 99
	if got := w.seen[2].envelopes(); len(w.seen[2].frames) != 1 || len(got) != 2 || got[0].Entries[0].Data[0] != 0 || w.seen[2].controls() != 1 {
		t.Fatalf("got %v", w.seen[2].frames)
	}
	if h := w.seen[2].frames[0].frame.GetHeader(); h.GetFromNode() != 1 || h.GetStartNumber() != 1 || h.GetClusterId() != "cluster-a" {
		t.Errorf("header is %v", h)
	}
	if !w.a.Connected(2) || w.a.Connected(1) || w.a.Connected(3) {
		t.Error("connected to the wrong nodes")
	}
}

func TestInprocKeepsOrderUnlessItMayReorder(t *testing.T) {
	send := func(f Faults) []uint64 {
		w := newWorld(7, f)
		for i := range uint64(50) {
			w.a.Send(2, message(typeVote, 1, i, 0))
			w.schedule(time.Duration(i)*time.Millisecond, func() { w.a.Send(2, message(typeVote, 1, 50+i, 0)) })
		}
		w.run()
		return w.indexes(2)
	}
	delays := Faults{DelayMin: time.Millisecond, DelayMax: 20 * time.Millisecond}
	if got := send(delays); !slices.IsSorted(got) || len(got) != 100 {
		t.Errorf("order is %v", got)
	}
	delays.Reorder = true
	if got := send(delays); slices.IsSorted(got) || len(got) != 100 {
		t.Errorf("nothing was reordered: %v", got)
	}
}

func TestInprocFaultsHappenAndAreCounted(t *testing.T) {
	w := newWorld(3, Faults{LossPerMille: 200, DuplicatePerMille: 300})
	const frames = 1000
	for i := range uint64(frames) {
		w.schedule(time.Duration(i)*time.Millisecond, func() { w.a.Send(2, message(typeAppend, 1, i, 0)) })
	}
	w.run()
	c := w.net.Counters()
	lost, doubled := c.FramesLost.Load(), c.FramesDoubled.Load()
	if lost < 100 || lost > 300 || doubled < 140 || doubled > 340 {
		t.Errorf("%d lost and %d doubled of %d", lost, doubled, frames)
	}
	if got := uint64(len(w.indexes(2))); got != frames-lost+doubled || c.FramesReceived.Load() != got {
		t.Errorf("%d arrived, %d counted, want %d", got, c.FramesReceived.Load(), frames-lost+doubled)
	}
	wantGroups(t, w.seen[1].lostTo(2)) // silent loss is not reported
}

func TestInprocCutLosesWhatIsOnTheWayAndTellsOnceInItsDirectionOnly(t *testing.T) {
	w := newWorld(1, Faults{DelayMin: time.Second, DelayMax: time.Second})
	w.a.Send(2, message(typeAppend, 4, 1, 0))
	w.b.Send(1, message(typeAppendResponse, 4, 2, 0))
	w.schedule(time.Millisecond, func() {
		w.a.Send(2, message(typeAppend, 3, 3, 0))
		w.net.Cut(1, 2)
		w.a.Send(2, message(typeAppend, 4, 4, 0))
		w.a.Send(2, message(typeAppend, 6, 5, 0))
	})
	w.run()
	wantGroups(t, w.seen[1].lostTo(2), 3, 4, 6)
	if got := w.indexes(1); len(w.indexes(2)) != 0 || !slices.Equal(got, []uint64{2}) || w.a.Connected(2) || !w.b.Connected(1) {
		t.Errorf("node 1 got %v, node 2 %v", got, w.indexes(2))
	}
	c := w.net.Counters()
	if c.FramesCut.Load() != 1 || c.EnvelopesDropped(ConnectionLost) != 1 || c.EnvelopesDropped(NotConnected) != 2 || c.LossesReported.Load() != 3 {
		t.Errorf("cut %d, lost %d, not connected %d, reported %d", c.FramesCut.Load(), c.EnvelopesDropped(ConnectionLost), c.EnvelopesDropped(NotConnected), c.LossesReported.Load())
	}
	w.net.Heal(1, 2)
	w.a.Send(2, message(typeAppend, 4, 6, 0))
	w.run()
	if got := w.indexes(2); !slices.Equal(got, []uint64{6}) {
		t.Errorf("after healing node 2 got %v", got)
	}
}

func TestInprocADetachedNodeIsUnreachableAndItsSuccessorGetsNothingMeantForIt(t *testing.T) {
	w := newWorld(1, Faults{DelayMin: time.Second, DelayMax: time.Second})
	w.a.Send(2, message(typeAppend, 4, 1, 0))
	w.b.Send(1, message(typeAppendResponse, 4, 2, 0))
	var successor recorder
	w.schedule(time.Millisecond, func() {
		w.b.Send(1, message(typeAppendResponse, 4, 3, 0)) // still waits here when it crashes
		w.b.Detach()
		w.b.Send(1, message(typeVote, 4, 4, 0))
		w.a.Send(2, message(typeAppend, 5, 5, 0))
	})
	w.schedule(2*time.Second, func() {
		w.net.Attach(identity(2, 2, "c"), &successor)
		w.a.Send(2, message(typeAppend, 4, 6, 0))
	})
	w.run()
	if got := w.indexes(1); !slices.Equal(got, []uint64{2}) {
		t.Errorf("node 1 got %v, want what was on the way", got)
	}
	wantGroups(t, w.seen[1].lostTo(2), 4, 5)
	if got := successor.envelopes(); len(w.indexes(2)) != 0 || len(got) != 1 || got[0].Index != 6 {
		t.Errorf("node 2 got %v, its successor %v", w.indexes(2), got)
	}
}

func TestInprocFramesOfAnOlderIncarnationDoNotArriveAfterTheNewerAttached(t *testing.T) {
	w := newWorld(1, Faults{DelayMin: time.Second, DelayMax: time.Second})
	w.b.Send(1, message(typeVote, 4, 1, 0))
	w.schedule(time.Millisecond, func() {
		w.b.Detach()
		w.net.Attach(identity(2, 2, "c"), &recorder{}).Send(1, message(typeVote, 4, 2, 0))
	})
	w.run()
	if got := w.indexes(1); !slices.Equal(got, []uint64{2}) {
		t.Errorf("node 1 got %v, want only the newer incarnation's", got)
	}
}

func TestInprocServesRealGoroutinesInOrder(t *testing.T) {
	var running sync.WaitGroup
	net := NewInproc(func(_ time.Duration, f func()) { running.Go(f) }, rand.Uint64N)
	var got recorder
	net.Attach(identity(2, 1, "b"), &got)
	a := net.Attach(identity(1, 1, "a"), &recorder{})
	const each = 2000
	for g := range uint64(4) {
		running.Go(func() {
			for i := range uint64(each) {
				a.Send(2, message(typeAppend, g, i, 0))
			}
		})
	}
	until(func() bool { return len(got.envelopes()) == 4*each })
	running.Wait()
	next := map[uint64]uint64{}
	for _, e := range got.envelopes() {
		if e.Index != next[e.GroupId] {
			t.Fatalf("group %d: %d, want %d", e.GroupId, e.Index, next[e.GroupId])
		}
		next[e.GroupId]++
	}
}

func TestInprocIsDeterminedByItsSeed(t *testing.T) {
	trace := func(seed uint64) uint64 {
		w := newWorld(seed, Faults{LossPerMille: 50, DuplicatePerMille: 50, DelayMax: 10 * time.Millisecond, Reorder: true})
		for i := range uint64(500) {
			w.schedule(time.Duration(w.random.Uint64N(100))*time.Millisecond, func() {
				w.a.Send(2, message(typeAppend, i%9, i, 0))
				w.b.Send(1, heartbeat(i%9, i, ""))
			})
		}
		w.schedule(50*time.Millisecond, func() { w.net.Cut(1, 2) })
		w.schedule(60*time.Millisecond, func() { w.net.Heal(1, 2) })
		w.run()
		h := fnv.New64a()
		for node := 1; node <= 2; node++ {
			for _, f := range w.seen[node].frames {
				b, err := proto.MarshalOptions{Deterministic: true}.Marshal(f.frame)
				if err != nil {
					t.Fatal(err)
				}
				h.Write(b)
			}
			fmt.Fprint(h, w.seen[node].lost)
		}
		return h.Sum64()
	}
	first, again := trace(1), trace(1)
	if first != again {
		t.Error("one seed, two traces")
	}
	if first == trace(2) {
		t.Error("two seeds, one trace")
	}
}

func TestCountersHaveOneRowPerNameAndLabel(t *testing.T) {
	var c Counters
	c.refuse(ErrWrongCluster)
	c.failed(3, 1)
	rows := map[string]uint64{}
	c.Each(func(name, label, value, help string, v uint64) {
		row := name + "{" + label + "=" + value + "}"
		if _, twice := rows[row]; twice || help == "" || (label == "") != (value == "") {
			t.Errorf("row %s: twice %v, help %q", row, twice, help)
		}
		rows[row] = v
	})
	if rows["transport_refused_total{reason=wrong_cluster}"] != 1 || rows["transport_envelopes_dropped_total{reason=connection_lost}"] != 3 {
		t.Errorf("rows are %v", rows)
	}
}
