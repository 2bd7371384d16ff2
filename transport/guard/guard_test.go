package guard

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/multiraftd/multiraftd/transport/guard/guardtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testTimeout = 30 * time.Second // ends what hangs; no measure of speed

// loose are limits that no test reaches, but for the one that it lowers.
func loose() Limits {
	return Limits{Connections: 1000, ConnectionsPerHost: 1000, Resets: 1000, Offences: 1000, ConnectionRate: 1e6, ResetRate: 1e6, OffenceRate: 1e6,
		Streams: 1 << 20, StreamsFloor: 1, PartialBytes: 1 << 40, WriteTimeout: time.Hour}
}

var errTooMany = status.Error(codes.ResourceExhausted, "too many calls")

func newTestListener(l net.Listener, limits Limits) *Listener {
	return Listen(l, limits, errTooMany, new(Counters))
}

// server answers any call: it reads messages until the client has no more, and answers with what they hold.
type server struct {
	*Listener
	t    *testing.T
	ctx  context.Context
	addr string
	big  int // bytes of each answer instead
	mu   sync.Mutex
	came []context.Context // of the calls

	certs    *certs // nil = plaintext
	patience time.Duration
	failures []error // of handshakes
}

func serve(t *testing.T, limits Limits) *server {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	s := &server{Listener: newTestListener(lis, limits), t: t, ctx: ctx, addr: lis.Addr().String()}
	opts := []grpc.ServerOption{grpc.UnknownServiceHandler(s.handle), grpc.InTapHandle(s.Tap), grpc.MaxRecvMsgSize(1 << 30), grpc.ForceServerCodecV2(Codec()),
		grpc.WaitForHandlers(true)}
	if s.secure(); s.certs != nil {
		config := s.certs.server // tests may change what the client has
		opts = append(opts, grpc.Creds(s.Credentials(func() *tls.Config { return config }, s.failed)), grpc.ConnectionTimeout(s.patience))
	}
	g := grpc.NewServer(opts...)
	Registrar(g).RegisterService(&known, s)
	var loop sync.WaitGroup
	loop.Go(func() {
		if err := g.Serve(s.Listener); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		g.Stop()
		loop.Wait()
		if p, n := s.partial.Load(), s.streams.Load(); p != 0 || n != 0 || len(s.conns) != 0 {
			t.Errorf("at the end %d bytes are held, %d streams and %d connections counted", p, n, len(s.conns))
		}
		for name, h := range s.hosts {
			if h.conns != 0 {
				t.Errorf("at the end %d connections of %s are counted", h.conns, name)
			}
		}
	})
	return s
}

func (s *server) handle(_ any, stream grpc.ServerStream) error {
	s.mu.Lock()
	s.came = append(s.came, stream.Context())
	s.mu.Unlock()
	for {
		m := new(wrapperspb.BytesValue)
		if err := stream.RecvMsg(m); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if s.big > 0 {
			m.Value = make([]byte, s.big)
		}
		if err := stream.SendMsg(m); err != nil {
			return err
		}
	}
}

func (s *server) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) dial(settings ...http2.Setting) *guardtest.Client {
	s.t.Helper()
	c, err := s.dialFrom("127.0.0.1", settings...)
	s.must(err)
	s.t.Cleanup(func() { _ = c.Close() }) // the server may have closed it
	return c
}

const method = "/any.Service/Method"

// begin begins a message of which the rest never comes; it returns when all that it sends has arrived.
func (s *server) begin(c *guardtest.Client, announced, come int) (id uint32) {
	s.t.Helper()
	before := s.partial.Load()
	id, err := c.Open(method)
	s.must(err)
	s.must(c.Send(id, guardtest.Prefix(false, announced), false))
	if announced > 1<<16 { // more than the window at first: the server adds the message's size
		s.must(c.Await(s.ctx, func(seen *guardtest.Seen) bool { return seen.Window[id] >= int64(announced) }))
	}
	s.must(c.Send(id, make([]byte, come), false))
	s.until(func() bool { return s.partial.Load() >= before+int64(come) || s.counters.Uploads.Load() > 0 })
	return id
}

// until waits for something that happens by itself.
func (s *server) until(cond func() bool) {
	s.t.Helper()
	pause := time.NewTicker(time.Millisecond)
	defer pause.Stop()
	for !cond() {
		select {
		case <-pause.C:
		case <-s.ctx.Done():
			s.t.Fatal("it never came true")
		}
	}
}

func closed(seen *guardtest.Seen) bool { return seen.Closed }

