package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
)

// at is a position in a log: an index, and the term of the entry there.
type at struct{ index, term uint64 }

// born is the first entry of every log: index 1 of term 1, committed when the cluster is founded.
var born = at{1, 1}

// appendEntries and requestVote are the requests of figure 2 without the names of leader and candidate: those
// are the peer that sends them.
type appendEntries struct {
	term    uint64
	prev    at
	entries []uint64 // their terms
	commit  uint64
}

type requestVote struct {
	term              uint64
	last              at
	preVote, transfer bool
}

// appendReply and voteReply are the results of figure 2, and the hint of section 5.3.
type appendReply struct {
	term     uint64
	success  bool
	conflict at
}

type voteReply struct {
	term    uint64
	granted bool
}

// accepted is the answer to what matches.
func accepted(term uint64) appendReply { return appendReply{term: term, success: true} }

// fakePeer is node 2 or 3 of a cluster whose node 1 is real, made of the generated stubs alone. It calls the
// unary RPCs of the real node, and serves an Exchange on which the real node says what it has to say by itself:
// that is kept until a test asks for it. Answers to it go through an Exchange of the peer's own.
type fakePeer struct {
	raftv1.UnimplementedRaftServiceServer
	t    *testing.T
	ctx  context.Context
	id   uint64
	boot []byte
	set  string // the bootstrap set

	stream grpc.BidiStreamingClient[raftv1.ExchangeRequest, raftv1.ExchangeResponse]
	upTo   uint64 // acknowledged by keepsUp

	mu      sync.Mutex
	rpc     raftv1.RaftServiceClient // of the real node, in its present life
	cluster string
	inbox   []*raftv1.Envelope
	said    []*raftv1.Envelope // all that ever came, in order
	arrived chan struct{}
	// snapshots takes the next snapshot; nil = none is taken.
	snapshots chan []*raftv1.InstallSnapshotRequest
}

// serveFake starts a peer at addr, where set says that it is.
func serveFake(ctx context.Context, t *testing.T, id uint64, addr, set string) *fakePeer {
	t.Helper()
	p := &fakePeer{t: t, ctx: ctx, id: id, boot: bytes.Repeat([]byte{byte(id)}, 16), set: set, arrived: make(chan struct{}, 1)}
	l, err := net.Listen("tcp", addr)
	must(t, err)
	server := grpc.NewServer(grpc.WaitForHandlers(true))
	raftv1.RegisterRaftServiceServer(server, p)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		must(t, <-served)
	})
	return p
}

// Probe takes part in founding the cluster: like any node with a higher id, a peer takes the UUID that node 1
// has drawn.
func (p *fakePeer) Probe(ctx context.Context, _ *raftv1.ProbeRequest) (*raftv1.ProbeResponse, error) {
	founder, err := p.node().Probe(ctx, &raftv1.ProbeRequest{})
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cluster = founder.GetClusterId()
	hash := sha256.Sum256([]byte(p.set))
	return &raftv1.ProbeResponse{
		State: min(founder.GetState(), raftv1.StoreState_STORE_STATE_FOUNDING), ClusterId: p.cluster,
		StoreId: p.store(), NodeId: p.id, BootstrapHash: hash[:],
	}, nil
}

// Exchange keeps what the real node sends.
func (p *fakePeer) Exchange(stream grpc.BidiStreamingServer[raftv1.ExchangeRequest, raftv1.ExchangeResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if to := first.GetHandshake().GetToNode(); to != p.id {
		return status.Errorf(codes.FailedPrecondition, "to_node is %d, this is node %d", to, p.id)
	}
	if err := stream.Send(&raftv1.ExchangeResponse{Message: &raftv1.ExchangeResponse_Handshake{Handshake: p.handshake()}}); err != nil {
		return err
	}
	for {
		m, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		p.keep(m.GetFrame().GetEnvelopes())
	}
}

func (p *fakePeer) keep(es []*raftv1.Envelope) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inbox, p.said = append(p.inbox, es...), append(p.said, es...)
	select {
	case p.arrived <- struct{}{}:
	default: // the test has not looked since the last
	}
}

// meets gives the peer its connection to a new life of the real node.
func (p *fakePeer) meets(conn *grpc.ClientConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rpc, p.stream = raftv1.NewRaftServiceClient(conn), nil
}

