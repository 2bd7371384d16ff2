package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/raftcore/store"
	"github.com/multiraftd/multiraftd/transport/guard/guardtest"
)

const (
	appendPath     = "/multiraft.v1.LogService/Append"
	appendOncePath = "/multiraft.v1.LogService/AppendOnce"
	readPath       = "/multiraft.v1.LogService/Read"
)

// rawExchange is an Exchange whose messages are bytes: what floods must not take longer to make than to take in.
type rawExchange struct {
	grpc.ClientStream
	header []byte // of a frame
}

// stranger opens an Exchange with node 1 as a node that nobody knows.
func (l *live) stranger(ctx context.Context, id uint64) *rawExchange {
	l.t.Helper()
	stream, err := l.dial(l.peerAddr(1)).NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/multiraft.raft.v1.RaftService/Exchange", grpc.ForceCodecV2(plain{}))
	l.must(err)
	h := &raftv1.Header{ClusterId: l.nodes[1].Cluster(), FromNode: id, StartNumber: 1, BootId: make([]byte, 16)}
	b, err := proto.Marshal(shaking(&raftv1.Handshake{Header: h, StoreId: "another", ToNode: 1}))
	l.must(err)
	l.must(stream.SendMsg(b))
	l.must(stream.RecvMsg(new([]byte)))
	x := &rawExchange{ClientStream: stream}
	x.header, err = proto.Marshal(&raftv1.Frame{Header: h})
	l.must(err)
	return x
}

// frame is an ExchangeRequest with one heartbeat for each of n groups.
func (x *rawExchange) frame(n int, group func(i int) uint64) []byte {
	f := bytes.Clone(x.header)
	var h []byte
	for i := range n {
		h = h[:0]
		for field, v := range []uint64{group(i), 2, 1, 5} { // group, from, to, term
			h = protowire.AppendVarint(protowire.AppendTag(h, protowire.Number(field+1), protowire.VarintType), v)
		}
		f = protowire.AppendBytes(protowire.AppendTag(f, 2, protowire.BytesType), h)
	}
	return protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), f)
}

// floodSilence opens connections on both addresses, and Exchanges, on which the handshake never comes or never ends.
func floodSilence(l *live, hold func()) {
	var conns []net.Conn
	for _, addr := range []string{l.clientAddr(1), l.peerAddr(1)} {
		for i := range 100 {
			c, err := guardtest.DialTCP(l.ctx, l.floodHost, addr)
			l.must(err)
			_, err = c.Write([]byte(http2.ClientPreface)[:i%len(http2.ClientPreface)])
			l.must(err)
			conns = append(conns, c)
		}
	}
	late := l.counter(1, "transport_refused_total", "handshake_timeout")
	ended := make(chan error, 10)
	peer := raftv1.NewRaftServiceClient(l.dial(l.peerAddr(1)))
	for range cap(ended) {
		stream, err := peer.Exchange(l.ctx)
		l.must(err)
		go func() { _, err := stream.Recv(); ended <- err }()
	}
	hold()
	for _, c := range conns {
		for err := error(nil); err == nil; { // what the node had to say, then the end
			_, err = c.Read(make([]byte, 100))
		}
		l.must(c.Close())
	}
	for range cap(ended) {
		if err := <-ended; status.Code(err) != codes.DeadlineExceeded {
			l.t.Errorf("an Exchange without handshake ended with %v", err)
		}
	}
	if n := l.counter(1, "transport_refused_total", "handshake_timeout") - late; n != uint64(cap(ended)) {
		l.t.Errorf("%d of %d counted", n, cap(ended))
	}
}

