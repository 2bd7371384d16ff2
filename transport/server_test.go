package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/transport/guard/guardtest"
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
	resp, err := Probe(t.Context(), n.Addr().String(), nil)
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
	_, err := Probe(t.Context(), addr, nil)
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
	n := started(t, identity(1, 1, "a"), Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // ends what hangs
	defer cancel()
	dial := func(from string) *guardtest.Client {
		c, err := guardtest.Dial(ctx, from, n.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() }) // one of them the server has closed
		return c
	}
	answered := func(s *guardtest.Seen) bool { return s.Acks == 1 }
	var open []*guardtest.Client
	for range connectionsPerHostMax {
		open = append(open, dial("127.0.0.2"))
	}
	for i, c := range append(open, dial("127.0.0.1")) {
		if err := errors.Join(c.Ping(), c.Await(ctx, answered)); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
	}
	if err := dial("127.0.0.2").Await(ctx, func(s *guardtest.Seen) bool { return s.Closed }); err != nil {
		t.Fatalf("one too many: %v", err)
	}
	if got := n.Counters().Shed.Connections.Load(); got != 1 {
		t.Errorf("%d refused, want 1", got)
	}
}

// warnings counts the lines of a log that somebody should read.
type warnings struct {
	slog.Handler
	n atomic.Int64
}

func (w *warnings) Enabled(context.Context, slog.Level) bool { return true }

func (w *warnings) Handle(_ context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		w.n.Add(1)
	}
	return nil
}

func TestNewReasonsToBeRefusedAreOneLineASecond(t *testing.T) {
	w := &warnings{Handler: slog.DiscardHandler}
	n := unstarted(t, Config{Logger: slog.New(w)})
	began := time.Now()
	for i := range 1000 {
		n.complain(2, fmt.Errorf("reason %d", i))
	}
	if most := 1 + int64(time.Since(began)/complaintInterval); w.n.Load() < 1 || w.n.Load() > most {
		t.Errorf("%d lines, want 1 to %d", w.n.Load(), most)
	}
}

func TestStrangersAreFewAndForgottenWhenTheyGo(t *testing.T) {
	n := started(t, identity(1, 1, "a"), Config{Known: knowNode3})
	c := rawClient(t, n)
	shake := func(node uint64) (end func(), err error) {
		ctx, cancel := context.WithCancel(t.Context())
		t.Cleanup(cancel)
		stream, err := c.Exchange(ctx)
		if err == nil {
			err = stream.Send(handshakeMessage(after(hello(identity(node, 9, "c"), nil), "b")))
		}
		if err == nil {
			_, err = stream.Recv()
		}
		return cancel, err
	}
	var last func()
	for node := range uint64(strangersMax) {
		end, err := shake(100 + node)
		if err != nil {
			t.Fatalf("stranger %d: %v", node, err)
		}
		last = end
		if node+1 == streamsPerConnMax/2 {
			c = rawClient(t, n) // one connection has not so many streams
		}
	}
	c = rawClient(t, n)
	_, err := shake(99)
	wantCode(t, err, codes.ResourceExhausted)
	if _, err := shake(3); err != nil {
		t.Errorf("a registered node: %v", err)
	}
	last()
	until(func() bool { _, err := shake(99); return err == nil })
	seen := n.session.Load().incarnations
	seen.mu.Lock()
	defer seen.mu.Unlock()
	if len(seen.seen) != strangersMax+1 {
		t.Errorf("%d nodes are remembered, want those that are connected", len(seen.seen))
	}
}

func TestTheCommittedLimitsOfThePeerAddressAreThese(t *testing.T) {
	page, err := os.ReadFile("../docs/hostile.md")
	if err != nil {
		t.Fatal(err)
	}
	if offencesMax != 128 || offencesPerSecond != 4 {
		t.Error("docs/hostile.md says that offences are limited as on the client address, to 128 at once, 4 a second")
	}
	frame := withDefaults(Config{})
	seconds := func(d time.Duration) string { return fmt.Sprintf("%.0f s", d.Seconds()) }
	for what, want := range map[string]string{
		"Connections": fmt.Sprintf("%d, %d from one host", connectionsMax, connectionsPerHostMax), "Time to finish HTTP/2's handshake, and TLS's": seconds(handshakeTimeout),
		"New connections from one host":  fmt.Sprintf("%d at once, %d a second", connectionsPerHostMax, connectionsPerSecond),
		"Calls that one host breaks off": fmt.Sprintf("%d at once, %d a second", resetsMax, resetsPerSecond),
		"Calls on one connection":        fmt.Sprint(streamsPerConnMax), "Calls in all": fmt.Sprintf("%d, beyond that %d", streamsMax, streamsFloor),
		"Headers of a call": fmt.Sprintf("%d KiB", headerListBytesMax>>10), "A message": fmt.Sprintf("%d MiB", frame.FrameBytesMax()>>20), "Pings": "one in " + seconds(serverPingMin),
		"Messages that have begun and not ended, all connections together": fmt.Sprintf("%d MiB", partialBytesMax>>20),
		"What a stream may hold that nobody has read":                      fmt.Sprintf("%d MiB, or its message", receiveWindowBytes>>20),
		"Time to take something of what is written":                        seconds(writeTimeout), "Idle, without a call": fmt.Sprintf("%.0f min", connectionIdleMax.Minutes()),
		"Exchanges of nodes that nobody has registered": fmt.Sprint(strangersMax), "\"Group unknown\" for one peer": fmt.Sprintf("%d different ones waiting", controlsMax),
	} {
		if !regexp.MustCompile(`(?m)^\| ` + regexp.QuoteMeta(what) + ` \|[^|]*\| ` + regexp.QuoteMeta(want) + ` \|`).Match(page) {
			t.Errorf("docs/hostile.md does not say %q of %q", want, what)
		}
	}
}