func (p *fakePeer) node() raftv1.RaftServiceClient {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rpc
}

func (p *fakePeer) store() string { return fmt.Sprintf("store of node %d", p.id) }

func (p *fakePeer) header() *raftv1.Header {
	return &raftv1.Header{ClusterId: p.clusterID(), FromNode: p.id, StartNumber: 1, BootId: p.boot}
}

func (p *fakePeer) clusterID() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cluster
}

func (p *fakePeer) handshake() *raftv1.Handshake {
	return &raftv1.Handshake{Header: p.header(), StoreId: p.store(), ToNode: 1}
}

// groupHeader names the metadata group, where replica ids are node ids.
func (p *fakePeer) groupHeader() *raftv1.Header {
	h := p.header()
	h.GroupId, h.FromReplica, h.ToReplica = 1, p.id, 1
	return h
}

// content is what the entry of a term at an index says. No state machine knows it, so that each refuses it alike.
func content(index, term uint64) []byte { return fmt.Appendf(nil, "entry %d of term %d", index, term) }

// appends calls AppendEntries as the leader.
func (p *fakePeer) appends(a appendEntries) (appendReply, error) {
	req := &raftv1.AppendEntriesRequest{
		Header: p.groupHeader(), Term: a.term, LeaderId: p.id, PrevLogIndex: a.prev.index, PrevLogTerm: a.prev.term, LeaderCommit: a.commit,
	}
	for i, term := range a.entries {
		req.Entries = append(req.Entries, &raftv1.LogEntry{Term: term, Data: content(a.prev.index+1+uint64(i), term)})
	}
	r, err := p.node().AppendEntries(p.ctx, req)
	return appendReply{r.GetTerm(), r.GetSuccess(), at{r.GetConflictIndex(), r.GetConflictTerm()}}, err
}

// votes calls RequestVote as the candidate.
func (p *fakePeer) votes(v requestVote) (voteReply, error) {
	r, err := p.node().RequestVote(p.ctx, &raftv1.RequestVoteRequest{
		Header: p.groupHeader(), Term: v.term, CandidateId: p.id, LastLogIndex: v.last.index, LastLogTerm: v.last.term,
		PreVote: v.preVote, LeadershipTransfer: v.transfer,
	})
	return voteReply{r.GetTerm(), r.GetVoteGranted()}, err
}

// wantAppend and wantVote end the test when the answer is another.
func (p *fakePeer) wantAppend(a appendEntries, want appendReply) {
	p.t.Helper()
	got, err := p.appends(a)
	if err != nil || got != want {
		p.t.Fatalf("node %d sent AppendEntries %+v:\n got %+v, %v\nwant %+v", p.id, a, got, err, want)
	}
}

func (p *fakePeer) wantVote(v requestVote, want voteReply) {
	p.t.Helper()
	got, err := p.votes(v)
	if err != nil || got != want {
		p.t.Fatalf("node %d sent RequestVote %+v:\n got %+v, %v\nwant %+v", p.id, v, got, err, want)
	}
}

// says sends a message that the real node has not asked for by RPC: an answer, or "campaign now".
func (p *fakePeer) says(e *raftv1.Envelope) {
	p.t.Helper()
	if p.stream == nil {
		stream, err := p.node().Exchange(p.ctx)
		must(p.t, err)
		must(p.t, stream.Send(&raftv1.ExchangeRequest{Message: &raftv1.ExchangeRequest_Handshake{Handshake: p.handshake()}}))
		answer, err := stream.Recv()
		must(p.t, err)
		if h := answer.GetHandshake(); h.GetHeader().GetFromNode() != 1 || h.GetToNode() != p.id {
			p.t.Fatalf("node %d was greeted with %v", p.id, answer)
		}
		p.stream = stream
	}
	e.GroupId, e.FromReplica, e.ToReplica = 1, p.id, 1
	must(p.t, p.stream.Send(&raftv1.ExchangeRequest{Message: &raftv1.ExchangeRequest_Frame{
		Frame: &raftv1.Frame{Header: p.header(), Envelopes: []*raftv1.Envelope{e}}}}))
}

