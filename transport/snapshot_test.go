package transport

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/multiraftd/multiraftd/proto/lineage"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
)

// content is a SnapshotSource of some chunks.
type content struct {
	chunks [][]byte
	ended  chan *raftv1.InstallSnapshotResponse // one slot; a second end would block and fail the test
	err    error                                // valid when ended
	count  atomic.Int32
	fail   error
	group  uint64
}

func newContent(seed uint64, chunks, bytes int) *content {
	c := &content{ended: make(chan *raftv1.InstallSnapshotResponse, 1)}
	random := rand.New(rand.NewPCG(seed, 2))
	for range chunks {
		data := make([]byte, bytes)
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		c.chunks = append(c.chunks, data)
	}
	return c
}

func (c *content) Open() (*raftv1.InstallSnapshotRequest, error) {
	return &raftv1.InstallSnapshotRequest{
		Header: &raftv1.Header{GroupId: c.group, FromReplica: 1, ToReplica: 2}, Term: 5, LeaderId: 1, LastIncludedIndex: 100, LastIncludedTerm: 4,
		ConfState: &raftv1.ConfState{Voters: []uint64{1, 2, 3}}, SnapshotId: 9,
	}, nil
}

func (c *content) Chunk(i int) ([]byte, bool, error) {
	return c.chunks[i], i == len(c.chunks)-1, c.fail
}

func (c *content) Ended(resp *raftv1.InstallSnapshotResponse, err error) {
	c.err = err
	if c.count.Add(1) > 1 {
		panic("a snapshot ended twice")
	}
	c.ended <- resp
}

func (c *content) whole() []byte { return bytes.Join(c.chunks, nil) }

// assembler receives as a replica does: in order, checked, and it says where it is when a chunk does not follow.
type assembler struct {
	mu     sync.Mutex
	data   []byte
	begun  int
	done   bool
	chunks int
	// before is asked at each chunk; an error ends the stream without taking it.
	before func(n int) error
}

func (a *assembler) take(req *raftv1.InstallSnapshotRequest) (*raftv1.InstallSnapshotResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if crc32.Checksum(req.GetData(), castagnoli) != req.GetChecksum() {
		return nil, status.Error(codes.DataLoss, "checksum")
	}
	if a.chunks++; a.before != nil {
		if err := a.before(a.chunks); err != nil {
			return nil, err
		}
	}
	if a.done {
		return &raftv1.InstallSnapshotResponse{Term: 5, Success: true, MatchIndex: 100}, nil
	}
	if req.GetOffset() == 0 {
		a.data = nil
		a.begun++
	}
	if req.GetOffset() != uint64(len(a.data)) {
		return &raftv1.InstallSnapshotResponse{Term: 5, NextOffset: uint64(len(a.data))}, nil
	}
	a.data = append(a.data, req.GetData()...)
	if a.done = req.GetDone(); a.done {
		return &raftv1.InstallSnapshotResponse{Term: 5, Success: true, MatchIndex: 100}, nil
	}
	return nil, nil
}

// SnapshotChunk is part of ChunkReceiver.
func (a *assembler) SnapshotChunk(_ uint64, req *raftv1.InstallSnapshotRequest, reply func(*raftv1.InstallSnapshotResponse, error)) {
	reply(a.take(req))
}

func (a *assembler) wantWhole(t *testing.T, c *content) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if !bytes.Equal(a.data, c.whole()) {
		t.Fatalf("%d bytes arrived, want %d, or others", len(a.data), len(c.whole()))
	}
}

// pairFor starts two nodes, of which the first knows the second at addr; empty = where it is.
func pairFor(t *testing.T, a *assembler, cfg Config, addr string) (from, to *node) {
	t.Helper()
	from, to = started(t, identity(1, 1, "a"), cfg), unstarted(t, Config{})
	to.rpc = &fakeRPC{chunk: a.take}
	to.start(t, identity(2, 1, "b"))
	if addr == "" {
		addr = to.Addr().String()
	}
	from.peerAt(2, addr)
	return from, to
}

