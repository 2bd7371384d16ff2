package guard

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/tap"
)

// Listener is a net.Listener that keeps its clients within Limits.
type Listener struct {
	net.Listener
	limits   Limits
	refusal  error // of a call too many
	counters *Counters
	secure   bool // Credentials have been asked for: frames are within TLS
	streams  atomic.Int64
	partial  atomic.Int64
	begun    atomic.Uint64 // messages that were not complete at once: their order

	mu    sync.Mutex // guards what follows; taken before a conn's
	conns map[*conn]struct{}
	hosts map[string]*host
}

// host is what a Listener knows of one.
type host struct {
	conns                       int
	connected, resets, offences allowance
}

// allowance is how much of something is left, as of a time. It fills again, up to a burst.
type allowance struct {
	left float64
	at   time.Time
}

// fill adds what time has brought since the last look.
func (a *allowance) fill(rate float64, burst int, now time.Time) {
	a.left, a.at = min(float64(burst), a.left+rate*now.Sub(a.at).Seconds()), now
}

// spend takes n, and reports whether there was so much. What there was not stays owed, up to a burst.
func (a *allowance) spend(n int, burst int) bool {
	a.left = max(a.left-float64(n), -float64(burst))
	return a.left >= 0
}

// Counters count what was kept out. They only grow.
type Counters struct {
	Connections atomic.Uint64 // refused: too many, or too many in a second
	Calls       atomic.Uint64 // refused: too many
	Resets      atomic.Uint64 // connections closed because too many calls were broken off
	Uploads     atomic.Uint64 // connections closed because their unfinished messages took the room of others
	Severed     atomic.Uint64 // connections closed by Sever
	Offences    atomic.Uint64 // connections closed because their host had committed too many offences
	Handshakes  atomic.Uint64 // connections closed because their TLS handshake failed, or did not end in time
}

// Each calls f for every counter, under names that begin with prefix.
func (c *Counters) Each(prefix string, f func(name, label, value, help string, v uint64)) {
	const help = "Connections refused or closed, and calls refused, to keep memory bounded."
	f(prefix+"_shed_total", "what", "connection", help, c.Connections.Load())
	f(prefix+"_shed_total", "what", "call", help, c.Calls.Load())
	f(prefix+"_shed_total", "what", "resets", help, c.Resets.Load())
	f(prefix+"_shed_total", "what", "upload", help, c.Uploads.Load())
	f(prefix+"_shed_total", "what", "stalled_reader", help, c.Severed.Load())
	f(prefix+"_shed_total", "what", "offences", help, c.Offences.Load())
	f(prefix+"_shed_total", "what", "tls_handshake", help, c.Handshakes.Load())
}

// Listen puts a guard on l, which it owns from then on. Calls above the limit are refused with refusal.
func Listen(l net.Listener, limits Limits, refusal error, counters *Counters) *Listener {
	return &Listener{Listener: l, limits: limits, refusal: refusal, counters: counters, conns: map[*conn]struct{}{}, hosts: map[string]*host{}}
}

// Accept is part of net.Listener. A connection too many is closed: it would cost memory before it has said who
// it is.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		g := newConn(c, l, hostOf(c.RemoteAddr()))
		if l.enter(g) {
			return g, nil
		}
		l.counters.Connections.Add(1)
		_ = c.Close() // nothing was said on it, and nobody waits for the answer
	}
}

func (l *Listener) enter(c *conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	h, now := l.hosts[c.host], time.Now()
	if h == nil {
		l.forget(now)
		h = &host{connected: allowance{left: float64(l.limits.ConnectionsPerHost), at: now}, resets: allowance{left: float64(l.limits.Resets), at: now},
			offences: allowance{left: float64(l.limits.Offences), at: now}}
		l.hosts[c.host] = h
	}
	l.fill(h, now)
	if len(l.conns) >= l.limits.Connections || h.conns >= l.limits.ConnectionsPerHost || h.connected.left < 1 || h.resets.left < 0 || h.offences.left < 0 {
		return false
	}
	h.connected.spend(1, l.limits.ConnectionsPerHost)
	l.conns[c] = struct{}{}
	h.conns++
	return true
}

