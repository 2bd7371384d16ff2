package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"strings"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
)

func shaking(h *raftv1.Handshake) *raftv1.ExchangeRequest {
	return &raftv1.ExchangeRequest{Message: &raftv1.ExchangeRequest_Handshake{Handshake: h}}
}

func framed(f *raftv1.Frame) *raftv1.ExchangeRequest {
	return &raftv1.ExchangeRequest{Message: &raftv1.ExchangeRequest_Frame{Frame: f}}
}

// exchange opens an Exchange with node to, sends messages, and returns how it ends, should it end: it is given up
// after the answer to the last.
func (s *stranger) exchange(to raftcore.NodeID, ms ...*raftv1.ExchangeRequest) (err error) {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	stream, err := s.peer(to).Exchange(ctx)
	if err != nil {
		return err
	}
	for _, m := range ms {
		if err := stream.Send(m); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	if len(ms) == 1 { // a handshake alone: refused or answered
		_, err = stream.Recv()
		return err
	}
	for err == nil {
		_, err = stream.Recv()
	}
	return err
}

func (s *stranger) shake(to raftcore.NodeID, h *raftv1.Handshake) error {
	return s.exchange(to, shaking(h))
}

// as is the handshake that a node sends to another.
func (s *stranger) as(from, to raftcore.NodeID) *raftv1.Handshake {
	return &raftv1.Handshake{Header: s.header(from), StoreId: s.storeOf(from), ToNode: uint64(to)}
}

func (s *stranger) handshakes() (all []hostileCase) {
	add := func(input string, send func() error) {
		all = append(all, hostileCase{"RaftService.Exchange", input, s.toFollower, send})
	}
	shake := func(input string, spoil func(*raftv1.Handshake)) {
		add(input, func() error {
			h := s.as(s.other, s.follower)
			spoil(h)
			return s.shake(s.follower, h)
		})
	}
	shake("a handshake without header", func(h *raftv1.Handshake) { h.Header = nil })
	shake("another cluster", func(h *raftv1.Handshake) { h.Header.ClusterId = "another" })
	shake("from node 0", func(h *raftv1.Handshake) { h.Header.FromNode = 0 })
	shake("from the node itself", func(h *raftv1.Handshake) { h.Header.FromNode = uint64(s.follower) })
	shake("to another node", func(h *raftv1.Handshake) { h.ToNode = uint64(s.leader) })
	shake("from another node's store", func(h *raftv1.Handshake) { h.StoreId = s.storeOf(s.leader) })
	shake("from another node", func(h *raftv1.Handshake) { h.Header.FromNode = uint64(s.leader) })
	shake("from no store", func(h *raftv1.Handshake) { h.StoreId = "" })
	shake("start number 0", func(h *raftv1.Handshake) { h.Header.StartNumber = 0 })
	shake("a lower start number", func(h *raftv1.Handshake) { h.Header.StartNumber = 1 })
	shake("the same start number with another boot id", func(h *raftv1.Handshake) { h.Header.BootId = bytes.Repeat([]byte{7}, 16) })
	shake("a boot id of 3 bytes", func(h *raftv1.Handshake) { h.Header.BootId = []byte("abc") })
	shake("a handshake of 1 MiB", func(h *raftv1.Handshake) { h.StoreId = strings.Repeat("s", 1<<20) })
	add("17 nodes that nobody knows", func() error {
		ctx, cancel := context.WithCancel(s.ctx)
		defer cancel()
		var last error
		for id := range uint64(17) {
			stream, err := raftv1.NewRaftServiceClient(s.dial(s.peerAddr(s.follower))).Exchange(ctx)
			if err != nil {
				return err
			}
			h := s.as(s.other, s.follower)
			h.Header.FromNode, h.Header.StartNumber, h.StoreId = 100+id, math.MaxUint64, "another"
			if err := stream.Send(shaking(h)); err != nil {
				return err
			}
			if _, last = stream.Recv(); last != nil {
				return last
			}
		}
		return nil
	})
	after := func(input string, ms ...*raftv1.ExchangeRequest) {
		add(input, func() error {
			h := s.as(s.other, s.follower)
			h.Header.FromNode, h.Header.StartNumber, h.StoreId = 99, 5, "another"
			return s.exchange(s.follower, append([]*raftv1.ExchangeRequest{shaking(h)}, ms...)...)
		})
	}
	add("nothing in the first message", func() error { return s.exchange(s.follower, &raftv1.ExchangeRequest{}) })
	add("a frame before the handshake", func() error { return s.exchange(s.follower, framed(&raftv1.Frame{Header: s.header(s.leader)})) })
	after("a second handshake", shaking(&raftv1.Handshake{}))
	after("nothing in a later message", &raftv1.ExchangeRequest{})
	after("a frame without header", framed(&raftv1.Frame{}))
	after("a frame of another node", framed(&raftv1.Frame{Header: s.header(s.leader)}))
	after("a frame of 100000 empty envelopes", framed(&raftv1.Frame{Envelopes: emptyEnvelopes(100_000)}))
	return all
}

func emptyEnvelopes(n int) []*raftv1.Envelope {
	es := make([]*raftv1.Envelope, n)
	for i := range es {
		es[i] = &raftv1.Envelope{}
	}
	return es
}

// frame sends a frame as node from, in its own incarnation: such a handshake is valid, and takes the place of
// the node's Exchange until it comes back, for which this waits.
func (s *stranger) frame(from, to raftcore.NodeID, f *raftv1.Frame) error {
	header, up := s.gone, s.nodes[from] != nil
	if up {
		header = s.header(from)
	}
	stream, err := s.peer(to).Exchange(s.ctx)
	if err != nil {
		return err
	}
	f.Header = header
	for _, m := range []*raftv1.ExchangeRequest{shaking(&raftv1.Handshake{Header: header, StoreId: s.storeOf(from), ToNode: uint64(to)}), framed(f)} {
		if err := stream.Send(m); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	for err == nil { // the end, or the node has its Exchange back already
		_, err = stream.Recv()
	}
	if up {
		s.until("the node has its Exchange back", func() bool { return s.nodes[from].peers.Connected(uint64(to)) })
	}
	return nil
}

// framer adds cases of frames with one envelope or heartbeat, between the leader and the follower.
type framer struct {
	*stranger
	all *[]hostileCase
}

// asLeader sends the follower an envelope that the leader could send, but for what spoil does.
func (f framer) asLeader(input string, spoil func(*raftv1.Envelope)) {
	f.envelope(input, f.toLeader, f.toFollower, spoil)
}

func (f framer) asFollower(input string, spoil func(*raftv1.Envelope)) {
	f.envelope(input, f.toFollower, f.toLeader, spoil)
}

func (f framer) asOther(input string, spoil func(*raftv1.Envelope)) {
	f.envelope(input, func() raftcore.NodeID { return f.other }, f.toFollower, spoil)
}

func (f framer) envelope(input string, from, to func() raftcore.NodeID, spoil func(*raftv1.Envelope)) {
	*f.all = append(*f.all, hostileCase{"RaftService.Exchange", input, to, func() error {
		h, b := f.between(from(), to()), f.board(to(), hostileGroup)
		e := &raftv1.Envelope{GroupId: h.GetGroupId(), FromReplica: h.GetFromReplica(), ToReplica: h.GetToReplica(), Term: b.Term}
		spoil(e)
		return f.frame(from(), to(), &raftv1.Frame{Envelopes: []*raftv1.Envelope{e}})
	}})
}

func (f framer) heartbeat(input string, from, to func() raftcore.NodeID, spoil func(*raftv1.GroupHeartbeat)) {
	*f.all = append(*f.all, hostileCase{"RaftService.Exchange", input, to, func() error {
		h, b := f.between(from(), to()), f.board(to(), hostileGroup)
		e := &raftv1.GroupHeartbeat{GroupId: h.GetGroupId(), FromReplica: h.GetFromReplica(), ToReplica: h.GetToReplica(), Term: b.Term}
		spoil(e)
		return f.frame(from(), to(), &raftv1.Frame{Heartbeats: []*raftv1.GroupHeartbeat{e}})
	}})
}
