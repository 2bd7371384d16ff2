package node

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/transport/tlsfiles"
	"github.com/multiraftd/multiraftd/transport/tlsfiles/issue"
)

// newPaths makes a CA and a certificate of a node.
func newPaths(t *testing.T, id uint64) tlsfiles.Paths {
	t.Helper()
	dir := t.TempDir()
	p := tlsfiles.Paths{Cert: filepath.Join(dir, "n.crt"), Key: filepath.Join(dir, "n.key"), CA: filepath.Join(dir, "ca.crt")}
	ca, root, err := issue.NewAuthority(time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	own, err := ca.Node(id, []string{"127.0.0.1"}, ca.Until())
	if err := errors.Join(err, root.Write(p.CA, filepath.Join(dir, "ca.key")), own.Write(p.Cert, p.Key)); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAPeerAddressBeyondLoopbackNeedsTLSOrSaysInsecure(t *testing.T) {
	secure := newPaths(t, 1)
	for name, tc := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"neither":              {func(*Config) {}, "--peer-addr 0.0.0.0:7081 is not a loopback address, and peers are not authenticated: give --peer-tls-cert"},
		"TLS":                  {func(c *Config) { c.PeerTLS = secure }, ""},
		"TLS for clients only": {func(c *Config) { c.ClientTLS = secure }, "is not a loopback address"},
		"insecure":             {func(c *Config) { c.Insecure = true }, ""},
		"loopback":             {func(c *Config) { c.PeerAddr = "127.0.0.1:7081" }, ""},
		"half of TLS":          {func(c *Config) { c.PeerTLS = secure; c.PeerTLS.CA = "" }, "--peer-tls-ca is missing: "},
		"another node's":       {func(c *Config) { c.PeerTLS, c.ID = secure, 2 }, "certificate is bound to another node: it is for [1], not for 2"},
		"another's on clients": {func(c *Config) { c.PeerTLS, c.ClientTLS = secure, newPaths(t, 3) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{DataDir: t.TempDir(), ClientAddr: "127.0.0.1:0", PeerAddr: "0.0.0.0:7081"}
			tc.change(&cfg)
			err := cfg.Validate()
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestWhoJoinsByTLSTriesAClientAddressToo(t *testing.T) {
	failed := status.Error(codes.Unavailable, "authentication handshake failed")
	for name, tc := range map[string]struct {
		secure      bool
		joined      error
		want, asked string
	}{
		"plaintext":        {false, nil, "authentication handshake failed", ""},
		"a client address": {true, nil, "", "here"},
		"neither":          {true, status.Error(codes.Unavailable, "nobody"), "as a client address: ", "here"},
		"refused":          {true, status.Error(codes.FailedPrecondition, "removed"), "removed", "here"},
	} {
		t.Run(name, func(t *testing.T) {
			asked := ""
			j := joiner{secure: tc.secure, log: slog.New(slog.DiscardHandler),
				probe: func(context.Context, string) (*raftv1.ProbeResponse, error) { return nil, failed },
				join: func(_ context.Context, addr string, _ *multiraftv1.JoinNodeRequest) (*multiraftv1.JoinNodeResponse, error) {
					asked = addr
					return &multiraftv1.JoinNodeResponse{}, tc.joined
				}}
			_, err := j.ask(t.Context(), "here")
			if asked != tc.asked || (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("asked %q, got %v, want %q", asked, err, tc.want)
			}
			if final := j.refused(err) != nil; err != nil && final != (name == "refused") {
				t.Errorf("final: %v", final)
			}
		})
	}
}