func (l *Listener) fill(h *host, now time.Time) {
	h.connected.fill(l.limits.ConnectionRate, l.limits.ConnectionsPerHost, now)
	h.resets.fill(l.limits.ResetRate, l.limits.Resets, now)
	h.offences.fill(l.limits.OffenceRate, l.limits.Offences, now)
}

func (l *Listener) left(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
	l.hosts[c.host].conns--
}

// forget drops hosts that are as good as new, when there are many that are not connected. l.mu is held.
func (l *Listener) forget(now time.Time) {
	if len(l.hosts) < hostsKeptMin+2*len(l.conns) {
		return
	}
	for name, h := range l.hosts {
		l.fill(h, now)
		if h.conns == 0 && h.connected.left == float64(l.limits.ConnectionsPerHost) && h.resets.left == float64(l.limits.Resets) && h.offences.left == float64(l.limits.Offences) {
			delete(l.hosts, name)
		}
	}
}

// broken takes note of calls that a client has broken off. Too many end the connection, and keep its host out until
// time has made up for them.
func (l *Listener) broken(c *conn, calls int) {
	l.mu.Lock()
	h := l.hosts[c.host]
	l.fill(h, time.Now())
	ok := h.resets.spend(calls, l.limits.Resets)
	l.mu.Unlock()
	if !ok {
		l.counters.Resets.Add(1)
		c.sever()
	}
}

// offended takes note of what a client has done that no client does. Too much of it ends the connection, and keeps its
// host out until time has made up for it: what is refused costs processor time too.
func (l *Listener) offended(c *conn, n int) {
	l.mu.Lock()
	ok := l.charge(c, n)
	l.mu.Unlock()
	if !ok {
		l.counters.Offences.Add(1)
		c.sever()
	}
}

// charge puts offences down to a host. l.mu is held.
func (l *Listener) charge(c *conn, n int) (ok bool) {
	h := l.hosts[c.host]
	if h == nil {
		return true // its connection has ended long ago
	}
	l.fill(h, time.Now())
	return h.offences.spend(n, l.limits.Offences)
}

// relieve closes connections while too much is held of messages that have not ended.
func (l *Listener) relieve() {
	if l.partial.Load() <= l.limits.PartialBytes {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.partial.Load() > l.limits.PartialBytes {
		var victim *conn
		var first uint64
		for c := range l.conns {
			if since := c.oldest(); since > 0 && (victim == nil || since < first) {
				victim, first = c, since
			}
		}
		if victim == nil { // what there was has ended meanwhile
			return
		}
		l.counters.Uploads.Add(1)
		l.charge(victim, 1)
		victim.sever()
	}
}

// Tap refuses calls above the limit; it is a tap.ServerInHandle.
func (l *Listener) Tap(ctx context.Context, _ *tap.Info) (context.Context, error) {
	if l.streams.Load() <= int64(l.limits.Streams) {
		return ctx, nil
	}
	if c := connOf(ctx); c == nil || c.open() <= l.limits.StreamsFloor {
		return ctx, nil
	}
	l.counters.Calls.Add(1)
	return nil, l.refusal
}

// Sever closes the connection that a call came on, and all other calls on it, which is an offence of its host's. It
// reports whether the connection is one of a Listener's.
func Sever(ctx context.Context) bool {
	c := connOf(ctx)
	if c == nil {
		return false
	}
	c.listener.counters.Severed.Add(1)
	c.sever()
	c.listener.offended(c, 1)
	return true
}

// Host is where a call comes from: calls of one host share what they may hold. Empty = unknown.
func Host(ctx context.Context) string {
	if c := connOf(ctx); c != nil {
		return c.host
	}
	return ""
}

func connOf(ctx context.Context) *conn {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	a, ok := p.Addr.(*addr)
	if !ok {
		return nil
	}
	return a.conn
}

// hostOf names a host. Who has one IPv6 address usually has a whole /64.
func hostOf(a net.Addr) string {
	at, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return a.String()
	}
	ip := at.Addr().Unmap()
	if ip.Is4() {
		return ip.String()
	}
	network, err := ip.WithZone("").Prefix(ipv6HostPrefixBits)
	if err != nil {
		return ip.String()
	}
	return network.String()
}
