package main

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
)

// snapshot is what figure 13 sends, encoded as raft.proto says: the applied state, and the entries that are kept
// with it. The state machine is an empty one.
type snapshot struct {
	term   uint64 // the leader's
	last   at     // last included
	kept   []uint64
	voters []uint64
	id     uint64
}

type installReply struct {
	term    uint64
	success bool
	next    uint64
}

// newSnapshot makes one of a log that keeps entries of these terms.
func newSnapshot(term, lastIndex uint64, kept ...uint64) snapshot {
	return snapshot{term: term, last: at{lastIndex, kept[len(kept)-1]}, kept: kept, voters: []uint64{1, 2, 3}, id: 1}
}

func (s snapshot) data() []byte {
	truncated := s.last.index - uint64(len(s.kept))
	state := uvarints([]byte{1}, s.last.index, s.last.term)
	state = binary.BigEndian.AppendUint64(state, 0) // no hash chain is compared here
	state = uvarints(state, truncated, 1)
	state = append(state, 0) // auto_leave
	state = uvarints(uvarints(state, uint64(len(s.voters))), s.voters...)
	state = uvarints(state, 0, 0, 0) // learners, voters_outgoing, learners_next
	state = uvarints(state, uint64(len(s.voters)))
	for _, id := range s.voters {
		state = uvarints(state, id, id) // in the metadata group the replica ids are the node ids
	}
	data := record(nil, "A", state)
	for i, term := range s.kept {
		index := truncated + 1 + uint64(i)
		key := binary.BigEndian.AppendUint64([]byte("L"), index)
		data = record(data, string(key), append(uvarints([]byte{1}, 0, term), content(index, term)...))
	}
	return data
}

func uvarints(to []byte, values ...uint64) []byte {
	for _, v := range values {
		to = binary.AppendUvarint(to, v)
	}
	return to
}

