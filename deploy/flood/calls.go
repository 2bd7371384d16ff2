package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/transport/guard/guardtest"
)

const (
	exchangePath = "/multiraft.raft.v1.RaftService/Exchange"
	perFrame     = 4000 // heartbeats
)

// plain is a codec for messages that are bytes already: no flood may take longer to make than to take in.
type plain struct{}

var _ encoding.CodecV2 = plain{}

func (plain) Name() string { return "proto" }

func (plain) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (plain) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// connected is a gRPC connection from t.from.
func (t *target) connected(addr string) (*grpc.ClientConn, error) {
	dial := func(ctx context.Context, to string) (net.Conn, error) { return guardtest.DialTCP(ctx, t.from, to) }
	return grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(dial),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(plain{}), grpc.MaxCallSendMsgSize(64<<20)))
}

func elements(ctx context.Context, t *target) error {
	empty := bytes.Repeat([]byte{0x0a, 0}, 7<<20) // items without content
	return t.callsOfOne(ctx, func(conn *grpc.ClientConn) error { return conn.Invoke(ctx, appendOncePath, empty, new([]byte)) })
}

func garbage(ctx context.Context, t *target) error {
	bytes := []byte{0xff, 0xff, 0xff}
	return t.callsOfOne(ctx, func(conn *grpc.ClientConn) error {
		return conn.Invoke(ctx, appendOncePath, bytes, new([]byte))
	})
}

// callsOfOne repeats a call that is refused, on one connection.
func (t *target) callsOfOne(ctx context.Context, call func(*grpc.ClientConn) error) error {
	conn, err := t.connected(t.client)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		if call(conn) == nil {
			err = errors.Join(errTaken, conn.Close())
			return err
		}
		t.did.Add(1)
	}
	return conn.Close()
}

var errTaken = errors.New("what should have been refused was taken")

func unknownGroups(ctx context.Context, t *target) error {
	var mu sync.Mutex
	next := uint64(1 << 32)
	return t.frames(ctx, perFrame, func() uint64 {
		mu.Lock()
		defer mu.Unlock()
		next++
		return next
	})
}

func refusedFrames(ctx context.Context, t *target) error {
	return t.frames(ctx, perFrame, func() uint64 { return t.group })
}

func emptyFrames(ctx context.Context, t *target) error { return t.frames(ctx, 0, nil) }

// frames opens an Exchange as a node that nobody knows, and sends one frame again and again.
func (t *target) frames(ctx context.Context, heartbeats int, group func() uint64) (err error) {
	conn, err := t.connected(t.peer)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, exchangePath)
	if err != nil {
		return nil // refused
	}
	stranger := 1_000_000 + t.did.Add(1)
	h := &raftv1.Header{ClusterId: t.cluster, FromNode: stranger, StartNumber: 1, BootId: make([]byte, 16)}
	hand, err := proto.Marshal(&raftv1.ExchangeRequest{Message: &raftv1.ExchangeRequest_Handshake{Handshake: &raftv1.Handshake{Header: h, StoreId: "another", ToNode: t.node}}})
	if err != nil {
		return err
	}
	head, err := proto.Marshal(&raftv1.Frame{Header: h})
	if err != nil {
		return err
	}
	if stream.SendMsg(hand) != nil || stream.RecvMsg(new([]byte)) != nil {
		return nil // refused
	}
	f := frame(head, heartbeats, group)
	for stream.SendMsg(f) == nil {
		t.did.Add(1)
	}
	return nil // the node has had enough, or ctx has ended
}

// frame is an ExchangeRequest with so many heartbeats.
func frame(head []byte, heartbeats int, group func() uint64) []byte {
	f := bytes.Clone(head)
	var h []byte
	for range heartbeats {
		h = h[:0]
		for field, v := range []uint64{group(), 2, 1, 5} { // group, from, to, term
			h = protowire.AppendVarint(protowire.AppendTag(h, protowire.Number(field+1), protowire.VarintType), v)
		}
		f = protowire.AppendBytes(protowire.AppendTag(f, 2, protowire.BytesType), h)
	}
	return protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), f)
}
