package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
)

// recorder is a Receiver that keeps what it is given.
type recorder struct {
	mu     sync.Mutex
	frames []received
	lost   map[uint64][]uint64
	gone   []uint64
}

type received struct {
	from  uint64
	frame *raftv1.Frame
}

func (r *recorder) Frame(from uint64, f *raftv1.Frame) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.frames = append(r.frames, received{from, f})
}

func (r *recorder) Lost(node uint64, groups []uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lost == nil {
		r.lost = make(map[uint64][]uint64)
	}
	r.lost[node] = append(r.lost[node], groups...)
}

func (r *recorder) Gone(node uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone = append(r.gone, node)
}

func (r *recorder) goneNodes() []uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.gone)
}

func (r *recorder) envelopes() []*raftv1.Envelope {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*raftv1.Envelope
	for _, f := range r.frames {
		all = append(all, f.frame.GetEnvelopes()...)
	}
	return all
}

func (r *recorder) controls() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, f := range r.frames {
		n += len(f.frame.GetControls())
	}
	return n
}

func (r *recorder) lostTo(node uint64) []uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]uint64(nil), r.lost[node]...)
}

// until yields until the condition holds; the test's own deadline is the limit.
func until(condition func() bool) {
	for !condition() {
		runtime.Gosched()
	}
}

// node is a started Transport with its recorder.
type node struct {
	*Transport
	recorder
	rpc *fakeRPC
}

type fakeRPC struct {
	// chunk takes the requests of InstallSnapshot; nil = each stream is answered at its last.
	chunk func(*raftv1.InstallSnapshotRequest) (*raftv1.InstallSnapshotResponse, error)
}

func (f *fakeRPC) InstallSnapshot(_ context.Context, req *raftv1.InstallSnapshotRequest) (*raftv1.InstallSnapshotResponse, error) {
	if f != nil && f.chunk != nil {
		return f.chunk(req)
	}
	if !req.GetDone() {
		return nil, nil
	}
	return &raftv1.InstallSnapshotResponse{Term: req.GetTerm(), Success: true}, nil
}

func (*fakeRPC) AppendEntries(_ context.Context, req *raftv1.AppendEntriesRequest) (*raftv1.AppendEntriesResponse, error) {
	return &raftv1.AppendEntriesResponse{Term: req.GetTerm(), Success: true}, nil
}

func (*fakeRPC) RequestVote(_ context.Context, req *raftv1.RequestVoteRequest) (*raftv1.RequestVoteResponse, error) {
	return &raftv1.RequestVoteResponse{Term: req.GetTerm(), VoteGranted: true}, nil
}

func listen(t *testing.T, addr string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func emptyProbe() *raftv1.ProbeResponse {
	return &raftv1.ProbeResponse{State: raftv1.StoreState_STORE_STATE_EMPTY}
}

func unstarted(t *testing.T, cfg Config) *node {
	t.Helper()
	if cfg.Listener == nil {
		cfg.Listener = listen(t, "127.0.0.1:0")
	}
	if cfg.Probe == nil {
		cfg.Probe = emptyProbe
	}
	tr, err := Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	})
	return &node{Transport: tr}
}

func started(t *testing.T, id Identity, cfg Config) *node {
	t.Helper()
	n := unstarted(t, cfg)
	n.start(t, id)
	return n
}

func (n *node) start(t *testing.T, id Identity) {
	t.Helper()
	if err := n.Start(id, &n.recorder, n.rpc); err != nil {
		t.Fatal(err)
	}
}

func (n *node) peerAt(id uint64, addr string) { n.SetPeers(map[uint64]string{id: addr}) }

func TestTwoNodesExchangeEnvelopesInOrderBothWays(t *testing.T) {
	a, b := started(t, identity(1, 1, "a"), Config{}), started(t, identity(2, 1, "b"), Config{})
	a.peerAt(2, b.Addr().String())
	b.peerAt(1, a.Addr().String())
	const each = 5000
	for i := range uint64(each) {
		a.Send(2, message(typeAppend, 1+i%7, i, 32))
		b.Send(1, message(typeAppendResponse, 1+i%5, i, 0))
	}
	for _, side := range []struct {
		to     *node
		groups uint64
	}{{b, 7}, {a, 5}} {
		until(func() bool { return len(side.to.envelopes()) == each })
		last := map[uint64]uint64{}
		for _, e := range side.to.envelopes() {
			if e.Index < last[e.GroupId] {
				t.Fatalf("group %d: %d after %d", e.GroupId, e.Index, last[e.GroupId])
			}
			last[e.GroupId] = e.Index
		}
		if len(last) != int(side.groups) {
			t.Errorf("%d groups arrived, want %d", len(last), side.groups)
		}
	}
	if a.Counters().EnvelopesSent.Load() != each || !a.Connected(2) {
		t.Errorf("counted %d, connected %v", a.Counters().EnvelopesSent.Load(), a.Connected(2))
	}
}