func floodUnknownGroups(l *live, hold func()) {
	const groups, perFrame = 1_000_000, 4000
	ctx, cancel := context.WithCancel(l.ctx)
	defer cancel()
	x := l.stranger(ctx, 90)
	table := len(l.nodes[1].core.Table().Groups())
	counted, dropped := l.counter(1, "router_messages_unknown_group_total", ""), l.counter(1, "transport_controls_dropped_total", "queue_full")
	stored, err := storedGroups(l.nodes[1])
	l.must(err)
	for n := 0; n < groups; n += perFrame {
		l.must(x.SendMsg(x.frame(perFrame, func(i int) uint64 { return uint64(1_000_000 + n + i) })))
	}
	l.until("all of them are counted", func() bool { return l.counter(1, "router_messages_unknown_group_total", "") == counted+groups })
	// Nobody takes what the node has to say about them: some of it waits, and the rest was dropped.
	if d := l.counter(1, "transport_controls_dropped_total", "queue_full") - dropped; d < groups/2 {
		l.t.Errorf("%d controls were dropped", d)
	}
	more := x.frame(perFrame, func(i int) uint64 { return uint64(5_000_000 + i) })
	end := again(ctx, func(context.Context) { l.must(x.SendMsg(more)) })
	defer end()
	hold()
	end()
	after, err := storedGroups(l.nodes[1])
	l.must(err)
	if now := len(l.nodes[1].core.Table().Groups()); now != table || after != stored {
		l.t.Errorf("%d groups here were %d, %d stored were %d", now, table, after, stored)
	}
}

// floodRefusedFrames sends what costs most to refuse: messages of a group that is here.
func floodRefusedFrames(l *live, hold func()) {
	const connections, perFrame = 4, 4000
	frames := fullOr(500, 25)
	ctx, cancel := context.WithCancel(l.ctx)
	defer cancel()
	refused := func() uint64 {
		return l.counter(1, "raft_messages_refused_total", "node") + l.counter(1, "raft_messages_refused_total", "to")
	}
	before := refused()
	var sent sync.WaitGroup
	for i := range uint64(connections) {
		x := l.stranger(ctx, 91+i)
		f := x.frame(perFrame, func(int) uint64 { return uint64(hostileGroup) })
		sent.Go(func() {
			for range frames {
				l.must(x.SendMsg(f))
			}
		})
	}
	hold()
	sent.Wait()
	l.until("all of them are refused", func() bool { return refused() == before+uint64(connections*frames*perFrame) })
}

func floodOneConnection(l *live, hold func()) {
	cs, end := l.raws(1, l.clientAddr(1))
	defer end()
	for range 10_000 {
		_, err := cs[0].Open(appendPath)
		l.must(err)
	}
	refused := 0
	l.must(cs[0].Await(l.ctx, func(seen *guardtest.Seen) bool { refused = len(seen.Ends); return refused >= 9000 || seen.Closed }))
	hold()
	l.must(cs[0].Await(l.ctx, func(seen *guardtest.Seen) bool {
		for id, how := range seen.Ends {
			if how != "RST REFUSED_STREAM" {
				l.t.Errorf("stream %d ended with %q", id, how)
			}
		}
		return len(seen.Ends) == 9000 && !seen.Closed
	}))
}

func floodManyConnections(l *live, hold func()) {
	cs, end := l.raws(fullOr(100, 10), l.clientAddr(1))
	defer end()
	shed := l.counter(1, "router_shed_total", "call")
	each(cs, func(c *guardtest.Client) {
		for range 900 {
			if _, err := c.Open(appendPath); err != nil {
				l.t.Error(err)
				return
			}
		}
	})
	want := uint64(len(cs)*900 - 4096 - 8*len(cs))
	l.until("those too many are refused", func() bool { return l.counter(1, "router_shed_total", "call") >= shed+want })
	hold()
	l.must(cs[0].Await(l.ctx, func(seen *guardtest.Seen) bool {
		for id, how := range seen.Ends {
			if !strings.HasPrefix(how, "8 too many calls") {
				l.t.Errorf("stream %d ended with %q", id, how)
			}
		}
		return true
	}))
}

// floodConnections takes all connections that a host gets, on both addresses.
func floodConnections(l *live, hold func()) {
	shed := func() (clients, peers uint64) {
		return l.counter(1, "router_shed_total", "connection"), l.counter(1, "transport_shed_total", "connection")
	}
	clientsBefore, peersBefore := shed()
	clients, end := l.raws(600, l.clientAddr(1))
	defer end()
	peers, endPeers := l.raws(200, l.peerAddr(1))
	defer endPeers()
	for _, all := range [][]*guardtest.Client{clients, peers} {
		for _, c := range all {
			_ = c.Ping() // it fails on those that are closed
		}
	}
	l.until("those too many are closed", func() bool {
		clients, peers := shed()
		return clients == clientsBefore+600-512 && peers == peersBefore+200-128
	})
	hold()
	for what, all := range map[string][]*guardtest.Client{"client": clients[:512], "peer": peers[:128]} {
		for i, c := range all {
			l.must(c.Await(l.ctx, func(seen *guardtest.Seen) bool {
				if seen.Closed {
					l.t.Errorf("%s connection %d was closed", what, i)
				}
				return seen.Closed || seen.Acks == 1
			}))
		}
	}
}

