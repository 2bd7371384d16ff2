package raftcore

import (
	"errors"
	"math/rand/v2"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
)

// follower is replica 1 of three, alone, with a log made of terms from index 2.
func follower(t testing.TB, term, commit uint64, terms ...uint64) *testNetwork {
	n := newTestNetwork(t, 3)
	disk := n.nodes[1].disk
	disk.hard = &raftpb.HardState{Term: new(term), Vote: new(uint64(0)), Commit: new(commit)}
	for i, et := range terms {
		disk.entries = append(disk.entries, entryAt(uint64(i)+2, et))
	}
	n.start(1)
	n.take(1)
	n.sync(1)
	return n
}

func header(from uint64) *raftv1.Header {
	return &raftv1.Header{GroupId: uint64(testGroup), FromReplica: from, ToReplica: 1, FromNode: from}
}

// answerOf steps m and returns what etcd/raft answers to it; nil for silence.
func answerOf(n *testNetwork, m *raftpb.Message) *raftpb.Message {
	if err := n.core(1).Step(NodeID(m.GetFrom()), m); err != nil {
		n.t.Fatal(err)
	}
	n.queue = nil
	for n.take(1) || n.sync(1) {
	}
	var answer *raftpb.Message
	for _, resp := range n.queue {
		if IsAnswer(m, resp) {
			if answer != nil {
				n.t.Fatal("two answers")
			}
			answer = resp
		}
	}
	return answer
}

func appendEntries(n *testNetwork, req *raftv1.AppendEntriesRequest) (*raftv1.AppendEntriesResponse, error) {
	m, err := n.core(1).FromAppendEntries(req)
	if err != nil {
		return nil, err
	}
	resp := answerOf(n, m)
	return n.core(1).AppendEntriesAnswer(req, m, resp), nil
}

func TestAppendEntriesAnswersAsFigureTwoOfThePaper(t *testing.T) {
	// Terms of the follower's log: 1/1 2/2 3/2 4/3; committed up to 3, in term 4.
	for _, row := range []struct {
		name           string
		term           uint64
		prev, prevTerm uint64
		entries        []uint64
		want           *raftv1.AppendEntriesResponse
		last           Index
	}{
		{"a heartbeat", 4, 4, 3, nil, &raftv1.AppendEntriesResponse{Term: 4, Success: true}, 4},
		{"new entries", 5, 4, 3, []uint64{5, 5}, &raftv1.AppendEntriesResponse{Term: 5, Success: true}, 6},
		{"entries that are there", 5, 3, 2, []uint64{3}, &raftv1.AppendEntriesResponse{Term: 5, Success: true}, 4},
		{"a tail that loses", 5, 3, 2, []uint64{5}, &raftv1.AppendEntriesResponse{Term: 5, Success: true}, 4},
		{"an earlier term", 3, 4, 3, []uint64{3}, &raftv1.AppendEntriesResponse{Term: 4}, 4},
		{"a gap", 5, 9, 5, nil, &raftv1.AppendEntriesResponse{Term: 5, ConflictIndex: 5}, 4},
		{"another entry before", 6, 4, 5, nil, &raftv1.AppendEntriesResponse{Term: 6, ConflictIndex: 4, ConflictTerm: 3}, 4},
		{"the committed and more", 5, 1, 1, []uint64{2, 2, 5}, &raftv1.AppendEntriesResponse{Term: 5, Success: true}, 4},
		{"only what is committed", 5, 1, 1, []uint64{2}, &raftv1.AppendEntriesResponse{Term: 5, Success: true}, 4},
		{"a heartbeat before the commit", 5, 2, 2, nil, &raftv1.AppendEntriesResponse{Term: 5, Success: true}, 4},
		{"another entry than the committed before", 5, 2, 1, nil, &raftv1.AppendEntriesResponse{Term: 5, ConflictIndex: 2, ConflictTerm: 2}, 4},
		{"another entry than the committed", 5, 1, 1, []uint64{2, 4, 5}, &raftv1.AppendEntriesResponse{Term: 5, ConflictIndex: 1}, 4},
		{"an older log than the committed", 5, 3, 1, nil, &raftv1.AppendEntriesResponse{Term: 5, ConflictIndex: 2, ConflictTerm: 2}, 4},
	} {
		t.Run(row.name, func(t *testing.T) {
			n := follower(t, 4, 3, 2, 2, 3)
			req := &raftv1.AppendEntriesRequest{Header: header(2), Term: row.term, LeaderId: 2, PrevLogIndex: row.prev, PrevLogTerm: row.prevTerm, LeaderCommit: 3}
			for _, et := range row.entries {
				req.Entries = append(req.Entries, &raftv1.LogEntry{Term: et, Data: []byte("x")})
			}
			got, err := appendEntries(n, req)
			if err != nil || got.String() != row.want.String() {
				t.Errorf("got %v, %v, want %v", got, err, row.want)
			}
			if st := n.core(1).Status(); st.Last != row.last || st.Term != max(4, row.term) {
				t.Errorf("status %+v", st)
			}
		})
	}
}