func TestWhatWaitsForTheConnectionLeavesInOneFrame(t *testing.T) {
	release := make(chan struct{})
	dial := func(ctx context.Context, addr string) (net.Conn, error) {
		select {
		case <-release:
			return dialTCP(ctx, addr)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	a, b := started(t, identity(1, 1, "a"), Config{Dial: dial}), started(t, identity(2, 1, "b"), Config{})
	a.peerAt(2, b.Addr().String())
	for i := range uint64(1000) {
		a.Send(2, message(typeAppend, i, i, 16))
		a.Send(2, heartbeat(i%10, i, ""))
	}
	close(release)
	until(func() bool { return len(b.envelopes()) == 1000 })
	c := a.Counters()
	until(func() bool { return c.FramesSent.Load() > 0 }) // counted after it is sent
	if c.FramesSent.Load() != 1 || c.HeartbeatsSent.Load() != 10 || c.HeartbeatsFolded.Load() != 990 {
		t.Errorf("%d frames, %d heartbeats sent, %d folded; want 1, 10, 990", c.FramesSent.Load(), c.HeartbeatsSent.Load(), c.HeartbeatsFolded.Load())
	}
}

func TestAFailedConnectReportsLostAppendsOncePerGroup(t *testing.T) {
	refuse := make(chan struct{})
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		select {
		case <-refuse:
		case <-ctx.Done():
		}
		return nil, errors.New("no route")
	}
	a := started(t, identity(1, 1, "a"), Config{Dial: dial})
	a.peerAt(2, "192.0.2.1:1")
	for range 3 {
		a.Send(2, message(typeAppend, 11, 1, 0))
		a.Send(2, message(typeVote, 12, 1, 0))
	}
	close(refuse)
	until(func() bool { return len(a.lostTo(2)) > 0 })
	a.Send(2, message(typeAppend, 11, 2, 0))
	a.Send(2, message(typeAppend, 13, 2, 0))
	until(func() bool { return len(a.lostTo(2)) > 1 })
	wantGroups(t, a.lostTo(2), 11, 13)
	if n := a.Counters().ConnectFailures.Load(); n == 0 || a.Connected(2) {
		t.Errorf("%d failures, connected %v", n, a.Connected(2))
	}
}

func TestALostConnectionIsReportedAndTheNextIncarnationReached(t *testing.T) {
	a, b := started(t, identity(1, 1, "a"), Config{}), started(t, identity(2, 1, "b"), Config{})
	addr := b.Addr().String()
	a.peerAt(2, addr)
	a.Send(2, message(typeAppend, 5, 1, 0))
	until(func() bool { return len(b.envelopes()) == 1 })
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	until(func() bool { return len(a.lostTo(2)) > 0 })
	wantGroups(t, a.lostTo(2), 5)
	again := started(t, identity(2, 2, "c"), Config{Listener: listen(t, addr)})
	again.peerAt(1, a.Addr().String())
	until(func() bool { return a.Connected(2) })
	a.Send(2, message(typeAppend, 5, 2, 0))
	until(func() bool { return len(again.envelopes()) == 1 })
	if a.Counters().ConnectionsLost.Load() != 1 || a.Counters().Connects.Load() != 2 {
		t.Errorf("lost %d, connects %d", a.Counters().ConnectionsLost.Load(), a.Counters().Connects.Load())
	}
}

func TestANodeWhoseProcessEndedIsToldFromOneWhoseConnectionBroke(t *testing.T) {
	a, b := started(t, identity(1, 1, "a"), Config{}), started(t, identity(2, 1, "b"), Config{})
	addr := b.Addr().String()
	a.peerAt(2, addr)
	until(func() bool { return a.Connected(2) })
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	until(func() bool { return slices.Equal(a.goneNodes(), []uint64{2}) })

	// A proxy in between that breaks the connection and goes on listening: nobody has ended.
	c := started(t, identity(3, 1, "c"), Config{})
	proxy := listen(t, "127.0.0.1:0")
	defer proxy.Close()
	cut := make(chan struct{})
	go forward(proxy, c.Addr().String(), cut)
	a.peerAt(3, proxy.Addr().String())
	until(func() bool { return a.Connected(3) })
	close(cut)
	until(func() bool { return a.Counters().ConnectionsLost.Load() == 2 && a.Connected(3) })
	if !slices.Equal(a.goneNodes(), []uint64{2}) {
		t.Fatalf("gone: %v", a.goneNodes())
	}
}

// forward passes connections on; the first one breaks when cut is closed.
func forward(l net.Listener, to string, cut <-chan struct{}) {
	for {
		near, err := l.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", to)
		if err != nil {
			near.Close()
			continue
		}
		go func() { _, _ = io.Copy(far, near); far.Close() }() // either end's end ends both
		go func() { _, _ = io.Copy(near, far); near.Close() }()
		if cut != nil {
			go func(cut <-chan struct{}) { <-cut; near.Close(); far.Close() }(cut)
			cut = nil
		}
	}
}

func TestControlsGoBackOnTheExchangeThatThePeerHolds(t *testing.T) {
	a, b := started(t, identity(1, 1, "a"), Config{}), started(t, identity(2, 1, "b"), Config{})
	b.SendControl(1, &raftv1.Control{Kind: raftv1.Control_KIND_GROUP_UNKNOWN, GroupId: 9})
	if n := b.Counters().controlsDropped[UnknownPeer].Load(); n != 1 {
		t.Fatalf("%d controls dropped, want 1", n)
	}
	a.peerAt(2, b.Addr().String())
	until(func() bool { return a.Connected(2) })
	b.SendControl(1, &raftv1.Control{Kind: raftv1.Control_KIND_GROUP_UNKNOWN, GroupId: 9})
	until(func() bool { return a.controls() == 1 })
	b.peerAt(1, a.Addr().String())
	until(func() bool { return b.Connected(1) })
	b.SendControl(1, &raftv1.Control{Kind: raftv1.Control_KIND_REPLICA_FAILED, GroupId: 9})
	until(func() bool { return a.controls() == 2 })
}

func TestPeersCanBeChangedAndDropped(t *testing.T) {
	a := unstarted(t, Config{})
	b, c := started(t, identity(2, 1, "b"), Config{}), started(t, identity(2, 2, "c"), Config{})
	a.SetPeers(map[uint64]string{1: "self:1", 2: b.Addr().String()})
	a.Send(2, message(typeVote, 1, 1, 0))
	a.start(t, identity(1, 1, "a"))
	until(func() bool { return a.Connected(2) })
	a.Send(1, message(typeVote, 1, 1, 0))
	if n := a.Counters().EnvelopesDropped(UnknownPeer); n != 2 {
		t.Errorf("%d dropped before Start and to itself, want 2", n)
	}
	a.peerAt(2, c.Addr().String())
	a.Send(2, message(typeVote, 1, 2, 0))
	until(func() bool { return len(c.envelopes()) == 1 })
	a.SetPeers(nil)
	if a.Connected(2) {
		t.Error("a dropped peer counts as connected")
	}
}

func TestANodeThatIsNotTheOneMeantIsNotTalkedTo(t *testing.T) {
	a, b := started(t, identity(1, 1, "a"), Config{}), started(t, identity(2, 1, "b"), Config{})
	a.peerAt(3, b.Addr().String())
	until(func() bool { return b.Counters().Refused(ErrWrongNode) > 0 })
	if a.Connected(3) {
		t.Error("connected to another node")
	}
}

func TestConfigFaultsAreReportedTogether(t *testing.T) {
	_, err := Listen(Config{EnvelopeBytesMax: 1, QueueBytesMax: -1, HandshakeTimeout: -1})
	if !errors.Is(err, ErrConfig) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{"Listener", "Probe", "EnvelopeBytesMax", "QueueBytesMax", "HandshakeTimeout"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v: does not name %s", err, want)
		}
	}
	if err := unstarted(t, Config{}).Start(Identity{}, nil, nil); !errors.Is(err, ErrConfig) {
		t.Errorf("the zero identity: %v", err)
	}
}

