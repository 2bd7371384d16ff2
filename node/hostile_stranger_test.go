package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/transport/guard/guardtest"
)

// stranger knows all that can be known from outside: ids, incarnations, terms.
type stranger struct {
	*live
	leader, follower, other raftcore.NodeID
	conns                   map[string]*grpc.ClientConn
	gone                    *raftv1.Header // what other said of itself before it went
	goneReplica             uint64
}

func newStranger(l *live) *stranger {
	s := &stranger{live: l, conns: map[string]*grpc.ClientConn{}}
	s.leader, s.follower = l.leads()
	s.other = 6 - s.leader - s.follower
	// A second start: now there is a start number below its own.
	l.stop(s.other)
	l.start(s.other)
	return s
}

func (s *stranger) otherGoes() {
	s.gone, s.goneReplica = s.header(s.other), uint64(s.board(s.other, hostileGroup).Replica)
	s.stop(s.other)
}

func (s *stranger) conn(addr string) *grpc.ClientConn {
	if s.conns[addr] == nil {
		s.conns[addr] = s.dial(addr)
	}
	return s.conns[addr]
}

func (s *stranger) peer(id raftcore.NodeID) raftv1.RaftServiceClient {
	return raftv1.NewRaftServiceClient(s.conn(s.peerAddr(id)))
}

func (s *stranger) log() multiraftv1.LogServiceClient {
	return multiraftv1.NewLogServiceClient(s.conn(s.clientAddr(s.follower)))
}

func (s *stranger) admin() multiraftv1.AdminServiceClient {
	return multiraftv1.NewAdminServiceClient(s.conn(s.clientAddr(s.follower)))
}

func (s *stranger) toFollower() raftcore.NodeID { return s.follower }
func (s *stranger) toLeader() raftcore.NodeID   { return s.leader }

func (s *stranger) cases() (all []hostileCase) {
	all = append(all, s.anyCalls()...)
	all = append(all, s.appendEntries()...)
	all = append(all, s.requestVotes()...)
	all = append(all, s.installSnapshots()...)
	all = append(all, s.handshakes()...)
	all = append(all, s.framesOfReliability()...)
	all = append(all, s.framesOfActorsRaft()...)
	all = append(all, s.framesOfShape()...)
	all = append(all, s.framesOfClaims()...)
	all = append(all, s.appends()...)
	all = append(all, s.reads()...)
	all = append(all, s.admins()...)
	return append(all, s.nodeCalls()...)
}

// Inputs that any RPC may be sent.
const (
	notAMessage = "bytes that are no message"
	tooLong     = "a message above the limit"
	compressed  = "a compressed message"
	wrongPlace  = "on the other address"
)

// plain is a codec of bytes: what is sent need be no message.
type plain struct{}

func (plain) Name() string { return "proto" }

func (plain) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (plain) Unmarshal(mem.BufferSlice, any) error { return nil }

// sendBytes calls any method with one message, and returns how the call ended.
func (s *stranger) sendBytes(addr, method string, b []byte) error {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	stream, err := s.conn(addr).NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method, grpc.ForceCodecV2(plain{}))
	if err != nil {
		return err
	}
	if err := stream.SendMsg(b); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	for err == nil {
		err = stream.RecvMsg(new([]byte))
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// sendCompressed sends what a real client can't be made to: no compressor is linked in.
func (s *stranger) sendCompressed(addr, method string) error {
	c, err := guardtest.Dial(s.ctx, hostileHost, addr)
	if err != nil {
		return err
	}
	defer c.Close()
	id, err := c.Open(method, hpack.HeaderField{Name: "grpc-encoding", Value: "gzip"})
	if err != nil {
		return err
	}
	if err := c.Send(id, append(guardtest.Prefix(true, 20), make([]byte, 20)...), true); err != nil {
		return err
	}
	var end string
	if err := c.Await(s.ctx, func(seen *guardtest.Seen) bool { end = seen.Ends[id]; return end != "" }); err != nil {
		return err
	}
	number, text, _ := strings.Cut(end, " ")
	var code codes.Code
	if err := code.UnmarshalJSON([]byte(number)); err != nil {
		return fmt.Errorf("it ended with %q: %w", end, err)
	}
	return status.Error(code, text)
}

// anyCalls are what every RPC is sent.
func (s *stranger) anyCalls() (all []hostileCase) {
	for _, svc := range services {
		addr, elsewhere := s.clientAddr, s.peerAddr
		if svc.peer {
			addr, elsewhere = s.peerAddr, s.clientAddr
		}
		var methods []string
		for _, m := range svc.desc.Methods {
			methods = append(methods, m.MethodName)
		}
		for _, m := range svc.desc.Streams {
			methods = append(methods, m.StreamName)
		}
		for i, m := range methods {
			rpc, path := svc.name+"."+m, "/"+svc.desc.ServiceName+"/"+m
			add := func(input string, send func() error) {
				all = append(all, hostileCase{rpc, input, s.toFollower, send})
			}
			add(notAMessage, func() error { return s.sendBytes(addr(s.follower), path, []byte{0xff, 0xff}) })
			add(tooLong, func() error { return s.sendBytes(addr(s.follower), path, make([]byte, 20<<20)) })
			add(compressed, func() error { return s.sendCompressed(addr(s.follower), path) })
			if i == 0 {
				add(wrongPlace, func() error { return s.sendBytes(elsewhere(s.follower), path, nil) })
			}
		}
	}
	return all
}
