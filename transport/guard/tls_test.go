package guard

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/multiraftd/multiraftd/transport/guard/guardtest"
	"github.com/multiraftd/multiraftd/transport/tlsfiles/issue"
)

// certs are those of a server and of its clients.
type certs struct{ server, client *tls.Config }

var newCerts = sync.OnceValues(func() (*certs, error) {
	until := time.Now().Add(time.Hour)
	ca, root, err := issue.NewAuthority(until)
	if err != nil {
		return nil, err
	}
	node, err := ca.Node(1, []string{"127.0.0.1"}, until)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(node.Cert, node.Key)
	if err != nil {
		return nil, err
	}
	der, _ := pem.Decode(root.Cert)
	cert, err := x509.ParseCertificate(der.Bytes)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	common := &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13}
	server, client := common.Clone(), common.Clone()
	server.ClientAuth, server.ClientCAs = tls.RequireAndVerifyClientCert, roots
	client.RootCAs, client.ServerName = roots, "127.0.0.1"
	return &certs{server, client}, nil
})

const withinTLS = "TestWhatTheGuardDoesItDoesWithinTLS/"

// secure makes the server of a test one with TLS, if it runs below that one.
func (s *server) secure() {
	s.patience = testTimeout
	if !strings.HasPrefix(s.t.Name(), withinTLS) && !strings.Contains(s.t.Name(), "Handshake") {
		return
	}
	var err error
	s.certs, err = newCerts()
	s.must(err)
	if strings.HasSuffix(s.t.Name(), stalls) {
		s.patience = 50 * time.Millisecond
	}
}

// connect connects from a loopback address, over TLS where the server wants that.
func (s *server) connect(from string) (net.Conn, error) {
	conn, err := guardtest.DialTCP(s.ctx, from, s.addr)
	if err != nil || s.certs == nil {
		return conn, err
	}
	return tls.Client(conn, s.certs.client), nil // which shakes hands with the first write
}

func (s *server) dialFrom(from string, settings ...http2.Setting) (*guardtest.Client, error) {
	conn, err := s.connect(from)
	if err != nil {
		return nil, err
	}
	return guardtest.Speak(conn, settings...), nil
}

// good calls as a real client would, with a message of so many bytes.
func (s *server) good(n int) error {
	conn, err := grpc.NewClient("passthrough:///"+s.addr, grpc.WithTransportCredentials(s.credentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))
	s.must(err)
	defer func() { s.must(conn.Close()) }()
	answer := new(wrapperspb.BytesValue)
	if err := conn.Invoke(s.ctx, method, wrapperspb.Bytes(make([]byte, n)), answer); err != nil {
		return err
	}
	if len(answer.GetValue()) != n {
		s.t.Errorf("%d bytes came back of %d", len(answer.GetValue()), n)
	}
	return nil
}

func (s *server) credentials() credentials.TransportCredentials {
	if s.certs == nil {
		return insecure.NewCredentials()
	}
	return credentials.NewTLS(s.certs.client)
}

func (s *server) failed(host string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if host != "127.0.0.1" {
		s.t.Errorf("it was host %q", host)
	}
	s.failures = append(s.failures, err)
}

func (s *server) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.failures...)
}

func TestWhatTheGuardDoesItDoesWithinTLS(t *testing.T) {
	for name, test := range map[string]func(*testing.T){
		"oldest upload":  TestTheConnectionThatHasSentItsMessageForLongestMakesRoom,
		"tiny pieces":    TestAMessageInTinyPiecesCountsForWhatItTakes,
		"given back":     TestWhatAStreamHeldIsGivenBackHoweverItEnds,
		"calls":          TestCallsAboveTheLimitAreRefusedButForThoseWithFew,
		"connections":    TestConnectionsAboveTheLimitsAreClosed,
		"too often":      TestAHostThatConnectsTooOftenWaits,
		"resets":         TestAHostThatBreaksOffTooManyCallsIsClosed,
		"takes nothing":  TestAConnectionThatTakesNothingEnds,
		"sever":          TestSeverEndsTheConnectionThatACallCameOn,
		"missing limits": TestLimitsThatAreMissingLetNothingThrough,
		"offences":       TestAHostThatOffendsTooOftenIsKeptOut,
		"closed uploads": TestAnUploadThatIsClosedForOthersIsAnOffence,
	} {
		t.Run(name, test)
	}
}

