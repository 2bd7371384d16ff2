package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"runtime/metrics"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/multiraftd/multiraftd/actors"
	"github.com/multiraftd/multiraftd/client"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
	"github.com/multiraftd/multiraftd/transport/guard/guardtest"
)

// hostileTimeout ends what hangs; it is no measure of speed. The election timeout is longer than a busy machine
// keeps a node from its turn: what is asked here is what strangers can do, not what haste can.
const (
	hostileTimeout         = 10 * time.Minute
	hostileElectionTimeout = 2 * time.Second
)

// live is a cluster of three nodes in this process, on real connections and real disks, with one topic "t" of one
// partition, and a client that means well.
type live struct {
	t       *testing.T // of the case under way
	whole   *testing.T
	ctx     context.Context
	configs map[raftcore.NodeID]Config
	nodes   map[raftcore.NodeID]*Node
	client  *client.Client
	topic   uint64
	big     uint64 // a topic of some MiB, see stuff

	floodHost string // where a flood comes from
	stored    int    // records that the client has appended
}

const hostileGroup raftcore.GroupID = 2 // of the topic's only partition

func startLive(t *testing.T) *live {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hostileTimeout)
	t.Cleanup(cancel)
	l := &live{t: t, whole: t, ctx: ctx, configs: map[raftcore.NodeID]Config{}, nodes: map[raftcore.NodeID]*Node{}}
	peers := map[raftcore.NodeID]string{1: freeAddr(t), 2: freeAddr(t), 3: freeAddr(t)}
	var addrs []string
	for id, addr := range peers {
		l.configs[id] = Config{ID: id, DataDir: t.TempDir(), Bootstrap: peers, ClientAddr: freeAddr(t), PeerAddr: addr, ElectionTimeout: hostileElectionTimeout}
		addrs = append(addrs, l.configs[id].ClientAddr)
	}
	t.Cleanup(l.close)
	l.start(1, 2, 3)
	var err error
	l.client, err = client.Open(client.Config{Addrs: addrs})
	l.must(err)
	var ready bool
	l.topic, ready, err = l.client.CreateTopic(ctx, "t", 1, 3)
	if l.must(err); !ready {
		t.Fatal("the topic is not ready")
	}
	l.append()
	l.until("the controller has recorded who votes in the metadata group, and every node has applied that", func() bool {
		told := false
		for _, n := range l.nodes {
			h, ok := n.core.Table().Hosted(raftcore.MetadataGroup)
			if !ok || h.Board.Load() == nil || h.Board.Load().FollowedTarget == 0 {
				return false
			}
			told = told || h.Board.Load().Told
		}
		return told
	})
	return l
}

// start starts nodes and waits until they are ready.
func (l *live) start(ids ...raftcore.NodeID) {
	l.t.Helper()
	started := make(chan error, len(ids))
	var mu sync.Mutex
	for _, id := range ids {
		go func() {
			n, err := Start(l.ctx, l.configs[id])
			if err == nil {
				mu.Lock()
				l.nodes[id] = n
				mu.Unlock()
				err = n.Ready(l.ctx)
			}
			started <- err
		}()
	}
	for range ids {
		l.must(<-started)
	}
}

func (l *live) stop(id raftcore.NodeID) {
	l.t.Helper()
	l.must(l.nodes[id].Close())
	delete(l.nodes, id)
}

func (l *live) close() {
	if l.client != nil {
		if err := l.client.Close(); err != nil {
			l.t.Error(err)
		}
	}
	for id := range l.nodes {
		l.stop(id)
	}
}

func (l *live) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// until waits for something that happens by itself.
func (l *live) until(what string, cond func() bool) {
	l.t.Helper()
	pause := time.NewTicker(2 * time.Millisecond)
	defer pause.Stop()
	for !cond() {
		select {
		case <-pause.C:
		case <-l.ctx.Done():
			l.t.Fatalf("it never came true: %s", what)
		}
	}
}

// append stores one record, as anybody may.
func (l *live) append() {
	l.t.Helper()
	receipt, err := l.client.AppendOnce(l.ctx, "t", 0, client.Record{Value: fmt.Appendf(nil, "record %d", l.stored)})
	if l.must(err); receipt.Offset != int64(l.stored) {
		l.t.Fatalf("record %d is at offset %d", l.stored, receipt.Offset)
	}
	l.stored++
}

// wantAll reads the partition and wants what append has stored, and nothing else.
func (l *live) wantAll() {
	l.t.Helper()
	r, err := l.client.NewReader(l.ctx, "t", client.ReadConfig{})
	l.must(err)
	defer r.Close()
	for i := 0; ; i++ {
		rec, err := r.Next(l.ctx)
		if errors.Is(err, io.EOF) {
			if i != l.stored {
				l.t.Fatalf("%d records, want %d", i, l.stored)
			}
			return
		}
		if l.must(err); string(rec.Value) != fmt.Sprintf("record %d", i) {
			l.t.Fatalf("offset %d holds %q", i, rec.Value)
		}
	}
}