func TestCloseEndsEverythingAndMayBeRepeated(t *testing.T) {
	a := started(t, identity(1, 1, "a"), Config{})
	if err := a.Start(identity(1, 1, "a"), &a.recorder, a.rpc); !errors.Is(err, ErrConfig) {
		t.Errorf("second Start: %v", err)
	}
	for range 2 {
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	}
	a.SetPeers(map[uint64]string{2: "127.0.0.1:1"})
	a.Send(2, message(typeVote, 1, 1, 0))
	a.SendControl(2, &raftv1.Control{})
	if err := a.Start(identity(1, 1, "a"), &a.recorder, a.rpc); !errors.Is(err, ErrClosed) {
		t.Errorf("Start after Close: %v", err)
	}
}

func TestBackOffDoublesToItsLimitWithJitter(t *testing.T) {
	low, high := func(uint64) uint64 { return 0 }, func(n uint64) uint64 { return n - 1 }
	for failures, want := range map[int]int64{0: 50, 1: 100, 3: 400, 5: 1000, 1000: 1000} {
		if got := backoffDelay(failures, low).Milliseconds(); got != want/2 {
			t.Errorf("shortest delay after %d failures is %d ms, want %d", failures, got, want/2)
		}
		if got := backoffDelay(failures, high).Milliseconds(); got != want-1 {
			t.Errorf("longest delay after %d failures is %d ms, want %d", failures, got, want-1)
		}
	}
}