func TestASnapshotArrivesWholeAndEndsOnceWithTheAnswer(t *testing.T) {
	a, c := &assembler{}, newContent(1, 5, 100<<10)
	from, to := pairFor(t, a, Config{}, "")
	from.SendSnapshot(2, c)
	if resp := <-c.ended; c.err != nil || !resp.GetSuccess() || resp.GetMatchIndex() != 100 {
		t.Fatalf("%v, %v", resp, c.err)
	}
	a.wantWhole(t, c)
	if n := to.Counters().SnapshotChunksReceived.Load(); n != 5 {
		t.Errorf("%d chunks, want 5", n)
	}
}

// The stream is cut at a chunk drawn by lot, 20 times, by a proxy that closes the connection.
func TestAStreamCutAtARandomChunkTwentyTimesGoesOnWhereItWas(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 1))
	proxy := listen(t, "127.0.0.1:0")
	t.Cleanup(func() { _ = proxy.Close() })
	var conns connections
	cuts, next := 0, 1+random.IntN(8)
	a, c := &assembler{}, newContent(2, 200, 64<<10)
	a.before = func(n int) error {
		if n == next && cuts < 20 {
			cuts++
			next += 1 + random.IntN(8)
			conns.cut()
		}
		return nil
	}
	from, to := pairFor(t, a, Config{}, proxy.Addr().String())
	go conns.forward(proxy, to.Addr().String())
	from.SendSnapshot(2, c)
	if resp := <-c.ended; c.err != nil || !resp.GetSuccess() {
		t.Fatalf("%v, %v", resp, c.err)
	}
	a.wantWhole(t, c)
	if a.begun != 1 || cuts != 20 || from.Counters().SnapshotStreamsResumed.Load() < 20 {
		t.Fatalf("begun %d times, cut %d times, resumed %d times", a.begun, cuts, from.Counters().SnapshotStreamsResumed.Load())
	}
	if sent := from.Counters().SnapshotChunksSent.Load(); sent > 200+20*(receiveWindowBytes/(64<<10)+32) {
		t.Fatalf("%d chunks sent for 200", sent)
	}
}

// connections is a proxy whose connections can all be cut.
type connections struct {
	mu   sync.Mutex
	open []net.Conn
}

func (p *connections) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.open {
		_ = c.Close() // cut on purpose
	}
	p.open = nil
}

func (p *connections) forward(l net.Listener, to string) {
	for {
		near, err := l.Accept()
		if err != nil {
			p.cut()
			return
		}
		far, err := net.Dial("tcp", to)
		if err != nil {
			_ = near.Close()
			continue
		}
		p.mu.Lock()
		p.open = append(p.open, near, far)
		p.mu.Unlock()
		go func() { _, _ = io.Copy(far, near); _ = far.Close() }() // either end's end ends both
		go func() { _, _ = io.Copy(near, far); _ = near.Close() }()
	}
}

func TestAReceiverThatHasLostWhatItHadBeginsAnew(t *testing.T) {
	a, c := &assembler{}, newContent(4, 20, 10<<10)
	a.before = func(n int) error {
		if n == 9 { // as a restarted node: it knows of nothing
			a.data = nil
			return status.Error(codes.Unavailable, "restarted")
		}
		return nil
	}
	from, _ := pairFor(t, a, Config{}, "")
	from.SendSnapshot(2, c)
	if resp := <-c.ended; c.err != nil || !resp.GetSuccess() {
		t.Fatalf("%v, %v", resp, c.err)
	}
	a.wantWhole(t, c)
	if a.begun != 2 {
		t.Fatalf("begun %d times", a.begun)
	}
}

func TestALostAnswerIsAskedForAgainWithoutData(t *testing.T) {
	a, c := &assembler{}, newContent(5, 3, 10<<10)
	a.before = func(n int) error {
		if n == 3 {
			a.data = append(a.data, c.chunks[2]...)
			a.done = true
			return status.Error(codes.Unavailable, "the answer is lost")
		}
		return nil
	}
	from, _ := pairFor(t, a, Config{}, "")
	from.SendSnapshot(2, c)
	if resp := <-c.ended; c.err != nil || !resp.GetSuccess() {
		t.Fatalf("%v, %v", resp, c.err)
	}
	a.wantWhole(t, c)
	if n := from.Counters().SnapshotChunksSent.Load(); n != 4 {
		t.Fatalf("%d requests, want 3 and the question", n)
	}
}

