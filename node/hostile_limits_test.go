package node

import (
	"fmt"
	"io"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/transport/guard/guardtest"
)

func TestBothAddressesSayWhatTheyTake(t *testing.T) {
	l := startLive(t)
	for addr, want := range map[string]map[http2.SettingID]uint32{
		l.clientAddr(1): {http2.SettingMaxConcurrentStreams: 1000, http2.SettingMaxHeaderListSize: 8 << 10, http2.SettingInitialWindowSize: 64 << 10},
		l.peerAddr(1):   {http2.SettingMaxConcurrentStreams: 16, http2.SettingMaxHeaderListSize: 8 << 10, http2.SettingInitialWindowSize: 8 << 20},
	} {
		c := l.raw(addr)
		l.must(c.Await(l.ctx, func(seen *guardtest.Seen) bool {
			if len(seen.Settings) == 0 {
				return false
			}
			for id, v := range want {
				if seen.Settings[id] != v {
					t.Errorf("%s: %v is %d, want %d", addr, id, seen.Settings[id], v)
				}
			}
			return true
		}))
	}
}

// bomb is a compressor as a program may link one that embeds a node: whatever comes in, zeros come out, for ever.
type bomb struct{ inflated atomic.Int64 }

func (*bomb) Name() string { return "bomb" }
func (*bomb) Compress(w io.Writer) (io.WriteCloser, error) {
	return nil, fmt.Errorf("a bomb does not shrink")
}
func (b *bomb) Decompress(io.Reader) (io.Reader, error) { return b, nil }
func (b *bomb) Read(p []byte) (int, error) {
	clear(p)
	b.inflated.Add(int64(len(p)))
	return len(p), nil
}

var theBomb = new(bomb)

func init() { encoding.RegisterCompressor(theBomb) } // gRPC's registry is global, and wants it before any server

func TestAMessageThatInflatesEndsAtTheLimit(t *testing.T) {
	l := startLive(t)
	for addr, path := range map[string]string{l.clientAddr(1): appendPath, l.peerAddr(1): "/multiraft.raft.v1.RaftService/Exchange"} {
		before := theBomb.inflated.Load()
		c := l.raw(addr)
		id, err := c.Open(path, hpack.HeaderField{Name: "grpc-encoding", Value: "bomb"})
		l.must(err)
		l.must(c.Send(id, append(guardtest.Prefix(true, 20), make([]byte, 20)...), true))
		l.must(c.Await(l.ctx, func(seen *guardtest.Seen) bool {
			end := seen.Ends[id]
			if end != "" && end[:2] != "8 " {
				t.Errorf("%s ended with %q", path, end)
			}
			return end != ""
		}))
		if n := theBomb.inflated.Load() - before; n < 16<<20 || n > 32<<20 {
			t.Errorf("%s: %d MiB were inflated", path, n>>20)
		}
	}
	l.append()
}

func TestAHeartbeatBeyondTheLogTakesOutThatReplicaAndNoOther(t *testing.T) {
	l := startLive(t)
	s := &stranger{live: l, conns: map[string]*grpc.ClientConn{}}
	s.leader, s.follower = l.leads()
	before := l.settled()
	victim, group := l.nodes[s.follower], hostileGroup
	failed := func(g raftcore.GroupID) bool {
		h, _ := victim.core.Table().Hosted(g)
		return h.Board.Load().Failure != ""
	}
	for !failed(group) { // a frame is lost when the leader's node takes its Exchange back too soon
		s.beyond(victim)
	}
	if failed(raftcore.MetadataGroup) {
		t.Error("the metadata group's replica has failed too")
	}
	for range 20 {
		l.append()
	}
	// Its disk is as it was: a start later it goes on from there.
	l.stop(s.follower)
	l.start(s.follower)
	after := l.settled()
	if after[group].Applied < before[group].Applied+20 {
		t.Errorf("from %+v to %+v", before[group], after[group])
	}
	l.wantAll()
}

// beyond tells a node, as its leader, of a commit that its log does not have.
func (s *stranger) beyond(victim *Node) {
	s.t.Helper()
	h, _ := victim.core.Table().Hosted(hostileGroup)
	b := h.Board.Load()
	lead, _ := s.nodes[s.leader].core.Table().Hosted(hostileGroup)
	f := &raftv1.Frame{Heartbeats: []*raftv1.GroupHeartbeat{{GroupId: uint64(hostileGroup), FromReplica: uint64(lead.Board.Load().Replica), ToReplica: uint64(b.Replica),
		Term: b.Term, Commit: 1 << 40}}}
	s.must(s.frame(s.leader, s.follower, f))
}
