package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
)

func rawClient(t *testing.T, n *node) raftv1.RaftServiceClient {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+n.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return raftv1.NewRaftServiceClient(conn)
}

func wantCode(t *testing.T, err error, want codes.Code) {
	t.Helper()
	if status.Code(err) != want {
		t.Errorf("got %v, want %v", err, want)
	}
}

// exchange opens an Exchange by hand and sends the messages; answer is the first thing to come back.
func exchange(t *testing.T, c raftv1.RaftServiceClient, ms ...*raftv1.ExchangeRequest) (stream exchangeClient, answer *raftv1.ExchangeResponse, err error) {
	t.Helper()
	stream, err = c.Exchange(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range ms {
		if err := stream.Send(m); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	answer, err = stream.Recv()
	return stream, answer, err
}

func handshakeMessage(h *raftv1.Handshake) *raftv1.ExchangeRequest {
	return &raftv1.ExchangeRequest{Message: &raftv1.ExchangeRequest_Handshake{Handshake: h}}
}

func frameMessage(f *raftv1.Frame) *raftv1.ExchangeRequest {
	return &raftv1.ExchangeRequest{Message: &raftv1.ExchangeRequest_Frame{Frame: f}}
}

func TestOnlyProbeIsAnsweredBeforeStart(t *testing.T) {
	n := unstarted(t, Config{})
	resp, err := Probe(t.Context(), n.Addr().String())
	if err != nil || resp.GetState() != raftv1.StoreState_STORE_STATE_EMPTY {
		t.Fatalf("got %v, %v", resp, err)
	}
	c := rawClient(t, n)
	_, err = c.AppendEntries(t.Context(), &raftv1.AppendEntriesRequest{})
	wantCode(t, err, codes.Unavailable)
	_, err = c.RequestVote(t.Context(), &raftv1.RequestVoteRequest{})
	wantCode(t, err, codes.Unavailable)
	_, _, err = exchange(t, c, handshakeMessage(hello(identity(2, 1, "b"), nil)))
	wantCode(t, err, codes.Unavailable)
}

func TestProbeOfNobodyNamesTheAddress(t *testing.T) {
	l := listen(t, "127.0.0.1:0")
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := Probe(t.Context(), addr)
	if err == nil || status.Code(errors.Unwrap(err)) != codes.Unavailable {
		t.Fatalf("got %v", err)
	}
}

func TestRefusedHandshakesEndTheExchangeAndHandOverNothing(t *testing.T) {
	n := started(t, identity(1, 1, "a"), Config{Known: knowNode3})
	c := rawClient(t, n)
	if _, answer, err := exchange(t, c, handshakeMessage(hello(identity(2, 5, "b"), nil))); err != nil || answer.GetHandshake().GetStoreId() != "store-1" {
		t.Fatalf("got %v, %v", answer, err)
	}
	for _, r := range refusedHandshakes {
		t.Run(r.name, func(t *testing.T) {
			before := n.Counters().Refused(r.want)
			frame := &raftv1.Frame{Header: r.h.GetHeader(), Envelopes: []*raftv1.Envelope{message(typeVote, 1, 1, 0)}}
			_, _, err := exchange(t, c, handshakeMessage(r.h), frameMessage(frame))
			wantCode(t, err, refusals[refusalOf(r.want)].code)
			if got := n.Counters().Refused(r.want); got != before+1 {
				t.Errorf("%d refusals counted, want %d", got, before+1)
			}
		})
	}
	if got := n.envelopes(); len(got) != 0 {
		t.Errorf("handed over: %v", got)
	}
}

func TestWhatMayNotFollowAHandshakeEndsTheExchange(t *testing.T) {
	id := identity(2, 1, "b")
	foreign := id.header()
	foreign.StartNumber++
	for _, c := range []struct {
		name string
		m    *raftv1.ExchangeRequest
		want codes.Code
	}{
		{"a frame with another incarnation's header", frameMessage(&raftv1.Frame{Header: foreign}), codes.FailedPrecondition},
		{"a frame without header", frameMessage(&raftv1.Frame{}), codes.FailedPrecondition},
		{"a second handshake", handshakeMessage(hello(id, nil)), codes.InvalidArgument},
		{"nothing", &raftv1.ExchangeRequest{}, codes.InvalidArgument},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := started(t, identity(1, 1, "a"), Config{})
			stream, _, err := exchange(t, rawClient(t, n), handshakeMessage(hello(id, nil)), c.m)
			for err == nil {
				_, err = stream.Recv()
			}
			wantCode(t, err, c.want)
		})
	}
	n := started(t, identity(1, 1, "a"), Config{})
	_, _, err := exchange(t, rawClient(t, n), frameMessage(&raftv1.Frame{Header: id.header()}))
	wantCode(t, err, codes.InvalidArgument)
}

