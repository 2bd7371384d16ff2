package guard

import "encoding/binary"

// What of HTTP/2 (RFC 9113) and gRPC's framing is looked at.
const (
	clientPrefaceBytes = 24
	frameHeaderBytes   = 9
	grpcPrefixBytes    = 5

	frameData           = 0x0
	frameHeaders        = 0x1
	frameRST            = 0x3
	frameGoAway         = 0x7
	frameContinuation   = 0x9
	goAwayBytes         = 8 // the last stream, and the code
	codeEnhanceYourCalm = 0xb
	flagEndStream       = 0x1
	flagPadded          = 0x8
	streamIDMask        = 1<<31 - 1
	unknownPadding      = -1
)

// frames follows one direction of an HTTP/2 connection, in whatever pieces it comes. It checks nothing: what is
// no HTTP/2 gRPC refuses.
type frames struct {
	to frameSink

	preface int // bytes of the client's preface still to come
	head    [frameHeaderBytes]byte
	have    int // bytes of head that have come; of a GOAWAY's payload, which is kept there too
	// Of the frame under way:
	kind, flags byte
	stream      uint32
	left        int // bytes of payload still to come
	padding     int // at its end; unknownPadding until its length has come
}

// frameSink is told of the frames. begin comes with a frame's header, data with each piece of a DATA frame's
// content, end when the sender has closed the stream with it, or reset it, and goAway when it wants to end the connection.
type frameSink interface {
	begin(kind byte, stream uint32, payload int)
	data(stream uint32, piece []byte)
	end(stream uint32, reset bool)
	goAway(code uint32)
}

func (f *frames) feed(b []byte) {
	for len(b) > 0 {
		switch {
		case f.preface > 0:
			n := min(f.preface, len(b))
			f.preface, b = f.preface-n, b[n:]
		case f.left > 0:
			n := min(f.left, len(b))
			f.payload(b[:n])
			b = b[n:]
		default:
			n := copy(f.head[f.have:], b)
			f.have, b = f.have+n, b[n:]
			if f.have == frameHeaderBytes {
				f.header()
			}
		}
	}
}

func (f *frames) header() {
	f.have = 0
	f.left = int(f.head[0])<<16 | int(f.head[1])<<8 | int(f.head[2])
	f.kind, f.flags, f.stream, f.padding = f.head[3], f.head[4], binary.BigEndian.Uint32(f.head[5:])&streamIDMask, 0
	if f.kind == frameData && f.flags&flagPadded != 0 {
		f.padding = unknownPadding
	}
	f.to.begin(f.kind, f.stream, f.left)
	if f.left == 0 {
		f.finish()
	}
}

func (f *frames) payload(b []byte) {
	f.left -= len(b)
	if f.kind == frameData {
		if f.padding == unknownPadding {
			f.padding, b = int(b[0]), b[1:]
		}
		if extra := f.padding - f.left; extra > 0 {
			b = b[:max(0, len(b)-extra)]
		}
		if len(b) > 0 {
			f.to.data(f.stream, b)
		}
	}
	if f.kind == frameGoAway {
		f.have += copy(f.head[f.have:goAwayBytes], b)
	}
	if f.left == 0 {
		f.finish()
	}
}

func (f *frames) finish() {
	if f.kind == frameGoAway && f.have == goAwayBytes {
		f.to.goAway(binary.BigEndian.Uint32(f.head[4:]))
	}
	f.have = 0
	if reset := f.kind == frameRST; reset || (f.kind == frameData || f.kind == frameHeaders) && f.flags&flagEndStream != 0 {
		f.to.end(f.stream, reset)
	}
}

// message follows gRPC messages in the DATA of one stream.
type message struct {
	prefix [grpcPrefixBytes]byte
	have   int   // bytes of prefix that have come
	left   int64 // bytes of the message still to come
	held   int64 // what has come of a message that is not complete
}

// take passes over a piece, and says how held has changed.
func (m *message) take(b []byte) (change int64) {
	before := m.held
	for len(b) > 0 {
		if m.have < grpcPrefixBytes {
			n := copy(m.prefix[m.have:], b)
			m.have, m.held, b = m.have+n, m.held+int64(n), b[n:]
			if m.have < grpcPrefixBytes {
				break
			}
			m.left = int64(binary.BigEndian.Uint32(m.prefix[1:]))
		}
		n := min(m.left, int64(len(b)))
		m.left, m.held, b = m.left-n, m.held+n, b[n:]
		if m.left == 0 {
			m.have, m.held = 0, 0
		}
	}
	return m.held - before
}