// floodResets breaks off calls as soon as they have begun. After some thousand the connection is closed, and what is
// left of the allowance is for a few more.
func floodResets(l *live, hold func()) {
	shed := l.counter(1, "router_shed_total", "resets")
	flood := func(context.Context) {
		cs, end := l.raws(1, l.clientAddr(1))
		defer end()
		for done := false; !done; {
			for range 100 {
				id, err := cs[0].Open(appendPath)
				if err != nil || cs[0].Reset(id) != nil {
					return
				}
			}
			l.must(cs[0].Await(l.ctx, func(seen *guardtest.Seen) bool { done = seen.Closed; return true }))
		}
	}
	flood(l.ctx)
	l.until("it is counted", func() bool { return l.counter(1, "router_shed_total", "resets") > shed })
	stop := again(l.ctx, flood)
	defer stop()
	hold()
	stop()
}

// floodUnfinished begins requests of 15 MiB on both addresses and leaves out the last byte.
func floodUnfinished(l *live, hold func()) {
	for _, at := range []struct{ addr, path, shed string }{
		{l.clientAddr(1), appendOncePath, "router_shed_total"}, {l.peerAddr(1), "/multiraft.raft.v1.RaftService/AppendEntries", "transport_shed_total"},
	} {
		before := l.counter(1, at.shed, "upload")
		cs, end := l.raws(fullOr(40, 3), at.addr)
		defer end()
		each(cs, func(c *guardtest.Client) { l.leaveUnfinished(c, at.path) })
		l.until("some are closed", func() bool { return l.counter(1, at.shed, "upload") > before })
	}
	hold()
}

func (l *live) leaveUnfinished(c *guardtest.Client, path string) {
	const calls, size = 4, 15 << 20
	content := make([]byte, size-1)
	for range calls {
		id, err := c.Open(path)
		if err == nil {
			err = c.Send(id, guardtest.Prefix(false, size), false)
		}
		if err == nil { // gRPC makes room for a message when it has seen how large it is
			err = c.Await(l.ctx, func(seen *guardtest.Seen) bool { return seen.Closed || seen.Window[id] >= size-8<<20 })
		}
		if err != nil || c.Send(id, content, false) != nil {
			return // it was closed to make room for others
		}
	}
}

func floodElements(l *live, hold func()) {
	empty := make([]byte, fullOr(14<<20, 2<<20))
	for i := range empty {
		empty[i] = []byte{0x0a, 0}[i%2] // items without content
	}
	conn := l.dial(l.clientAddr(1))
	send := func(ctx context.Context) {
		stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, appendPath, grpc.ForceCodecV2(plain{}))
		if err == nil {
			err = stream.SendMsg(empty)
		}
		if err == nil || errors.Is(err, io.EOF) {
			err = stream.RecvMsg(new([]byte))
		}
		// Many such requests at once are too much to have begun at once.
		if code := status.Code(err); code != codes.Internal && code != codes.Unavailable && ctx.Err() == nil {
			l.t.Errorf("a request of empty elements was answered %v", err)
		}
	}
	var ends []func()
	for range fullOr(16, 1) {
		end := again(l.ctx, send)
		defer end()
		ends = append(ends, end)
	}
	hold()
	for _, end := range ends {
		end()
	}
}

