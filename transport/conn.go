package transport

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
)

// countedConn counts bytes on the wire, and calls closed once when it is closed.
type countedConn struct {
	net.Conn
	counters *Counters
	once     sync.Once
	closed   func()
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

func (c *countedConn) Close() error {
	c.once.Do(c.closed)
	return c.Conn.Close()
}

// boundedListener refuses connections above a number in all and from one host, by closing them: a connection
// costs memory before it has said who it is.
type boundedListener struct {
	net.Listener
	counters *Counters

	mu     sync.Mutex
	total  int
	byHost map[string]int
}

func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		host := hostOf(conn.RemoteAddr())
		if l.enter(host) {
			return &countedConn{Conn: conn, counters: l.counters, closed: func() { l.leave(host) }}, nil
		}
		l.counters.ConnectionsRefused.Add(1)
		_ = conn.Close() // refused: nothing was said on it, and nobody waits for the answer
	}
}

func (l *boundedListener) enter(host string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total >= connectionsMax || l.byHost[host] >= connectionsPerHostMax {
		return false
	}
	l.total++
	l.byHost[host]++
	return true
}

func (l *boundedListener) leave(host string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if l.byHost[host]--; l.byHost[host] == 0 {
		delete(l.byHost, host)
	}
}

func hostOf(a net.Addr) string {
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return host
}

// countedDial wraps dial so that its connections are counted.
func countedDial(dial func(context.Context, string) (net.Conn, error), c *Counters) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		conn, err := dial(ctx, addr)
		if err != nil {
			return nil, err
		}
		return &countedConn{Conn: conn, counters: c, closed: func() {}}, nil
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
