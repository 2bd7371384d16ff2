package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/transport/tlsfiles"
	"github.com/multiraftd/multiraftd/transport/tlsfiles/issue"
)

// authority is a CA with its certificate in a file.
type authority struct {
	*issue.Authority
	t   *testing.T
	dir string
	n   int
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	var p issue.Pair
	var err error
	if a.Authority, p, err = issue.NewAuthority(time.Now().Add(time.Hour)); err == nil {
		err = p.Write(filepath.Join(a.dir, "ca.crt"), filepath.Join(a.dir, "ca.key"))
	}
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// files are a node's, bound to an id; 0 = to none.
func (a *authority) files(id uint64) *tlsfiles.Files {
	a.t.Helper()
	name := filepath.Join(a.dir, string(rune('a'+a.n)))
	a.n++
	p, err := a.Node(id, []string{"127.0.0.1"}, a.Until())
	if err == nil {
		err = p.Write(name+".crt", name+".key")
	}
	if err != nil {
		a.t.Fatal(err)
	}
	return a.load(name)
}

func (a *authority) load(name string) *tlsfiles.Files {
	f, faults := tlsfiles.Load(tlsfiles.Config{Name: "peer-tls", Mutual: true,
		Paths: tlsfiles.Paths{Cert: name + ".crt", Key: name + ".key", CA: filepath.Join(a.dir, "ca.crt")}})
	if len(faults) > 0 {
		a.t.Fatal(faults)
	}
	return f
}

// raw shows a pair, whatever is wrong with it.
func (a *authority) raw(p issue.Pair, err error) *tls.Config {
	a.t.Helper()
	roots := x509.NewCertPool()
	ca, rerr := os.ReadFile(filepath.Join(a.dir, "ca.crt"))
	pair, perr := tls.X509KeyPair(p.Cert, p.Key)
	if err := errors.Join(err, rerr, perr); err != nil || !roots.AppendCertsFromPEM(ca) {
		a.t.Fatal(err)
	}
	return &tls.Config{RootCAs: roots, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }}
}

func TestNodesWithCertificatesExchangeEnvelopes(t *testing.T) {
	ca := newAuthority(t)
	a, b := started(t, identity(1, 1, "a"), Config{TLS: ca.files(1)}), started(t, identity(2, 1, "b"), Config{TLS: ca.files(0)})
	a.peerAt(2, b.Addr().String())
	b.peerAt(1, a.Addr().String())
	for i := range uint64(100) {
		a.Send(2, message(typeAppend, 1, i, 32))
		b.Send(1, message(typeAppend, 1, i, 32))
	}
	until(func() bool { return len(a.envelopes()) == 100 && len(b.envelopes()) == 100 })
	if answer, err := Probe(t.Context(), a.Addr().String(), ca.files(3)); err != nil || answer.GetState() != raftv1.StoreState_STORE_STATE_EMPTY {
		t.Errorf("probed: %v, %v", answer, err)
	}
}

func TestACertificateSpeaksForItsNodeOnly(t *testing.T) {
	ca := newAuthority(t)
	n := started(t, identity(1, 1, "a"), Config{TLS: ca.files(1)})
	id := identity(2, 1, "b")
	h := id.header()
	for name, tc := range map[string]struct {
		bound uint64
		want  codes.Code
	}{"its own": {2, codes.OK}, "any": {0, codes.OK}, "another": {3, codes.PermissionDenied}} {
		t.Run(name, func(t *testing.T) {
			conn, err := grpc.NewClient(targetOf(n.Addr().String()), grpc.WithTransportCredentials(ca.files(tc.bound).Dial(nil, nil)))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			c, before := raftv1.NewRaftServiceClient(conn), n.Counters().Refused(ErrWrongCert)
			_, err = c.AppendEntries(t.Context(), &raftv1.AppendEntriesRequest{Header: h})
			wantCode(t, err, tc.want)
			_, err = c.RequestVote(t.Context(), &raftv1.RequestVoteRequest{Header: h})
			wantCode(t, err, tc.want)
			snapshot, err := c.InstallSnapshot(t.Context())
			if err == nil {
				_ = snapshot.Send(&raftv1.InstallSnapshotRequest{Header: h, Done: true}) // receiving says how it went
				_, err = snapshot.CloseAndRecv()
			}
			wantCode(t, err, tc.want)
			stream, answer, err := exchange(t, c, handshakeMessage(hello(id, nil)))
			wantCode(t, err, tc.want)
			refused := n.Counters().Refused(ErrWrongCert) - before
			if tc.want == codes.OK {
				if refused != 0 || answer.GetHandshake() == nil {
					t.Errorf("%d refused, answered %v", refused, answer)
				}
				_ = stream.CloseSend() // the connection is closed in the end
				return
			}
			if refused != 4 || n.Connected(2) {
				t.Errorf("%d of 4 refused", refused)
			}
		})
	}
}