func floodSlowReaders(l *live, hold func()) {
	req, err := guardtest.Message(&multiraftv1.ReadRequest{TopicId: l.big, From: &multiraftv1.ReadRequest_Offset{}, Follow: true, MaxBytes: 8 << 20})
	l.must(err)
	connect := func() (cs []*guardtest.Client, end func()) {
		cs, end = l.raws(fullOr(40, 4), l.clientAddr(1), http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
		each(cs, func(c *guardtest.Client) {
			for range 100 {
				id, err := c.Open(readPath)
				if err != nil || c.Send(id, req, true) != nil {
					return // those who come late find others closed for their sake, and perhaps themselves
				}
			}
		})
		return cs, end
	}
	severed := l.counter(1, "router_shed_total", "stalled_reader")
	_, end := connect()
	defer end()
	l.until("those who took nothing made room", func() bool { return l.counter(1, "router_shed_total", "stalled_reader") > severed })
	_, endMore := connect()
	defer endMore()
	l.until("there is no more room", func() bool { return l.nodes[1].services.HeldBytes() > 24<<20 })
	hold()
	// Somebody who takes what he asks for gets it, from that very node.
	rpc, err := multiraftv1.NewLogServiceClient(l.dial(l.clientAddr(1))).Read(l.ctx, &multiraftv1.ReadRequest{TopicId: l.big, From: &multiraftv1.ReadRequest_Offset{}})
	l.must(err)
	for next := int64(0); ; {
		resp, err := rpc.Recv()
		if errors.Is(err, io.EOF) {
			if next != 20 {
				l.t.Errorf("read %d records of 20", next)
			}
			return
		}
		l.must(err)
		next = resp.GetNextOffset()
	}
}

func floodDeafAppends(l *live, hold func()) {
	req := &multiraftv1.AppendRequest{}
	for i := range uint64(1000) { // answered at once, with an error
		req.Items = append(req.Items, &multiraftv1.AppendItem{RequestId: i, TopicId: 99})
	}
	b, err := guardtest.Message(req)
	l.must(err)
	cs, end := l.raws(fullOr(50, 5), l.clientAddr(1), http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
	defer end()
	each(cs, func(c *guardtest.Client) {
		for range 40 {
			id, err := c.Open(appendPath)
			l.must(err)
			for range 8 { // as much as a window takes
				l.must(c.Send(id, b, false))
			}
		}
	})
	l.until("there is no more room", func() bool { return l.nodes[1].services.HeldBytes() > 24<<20 })
	hold()
}

func floodHeaders(l *live, hold func()) {
	headers := func(n int) (all []hpack.HeaderField) {
		for range n {
			all = append(all, hpack.HeaderField{Name: "x-many", Value: strings.Repeat("x", 100), Sensitive: true}) // never indexed
		}
		return all
	}
	for _, addr := range []string{l.clientAddr(1), l.peerAddr(1)} {
		cs, end := l.raws(1, addr)
		defer end()
		for range 10 { // more than 8 KiB in all
			id, err := cs[0].Open(appendPath, headers(100)...)
			l.must(err)
			l.must(cs[0].Await(l.ctx, func(seen *guardtest.Seen) bool { return seen.Ends[id] == "RST FRAME_SIZE_ERROR" }))
		}
		_, err := cs[0].Open(appendPath, hpack.HeaderField{Name: "x-long", Value: strings.Repeat("x", 9000)})
		l.must(err)
		l.must(cs[0].Await(l.ctx, closed))
	}
	long := headers(10_000) // 1 MiB, in some sixty CONTINUATION frames
	stop := again(l.ctx, func(context.Context) {
		cs, end := l.raws(1, l.clientAddr(1))
		defer end()
		_, _ = cs[0].Open(appendPath, long...) // it fails when the node has had enough
		l.must(cs[0].Await(l.ctx, closed))
	})
	defer stop()
	hold()
	stop()
}

func closed(seen *guardtest.Seen) bool { return seen.Closed }

func floodPings(l *live, hold func()) {
	for _, addr := range []string{l.clientAddr(1), l.peerAddr(1)} {
		cs, end := l.raws(1, addr)
		defer end()
		stop := again(l.ctx, func(context.Context) { _ = cs[0].Ping() })
		l.must(cs[0].Await(l.ctx, func(seen *guardtest.Seen) bool {
			return seen.Closed && seen.GoAway == "ENHANCE_YOUR_CALM too_many_pings"
		}))
		stop()
	}
	stop := again(l.ctx, func(context.Context) {
		cs, end := l.raws(1, l.clientAddr(1))
		for range 100 {
			_ = cs[0].Ping() // it fails once the node has had enough
		}
		end()
	})
	defer stop()
	hold()
	stop()
}

func storedGroups(n *Node) (count int, err error) {
	v, err := n.kv.View()
	if err != nil {
		return 0, err
	}
	groups, err := store.Groups(v)
	return len(groups), errors.Join(err, v.Close())
}
