package guard

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
)

// Credentials are TLS for the server on l, which must be given them: from then on frames are looked for within TLS.
// config is asked at each handshake; failed hears which host's handshake failed, and why. A host that only connects and
// goes, as probes of ports do, has not failed.
//
// The server's ConnectionTimeout ends a handshake too; what it may hold until then is bounded.
func (l *Listener) Credentials(config func() *tls.Config, failed func(host string, err error)) credentials.TransportCredentials {
	l.secure = true
	return &opening{l, config, failed}
}

type opening struct {
	listener *Listener
	config   func() *tls.Config
	failed   func(host string, err error)
}

var (
	errForeign       = errors.New("guard: the connection is not one of the Listener's")
	errNoHTTP2       = errors.New("the client does not offer HTTP/2 (ALPN h2)")
	errLongHandshake = fmt.Errorf("a handshake of more than %d bytes", handshakeBytesMax)
)

// ServerHandshake is part of credentials.TransportCredentials.
func (o *opening) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	a, ok := raw.RemoteAddr().(*addr) // raw may be wrapped
	if !ok || a.conn.listener != o.listener {
		return nil, nil, errForeign
	}
	t := tls.Server(raw, o.config())
	err := t.Handshake()
	if err == nil && t.ConnectionState().NegotiatedProtocol == "" {
		err = errNoHTTP2
	}
	if err == nil {
		a.conn.shook()
		info := credentials.TLSInfo{State: t.ConnectionState(), CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}
		return &opened{t, a.conn}, info, nil
	}
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		_ = raw.Close() // the other side has
		return nil, nil, io.EOF
	}
	o.listener.counters.Handshakes.Add(1)
	o.refuse(raw, a.conn, err)
	return nil, nil, err
}

// refuse closes a connection of which the handshake has failed. It waits until the client has gone, the handshake's
// deadline has passed or enough has come: whoever closes a connection with bytes unread resets it, and TLS's alert, or
// what is said in its place, may be lost.
func (o *opening) refuse(raw net.Conn, c *conn, err error) {
	if errors.Is(err, errPlaintext) {
		answerPlaintext(raw, c)
	}
	_, _ = io.CopyN(io.Discard, raw, handshakeBytesMax) // how it ends does not matter
	_ = raw.Close()                                     // nor this: it is of no use any more
	o.failed(c.host, err)
}

// What is said to a client that begins HTTP/2 without TLS.
const (
	clientPreface          = "PRI *"
	frameSettings          = 0x4
	flagEndHeaders         = 0x4
	codeInadequateSecurity = 0xc
	wantsTLS               = "this address wants TLS and the client speaks plaintext: give it the CA of the cluster"
)

var errPlaintext = errors.New("the client speaks plaintext HTTP/2")

// answerPlaintext answers the client's first call, as a gRPC server does, and ends the connection by GOAWAY. Errors show
// again when what the client still sends is read.
func answerPlaintext(raw net.Conn, c *conn) {
	_, _ = raw.Write(frame(frameSettings, 0, 0, nil)) // a server begins with it
	piece := make([]byte, frameHeaderBytes*clientPrefaceBytes)
	call := c.latest()
	for err := error(nil); call == 0 && err == nil; call = c.latest() {
		_, err = raw.Read(piece)
	}
	if call > 0 {
		_, _ = raw.Write(frame(frameHeaders, flagEndHeaders|flagEndStream, call, refusalHeaders()))
	}
	away := binary.BigEndian.AppendUint32(nil, call)
	away = binary.BigEndian.AppendUint32(away, codeInadequateSecurity)
	_, _ = raw.Write(frame(frameGoAway, 0, 0, append(away, wantsTLS...)))
}

func frame(kind, flags byte, stream uint32, payload []byte) []byte {
	b := []byte{0, byte(len(payload) >> 8), byte(len(payload)), kind, flags}
	return append(binary.BigEndian.AppendUint32(b, stream), payload...)
}

// refusalHeaders are UNAVAILABLE, with the reason, as a response that has nothing else, in HPACK without its tables.
func refusalHeaders() []byte {
	b := []byte{0x88} // :status 200
	for _, h := range [][2]string{{"content-type", "application/grpc"}, {"grpc-status", strconv.Itoa(int(codes.Unavailable))}, {"grpc-message", wantsTLS}} {
		b = append(append(b, 0, byte(len(h[0]))), h[0]...)
		b = append(append(b, byte(len(h[1]))), h[1]...) // all are shorter than 127
	}
	return b
}

// latest is the newest call on the connection; 0 = none.
func (c *conn) latest() uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.newest
}

// shook says that the handshake is over.
func (c *conn) shook() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shaken = -1
}

// ciphered takes what has been read of TLS records. Until the handshake is over there may be only so much. A connection
// that begins as HTTP/2 is one without TLS from then on.
func (c *conn) ciphered(b []byte, err error) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.shaken < 0:
		return len(b), err
	case c.shaken == 0 && strings.HasPrefix(string(b), clientPreface):
		c.plain = true
		c.in.feed(b)
		return 0, errPlaintext
	}
	if c.shaken += len(b); c.shaken > handshakeBytesMax {
		return 0, errLongHandshake
	}
	return len(b), err
}

// opened is a connection after its TLS handshake.
type opened struct {
	*tls.Conn
	guarded *conn
}

// Read is part of net.Conn.
func (o *opened) Read(b []byte) (int, error) {
	n, err := o.Conn.Read(b)
	return o.guarded.came(b[:n], err)
}

// Write is part of net.Conn.
func (o *opened) Write(b []byte) (int, error) {
	n, err := o.Conn.Write(b)
	o.guarded.went(b[:n])
	return n, err
}

// Close is part of net.Conn. It says no TLS goodbye, which would wait for a client that takes nothing; HTTP/2 has its own.
func (o *opened) Close() error { return o.guarded.Close() }

// ClientHandshake is part of credentials.TransportCredentials.
func (o *opening) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("guard: these credentials are for servers")
}

// Info is part of credentials.TransportCredentials.
func (o *opening) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone is part of credentials.TransportCredentials.
func (o *opening) Clone() credentials.TransportCredentials {
	return &opening{o.listener, o.config, o.failed}
}

// OverrideServerName is part of credentials.TransportCredentials.
func (o *opening) OverrideServerName(string) error {
	return errors.New("guard: these credentials are for servers")
}
