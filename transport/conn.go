package transport

import (
	"context"
	"net"
	"sync/atomic"
)

// countedConn counts bytes on the wire.
type countedConn struct {
	net.Conn
	counters *Counters
}

func (c *countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.counters.BytesReceived.Add(uint64(n))
	return n, err
}

func (c *countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.counters.BytesSent.Add(uint64(n))
	return n, err
}

// countedListener counts the bytes of what it accepts.
type countedListener struct {
	net.Listener
	counters *Counters
}

func (l *countedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &countedConn{conn, l.counters}, nil
}

// countedDial wraps dial so that its connections are counted.
func countedDial(dial func(context.Context, string) (net.Conn, error), c *Counters) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		conn, err := dial(ctx, addr)
		if err != nil {
			return nil, err
		}
		return &countedConn{conn, c}, nil
	}
}

func dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr)
}

// gate is a one-way switch that many may wait for.
type gate struct {
	done   chan struct{}
	closed atomic.Bool
}

func newGate() *gate { return &gate{done: make(chan struct{})} }

func (g *gate) close() {
	if g.closed.CompareAndSwap(false, true) {
		close(g.done)
	}
}
