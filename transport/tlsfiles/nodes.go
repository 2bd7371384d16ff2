package tlsfiles

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// ErrOtherNode says that a certificate does not speak for the node that its holder says it is.
var ErrOtherNode = errors.New("certificate is bound to another node")

const nodeScheme, nodeHost = "multiraftd", "node"

// NodeURI is what binds a certificate to a node, as a URI among its subject alternative names.
func NodeURI(node uint64) *url.URL {
	return &url.URL{Scheme: nodeScheme, Host: nodeHost, Path: "/" + strconv.FormatUint(node, 10)}
}

// NodeIDs returns the nodes that a certificate is bound to; none means that it speaks for all.
func NodeIDs(c *x509.Certificate) (ids []uint64, err error) {
	for _, u := range c.URIs {
		if u.Scheme != nodeScheme { // url.Parse has lowered it
			continue
		}
		id, err := strconv.ParseUint(strings.TrimPrefix(u.Path, "/"), 10, 64)
		if err != nil || id == 0 || *u != *NodeURI(id) {
			return nil, fmt.Errorf("%w: %q is not of the form %s://%s/ID", ErrOtherNode, u, nodeScheme, nodeHost)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// CheckNode says whether a certificate speaks for a node; nil, as in plaintext, does.
func CheckNode(c *x509.Certificate, node uint64) error {
	if c == nil {
		return nil
	}
	ids, err := NodeIDs(c)
	if err == nil && len(ids) > 0 && !slices.Contains(ids, node) {
		err = fmt.Errorf("%w: it is for %v, not for %d", ErrOtherNode, ids, node)
	}
	return err
}

// CertOf returns the certificate of whoever makes a call; nil = none was shown.
func CertOf(ctx context.Context) *x509.Certificate {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return nil
	}
	return info.State.PeerCertificates[0]
}

// Own says whether the certificate in use speaks for a node; nil Files do.
func (f *Files) Own(node uint64) error {
	if f == nil {
		return nil
	}
	if err := CheckNode(f.current().pair.Leaf, node); err != nil {
		return fmt.Errorf("--%s-cert %s: %w", f.cfg.Name, f.cfg.Cert, err)
	}
	return nil
}