// board is what node id's replica of g shows.
func (l *live) board(id raftcore.NodeID, g raftcore.GroupID) actors.Status {
	l.t.Helper()
	h, ok := l.nodes[id].core.Table().Hosted(g)
	if !ok {
		l.t.Fatalf("node %d has no replica of group %d", id, g)
	}
	s := h.Board.Load()
	if s == nil {
		return actors.Status{}
	}
	if s.Failure != "" {
		l.t.Fatalf("node %d's replica of group %d has failed: %s", id, g, s.Failure)
	}
	return *s
}

// state is the hash chain of every group, at an applied index that all its replicas have reached.
type state map[raftcore.GroupID]actors.Status

// settled waits until the replicas of each group agree, and have nothing left to commit or apply.
func (l *live) settled() state {
	l.t.Helper()
	s := state{}
	for _, g := range []raftcore.GroupID{raftcore.MetadataGroup, hostileGroup} {
		l.until("the replicas agree", func() bool {
			var all []actors.Status
			for _, id := range slices.Sorted(maps.Keys(l.nodes)) {
				all = append(all, l.board(id, g))
			}
			s[g] = all[0]
			return !slices.ContainsFunc(all, func(r actors.Status) bool {
				return r.Leader == 0 || r.Last != r.Applied || r.Applied != all[0].Applied || r.Term != all[0].Term
			})
		})
		for id := range l.nodes {
			if r := l.board(id, g); r.Applied == s[g].Applied && r.Hash != s[g].Hash {
				l.t.Fatalf("group %d at %d: node %d has another hash", g, r.Applied, id)
			}
		}
	}
	return s
}

// wantUnchanged: each hash chain goes on from before with nothing, or with the entries with which leaders open
// their terms, should there have been an election.
func (l *live) wantUnchanged(before, after state) {
	l.t.Helper()
	for g, b := range before {
		hash := b.Hash
		for i := b.Applied + 1; i <= after[g].Applied; i++ {
			hash = raftcore.Chain(hash, l.entry(g, i), 0, nil)
		}
		if after[g].Applied < b.Applied || hash != after[g].Hash {
			l.t.Fatalf("group %d has changed: from %+v to %+v", g, b, after[g])
		}
	}
}

// entry returns where an entry of some node's log stands.
func (l *live) entry(g raftcore.GroupID, i raftcore.Index) (at raftcore.Position) {
	l.t.Helper()
	for _, n := range l.nodes {
		v, err := n.kv.View()
		l.must(err)
		generation, err := store.CurrentGeneration(v, g)
		if err == nil {
			at, _, err = store.EntryData(v, g, generation, i)
		}
		l.must(errors.Join(err, v.Close()))
		break
	}
	return at
}

// leads returns the node that leads the partition, and one that follows.
func (l *live) leads() (leader, follower raftcore.NodeID) {
	l.t.Helper()
	leader = l.settled()[hostileGroup].Leader
	for id := raftcore.NodeID(1); id <= 3; id++ {
		if id != leader && l.nodes[id] != nil {
			return leader, id
		}
	}
	l.t.Fatal("nobody follows")
	return 0, 0
}

func (l *live) peerAddr(id raftcore.NodeID) string   { return l.configs[id].PeerAddr }
func (l *live) clientAddr(id raftcore.NodeID) string { return l.configs[id].ClientAddr }

// dial connects as a real client does, but for how much it is ready to send.
func (l *live) dial(addr string) *grpc.ClientConn {
	l.t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(128<<20), grpc.MaxCallRecvMsgSize(128<<20)))
	l.must(err)
	l.whole.Cleanup(func() {
		if err := conn.Close(); err != nil {
			l.t.Error(err)
		}
	})
	return conn
}

// hostileHost is where those come from who mean harm: to the nodes another host than the client's.
const hostileHost = "127.0.0.2"

// raw connects as nobody should.
func (l *live) raw(addr string, settings ...http2.Setting) *guardtest.Client {
	l.t.Helper()
	c, err := guardtest.Dial(l.ctx, hostileHost, addr, settings...)
	l.must(err)
	l.whole.Cleanup(func() { _ = c.Close() }) // the node may have closed it
	return c
}

// header is what node id says of itself in this incarnation. Anybody can know it: nodes say it in handshakes.
func (l *live) header(id raftcore.NodeID) *raftv1.Header {
	n := l.nodes[id]
	return &raftv1.Header{ClusterId: n.Cluster(), FromNode: uint64(id), StartNumber: n.self.Start, BootId: n.self.BootID}
}

// counter reads one of a node's counters; label may be empty.
func (l *live) counter(id raftcore.NodeID, name, label string) (v uint64) {
	l.t.Helper()
	known := false
	for _, s := range l.nodes[id].counterSources() {
		s.Each(func(n, _, value, _ string, count uint64) {
			if n == name && value == label {
				v, known = count, true
			}
		})
	}
	if !known {
		l.t.Fatalf("no counter %s %s", name, label)
	}
	return v
}

// liveBytes is what was reachable at a collection made now, goroutines' stacks included.
func liveBytes() int64 {
	runtime.GC()
	runtime.GC() // pools give back what they hold at the second one
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64() + sample[1].Value.Uint64())
}