func TestTheConnectionThatHasSentItsMessageForLongestMakesRoom(t *testing.T) {
	limits := loose()
	limits.PartialBytes = 3 << 20
	s := serve(t, limits)
	var cs []*guardtest.Client
	for range 3 { // one MiB each, less than 3 together only without their prefixes and frames
		c := s.dial()
		s.begin(c, 8<<20, 1<<20-30_000)
		cs = append(cs, c)
	}
	s.must(s.good(10_000))
	if n := s.counters.Uploads.Load(); n != 0 {
		t.Fatalf("%d connections closed below the limit", n)
	}
	s.begin(s.dial(), 8<<20, 1<<20-30_000)
	s.must(cs[0].Await(s.ctx, closed))
	s.must(s.good(1 << 20)) // for which the second goes
	s.must(cs[1].Await(s.ctx, closed))
	s.must(cs[2].Ping())
	s.must(cs[2].Await(s.ctx, func(seen *guardtest.Seen) bool { return seen.Acks == 1 }))
	if n := s.counters.Uploads.Load(); n != 2 {
		t.Errorf("%d connections closed, want 2", n)
	}
}

func TestAMessageInTinyPiecesCountsForWhatItTakes(t *testing.T) {
	limits := loose()
	limits.PartialBytes = 64 << 10
	s := serve(t, limits)
	c := s.dial()
	id, err := c.Open(method)
	s.must(err)
	s.must(c.Send(id, guardtest.Prefix(false, 10_000), false))
	_ = c.SendIn(id, make([]byte, 9_000), 1, false) // it fails when the connection is closed before the end
	s.must(c.Await(s.ctx, closed))
}

func TestWhatAStreamHeldIsGivenBackHoweverItEnds(t *testing.T) {
	s := serve(t, loose())
	c := s.dial()
	reset, half, whole := s.begin(c, 1000, 600), s.begin(c, 1000, 600), s.begin(c, 1000, 600)
	s.must(c.Reset(reset))
	s.must(c.Send(half, nil, true)) // the message will never be complete
	s.must(c.Send(whole, make([]byte, 400), false))
	s.until(func() bool { return s.partial.Load() == 0 })
	// A message above gRPC's limit ends the call from the server's side, while the client goes on.
	small := s.begin(c, 1000, 600)
	over, err := c.Open(method)
	s.must(err)
	s.must(c.Send(over, append(guardtest.Prefix(false, 1<<30+1), make([]byte, 5000)...), false))
	s.must(c.Await(s.ctx, func(seen *guardtest.Seen) bool { return strings.HasPrefix(seen.Ends[over], "8 ") }))
	s.must(c.Send(over, make([]byte, 5000), false))
	s.until(func() bool { return s.partial.Load() < 1000 })
	s.must(c.Send(small, make([]byte, 400), true))
	s.until(func() bool { return s.partial.Load() == 0 })
}

func TestCallsAboveTheLimitAreRefusedButForThoseWithFew(t *testing.T) {
	limits := loose()
	limits.Streams, limits.StreamsFloor = 20, 2
	s := serve(t, limits)
	greedy := s.dial()
	open := func() uint32 {
		id, err := greedy.Open(method)
		s.must(err)
		return id
	}
	for i := range limits.Streams {
		open()
		s.until(func() bool { return len(s.calls()) == i+1 })
	}
	for range 10 {
		id := open()
		s.must(greedy.Await(s.ctx, func(seen *guardtest.Seen) bool { return strings.HasPrefix(seen.Ends[id], "8 too many calls") }))
	}
	s.until(func() bool { return s.streams.Load() == int64(limits.Streams) })
	for range 10 { // as many as it likes, one after the other
		s.must(s.good(10))
	}
	if n := s.counters.Calls.Load(); n != 10 {
		t.Errorf("%d calls refused, want 10", n)
	}
	s.must(greedy.Reset(1))
	s.until(func() bool { return s.streams.Load() < int64(limits.Streams) })
	before := len(s.calls())
	open()
	s.until(func() bool { return len(s.calls()) == before+1 })
}