func TestAHandshakeThatDoesNotComeEndsTheExchange(t *testing.T) {
	n := started(t, identity(1, 1, "a"), Config{HandshakeTimeout: time.Nanosecond})
	// gRPC's own connection timeout is the same setting, so the stream is opened beneath it.
	x := &inbound{t: n.Transport, session: n.session.Load()}
	stream := &silentStream{ctx: t.Context(), end: make(chan struct{})}
	_, err := x.awaitHandshake(stream)
	close(stream.end)
	if !errors.Is(err, ErrHandshakeTimeout) {
		t.Fatalf("got %v", err)
	}
}

// silentStream sends nothing until its handler has returned.
type silentStream struct {
	exchangeServer
	ctx context.Context
	end chan struct{}
}

func (s *silentStream) Context() context.Context { return s.ctx }

func (s *silentStream) Recv() (*raftv1.ExchangeRequest, error) {
	<-s.end
	return nil, io.EOF
}

func TestANewerExchangeSupersedesTheOlder(t *testing.T) {
	n := started(t, identity(1, 1, "a"), Config{})
	c := rawClient(t, n)
	first, _, err := exchange(t, c, handshakeMessage(hello(identity(2, 5, "b"), nil)))
	if err != nil {
		t.Fatal(err)
	}
	again, _, err := exchange(t, c, handshakeMessage(hello(identity(2, 6, "c"), nil)))
	if err != nil {
		t.Fatal(err)
	}
	_, err = first.Recv()
	wantCode(t, err, codes.Aborted)
	id := identity(2, 6, "c")
	if err := again.Send(frameMessage(&raftv1.Frame{Header: id.header(), Envelopes: []*raftv1.Envelope{message(typeVote, 1, 7, 0)}})); err != nil {
		t.Fatal(err)
	}
	until(func() bool { return len(n.envelopes()) == 1 })
}

func TestUnaryCallsAreRefusedWhileAnotherIncarnationHoldsAnExchange(t *testing.T) {
	n := started(t, identity(1, 1, "a"), Config{Known: knowNode3})
	c := rawClient(t, n)
	if _, _, err := exchange(t, c, handshakeMessage(hello(identity(2, 5, "b"), nil))); err != nil {
		t.Fatal(err)
	}
	header := func(node, start uint64, boot string) *raftv1.Header {
		id := identity(node, start, boot)
		return id.header()
	}
	for _, call := range []struct {
		name string
		h    *raftv1.Header
		want codes.Code
	}{
		{"the incarnation that holds the Exchange", header(2, 5, "b"), codes.OK},
		{"a later one", header(2, 6, "c"), codes.Aborted},
		{"an earlier one", header(2, 4, "a"), codes.Aborted},
		{"a node without Exchange", header(4, 1, "d"), codes.OK},
		{"an incarnation older than registered", header(3, 7, "d"), codes.FailedPrecondition},
		{"this node itself", header(1, 1, "a"), codes.FailedPrecondition},
		{"no header", nil, codes.InvalidArgument},
	} {
		t.Run(call.name, func(t *testing.T) {
			_, err := c.AppendEntries(t.Context(), &raftv1.AppendEntriesRequest{Header: call.h, Term: 1})
			wantCode(t, err, call.want)
			_, err = c.RequestVote(t.Context(), &raftv1.RequestVoteRequest{Header: call.h, Term: 1})
			wantCode(t, err, call.want)
		})
	}
	if got := n.Counters().RPCs.Load(); got != 4 {
		t.Errorf("%d calls handed on, want 4", got)
	}
}

func TestAFrameAboveTheLimitIsRefused(t *testing.T) {
	n := started(t, identity(1, 1, "a"), Config{EnvelopeBytesMax: bulkEnvelopeBytesMin})
	id := identity(2, 1, "b")
	f := &raftv1.Frame{Header: id.header(), Envelopes: []*raftv1.Envelope{message(typeAppend, 1, 1, 2<<20)}}
	stream, _, err := exchange(t, rawClient(t, n), handshakeMessage(hello(id, nil)), frameMessage(f))
	for err == nil {
		_, err = stream.Recv()
	}
	wantCode(t, err, codes.ResourceExhausted)
}

func TestConnectionsAboveTheLimitOfAHostAreClosed(t *testing.T) {
	l := &boundedListener{Listener: listen(t, "127.0.0.1:0"), counters: &Counters{}, byHost: make(map[string]int)}
	accepted := make(chan net.Conn)
	go func() {
		defer close(accepted)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() }) // some are closed by the listener
		return conn
	}
	var open []net.Conn
	for range connectionsPerHostMax {
		dial()
		open = append(open, <-accepted)
	}
	if n, err := dial().Read(make([]byte, 1)); err == nil {
		t.Fatalf("read %d bytes from a connection too many", n)
	}
	for _, conn := range open {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
	dial()
	if err := (<-accepted).Close(); err != nil {
		t.Error(err)
	}
	if got := l.counters.ConnectionsRefused.Load(); got != 1 || l.total != 0 {
		t.Errorf("%d refused, %d counted as open; want 1 and 0", got, l.total)
	}
	if err := l.Listener.Close(); err != nil {
		t.Error(err)
	}
	<-accepted
}
