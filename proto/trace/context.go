package trace

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
)

// Context names one span of a sampled trace. The zero value is no context: not sampled, or nobody said.
type Context struct {
	TraceID [16]byte
	SpanID  [8]byte
}

// Valid says that the context names a span.
func (c Context) Valid() bool { return c.TraceID != [16]byte{} && c.SpanID != [8]byte{} }

// ID is the trace id in hexadecimal, as people and tools write it; empty without a context.
func (c Context) ID() string {
	if !c.Valid() {
		return ""
	}
	return hex.EncodeToString(c.TraceID[:])
}

// traceparentBytes is the length of a traceparent of version 00: 00-<trace id>-<span id>-<flags>.
const traceparentBytes = 2 + 1 + 32 + 1 + 16 + 1 + 2

// Traceparent is the context as W3C Trace Context writes it; empty without a context.
func (c Context) Traceparent() string {
	if !c.Valid() {
		return ""
	}
	var b [traceparentBytes]byte
	copy(b[:], "00-")
	hex.Encode(b[3:35], c.TraceID[:])
	b[35] = '-'
	hex.Encode(b[36:52], c.SpanID[:])
	copy(b[52:], "-01")
	return string(b[:])
}

// Decision is what a traceparent says about sampling.
type Decision uint8

// The decisions.
const (
	// Undecided: there is no traceparent, or none that can be read. The standard wants such a one ignored.
	Undecided Decision = iota
	// Dropped: the caller has decided that the trace is not sampled.
	Dropped
	// Sampled: the caller samples the trace, and the context names its span.
	Sampled
)

// Parse reads a traceparent. Only a sampled one has a context. Of versions after 00 what 00 has is read, as the
// standard wants it.
func Parse(s string) (Context, Decision) {
	if len(s) < traceparentBytes || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return Context{}, Undecided
	}
	var version, flags [1]byte
	var c Context
	ok := lowerHex(version[:], s[:2]) && lowerHex(c.TraceID[:], s[3:35]) && lowerHex(c.SpanID[:], s[36:52]) && lowerHex(flags[:], s[53:55])
	switch {
	case !ok || !c.Valid() || version[0] == 0xff:
		return Context{}, Undecided
	case version[0] == 0 && len(s) > traceparentBytes, len(s) > traceparentBytes && s[traceparentBytes] != '-':
		return Context{}, Undecided
	case flags[0]&1 == 0:
		return Context{}, Dropped
	}
	return c, Sampled
}

// Derive makes a context that follows from its arguments alone, for what several processes work on without telling each
// other.
func Derive(seed string, parts ...uint64) Context {
	data := []byte(seed)
	for _, p := range parts {
		data = binary.BigEndian.AppendUint64(data, p)
	}
	sum := sha256.Sum256(data)
	sum[0] |= 1 // never all 0
	sum[16] |= 1
	return Context{TraceID: [16]byte(sum[:16]), SpanID: [8]byte(sum[16:24])}
}

// ParseID reads a trace id as ID writes it.
func ParseID(s string) (id [16]byte, ok bool) {
	ok = len(s) == 32 && lowerHex(id[:], s) && id != [16]byte{}
	return id, ok
}

// lowerHex decodes s, which must be in lower case, into dst, twice as short.
func lowerHex(dst []byte, s string) bool {
	for i := range dst {
		hi, lo := digit(s[2*i]), digit(s[2*i+1])
		if hi > 15 || lo > 15 {
			return false
		}
		dst[i] = hi<<4 | lo
	}
	return true
}

func digit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	default:
		return 0xff
	}
}