const stalls = "_stalls"

func TestAHandshakeThatFailsEndsTheConnectionAndIsCounted(t *testing.T) {
	hello := clientHello(t)
	for name, tc := range map[string]struct {
		send   []byte
		why    string
		counts uint64
	}{
		"garbage":               {[]byte("\x16\x03\x01\x00\x05garbage"), "tls: ", 1},
		"no_TLS":                {[]byte("GET / HTTP/1.1\r\n\r\n"), "first record does not look like a TLS handshake", 1},
		"half_a_hello" + stalls: {hello[:len(hello)/2], "i/o timeout", 1},
		"nothing" + stalls:      {nil, "i/o timeout", 1},
		"an_endless_hello":      {endlessHello(), "handshake of more than", 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, loose())
			conn, err := guardtest.DialTCP(s.ctx, "127.0.0.1", s.addr)
			s.must(err)
			defer conn.Close()
			_, _ = conn.Write(tc.send) // the rest of what is too long it does not take
			if tc.send != nil && !strings.HasSuffix(name, stalls) {
				s.until(func() bool { return s.counters.Handshakes.Load() > 0 })
				s.must(conn.Close())
			} else {
				_, _ = io.Copy(io.Discard, conn) // until the server closes
			}
			s.until(func() bool { return s.failure() != nil })
			if err := s.failure(); !strings.Contains(err.Error(), tc.why) || s.counters.Handshakes.Load() != tc.counts {
				t.Errorf("it failed for %v, counted %d times", err, s.counters.Handshakes.Load())
			}
			s.must(s.good(1000))
		})
	}
}

// endlessHello is one message in records that are right, as long as crypto/tls takes one.
func endlessHello() (b []byte) {
	for range 8 {
		b = append(b, "\x16\x03\x01\x20\x00"...)
		b = append(b, make([]byte, 8<<10)...)
	}
	copy(b[5:], "\x01\x00\xff\xff")
	return b
}

// clientHello is what a TLS client begins with.
func clientHello(t *testing.T) []byte {
	c, err := newCerts()
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	defer far.Close()
	go func() { _ = tls.Client(near, c.client).Handshake() }() // ends when the other end is closed
	b := make([]byte, 4096)
	n, err := far.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

func TestAClientThatOnlyConnectsHasFailedNoHandshake(t *testing.T) {
	s := serve(t, loose())
	conn, err := guardtest.DialTCP(s.ctx, "127.0.0.1", s.addr)
	s.must(err)
	s.must(conn.Close())
	s.until(func() bool {
		s.Listener.mu.Lock()
		defer s.Listener.mu.Unlock()
		return s.hosts["127.0.0.1"] != nil && len(s.conns) == 0
	})
	if n := s.counters.Handshakes.Load(); n != 0 || s.failure() != nil {
		t.Errorf("counted %d times: %v", n, s.failure())
	}
}

func TestAHandshakeInPlaintextIsToldWhatIsWanted(t *testing.T) {
	s := serve(t, loose())
	s.certs = nil // of the client
	err := s.good(10)
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), wantsTLS) {
		t.Errorf("the client hears %v", err)
	}
	s.until(func() bool { return errors.Is(s.failure(), errPlaintext) })
}

func TestAHandshakeWithoutCertificateIsRefusedWithAnAlertThatArrives(t *testing.T) {
	s := serve(t, loose())
	bare := s.certs.client.Clone()
	bare.Certificates = nil
	s.certs = &certs{client: bare}
	for range 20 { // a reset would win now and then
		if err := s.good(10); err == nil || !strings.Contains(err.Error(), "certificate required") {
			t.Fatalf("the client hears %v", err)
		}
	}
}

func TestAHandshakeForSomethingElseThanHTTP2IsRefused(t *testing.T) {
	s := serve(t, loose())
	other := s.certs.client.Clone()
	other.NextProtos = nil
	conn, err := guardtest.DialTCP(s.ctx, "127.0.0.1", s.addr)
	s.must(err)
	c := tls.Client(conn, other)
	defer conn.Close()
	s.must(c.HandshakeContext(s.ctx))
	s.until(func() bool { return errors.Is(s.failure(), errNoHTTP2) || s.counters.Handshakes.Load() > 0 })
	s.must(conn.Close())
	s.until(func() bool { return errors.Is(s.failure(), errNoHTTP2) })
}
