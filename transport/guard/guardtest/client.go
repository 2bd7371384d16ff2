package guardtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"
)

// FrameBytesMax is the largest HTTP/2 frame that a server takes unless it says otherwise.
const FrameBytesMax = 16 << 10

// Client is one connection. Its methods are safe for concurrent use.
type Client struct {
	net.Conn

	write sync.Mutex // guards what follows
	fr    *http2.Framer
	enc   *hpack.Encoder
	block bytes.Buffer // what enc writes to
	next  uint32       // id of the next stream
	ended chan struct{}

	mu      sync.Mutex // guards what follows
	seen    Seen
	changed chan struct{} // closed and replaced at each change
}

// Seen is what the server has said.
type Seen struct {
	Ends   map[uint32]string // how streams ended: "RST" and its code, or a grpc-status and its message
	GoAway string            // its code and debug data
	Data   int64             // bytes of content
	Window map[uint32]int64  // what it has added to the windows of streams; 0 is the connection's
	Acks   int               // of pings
	// Settings are those that it began with.
	Settings map[http2.SettingID]uint32
	Closed   bool // the connection has ended
}

// DialTCP connects from a loopback address of the caller's choice: to a server each is a host of its own.
func DialTCP(ctx context.Context, from, to string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	return d.DialContext(ctx, "tcp", to)
}

// Dial connects and sends what an HTTP/2 client begins with. A server that closes the connection at once is seen
// as Closed.
func Dial(ctx context.Context, from, to string, settings ...http2.Setting) (*Client, error) {
	conn, err := DialTCP(ctx, from, to)
	if err != nil {
		return nil, err
	}
	return Speak(conn, settings...), nil
}

// Speak sends what an HTTP/2 client begins with on a connection, which it owns from then on. One that is closed is seen as
// Closed.
func Speak(conn net.Conn, settings ...http2.Setting) *Client {
	c := &Client{Conn: conn, next: 1, ended: make(chan struct{}), changed: make(chan struct{}), fr: http2.NewFramer(conn, conn),
		seen: Seen{Ends: map[uint32]string{}, Window: map[uint32]int64{}, Settings: map[http2.SettingID]uint32{}}}
	c.enc = hpack.NewEncoder(&c.block)
	c.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil) // the table's size unless SETTINGS say otherwise
	c.fr.SetReuseFrames()
	if _, err := conn.Write([]byte(http2.ClientPreface)); err == nil {
		_ = c.fr.WriteSettings(settings...) // as with the preface: what fails has been closed, and that is seen
	}
	go c.read() // until Close
	return c
}

// Close ends the connection. It may have ended already.
func (c *Client) Close() error {
	err := c.Conn.Close()
	<-c.ended
	return err
}

func (c *Client) read() {
	defer close(c.ended)
	for {
		f, err := c.fr.ReadFrame()
		if err != nil {
			c.note(func(s *Seen) { s.Closed = true })
			return
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				c.note(func(s *Seen) {
					_ = f.ForeachSetting(func(one http2.Setting) error { s.Settings[one.ID] = one.Val; return nil }) // ours returns none
				})
				_ = c.writing(c.fr.WriteSettingsAck) // a connection that has ended shows in ReadFrame
			}
		case *http2.PingFrame:
			if f.IsAck() {
				c.note(func(s *Seen) { s.Acks++ })
				continue
			}
			_ = c.writing(func() error { return c.fr.WritePing(true, f.Data) })
		case *http2.WindowUpdateFrame:
			c.note(func(s *Seen) { s.Window[f.StreamID] += int64(f.Increment) })
		case *http2.DataFrame:
			c.note(func(s *Seen) { s.Data += int64(len(f.Data())) })
		case *http2.RSTStreamFrame:
			c.note(func(s *Seen) { s.end(f.StreamID, "RST "+f.ErrCode.String()) })
		case *http2.GoAwayFrame:
			c.note(func(s *Seen) { s.GoAway = f.ErrCode.String() + " " + string(f.DebugData()) })
		case *http2.MetaHeadersFrame:
			c.trailers(f)
		}
	}
}

func (c *Client) trailers(f *http2.MetaHeadersFrame) {
	code, message := "", ""
	for _, h := range f.Fields {
		switch h.Name {
		case "grpc-status":
			code = h.Value
		case "grpc-message":
			message = h.Value
		}
	}
	if code != "" {
		c.note(func(s *Seen) { s.end(f.StreamID, code+" "+message) })
	}
}

func (s *Seen) end(id uint32, how string) {
	if _, ok := s.Ends[id]; !ok { // a status may be followed by a reset
		s.Ends[id] = how
	}
}

func (c *Client) note(f func(*Seen)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.seen)
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *Client) writing(f func() error) error {
	c.write.Lock()
	defer c.write.Unlock()
	return f()
}

// Await waits until cond is true of what the server has said. cond must not keep what it is given.
func (c *Client) Await(ctx context.Context, cond func(*Seen) bool) error {
	for {
		c.mu.Lock()
		ok, changed, seen := cond(&c.seen), c.changed, fmt.Sprintf("%d streams ended, GOAWAY %q, closed %v", len(c.seen.Ends), c.seen.GoAway, c.seen.Closed)
		c.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%w: %s", ctx.Err(), seen)
		}
	}
}

// Open begins a call; more are headers beyond those that gRPC needs. They go out in as many frames as they take.
func (c *Client) Open(path string, more ...hpack.HeaderField) (id uint32, err error) {
	fields := append([]hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: path}, {Name: ":authority", Value: "hostile"},
		{Name: "content-type", Value: "application/grpc"}, {Name: "te", Value: "trailers"},
	}, more...)
	err = c.writing(func() error {
		id = c.next
		c.next += 2
		c.block.Reset()
		for _, f := range fields {
			if err := c.enc.WriteField(f); err != nil {
				return err
			}
		}
		part := c.block.Next(FrameBytesMax)
		err := c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: part, EndHeaders: c.block.Len() == 0})
		for err == nil && c.block.Len() > 0 {
			part = c.block.Next(FrameBytesMax)
			err = c.fr.WriteContinuation(id, c.block.Len() == 0, part)
		}
		return err
	})
	return id, err
}

// Send sends content on a stream, whatever the windows say; end says that it is the last.
func (c *Client) Send(id uint32, b []byte, end bool) error {
	return c.SendIn(id, b, FrameBytesMax, end)
}

// SendIn is Send with frames of a size.
func (c *Client) SendIn(id uint32, b []byte, frameBytes int, end bool) error {
	return c.writing(func() error {
		for {
			part := b[:min(len(b), frameBytes)]
			b = b[len(part):]
			if err := c.fr.WriteData(id, end && len(b) == 0, part); err != nil || len(b) == 0 {
				return err
			}
		}
	})
}

// Ping sends a PING.
func (c *Client) Ping() error {
	return c.writing(func() error { return c.fr.WritePing(false, [8]byte{}) })
}

// Reset ends a stream at once.
func (c *Client) Reset(id uint32) error {
	return c.writing(func() error { return c.fr.WriteRSTStream(id, http2.ErrCodeCancel) })
}

// Message is m with gRPC's prefix.
func Message(m proto.Message) ([]byte, error) {
	b, err := proto.Marshal(m)
	return append(Prefix(false, len(b)), b...), err
}

// Prefix announces a message of n bytes.
func Prefix(compressed bool, n int) []byte {
	p := make([]byte, 5)
	if compressed {
		p[0] = 1
	}
	binary.BigEndian.PutUint32(p[1:], uint32(n))
	return p
}
