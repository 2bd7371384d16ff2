package guard

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/multiraftd/multiraftd/transport/guard/guardtest"
)

// known is a service with a method of each kind, which take messages and answer nothing.
var known = grpc.ServiceDesc{
	ServiceName: "any.Known",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{MethodName: "Call", Handler: func(_ any, _ context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		m := new(wrapperspb.BytesValue)
		return m, dec(m)
	}}},
	Streams: []grpc.StreamDesc{{StreamName: "Stream", ClientStreams: true, ServerStreams: true, Handler: func(_ any, stream grpc.ServerStream) error {
		for {
			if err := stream.RecvMsg(new(wrapperspb.BytesValue)); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
		}
	}}},
}

// garble sends a message of a known type that can't be unpacked, or one that can.
func (s *server) garble(c *guardtest.Client, path string, good bool) {
	s.t.Helper()
	id, err := c.Open(path)
	s.must(err)
	message, status := []byte{0xff}, "13 " // INTERNAL
	if good {
		message, status = nil, "0 "
	}
	_ = c.Send(id, append(guardtest.Prefix(false, len(message)), message...), true) // it fails when the connection is closed
	s.must(c.Await(s.ctx, func(seen *guardtest.Seen) bool {
		if end, ok := seen.Ends[id]; ok && !strings.HasPrefix(end, status) {
			s.t.Errorf("%s ended with %q, want %q", path, end, status)
		}
		return seen.Closed || seen.Ends[id] != ""
	}))
}

func TestAHostThatOffendsTooOftenIsKeptOut(t *testing.T) {
	endless := make([]hpack.HeaderField, 700)
	for i := range endless {
		endless[i] = hpack.HeaderField{Name: "x-many", Value: strings.Repeat("x", 100), Sensitive: true} // never indexed
	}
	for name, offend := range map[string]func(*server, *guardtest.Client){
		"no message":              func(s *server, c *guardtest.Client) { s.garble(c, "/any.Known/Call", false) },
		"no message, in a stream": func(s *server, c *guardtest.Client) { s.garble(c, "/any.Known/Stream", false) },
		"headers without an end": func(s *server, c *guardtest.Client) {
			_, _ = c.Open(method, endless...) // it may be closed before they are through
			s.must(c.Await(s.ctx, closed))
		},
		"pings": func(s *server, c *guardtest.Client) {
			for range 5 {
				_ = c.Ping() // as above
			}
			s.must(c.Await(s.ctx, func(seen *guardtest.Seen) bool {
				return seen.Closed && strings.HasPrefix(seen.GoAway, "ENHANCE_YOUR_CALM")
			}))
		},
		"what is not taken": func(s *server, c *guardtest.Client) {
			before := len(s.calls())
			s.begin(c, 1000, 500)
			s.until(func() bool { return len(s.calls()) == before+1 })
			Sever(s.calls()[before])
			s.must(c.Await(s.ctx, closed))
		},
	} {
		t.Run(name, func(t *testing.T) {
			limits := loose()
			limits.Offences, limits.OffenceRate = 3, 1e-9
			s := serve(t, limits)
			first := s.dial()
			for range 3 {
				offend(s, s.dial())
			}
			s.garble(first, "/any.Known/Call", true)
			s.garble(s.dial(), "/any.Known/Stream", true) // three are forgiven
			last := s.dial()
			offend(s, last)
			s.must(last.Await(s.ctx, closed))
			s.must(s.dial().Await(s.ctx, closed))
			if n := s.counters.Offences.Load(); n == 0 {
				t.Error("nothing is counted")
			}
			s.garble(first, "/any.Known/Call", true) // what was open goes on
			other, err := s.dialFrom("127.0.0.2")
			s.must(err)
			defer other.Close()
			s.garble(other, "/any.Known/Call", true)
		})
	}
}

func TestAnUploadThatIsClosedForOthersIsAnOffence(t *testing.T) {
	limits := loose()
	limits.PartialBytes, limits.Offences, limits.OffenceRate = 2000, 1, 1e-9 // one takes 1061
	s := serve(t, limits)
	first, second := s.dial(), s.dial()
	s.begin(first, 4000, 800)
	s.begin(second, 4000, 800) // makes the first go
	s.must(first.Await(s.ctx, closed))
	third := s.dial()
	s.begin(third, 4000, 800)
	s.must(second.Await(s.ctx, closed))
	s.must(s.dial().Await(s.ctx, closed))
}
