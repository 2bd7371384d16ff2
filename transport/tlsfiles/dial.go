package tlsfiles

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// Dial returns credentials for connections to servers: those of the files as they are at each handshake, or plaintext
// for nil Files. accept judges the server's certificate beyond what TLS does; failed hears of handshakes that fail, with
// the address. Both may be nil.
func (f *Files) Dial(accept func(*x509.Certificate) error, failed func(addr string, err error)) credentials.TransportCredentials {
	if f == nil {
		return insecure.NewCredentials()
	}
	if accept == nil {
		accept = func(*x509.Certificate) error { return nil }
	}
	if failed == nil {
		failed = func(string, error) {}
	}
	return &dialing{files: f, accept: accept, failed: failed}
}

type dialing struct {
	files  *Files
	accept func(*x509.Certificate) error
	failed func(addr string, err error)
}

// ClientHandshake is part of credentials.TransportCredentials.
func (d *dialing) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	// The zone of an IPv6 address is this host's affair: no certificate has it.
	name, port, err := net.SplitHostPort(authority)
	if err == nil {
		name, _, _ = strings.Cut(name, "%")
		authority = net.JoinHostPort(name, port)
	}
	conn, info, err := credentials.NewTLS(d.files.current().client).ClientHandshake(ctx, authority, raw)
	if err != nil {
		err = explain(err)
		d.failed(authority, err)
		return nil, nil, err
	}
	if shown, ok := info.(credentials.TLSInfo); ok {
		err = d.accept(shown.State.PeerCertificates[0])
	}
	if err != nil {
		d.failed(authority, err)
		return nil, nil, errors.Join(err, conn.Close())
	}
	return conn, info, nil
}

// explain says what Go's words for it mean.
func explain(err error) error {
	var garbage tls.RecordHeaderError
	if errors.As(err, &garbage) {
		return fmt.Errorf("what answers there does not speak TLS: %w", err)
	}
	return err
}

// ServerHandshake is part of credentials.TransportCredentials.
func (d *dialing) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("tlsfiles: these credentials are for clients")
}

// Info is part of credentials.TransportCredentials.
func (d *dialing) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone is part of credentials.TransportCredentials.
func (d *dialing) Clone() credentials.TransportCredentials {
	return &dialing{d.files, d.accept, d.failed}
}

// OverrideServerName is part of credentials.TransportCredentials.
func (d *dialing) OverrideServerName(string) error {
	return errors.New("tlsfiles: the server's name is that in its address")
}