// grants answers a vote or pre-vote with yes.
func (p *fakePeer) grants(v *raftv1.Envelope) {
	p.t.Helper()
	p.says(&raftv1.Envelope{Type: v.GetType() + 1, Term: v.GetTerm()})
}

// refuses answers a vote with no. (To refuse a pre-vote, a node names its own term.)
func (p *fakePeer) refuses(v *raftv1.Envelope) {
	p.t.Helper()
	p.says(&raftv1.Envelope{Type: v.GetType() + 1, Term: v.GetTerm(), Reject: true})
}

// acknowledges says that this peer has everything up to index.
func (p *fakePeer) acknowledges(term, index uint64) {
	p.t.Helper()
	p.says(&raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_APPEND_RESPONSE, Term: term, Index: index})
}

// lacks says that this peer's log does not match a; hint is where it may.
func (p *fakePeer) lacks(a *raftv1.Envelope, hint uint64) {
	p.t.Helper()
	p.says(&raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_APPEND_RESPONSE, Term: a.GetTerm(), Index: a.GetIndex(), Reject: true, RejectHint: hint})
}

// awaits takes the first message kept that matches, and waits for it.
func (p *fakePeer) awaits(what string, match func(*raftv1.Envelope) bool) *raftv1.Envelope {
	p.t.Helper()
	for {
		if e := p.take(match); e != nil {
			return e
		}
		select {
		case <-p.arrived:
		case <-p.ctx.Done():
			p.t.Fatalf("node %d was never sent %s", p.id, what)
		}
	}
}

func (p *fakePeer) take(match func(*raftv1.Envelope) bool) *raftv1.Envelope {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, e := range p.inbox {
		if match(e) {
			p.inbox = append(p.inbox[:i:i], p.inbox[i+1:]...)
			return e
		}
	}
	return nil
}

func (p *fakePeer) all() []*raftv1.Envelope {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said[:len(p.said):len(p.said)]
}

func (p *fakePeer) awaitsVote(term uint64) *raftv1.Envelope {
	p.t.Helper()
	return p.awaits(fmt.Sprintf("RequestVote of term %d", term), func(e *raftv1.Envelope) bool {
		return e.GetType() == raftv1.MessageType_MESSAGE_TYPE_VOTE && e.GetTerm() == term
	})
}

// awaitsAppend waits for AppendEntries of a term whose entries follow index prev.
func (p *fakePeer) awaitsAppend(term, prev uint64) *raftv1.Envelope {
	p.t.Helper()
	return p.awaits(fmt.Sprintf("AppendEntries of term %d with entries after index %d", term, prev), func(e *raftv1.Envelope) bool {
		return e.GetType() == raftv1.MessageType_MESSAGE_TYPE_APPEND && e.GetTerm() == term && e.GetIndex() == prev && len(e.GetEntries()) > 0
	})
}

// awaitsFirstAppend waits for the AppendEntries with which a leader opens a term, wherever its log ends.
func (p *fakePeer) awaitsFirstAppend(term uint64) *raftv1.Envelope {
	p.t.Helper()
	return p.awaits(fmt.Sprintf("AppendEntries of term %d", term), func(e *raftv1.Envelope) bool {
		return e.GetType() == raftv1.MessageType_MESSAGE_TYPE_APPEND && e.GetTerm() == term && len(e.GetEntries()) > 0
	})
}

// awaitsCommit waits for AppendEntries of a term with this commit index.
func (p *fakePeer) awaitsCommit(term, commit uint64) {
	p.t.Helper()
	p.awaits(fmt.Sprintf("AppendEntries of term %d with commit index %d", term, commit), func(e *raftv1.Envelope) bool {
		return e.GetType() == raftv1.MessageType_MESSAGE_TYPE_APPEND && e.GetTerm() == term && e.GetCommit() == commit
	})
}

// keepsUp acknowledges all AppendEntries that have come. It returns up to where it ever has.
func (p *fakePeer) keepsUp() uint64 {
	p.t.Helper()
	for {
		e := p.take(func(e *raftv1.Envelope) bool { return e.GetType() == raftv1.MessageType_MESSAGE_TYPE_APPEND })
		if e == nil {
			return p.upTo
		}
		p.upTo = max(p.upTo, e.GetIndex()+uint64(len(e.GetEntries())))
		p.acknowledges(e.GetTerm(), p.upTo)
	}
}
