package transport

import (
	"context"
	"fmt"
	"net/url"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// targetOf is gRPC's name for what is dialled as addr. Escaped, since a target is a URL: a zone, as in
// [fe80::1%eth0]:7081, would be read as something else.
func targetOf(addr string) string { return "passthrough:///" + url.PathEscape(addr) }

// Probe asks the node at a peer address what its store holds. It needs no identity. ctx bounds it.
func Probe(ctx context.Context, addr string) (*raftv1.ProbeResponse, error) {
	conn, err := grpc.NewClient(targetOf(addr),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(dialTCP),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(probeBytesMax)),
		grpc.WithNoProxy(),
	)
	if err != nil {
		return nil, fmt.Errorf("probe %s: %w", addr, err)
	}
	defer func() { _ = conn.Close() }() // it reports only that it was closed before
	resp, err := raftv1.NewRaftServiceClient(conn).Probe(ctx, &raftv1.ProbeRequest{})
	if err != nil {
		return nil, fmt.Errorf("probe %s: %w", addr, err)
	}
	return resp, nil
}
