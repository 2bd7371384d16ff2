package transport

import (
	"context"
	"errors"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

func TestAPeerIsDialledUnderItsAddressAsItIsWritten(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:7081", "node-1:7081", "[::1]:7081", "[fe80::1%eth0]:7081", "unix:7081", "a?b:7081", "a#b:7081", "%41:7081", "/a:7081"} {
		dialled := make(chan string, 1)
		dial := func(_ context.Context, addr string) (net.Conn, error) {
			select {
			case dialled <- addr:
			default: // the first attempt is enough
			}
			return nil, errors.New("refused")
		}
		conn, err := grpc.NewClient(targetOf(addr), grpc.WithContextDialer(dial), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Errorf("%s: %v", addr, err)
			continue
		}
		conn.Connect()
		if got := <-dialled; got != addr {
			t.Errorf("%s was dialled as %s", addr, got)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}