func TestConnectionsAboveTheLimitsAreClosed(t *testing.T) {
	for name, tc := range map[string]struct {
		limits Limits
		hosts  []string // of connections that are taken
		many   string   // and of the one too many
	}{
		"in all":        {Limits{Connections: 3, ConnectionsPerHost: 3}, []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"}, "127.0.0.4"},
		"from one host": {Limits{Connections: 9, ConnectionsPerHost: 2}, []string{"127.0.0.1", "127.0.0.2", "127.0.0.2"}, "127.0.0.2"},
	} {
		t.Run(name, func(t *testing.T) {
			limits := loose()
			limits.Connections, limits.ConnectionsPerHost = tc.limits.Connections, tc.limits.ConnectionsPerHost
			s := serve(t, limits)
			dial := func(from string) *guardtest.Client {
				c, err := s.dialFrom(from)
				s.must(err)
				t.Cleanup(func() { _ = c.Close() }) // one of them the server has closed
				return c
			}
			answers := func(c *guardtest.Client) {
				s.must(c.Ping())
				s.must(c.Await(s.ctx, func(seen *guardtest.Seen) bool { return seen.Acks == 1 }))
			}
			var taken []*guardtest.Client
			for _, from := range tc.hosts {
				taken = append(taken, dial(from))
				answers(taken[len(taken)-1])
			}
			s.must(dial(tc.many).Await(s.ctx, closed))
			if n := s.counters.Connections.Load(); n != 1 {
				t.Errorf("%d refused, want 1", n)
			}
			s.must(taken[len(taken)-1].Close())
			s.until(func() bool {
				s.Listener.mu.Lock()
				defer s.Listener.mu.Unlock()
				return len(s.conns) == len(tc.hosts)-1
			})
			answers(dial(tc.many))
		})
	}
}

func TestAHostThatConnectsTooOftenWaits(t *testing.T) {
	limits := loose()
	limits.ConnectionsPerHost, limits.ConnectionRate = 3, 1e-9
	s := serve(t, limits)
	for range limits.ConnectionsPerHost {
		c := s.dial()
		s.must(c.Ping())
		s.must(c.Await(s.ctx, func(seen *guardtest.Seen) bool { return seen.Acks == 1 }))
		s.must(c.Close())
	}
	s.must(s.dial().Await(s.ctx, closed))
	other, err := s.dialFrom("127.0.0.2")
	s.must(err)
	defer other.Close()
	s.must(other.Ping())
	s.must(other.Await(s.ctx, func(seen *guardtest.Seen) bool { return seen.Acks == 1 }))
}

func TestAHostThatBreaksOffTooManyCallsIsClosed(t *testing.T) {
	limits := loose()
	limits.Resets, limits.ResetRate = 10, 1e-9
	s := serve(t, limits)
	reset := func(c *guardtest.Client, n int) {
		for range n {
			id, err := c.Open(method)
			s.must(err)
			s.must(c.Reset(id))
		}
	}
	first, second := s.dial(), s.dial()
	reset(first, 6)
	s.must(first.Ping())
	s.must(first.Await(s.ctx, func(seen *guardtest.Seen) bool { return seen.Acks == 1 }))
	reset(second, 4)
	s.must(second.Ping())
	s.must(second.Await(s.ctx, func(seen *guardtest.Seen) bool { return seen.Acks == 1 }))
	reset(second, 1)
	s.must(second.Await(s.ctx, closed))
	if n := s.counters.Resets.Load(); n != 1 {
		t.Errorf("%d connections closed for it", n)
	}
	// Its other connection may go on, but there are no new ones.
	s.must(first.Ping())
	s.must(first.Await(s.ctx, func(seen *guardtest.Seen) bool { return seen.Acks == 2 }))
	s.must(s.dial().Await(s.ctx, closed))
	other, err := s.dialFrom("127.0.0.2")
	s.must(err)
	defer other.Close()
	reset(other, 10)
	s.must(other.Ping())
	s.must(other.Await(s.ctx, func(seen *guardtest.Seen) bool { return seen.Acks == 1 }))
	s.must(other.Reset(1)) // what is not open costs nothing
	s.must(other.Ping())
	s.must(other.Await(s.ctx, func(seen *guardtest.Seen) bool { return seen.Acks == 2 }))
}

func TestAnAllowanceFillsUpAgainToItsBurstAndDebtsAreBounded(t *testing.T) {
	now := time.Now()
	a := allowance{left: 10, at: now}
	for i, step := range []struct {
		after time.Duration
		n     int
		left  float64
	}{{0, 10, 0}, {0, 1, -1}, {time.Second, 1, 0}, {time.Hour, 11, -1}, {0, 100, -10}, {5 * time.Second, 0, 0}, {2500 * time.Millisecond, 4, 1}} {
		now = now.Add(step.after)
		a.fill(2, 10, now)
		if ok := a.spend(step.n, 10); ok != (step.left >= 0) || a.left != step.left {
			t.Errorf("step %d: %v with %v left, want %v", i, ok, a.left, step.left)
		}
	}
}

func TestHostsThatAreAsGoodAsNewAreForgottenWhenThereAreMany(t *testing.T) {
	limits := loose()
	limits.ConnectionsPerHost, limits.ConnectionRate = 2, 1e-9
	l := newTestListener(nil, limits)
	stays := newConn(nil, l, "connected")
	if !l.enter(stays) {
		t.Fatal("it does not get in")
	}
	for i := range hostsKeptMin + 10 {
		c := newConn(nil, l, fmt.Sprint(i))
		if !l.enter(c) {
			t.Fatalf("host %d does not get in", i)
		}
		l.left(c)
		l.mu.Lock()
		if l.hosts[c.host].connected.left = 2; i == 7 { // as if a while had passed, but for one
			l.hosts[c.host].connected.left = 1
		}
		l.mu.Unlock()
	}
	if n := len(l.hosts); n > hostsKeptMin || l.hosts["connected"] == nil || l.hosts["7"] == nil {
		t.Errorf("%d hosts are known: %v, %v", n, l.hosts["connected"], l.hosts["7"])
	}
}

func TestHostsAreCountedByWhatOneOfThemHas(t *testing.T) {
	for addr, want := range map[string]string{
		"10.1.2.3:80": "10.1.2.3", "[::ffff:10.1.2.3]:80": "10.1.2.3", "[2001:db8:1:2:3::4]:80": "2001:db8:1:2::/64", "[fe80::1%eth0]:80": "fe80::/64",
	} {
		a, err := net.ResolveTCPAddr("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if got := hostOf(a); got != want {
			t.Errorf("%s is %s, want %s", addr, got, want)
		}
	}
	if got := hostOf(&net.UnixAddr{Name: "@", Net: "unix"}); got != "@" {
		t.Errorf("got %s", got)
	}
}

func TestAConnectionThatTakesNothingEnds(t *testing.T) {
	limits := loose()
	limits.WriteTimeout = 50 * time.Millisecond
	s := serve(t, limits)
	s.big = 64 << 20 // more than the system's buffers
	conn, err := s.connect("127.0.0.1")
	s.must(err)
	defer conn.Close()
	_, err = conn.Write([]byte(http2.ClientPreface))
	s.must(err)
	fr := http2.NewFramer(conn, nil)
	s.must(fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30}))
	s.must(fr.WriteWindowUpdate(0, 1<<30))
	block := "\x83\x86\x04\x09/any.S/Me\x01\x07hostile\x0f\x10\x10application/grpc" // POST, http, :path, :authority, content-type
	s.must(fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte(block), EndHeaders: true}))
	s.must(fr.WriteData(1, false, guardtest.Prefix(false, 0)))
	s.until(func() bool { return len(s.calls()) == 1 })
	select {
	case <-s.calls()[0].Done():
	case <-s.ctx.Done():
		t.Fatal("the call goes on")
	}
}