func TestWhatTheReceiverRefusesForGoodIsNotSentAgain(t *testing.T) {
	for _, code := range []codes.Code{codes.NotFound, codes.InvalidArgument, codes.FailedPrecondition, codes.ResourceExhausted} {
		a, c := &assembler{}, newContent(6, 3, 1<<10)
		a.before = func(int) error { return status.Error(code, "planted") }
		from, _ := pairFor(t, a, Config{}, "")
		from.SendSnapshot(2, c)
		if resp := <-c.ended; resp != nil || status.Code(c.err) != code {
			t.Errorf("%v: %v, %v", code, resp, c.err)
		}
		if n := from.Counters().SnapshotStreamsResumed.Load(); n != 0 {
			t.Errorf("%v: %d more streams", code, n)
		}
	}
}

func TestASnapshotThatNeverComesFurtherIsGivenUp(t *testing.T) {
	a, c := &assembler{}, newContent(7, 3, 1<<10)
	a.before = func(n int) error { return status.Error(codes.DataLoss, "planted") }
	from, _ := pairFor(t, a, Config{}, "")
	from.SendSnapshot(2, c)
	if resp := <-c.ended; resp != nil || status.Code(c.err) != codes.DataLoss {
		t.Fatalf("%v, %v", resp, c.err)
	}
	if n := from.Counters().SnapshotStreamsResumed.Load(); n != snapshotSetbacksMax {
		t.Fatalf("%d more streams, want %d", n, snapshotSetbacksMax)
	}
}

func TestAFaultOfTheSourceEndsIt(t *testing.T) {
	a, c := &assembler{}, newContent(8, 3, 1<<10)
	c.fail = errors.New("planted")
	from, _ := pairFor(t, a, Config{}, "")
	from.SendSnapshot(2, c)
	if resp := <-c.ended; resp != nil || !errors.Is(c.err, c.fail) {
		t.Fatalf("%v, %v", resp, c.err)
	}
}

func TestSnapshotsAreBoundedInNumberOnBothSides(t *testing.T) {
	release := make(chan struct{})
	arrived := make(chan struct{}, 10)
	a := &assembler{}
	block := func(*raftv1.InstallSnapshotRequest) (*raftv1.InstallSnapshotResponse, error) {
		arrived <- struct{}{}
		<-release
		return &raftv1.InstallSnapshotResponse{Term: 5, Success: true}, nil
	}
	from, to := pairFor(t, a, Config{SnapshotsMax: 6}, "")
	to.rpc.chunk = block
	to.Transport.cfg.SnapshotsMax = 4
	var all []*content
	for i := range 4 {
		all = append(all, newContent(uint64(i), 1, 10))
		all[i].group = uint64(i)
		from.SendSnapshot(2, all[i])
		<-arrived
	}
	fifth := newContent(9, 1, 10)
	fifth.group = 5
	from.SendSnapshot(2, fifth)
	if <-fifth.ended; status.Code(fifth.err) != codes.ResourceExhausted {
		t.Errorf("the receiver's fifth: %v", fifth.err)
	}
	other := started(t, identity(3, 1, "c"), Config{SnapshotsMax: 1})
	other.SetPeers(map[uint64]string{2: to.Addr().String()})
	one, two := newContent(10, 1, 10), newContent(11, 1, 10)
	other.Transport.mu.Lock()
	other.Transport.snapshotsOut = 1
	other.Transport.mu.Unlock()
	other.SendSnapshot(2, two)
	if <-two.ended; !errors.Is(two.err, ErrTooManySnapshots) {
		t.Errorf("the sender's second: %v", two.err)
	}
	other.Transport.mu.Lock()
	other.Transport.snapshotsOut = 0
	other.Transport.mu.Unlock()
	close(release)
	for _, c := range all {
		if resp := <-c.ended; !resp.GetSuccess() {
			t.Errorf("%v, %v", resp, c.err)
		}
	}
	other.SendSnapshot(2, one)
	if resp := <-one.ended; !resp.GetSuccess() {
		t.Errorf("%v, %v", resp, one.err)
	}
	unknown := newContent(12, 1, 10)
	other.SendSnapshot(99, unknown)
	if <-unknown.ended; !errors.Is(unknown.err, ErrUnknownNode) {
		t.Errorf("to an unknown node: %v", unknown.err)
	}
}

