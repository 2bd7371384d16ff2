package guard

import (
	"net"
	"sync"
	"time"
)

// conn is one client's connection, with what the guard knows of its streams.
type conn struct {
	net.Conn
	listener *Listener
	host     string
	leave    sync.Once

	mu               sync.Mutex // guards what follows: gRPC reads and writes in goroutines of their own
	in, out          frames
	uploads          map[uint32]*upload // the streams that are open
	newest           uint32             // highest stream id seen
	held             int64              // of messages that are not complete, in all uploads
	headers          int                // bytes of the header block that is being read
	resets, offences int                // seen and not yet reported
	plain            bool               // what is read and written here are frames; else they are within TLS
	shaken           int                // bytes read of a TLS handshake; -1 = it is over
	severed          bool
}

// upload is what a client has sent of a message on one stream.
type upload struct {
	message
	since  uint64 // when the message began, in Listener.begun; 0 = none is under way
	closed bool   // the client sends nothing more; the call goes on
}

func newConn(c net.Conn, l *Listener, host string) *conn {
	g := &conn{Conn: c, listener: l, host: host, uploads: map[uint32]*upload{}, plain: !l.secure}
	g.in, g.out = frames{to: (*received)(g), preface: clientPrefaceBytes}, frames{to: (*sent)(g)}
	return g
}

// Read is part of net.Conn. What is too much gRPC does not get to see.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if !c.plain {
		return c.ciphered(b[:n], err)
	}
	return c.came(b[:n], err)
}

// came takes what has been read of frames.
func (c *conn) came(b []byte, err error) (int, error) {
	if len(b) == 0 {
		return 0, err
	}
	c.mu.Lock()
	if !c.severed {
		c.in.feed(b)
	}
	resets, endless := c.resets, c.headers > headerBlockMax
	c.resets = 0
	c.mu.Unlock()
	if resets > 0 {
		c.listener.broken(c, resets)
	}
	if endless {
		c.listener.counters.Offences.Add(1)
		c.listener.offended(c, 1)
		c.sever()
	}
	c.listener.relieve()
	if c.gone() {
		return 0, net.ErrClosed
	}
	return len(b), err
}

func (c *conn) gone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.severed
}

// Write is part of net.Conn. After a failure gRPC waits for Read to fail as well.
func (c *conn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.listener.limits.WriteTimeout)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(b)
	if err != nil {
		c.sever()
	}
	if c.plain {
		c.went(b[:n])
	}
	return n, err
}

// went takes what has been written of frames.
func (c *conn) went(b []byte) {
	c.mu.Lock()
	if !c.severed {
		c.out.feed(b)
	}
	offences := c.offences
	c.offences = 0
	c.mu.Unlock()
	if offences > 0 {
		c.listener.offended(c, offences)
	}
}

// Close is part of net.Conn.
func (c *conn) Close() error {
	c.leave.Do(func() {
		c.forget()
		c.listener.left(c)
	})
	return c.Conn.Close()
}

// RemoteAddr is part of net.Conn. It leads a call's context back to its connection.
func (c *conn) RemoteAddr() net.Addr { return &addr{c.Conn.RemoteAddr(), c} }

// addr is a client's address.
type addr struct {
	net.Addr
	conn *conn
}

// sever ends the connection. gRPC finds out, and closes it.
func (c *conn) sever() {
	c.forget()
	_ = c.Conn.Close() // whatever it says, the connection is of no use any more
}

// forget gives back what the connection counts for.
func (c *conn) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.severed = true
	c.listener.streams.Add(-int64(len(c.uploads)))
	c.charge(-c.held)
	clear(c.uploads)
}

// oldest says when the message has begun that it has been sending for longest; 0 = it sends none.
func (c *conn) oldest() (since uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, u := range c.uploads {
		if u.since > 0 && (since == 0 || u.since < since) {
			since = u.since
		}
	}
	return since
}

func (c *conn) open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.uploads)
}

func (c *conn) charge(n int64) {
	c.held += n
	c.listener.partial.Add(n)
}

func (c *conn) drop(stream uint32) {
	if u := c.uploads[stream]; u != nil {
		c.charge(-u.held)
		delete(c.uploads, stream)
		c.listener.streams.Add(-1)
	}
}

// received takes what the client sends. c.mu is held.
type received conn

func (r *received) begin(kind byte, stream uint32, payload int) {
	c := (*conn)(r)
	switch kind {
	case frameContinuation:
		c.headers += payload
	case frameHeaders:
		c.headers = payload
		if stream > c.newest && len(c.uploads) < streamsTrackedMax {
			c.newest = stream
			c.uploads[stream] = new(upload)
			c.listener.streams.Add(1)
		}
	case frameData:
		// Frames cost memory beyond their content: a message in pieces of one byte would be held for a hundredth
		// of what it takes. An empty one costs nothing.
		if u := c.uploads[stream]; u != nil && !u.closed && payload > 0 {
			if u.since == 0 {
				u.since = c.listener.begun.Add(1)
			}
			u.held += frameCostBytes
			c.charge(frameCostBytes)
		}
	}
}

func (r *received) data(stream uint32, piece []byte) {
	c := (*conn)(r)
	u := c.uploads[stream]
	if u == nil || u.closed {
		return
	}
	if c.charge(u.take(piece)); u.held == 0 {
		u.since = 0
	}
}

// end: the call goes on, but what there is of a message will never be one.
func (r *received) end(stream uint32, reset bool) {
	c := (*conn)(r)
	if reset {
		if c.uploads[stream] != nil { // a call that the server has not ended itself
			c.resets++
		}
		c.drop(stream)
		return
	}
	if u := c.uploads[stream]; u != nil {
		c.charge(-u.held)
		*u = upload{closed: true}
	}
}

func (r *received) goAway(uint32) {}

// sent takes what the server sends. c.mu is held. What the client still sends on a stream that the server has
// ended gRPC throws away.
type sent conn

func (s *sent) begin(byte, uint32, int)   {}
func (s *sent) data(uint32, []byte)       {}
func (s *sent) end(stream uint32, _ bool) { (*conn)(s).drop(stream) }

// goAway: gRPC tells a client off who pings too often.
func (s *sent) goAway(code uint32) {
	if code == codeEnhanceYourCalm {
		s.offences++
	}
}