func record(to []byte, key string, value []byte) []byte {
	to = append(uvarints(to, uint64(len(key))), key...)
	return append(uvarints(to, uint64(len(value))), value...)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// chunk is one request of the snapshot.
func (p *fakePeer) chunk(s snapshot, offset, end uint64) *raftv1.InstallSnapshotRequest {
	all := s.data()
	data := all[offset:end]
	return &raftv1.InstallSnapshotRequest{
		Header: p.groupHeader(), Term: s.term, LeaderId: p.id, LastIncludedIndex: s.last.index, LastIncludedTerm: s.last.term,
		ConfState: &raftv1.ConfState{Voters: s.voters}, SnapshotId: s.id,
		Offset: offset, Data: data, Done: end == uint64(len(all)), Checksum: crc32.Checksum(data, castagnoli),
	}
}

// installs calls InstallSnapshot as the leader, from an offset, in chunks of some bytes.
func (p *fakePeer) installs(s snapshot, offset, chunkBytes uint64) (installReply, error) {
	p.t.Helper()
	var all []*raftv1.InstallSnapshotRequest
	for size := uint64(len(s.data())); offset < size; offset += chunkBytes {
		all = append(all, p.chunk(s, offset, min(offset+chunkBytes, size)))
	}
	return p.streams(all...)
}

// streams sends these requests on one stream.
func (p *fakePeer) streams(requests ...*raftv1.InstallSnapshotRequest) (installReply, error) {
	p.t.Helper()
	stream, err := p.node().InstallSnapshot(p.ctx)
	must(p.t, err)
	for _, req := range requests {
		if err := stream.Send(req); err != nil && !errors.Is(err, io.EOF) {
			p.t.Fatal(err)
		}
	}
	r, err := stream.CloseAndRecv()
	return installReply{r.GetTerm(), r.GetSuccess(), r.GetNextOffset()}, err
}

// breaks sends these requests on a stream that ends after them. They are taken one after the other, so that all have
// been when the stream is answered.
func (p *fakePeer) breaks(requests ...*raftv1.InstallSnapshotRequest) {
	p.t.Helper()
	if reply, err := p.streams(requests...); status.Code(err) != codes.InvalidArgument {
		p.t.Fatalf("a stream that ends before its last chunk: %+v, %v", reply, err)
	}
}

func (p *fakePeer) wantInstalled(s snapshot, chunkBytes uint64) {
	p.t.Helper()
	reply, err := p.installs(s, 0, chunkBytes)
	if err != nil || reply != (installReply{term: s.term, success: true}) {
		p.t.Fatalf("node %d sent a snapshot: %+v, %v", p.id, reply, err)
	}
}

// Figure 13, InstallSnapshot 7: "Discard the entire log."
func TestPaperASnapshotReplacesTheEntireLogAndSurvivesKillNine(t *testing.T) {
	n := startReal(t)
	n.given(2, 2, 3)
	s := newSnapshot(6, 20, 5, 5, 5)
	n.two.wantInstalled(s, 25)
	installed := state{role: follower, term: 6, leader: 2, last: 20, commit: 20}
	n.wants(installed)
	n.killsAndRestarts()
	installed.leader = 0
	n.wants(installed)
	n.two.wantAppend(appendEntries{term: 6, prev: at{20, 5}, entries: []uint64{6}, commit: 21}, accepted(6))
	n.wants(state{role: follower, term: 6, leader: 2, last: 21, commit: 21})
	n.two.wantAppend(appendEntries{term: 6, prev: at{25, 6}, commit: 21}, appendReply{term: 6, conflict: at{22, 0}})
}

// Figure 13, InstallSnapshot 1: "Reply immediately if term < currentTerm."
func TestPaperASnapshotOfAStaleTermIsAnsweredAtOnce(t *testing.T) {
	n := startReal(t)
	n.given(2, 2, 7)
	before := n.state()
	s := newSnapshot(6, 20, 5, 5)
	reply, err := n.two.streams(n.two.chunk(s, 0, 10)) // the rest need not come
	if err != nil || reply != (installReply{term: 7}) {
		t.Fatalf("%+v, %v", reply, err)
	}
	n.wants(before)
	n.wantLog(2, 2, 7)
}

// Figure 13, InstallSnapshot 4: "Reply and wait for more data chunks if done is false."
//
// A stream that breaks is not the end: the chunks that have arrived are kept, and the next stream is told where to
// go on. Chunks that do not follow are not taken.
func TestPaperMoreChunksAreAwaitedAlsoWhenTheStreamBreaks(t *testing.T) {
	n := startReal(t)
	n.given(2, 2, 3)
	s := newSnapshot(6, 20, 5, 5, 5)
	n.two.breaks(n.two.chunk(s, 0, 10), n.two.chunk(s, 10, 20), n.two.chunk(s, 20, 30))
	if reply, err := n.two.installs(s, 10, 10); err != nil || reply != (installReply{term: 3, next: 30}) {
		t.Fatalf("a chunk that had come before: %+v, %v", reply, err)
	}
	if reply, err := n.two.installs(s, 40, 10); err != nil || reply != (installReply{term: 3, next: 30}) {
		t.Fatalf("a gap: %+v, %v", reply, err)
	}
	n.wants(state{role: follower, term: 3, last: 4, commit: 1})
	if reply, err := n.two.installs(s, 30, 10); err != nil || reply != (installReply{term: 6, success: true}) {
		t.Fatalf("the rest: %+v, %v", reply, err)
	}
	n.wants(state{role: follower, term: 6, leader: 2, last: 20, commit: 20})
	if reply, err := n.two.installs(s, 0, 1000); err != nil || reply != (installReply{term: 6, success: true}) {
		t.Fatalf("all of it again: %+v, %v", reply, err)
	}
}

// Figure 13, InstallSnapshot 5: "discard any existing or partial snapshot with a smaller index."
func TestPaperAPartialSnapshotWithASmallerIndexIsDiscarded(t *testing.T) {
	n := startReal(t)
	n.given(2, 2, 3)
	smaller, larger := newSnapshot(6, 20, 5, 5, 5), newSnapshot(6, 30, 5, 5)
	larger.id = 2
	n.two.breaks(n.two.chunk(smaller, 0, 30))
	n.two.breaks(n.two.chunk(larger, 0, 20))
	if reply, err := n.two.installs(smaller, 30, 1000); err != nil || reply != (installReply{term: 3}) {
		t.Fatalf("the rest of the smaller one: %+v, %v", reply, err)
	}
	if reply, err := n.two.installs(larger, 20, 1000); err != nil || reply != (installReply{term: 6, success: true}) {
		t.Fatalf("the rest of the larger one: %+v, %v", reply, err)
	}
	n.wants(state{role: follower, term: 6, leader: 2, last: 30, commit: 30})
	if reply, err := n.two.installs(smaller, 0, 1000); err != nil || reply != (installReply{term: 6, success: true}) {
		t.Fatalf("the smaller one again: %+v, %v", reply, err)
	}
	n.wants(state{role: follower, term: 6, leader: 2, last: 30, commit: 30})
}

// Figure 13, InstallSnapshot 6: "If existing log entry has same index and term as snapshot's last included entry,
// retain log entries following it and reply."
func TestPaperEntriesThatFollowTheSnapshotsLastAreRetained(t *testing.T) {
	n := startReal(t)
	n.given(2, 2, 3, 3)
	s := newSnapshot(4, 3, 2, 2)
	n.two.wantInstalled(s, 10)
	n.wants(state{role: follower, term: 4, leader: 2, last: 5, commit: 3})
	n.wantLog(2, 2, 3, 3)
}

// Figure 13, InstallSnapshot 8: "Reset state machine using snapshot contents (and load snapshot's cluster
// configuration)."
func TestPaperTheConfigurationIsTheSnapshots(t *testing.T) {
	n := startReal(t)
	s := newSnapshot(6, 20, 5, 5, 5)
	s.voters = []uint64{1, 2}
	n.two.wantInstalled(s, 1000)
	term := n.campaigns()
	n.two.grants(n.two.awaitsVote(term))
	n.until("the real node leads by one other's vote", func() bool { return n.status().GetRole() == leader })
	n.two.awaitsAppend(term, 20)
	for _, e := range n.three.all() {
		if e.GetTerm() >= 6 {
			t.Fatalf("node 3, which is no member any more, was sent %v", e)
		}
	}
}

// Section 7: "the leader must occasionally send snapshots to followers that lag behind."
//
// The log of the metadata group keeps 4096 entries.
func TestPaperALeaderSendsASnapshotWhenTheNextEntryIsDiscarded(t *testing.T) {
	n := startReal(t)
	const last = 6001
	received := n.three.receives()
	terms := slices.Repeat([]uint64{2}, 1000)
	for prev := born; prev.index < last; prev = (at{prev.index + 1000, 2}) {
		n.two.wantAppend(appendEntries{term: 2, prev: prev, entries: terms, commit: prev.index + 1000}, accepted(2))
	}
	n.until("it has applied all", func() bool { return n.status().GetApplied() == last })
	term := n.leads()
	n.three.lacks(n.three.awaitsAppend(term, last), born.index)
	got := <-received
	first := got[0]
	if first.GetTerm() != term || first.GetLeaderId() != 1 || first.GetLastIncludedIndex() < last || first.GetConfState() == nil {
		t.Fatalf("%v", first)
	}
	var data []byte
	for i, req := range got {
		if req.GetOffset() != uint64(len(data)) || req.GetChecksum() != crc32.Checksum(req.GetData(), castagnoli) || req.GetDone() != (i == len(got)-1) {
			t.Fatalf("chunk %d: offset %d, done %v, checksum %x", i, req.GetOffset(), req.GetDone(), req.GetChecksum())
		}
		data = append(data, req.GetData()...)
	}
	entries := uint64(0)
	for len(data) > 0 {
		var key, value []byte
		key, value, data = split(t, data)
		switch key[0] {
		case 'L':
			entries++
			i := binary.BigEndian.Uint64(key[1:])
			if want := first.GetLastIncludedIndex(); i > want || i <= want-4096*5/4-1 {
				t.Fatalf("entry %d in a snapshot at %d", i, want)
			}
			if i <= last && string(value[3:]) != string(content(i, 2)) {
				t.Fatalf("entry %d is %q", i, value)
			}
		case 'A', 'M':
		default:
			t.Fatalf("key %x", key)
		}
	}
	if entries < 4096 {
		t.Fatalf("%d entries", entries)
	}
	// The answer counts as an acknowledgement: what follows comes from there on.
	n.three.awaitsAppendAfter(term, first.GetLastIncludedIndex())
}

// split takes one record off.
func split(t *testing.T, data []byte) (key, value, rest []byte) {
	t.Helper()
	for _, field := range []*[]byte{&key, &value} {
		size, n := binary.Uvarint(data)
		if n <= 0 || uint64(len(data)-n) < size {
			t.Fatal("a record that is cut off")
		}
		*field, data = data[n:n+int(size)], data[n+int(size):]
	}
	return key, value, data
}

// receives makes the peer take the next snapshot that is sent to it.
func (p *fakePeer) receives() <-chan []*raftv1.InstallSnapshotRequest {
	to := make(chan []*raftv1.InstallSnapshotRequest, 1)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.snapshots = to
	return to
}

// InstallSnapshot keeps what the real node sends.
func (p *fakePeer) InstallSnapshot(stream grpc.ClientStreamingServer[raftv1.InstallSnapshotRequest, raftv1.InstallSnapshotResponse]) error {
	p.mu.Lock()
	to := p.snapshots
	p.snapshots = nil
	p.mu.Unlock()
	if to == nil {
		return status.Error(codes.ResourceExhausted, "no snapshot is expected")
	}
	var all []*raftv1.InstallSnapshotRequest
	for {
		req, err := stream.Recv()
		if err != nil {
			return err
		}
		if all = append(all, req); req.GetDone() {
			to <- all
			return stream.SendAndClose(&raftv1.InstallSnapshotResponse{Term: req.GetTerm(), Success: true, MatchIndex: req.GetLastIncludedIndex()})
		}
	}
}

// awaitsAppendAfter waits for AppendEntries of a term that follow index prev or a later one.
func (p *fakePeer) awaitsAppendAfter(term, prev uint64) *raftv1.Envelope {
	p.t.Helper()
	return p.awaits("AppendEntries after the snapshot", func(e *raftv1.Envelope) bool {
		return e.GetType() == raftv1.MessageType_MESSAGE_TYPE_APPEND && e.GetTerm() == term && e.GetIndex() >= prev
	})
}

func TestAChunkWithAWrongChecksumIsRefusedAndCanBeSentAgain(t *testing.T) {
	n := startReal(t)
	n.given(2, 2, 3)
	s := newSnapshot(6, 20, 5, 5, 5)
	n.two.breaks(n.two.chunk(s, 0, 20))
	spoilt := n.two.chunk(s, 20, 60)
	spoilt.Data = slices.Clone(spoilt.GetData())
	spoilt.Data[7] ^= 1
	if _, err := n.two.streams(spoilt); status.Code(err) != codes.DataLoss {
		t.Fatalf("%v, want DataLoss", err)
	}
	n.wants(state{role: follower, term: 3, last: 4, commit: 1})
	if reply, err := n.two.installs(s, 20, 40); err != nil || reply != (installReply{term: 6, success: true}) {
		t.Fatalf("%+v, %v", reply, err)
	}
}

func TestDataThatAreNoSnapshotAreRefusedAndChangeNothing(t *testing.T) {
	n := startReal(t)
	n.given(2, 2, 3)
	before := n.state()
	whole := newSnapshot(6, 20, 5, 5, 5)
	size := uint64(len(whole.data()))
	for name, spoil := range map[string]func(*raftv1.InstallSnapshotRequest){
		"cut off":              func(r *raftv1.InstallSnapshotRequest) { r.Data = r.Data[:size-1] },
		"another index":        func(r *raftv1.InstallSnapshotRequest) { r.LastIncludedIndex = 21 },
		"another membership":   func(r *raftv1.InstallSnapshotRequest) { r.ConfState = &raftv1.ConfState{Voters: []uint64{1, 2}} },
		"no membership":        func(r *raftv1.InstallSnapshotRequest) { r.ConfState = nil },
		"a hard state":         func(r *raftv1.InstallSnapshotRequest) { r.Data = record(slices.Clone(r.Data), "N", []byte{1}) },
		"too large":            func(r *raftv1.InstallSnapshotRequest) { r.Data = make([]byte, 1<<20+1) },
		"another leader's":     func(r *raftv1.InstallSnapshotRequest) { r.LeaderId = 3 },
		"another node's":       func(r *raftv1.InstallSnapshotRequest) { r.Header.FromReplica, r.LeaderId = 3, 3 },
		"a term out of reach":  func(r *raftv1.InstallSnapshotRequest) { r.Term = 1 << 50 },
		"an entry of no term":  func(r *raftv1.InstallSnapshotRequest) { r.LastIncludedTerm = 0 },
		"an entry of the next": func(r *raftv1.InstallSnapshotRequest) { r.LastIncludedTerm = 7 },
	} {
		req := n.two.chunk(whole, 0, size)
		spoil(req)
		req.Checksum = crc32.Checksum(req.GetData(), castagnoli)
		if _, err := n.two.streams(req); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v, want InvalidArgument", name, err)
		}
	}
	stranger := n.two.chunk(whole, 0, size)
	stranger.Header.GroupId = 99
	if _, err := n.two.streams(stranger); status.Code(err) != codes.NotFound {
		t.Errorf("of an unknown group: %v, want NotFound", err)
	}
	n.wants(before)
	n.wantLog(2, 2, 3)
}