func TestCloseEndsWhatIsBeingSentAndReceived(t *testing.T) {
	arrived := make(chan struct{}, 10)
	a, c := &assembler{}, newContent(1, 10, 10)
	from, to := pairFor(t, a, Config{}, "")
	block := make(chan struct{})
	to.rpc.chunk = func(*raftv1.InstallSnapshotRequest) (*raftv1.InstallSnapshotResponse, error) {
		arrived <- struct{}{}
		<-block
		return nil, nil
	}
	from.SendSnapshot(2, c)
	<-arrived
	if err := from.Close(); err != nil {
		t.Fatal(err)
	}
	if <-c.ended; c.err == nil {
		t.Fatal("it ended without a reason")
	}
	close(block)
	late := newContent(2, 1, 10)
	from.SendSnapshot(2, late)
	if <-late.ended; !errors.Is(late.err, ErrClosed) {
		t.Fatalf("after Close: %v", late.err)
	}
}

func TestASilentStreamIsEndedOnBothSides(t *testing.T) {
	n := unstarted(t, Config{SnapshotStallTimeout: 20 * time.Millisecond})
	n.start(t, identity(2, 1, "b"))
	stream, err := rawClient(t, n).InstallSnapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = stream.RecvMsg(&raftv1.InstallSnapshotResponse{})
	wantCode(t, err, codes.DeadlineExceeded)

	release := make(chan struct{})
	a, c := &assembler{}, newContent(1, 1, 10)
	from, to := pairFor(t, a, Config{SnapshotStallTimeout: 5 * time.Millisecond}, "")
	to.rpc.chunk = func(*raftv1.InstallSnapshotRequest) (*raftv1.InstallSnapshotResponse, error) {
		<-release
		return nil, errors.New("planted")
	}
	from.SendSnapshot(2, c)
	<-c.ended
	close(release)
	if c.err == nil {
		t.Fatal("it ended without a reason")
	}
}

func TestRequestsOfAStreamAreCheckedLikeAnyCall(t *testing.T) {
	a := &assembler{}
	_, to := pairFor(t, a, Config{}, "")
	for name, row := range map[string]struct {
		id   Identity
		code codes.Code
	}{
		"another cluster": {Identity{Cluster: "other", Node: 1, Start: identity(1, 1, "a").Start}, codes.FailedPrecondition},
		"no start number": {Identity{Cluster: "cluster-a", Node: 1, Start: lineage.Start{ID: identity(1, 1, "a").Start.ID}}, codes.InvalidArgument},
	} {
		stream, err := rawClient(t, to).InstallSnapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(&raftv1.InstallSnapshotRequest{Header: row.id.header()}); err != nil {
			t.Fatal(err)
		}
		_, err = stream.CloseAndRecv()
		if status.Code(err) != row.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	id := identity(7, 1, "z")
	stream, err := rawClient(t, to).InstallSnapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range []uint64{7, 8} {
		id.Node = node
		if err := stream.Send(&raftv1.InstallSnapshotRequest{Header: id.header()}); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	if _, err := stream.CloseAndRecv(); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("a stream of two nodes: %v", err)
	}
	if stream, err = rawClient(t, to).InstallSnapshot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.CloseAndRecv(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a stream without a request: %v", err)
	}
}

func TestThePacerLetsNoMoreThroughThanItsRate(t *testing.T) {
	p := &Pacer{BytesPerSecond: 1 << 20}
	began := time.Now()
	var passed atomic.Int64
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 8 {
				if err := p.Wait(t.Context(), 4<<10); err != nil {
					t.Error(err)
				}
				// The first passes at once, every other one when those before are paid for.
				if n := passed.Add(4 << 10); time.Since(began) < time.Duration(n-4*4<<10)*time.Second/(1<<20) {
					t.Errorf("%d bytes after %v", n, time.Since(began))
				}
			}
		})
	}
	all.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Wait(ctx, 1<<30); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
	if err := p.Wait(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("behind a gigabyte: %v", err)
	}
}
