package transport

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/url"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/transport/tlsfiles"
	"google.golang.org/grpc"
	grpcpeer "google.golang.org/grpc/peer"
)

// targetOf is gRPC's name for what is dialled as addr. Escaped, since a target is a URL: a zone, as in
// [fe80::1%eth0]:7081, would be read as something else.
func targetOf(addr string) string { return "passthrough:///" + url.PathEscape(addr) }

// Probe asks the node at a peer address what its store holds. It needs no identity. ctx bounds it. certs are the
// asking node's; nil = plaintext. A node that says it is one which its certificate does not speak for has not answered.
func Probe(ctx context.Context, addr string, certs *tlsfiles.Files) (*raftv1.ProbeResponse, error) {
	conn, err := grpc.NewClient(targetOf(addr),
		grpc.WithTransportCredentials(certs.Dial(nil, nil)),
		grpc.WithContextDialer(dialTCP),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(probeBytesMax)),
		grpc.WithNoProxy(),
	)
	if err != nil {
		return nil, fmt.Errorf("probe %s: %w", addr, err)
	}
	defer func() { _ = conn.Close() }() // it reports only that it was closed before
	var who grpcpeer.Peer
	resp, err := raftv1.NewRaftServiceClient(conn).Probe(ctx, &raftv1.ProbeRequest{}, grpc.Peer(&who))
	if err == nil && resp.GetNodeId() > 0 { // one that joins has no id yet
		err = speaksFor(tlsfiles.CertOf(grpcpeer.NewContext(ctx, &who)), resp.GetNodeId())
	}
	if err != nil {
		return nil, fmt.Errorf("probe %s: %w", addr, err)
	}
	return resp, nil
}

// speaksFor says whether a certificate speaks for a node; nil, as in plaintext, does.
func speaksFor(cert *x509.Certificate, node uint64) error {
	if err := tlsfiles.CheckNode(cert, node); err != nil {
		return fmt.Errorf("%w: %w", ErrWrongCert, err)
	}
	return nil
}