func (s *server) calls() []context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.came
}

func TestSeverEndsTheConnectionThatACallCameOn(t *testing.T) {
	s := serve(t, loose())
	c := s.dial()
	s.begin(c, 1000, 500)
	s.until(func() bool { return len(s.calls()) == 1 })
	if host := Host(s.calls()[0]); host != "127.0.0.1" {
		t.Errorf("it comes from %q", host)
	}
	if !Sever(s.calls()[0]) {
		t.Error("the connection is not known")
	}
	s.must(c.Await(s.ctx, closed))
	if Sever(t.Context()) || Host(t.Context()) != "" {
		t.Error("a call without connection has one")
	}
	if n := s.counters.Severed.Load(); n != 1 {
		t.Errorf("counted %d times", n)
	}
}

func TestLimitsThatAreMissingLetNothingThrough(t *testing.T) {
	for name, zero := range map[string]func(*Limits){
		"Connections":        func(l *Limits) { l.Connections = 0 },
		"ConnectionsPerHost": func(l *Limits) { l.ConnectionsPerHost = 0 },
		"Streams":            func(l *Limits) { l.Streams, l.StreamsFloor = 0, 0 },
		"PartialBytes":       func(l *Limits) { l.PartialBytes = 0 },
		"WriteTimeout":       func(l *Limits) { l.WriteTimeout = 0 },
	} {
		limits := loose()
		zero(&limits)
		if err := serve(t, limits).good(100_000); err == nil {
			t.Errorf("%s: a call got through", name)
		}
	}
}

func TestCountersListEveryKindOnce(t *testing.T) {
	c := new(Counters)
	c.Calls.Add(3)
	seen := map[string]uint64{}
	c.Each("x", func(name, label, value, help string, v uint64) {
		if name != "x_shed_total" || label != "what" || help == "" {
			t.Errorf("%s{%s}: %q", name, label, help)
		}
		seen[value] += v
	})
	if len(seen) != 7 || seen["call"] != 3 {
		t.Errorf("got %v", seen)
	}
}
