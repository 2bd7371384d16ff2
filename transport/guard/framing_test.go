package guard

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"testing"

	"golang.org/x/net/http2"
	"pgregory.net/rapid"

	"github.com/multiraftd/multiraftd/transport/guard/guardtest"
)

// transcript is what a frameSink was told: the content of each stream, and what happened in which order.
type transcript struct {
	events  []string
	content map[uint32]string
}

func (r *transcript) begin(kind byte, stream uint32, payload int) {
	r.events = append(r.events, fmt.Sprintf("begin %d on %d, %d bytes", kind, stream, payload))
}

func (r *transcript) data(stream uint32, piece []byte) {
	if len(piece) > 0 {
		r.content[stream] += string(piece)
	}
}

func (r *transcript) end(stream uint32, reset bool) {
	r.events = append(r.events, fmt.Sprintf("end of %d, reset %v", stream, reset))
}

func (r *transcript) goAway(code uint32) {
	r.events = append(r.events, fmt.Sprintf("go away: %d", code))
}

func (r *transcript) equal(o *transcript) bool {
	return slices.Equal(r.events, o.events) && maps.Equal(r.content, o.content)
}

// writeFrame writes one drawn frame, and notes in want what it says.
func writeFrame(t *rapid.T, fr *http2.Framer, want *transcript) {
	stream, last := rapid.Uint32Range(1, 5).Draw(t, "stream"), rapid.Bool().Draw(t, "last")
	var err error
	switch rapid.IntRange(0, 6).Draw(t, "kind") {
	case 0:
		content := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "content")
		want.begin(frameData, stream, len(content))
		want.data(stream, content)
		err = fr.WriteData(stream, last, content)
	case 1:
		content, padding := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "content"), rapid.IntRange(0, 255).Draw(t, "padding")
		want.begin(frameData, stream, 1+len(content)+padding)
		want.data(stream, content)
		err = fr.WriteDataPadded(stream, last, content, make([]byte, padding))
	case 2:
		want.begin(frameHeaders, stream, 3)
		err = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: []byte("abc"), EndStream: last, EndHeaders: true})
	case 3:
		want.begin(frameRST, stream, 4)
		want.end(stream, true)
		err, last = fr.WriteRSTStream(stream, http2.ErrCodeCancel), false
	case 4:
		code, why := rapid.Uint32().Draw(t, "code"), rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "why")
		want.begin(frameGoAway, 0, 8+len(why))
		want.goAway(code)
		err, last = fr.WriteGoAway(7, http2.ErrCode(code), why), false
	case 5:
		want.begin(byte(http2.FramePing), 0, 8)
		err, last = fr.WritePing(true, [8]byte{1}), false // its ACK flag is END_STREAM's bit
	default:
		want.begin(byte(http2.FrameWindowUpdate), stream, 4)
		err, last = fr.WriteWindowUpdate(stream, 1), false
	}
	if err != nil {
		t.Fatal(err)
	}
	if last {
		want.end(stream, false)
	}
}

func TestFramesSayTheSameInWhateverPiecesTheyCome(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var wire bytes.Buffer
		wire.WriteString(http2.ClientPreface)
		fr, want := http2.NewFramer(&wire, nil), &transcript{content: map[uint32]string{}}
		for range rapid.IntRange(0, 12).Draw(t, "frames") {
			writeFrame(t, fr, want)
		}
		got := &transcript{content: map[uint32]string{}}
		f := frames{to: got, preface: clientPrefaceBytes}
		for b := wire.Bytes(); len(b) > 0; {
			n := rapid.IntRange(1, len(b)).Draw(t, "piece")
			f.feed(b[:n])
			b = b[n:]
		}
		if !got.equal(want) {
			t.Fatalf("got  %+v\nwant %+v", got, want)
		}
	})
}

func TestOnlyMessagesThatHaveNotEndedAreHeld(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var wire []byte
		for range rapid.IntRange(0, 4).Draw(t, "messages") {
			n := rapid.IntRange(0, 30).Draw(t, "bytes")
			wire = append(append(wire, guardtest.Prefix(false, n)...), make([]byte, n)...)
		}
		announced := rapid.IntRange(1, 1<<24).Draw(t, "announced")
		open := append(guardtest.Prefix(true, announced), make([]byte, min(announced-1, 50))...)
		open = open[:rapid.IntRange(0, len(open)).Draw(t, "come")]
		var m message
		var held int64
		for b := append(wire, open...); len(b) > 0; {
			n := rapid.IntRange(1, len(b)).Draw(t, "piece")
			held += m.take(b[:n])
			b = b[n:]
		}
		if held != int64(len(open)) || m.held != held {
			t.Fatalf("holds %d, says %d, want %d", m.held, held, len(open))
		}
	})
}

// FuzzFrames: whatever comes, the guard goes on, and what it holds is never more than has come.
func FuzzFrames(f *testing.F) {
	f.Add([]byte(http2.ClientPreface+"\x00\x00\x05\x01\x04\x00\x00\x00\x01....."+"\x00\x00\x03\x00\x08\x00\x00\x00\x01\xff.."), 3)
	f.Fuzz(func(t *testing.T, b []byte, piece int) {
		l := newTestListener(nil, loose())
		c := newConn(nil, l, "host")
		for rest := b; len(rest) > 0; {
			n := min(max(piece, 1), len(rest))
			c.in.feed(rest[:n])
			c.out.feed(rest[:n])
			rest = rest[n:]
		}
		costs := int64(len(b) / frameHeaderBytes * frameCostBytes)
		if held := l.partial.Load(); held < 0 || held > int64(len(b))+costs || l.streams.Load() != int64(len(c.uploads)) {
			t.Fatalf("%d bytes make %d held, %d streams counted, %d known", len(b), held, l.streams.Load(), len(c.uploads))
		}
		c.forget()
		if l.partial.Load() != 0 || l.streams.Load() != 0 {
			t.Fatalf("%d held and %d streams of nobody", l.partial.Load(), l.streams.Load())
		}
	})
}
