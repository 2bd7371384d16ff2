package client

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"

	"google.golang.org/grpc"
)

// FuzzAddress: an address that is accepted is the one that is dialled, whatever gRPC reads into a target.
func FuzzAddress(f *testing.F) {
	for _, addr := range []string{
		"127.0.0.1:7071", "localhost:7071", "[::1]:7071", "[fe80::1%lo]:7071", ":7071", "", "a", "a:", "unix:7071", "dns:7071", "passthrough:7071",
		"127.0.0.1:7071?x=y", "127.0.0.1:7071#x", "127.0.0.1/x:7071", "%41:7071", "a b:7071", "127.0.0.1:http",
	} {
		f.Add(addr)
	}
	f.Fuzz(func(t *testing.T, addr string) {
		dialled := make(chan string, 16)
		refuse := func(_ context.Context, addr string) (net.Conn, error) {
			select {
			case dialled <- addr:
			default: // the first attempt is enough
			}
			return nil, errors.New("refused")
		}
		c, err := Open(Config{Addrs: []string{addr}, DialOptions: []grpc.DialOption{grpc.WithContextDialer(refuse)}})
		if err != nil {
			return
		}
		conn, err := c.conn(addr)
		if err != nil {
			t.Fatalf("%q was accepted: %v", addr, err)
		}
		if host, _, err := net.SplitHostPort(addr); err == nil && isIP(host) { // a name would be looked up
			conn.Connect()
			if got := <-dialled; got != addr {
				t.Errorf("%q was dialled as %q", addr, got)
			}
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

func isIP(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}