// The follower (f) of the paper's figure 7, whose leader has 1 1 1 4 4 5 5 6 6 6.
func TestARejectionNamesTheConflictingTermAndItsFirstIndex(t *testing.T) {
	for _, row := range []struct{ prev, prevTerm, index, term uint64 }{
		{12, 8, 12, 0}, {11, 6, 7, 3}, {10, 6, 7, 3}, {7, 5, 7, 3}, {6, 5, 4, 2}, {4, 4, 4, 2}, {3, 2, 1, 1}, {2, 2, 1, 1},
	} {
		n := follower(t, 7, 1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3)
		got, err := appendEntries(n, &raftv1.AppendEntriesRequest{Header: header(2), Term: 8, LeaderId: 2, PrevLogIndex: row.prev, PrevLogTerm: row.prevTerm})
		want := &raftv1.AppendEntriesResponse{Term: 8, ConflictIndex: row.index, ConflictTerm: row.term}
		if err != nil || got.String() != want.String() {
			t.Errorf("before %d of term %d: got %v, %v, want %v", row.prev, row.prevTerm, got, err, want)
		}
	}
}

func TestAppendEntriesThatNoLeaderSendsIsRefused(t *testing.T) {
	for name, row := range map[string]struct {
		change func(*raftv1.AppendEntriesRequest)
		want   Reason
	}{
		"a leader that is not the sender": {func(r *raftv1.AppendEntriesRequest) { r.LeaderId = 3 }, ReasonLeaderID},
		"no header":                       {func(r *raftv1.AppendEntriesRequest) { r.Header = nil }, ReasonLeaderID},
		"term 0":                          {func(r *raftv1.AppendEntriesRequest) { r.Term = 0 }, ReasonTerm},
		"a nil entry":                     {func(r *raftv1.AppendEntriesRequest) { r.Entries = []*raftv1.LogEntry{nil} }, ReasonNil},
		"an entry elsewhere":              {func(r *raftv1.AppendEntriesRequest) { r.Entries = []*raftv1.LogEntry{{Term: 5, Index: 9}} }, ReasonEntryIndex},
		"a bad entry below the commit": {func(r *raftv1.AppendEntriesRequest) {
			r.PrevLogIndex, r.PrevLogTerm, r.Entries = 1, 1, []*raftv1.LogEntry{{}}
		}, ReasonEntryTerm},
		"a term that has another leader's entry": {func(r *raftv1.AppendEntriesRequest) {
			r.Term, r.PrevLogIndex, r.PrevLogTerm = 4, 3, 1
		}, ReasonCommitted},
	} {
		n := follower(t, 4, 3, 2, 4, 4)
		req := &raftv1.AppendEntriesRequest{Header: header(2), Term: 5, LeaderId: 2, PrevLogIndex: 4, PrevLogTerm: 4}
		row.change(req)
		before := n.core(1).Status()
		if _, err := n.core(1).FromAppendEntries(req); !errors.Is(err, refuse(row.want)) {
			t.Errorf("%s: got %v", name, err)
		}
		if n.core(1).Status() != before {
			t.Errorf("%s changed something", name)
		}
	}
}