func TestWhoDialsANodeWantsItsCertificate(t *testing.T) {
	ca := newAuthority(t)
	a, b := started(t, identity(1, 1, "a"), Config{TLS: ca.files(0)}), started(t, identity(2, 1, "b"), Config{TLS: ca.files(3)})
	a.peerAt(2, b.Addr().String())
	until(func() bool { return a.Counters().Refused(ErrWrongCert) > 1 })
	if a.Connected(2) {
		t.Error("it is connected")
	}
	named := unstarted(t, Config{TLS: ca.files(3), Probe: func() *raftv1.ProbeResponse { return &raftv1.ProbeResponse{NodeId: 2} }})
	if _, err := Probe(t.Context(), named.Addr().String(), ca.files(1)); !errors.Is(err, ErrWrongCert) {
		t.Errorf("probed: %v", err)
	}
}

func TestNodesOfOtherCAsClientsAndPlaintextAreKeptOut(t *testing.T) {
	ca, foreign := newAuthority(t), newAuthority(t)
	n := started(t, identity(1, 1, "a"), Config{TLS: ca.files(1)})
	clientOnly, err := ca.Client("somebody", ca.Until())
	asClient := ca.raw(clientOnly, err)
	old, err := ca.Node(2, []string{"127.0.0.1"}, time.Now().Add(-time.Minute))
	expired := ca.raw(old, err)
	right, err := ca.Node(2, []string{"127.0.0.1"}, ca.Until())
	older := ca.raw(right, err)
	older.MaxVersion = tls.VersionTLS12
	for name, tc := range map[string]struct {
		creds grpc.DialOption
		want  string
	}{
		"of another CA": {grpc.WithTransportCredentials(foreign.files(1).Dial(nil, nil)), "certificate signed by unknown authority"},
		"a client":      {grpc.WithTransportCredentials(credentials.NewTLS(asClient)), "bad certificate"},
		"expired":       {grpc.WithTransportCredentials(credentials.NewTLS(expired)), "expired certificate"},
		"TLS 1.2":       {grpc.WithTransportCredentials(credentials.NewTLS(older)), "protocol version not supported"},
		"plaintext":     {grpc.WithTransportCredentials((*tlsfiles.Files)(nil).Dial(nil, nil)), "wants TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // ends what hangs
			defer cancel()
			before := n.Counters().Shed.Handshakes.Load()
			conn, err := grpc.NewClient(targetOf(n.Addr().String()), tc.creds)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_, err = raftv1.NewRaftServiceClient(conn).Probe(ctx, &raftv1.ProbeRequest{})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("it hears %v, want %q", err, tc.want)
			}
			until(func() bool { return n.Counters().Shed.Handshakes.Load() > before || ctx.Err() != nil })
		})
	}
	plain := started(t, identity(2, 1, "b"), Config{})
	if _, err := Probe(t.Context(), plain.Addr().String(), ca.files(1)); err == nil || !strings.Contains(err.Error(), "does not speak TLS") {
		t.Errorf("who dials plaintext by TLS hears %v", err)
	}
}