// Committed in this very turn, by an append that is not handed out: whether the two agree cannot be told yet.
func TestAppendEntriesBehindAnUnsettledCommitIsNotAcknowledged(t *testing.T) {
	n := follower(t, 4, 3, 2, 2, 3)
	app := msg(raftpb.MsgApp, func(m *raftpb.Message) {
		at(4, 3)(m)
		m.Term, m.Commit, m.Entries = new(uint64(5)), new(uint64(5)), []*raftpb.Entry{entryAt(5, 5)}
	})
	if err := n.core(1).Step(2, app); err != nil {
		t.Fatal(err)
	}
	req := &raftv1.AppendEntriesRequest{Header: header(2), Term: 5, LeaderId: 2, PrevLogIndex: 4, PrevLogTerm: 3, Entries: []*raftv1.LogEntry{{Term: 4}}}
	if _, err := n.core(1).FromAppendEntries(req); !errors.Is(err, refuse(ReasonUnsettled)) {
		t.Errorf("got %v", err)
	}
}

func TestRequestVoteAnswersAsFigureTwoOfThePaper(t *testing.T) {
	for _, row := range []struct {
		name     string
		req      *raftv1.RequestVoteRequest
		want     *raftv1.RequestVoteResponse
		term     uint64
		votedFor uint64
	}{
		{"a candidate that is up to date", &raftv1.RequestVoteRequest{Term: 5, LastLogIndex: 4, LastLogTerm: 3}, &raftv1.RequestVoteResponse{Term: 5, VoteGranted: true}, 5, 2},
		{"a longer log", &raftv1.RequestVoteRequest{Term: 5, LastLogIndex: 3, LastLogTerm: 3}, &raftv1.RequestVoteResponse{Term: 5, CommitIndex: 3, CommitTerm: 2}, 5, 0},
		{"a later log", &raftv1.RequestVoteRequest{Term: 5, LastLogIndex: 9, LastLogTerm: 2}, &raftv1.RequestVoteResponse{Term: 5, CommitIndex: 3, CommitTerm: 2}, 5, 0},
		{"an earlier term", &raftv1.RequestVoteRequest{Term: 3, LastLogIndex: 9, LastLogTerm: 3}, &raftv1.RequestVoteResponse{Term: 4}, 4, 0},
		{"a pre-vote changes nothing", &raftv1.RequestVoteRequest{Term: 5, LastLogIndex: 4, LastLogTerm: 3, PreVote: true}, &raftv1.RequestVoteResponse{Term: 4, VoteGranted: true}, 4, 0},
		{"a pre-vote that fails", &raftv1.RequestVoteRequest{Term: 5, LastLogIndex: 3, LastLogTerm: 3, PreVote: true}, &raftv1.RequestVoteResponse{Term: 4, CommitIndex: 3, CommitTerm: 2}, 4, 0},
		{"by transfer", &raftv1.RequestVoteRequest{Term: 5, LastLogIndex: 4, LastLogTerm: 3, LeadershipTransfer: true}, &raftv1.RequestVoteResponse{Term: 5, VoteGranted: true}, 5, 2},
	} {
		t.Run(row.name, func(t *testing.T) {
			n := follower(t, 4, 3, 2, 2, 3)
			row.req.Header, row.req.CandidateId = header(2), 2
			m, err := n.core(1).FromRequestVote(row.req)
			if err != nil {
				t.Fatal(err)
			}
			resp := answerOf(n, m)
			if got := RequestVoteAnswer(m, resp, n.core(1).Status().Term); got.String() != row.want.String() {
				t.Errorf("got %v, want %v", got, row.want)
			}
			if st := n.core(1).Status(); st.Term != row.term || st.Vote != row.votedFor {
				t.Errorf("status %+v", st)
			}
		})
	}
}

func TestAVoteDuringALeadersLeaseIsAnsweredWithNo(t *testing.T) {
	n := follower(t, 4, 3, 2, 2, 3)
	if _, err := appendEntries(n, &raftv1.AppendEntriesRequest{Header: header(2), Term: 5, LeaderId: 2, PrevLogIndex: 4, PrevLogTerm: 3}); err != nil {
		t.Fatal(err)
	}
	m, err := n.core(1).FromRequestVote(&raftv1.RequestVoteRequest{Header: header(3), CandidateId: 3, Term: 6, LastLogIndex: 9, LastLogTerm: 5})
	if err != nil {
		t.Fatal(err)
	}
	resp := answerOf(n, m)
	if got := RequestVoteAnswer(m, resp, n.core(1).Status().Term); resp != nil || got.GetVoteGranted() || got.GetTerm() != 5 {
		t.Errorf("got %v from %v", got, resp)
	}
}

func TestRequestVoteThatNoCandidateSendsIsRefused(t *testing.T) {
	c := follower(t, 4, 3, 2, 2, 3).core(1)
	for want, req := range map[Reason]*raftv1.RequestVoteRequest{
		ReasonLeaderID: {Header: header(3), CandidateId: 2, Term: 5},
		ReasonTerm:     {Header: header(2), CandidateId: 2},
		ReasonLogTerm:  {Header: header(2), CandidateId: 2, Term: 5, LastLogIndex: 9, LastLogTerm: 6},
		ReasonContext:  {Header: header(2), CandidateId: 2, Term: 5, PreVote: true, LeadershipTransfer: true},
	} {
		if _, err := c.FromRequestVote(req); !errors.Is(err, refuse(want)) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// A textbook leader repairs a follower's log through the RPCs, whatever the two logs are, and never takes for
// acknowledged what the follower does not have.
func TestATextbookLeaderRepairsAnyFollower(t *testing.T) {
	const pairs = 3000
	random := rand.New(rand.NewPCG(1, 2))
	rounds := 0
	for range pairs {
		leader, log, commit, term := logPair(random)
		n := follower(t, term-1, commit, log...)
		rounds += repair(t, random, n, leader, term, commit)
	}
	t.Logf("%d pairs, %.1f RPCs each", pairs, float64(rounds)/pairs)
}

// logPair draws a leader's and a follower's log, from index 2, that agree up to commit and perhaps beyond.
func logPair(random *rand.Rand) (leader, log []uint64, commit, term uint64) {
	grow := func(log []uint64, t uint64, n int, jump uint64) ([]uint64, uint64) {
		for range n {
			if random.IntN(3) == 0 {
				t += jump
			}
			log = append(log, t)
		}
		return log, t
	}
	// A term has one leader: after the fork the leader's terms are even, the follower's odd.
	shared, t := grow(nil, 1, random.IntN(10), 1)
	even, odd := t+2-t%2, t+1+t%2
	commit = 1 + uint64(random.IntN(len(shared)+1))
	leader, last := grow(append([]uint64{}, shared...), even, random.IntN(10), 2)
	log, other := grow(append([]uint64{}, shared...), odd, random.IntN(10), 2)
	return leader, log, commit, max(last, other) + 2 - max(last, other)%2
}

func repair(t *testing.T, random *rand.Rand, n *testNetwork, leader []uint64, term, commit uint64) (rounds int) {
	leader = append(append([]uint64{1}, leader...), term) // from index 1
	termAt := func(i uint64) uint64 { return leader[i-1] }
	last := uint64(len(leader))
	for next := uint64(2 + random.IntN(len(leader)-1)); ; rounds++ {
		if rounds > 100 {
			t.Fatalf("no end: leader %v, follower %s", leader, describeEntries(n.nodes[1].log.entries))
		}
		req := &raftv1.AppendEntriesRequest{Header: header(2), Term: term, LeaderId: 2, PrevLogIndex: next - 1, PrevLogTerm: termAt(next - 1), LeaderCommit: commit}
		for i := next; i <= min(last, next+uint64(random.IntN(6))); i++ {
			req.Entries = append(req.Entries, &raftv1.LogEntry{Term: termAt(i), Data: []byte("x")})
		}
		got, err := appendEntries(n, req)
		if err != nil {
			t.Fatal(err)
		}
		if !got.GetSuccess() {
			next = backUp(t, leader, next, got)
			continue
		}
		match := req.PrevLogIndex + uint64(len(req.Entries))
		for i := uint64(1); i <= match; i++ {
			if own, err := n.nodes[1].disk.Term(i); err != nil || own != termAt(i) {
				t.Fatalf("false acknowledgement of %d: has term %d, %v", i, own, err)
			}
		}
		if next = match + 1; match == last {
			return rounds + 1
		}
	}
}

// backUp is the fast back-up of section 5.3 of the paper.
func backUp(t *testing.T, leader []uint64, next uint64, got *raftv1.AppendEntriesResponse) uint64 {
	to := got.GetConflictIndex()
	for i := uint64(len(leader)); i > 0 && got.GetConflictTerm() != 0; i-- {
		if leader[i-1] == got.GetConflictTerm() {
			to = i + 1
			break
		}
	}
	if to >= next || to == 0 {
		t.Fatalf("no progress from %d to %d: %v", next, to, got)
	}
	return max(2, to)
}
