package main

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
)

// Figure 2, Followers: "If election timeout elapses without receiving AppendEntries RPC from current leader or
// granting vote to candidate: convert to candidate."
//
// Section 9.6 of the dissertation puts the pre-vote before it: nothing changes until a majority is willing.
func TestPaperAFollowerThatHearsOfNoLeaderConvertsToCandidate(t *testing.T) {
	n := startReal(t)
	n.given(2, 3)
	n.setElectionTimeout(eager)
	n.killsAndRestarts()
	last := at{3, 3}
	preVote := func(e *raftv1.Envelope) bool { return e.GetType() == raftv1.MessageType_MESSAGE_TYPE_PRE_VOTE }
	var asked *raftv1.Envelope
	for _, p := range []*fakePeer{n.three, n.two} {
		for range 2 { // for as long as nobody answers
			asked = p.awaits("a pre-vote", preVote)
			if got := (at{asked.GetIndex(), asked.GetLogTerm()}); asked.GetTerm() != 4 || got != last {
				t.Fatalf("asked for a pre-vote with %v", asked)
			}
		}
	}
	if s := n.state(); s.term != 3 || s.leader != 0 {
		t.Fatalf("nobody has answered, but it is %+v", s)
	}
	n.two.grants(asked)
	for _, p := range []*fakePeer{n.two, n.three} {
		v := p.awaitsVote(4)
		if got := (at{v.GetIndex(), v.GetLogTerm()}); got != last {
			t.Fatalf("asked for a vote with %v, its log ends at %+v", v, last)
		}
	}
	// It has voted for itself.
	n.three.wantVote(requestVote{term: 4, last: at{9, 3}}, voteReply{term: 4})
}

// Section 5.2: "A candidate wins an election if it receives votes from a majority of the servers in the full
// cluster for the same term."
func TestPaperACandidateWithTheVotesOfAMajorityWins(t *testing.T) {
	n := startReal(t)
	n.given(2, 2)
	term := n.campaigns()
	two, three := n.two.awaitsVote(term), n.three.awaitsVote(term)
	for _, v := range []*raftv1.Envelope{two, three} {
		if got := (at{v.GetIndex(), v.GetLogTerm()}); got != (at{3, 2}) {
			t.Fatalf("asked for a vote with %v", v)
		}
	}
	campaigning := state{role: candidate, term: term, last: 3, commit: 1}
	n.wants(campaigning)
	n.two.says(&raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_VOTE_RESPONSE, Term: term - 1}) // of another term
	n.wants(campaigning)
	n.three.refuses(three)
	n.wants(campaigning)
	n.two.grants(two)
	if s := n.state(); s.role != leader || s.term != term || s.commit != 1 {
		t.Fatalf("with two votes of three it is %+v", s)
	}
}

// Figure 2, Leaders: "Upon election: send initial empty AppendEntries RPCs (heartbeat) to each server."
//
// Its first AppendEntries holds the empty entry with which it opens its term (section 8).
func TestPaperANewLeaderSendsAppendEntriesToEachServer(t *testing.T) {
	n := startReal(t)
	n.given(2, 2)
	term := n.leads()
	for _, p := range []*fakePeer{n.two, n.three} {
		a := p.awaitsAppend(term, 3)
		e := a.GetEntries()[0]
		if a.GetLogTerm() != 2 || a.GetCommit() != 1 || e.GetIndex() != 4 || e.GetTerm() != term || len(e.GetData()) != 0 {
			t.Fatalf("node %d was sent %v", p.id, a)
		}
	}
}

// Section 5.2: "If the leader's term (included in its RPC) is at least as large as the candidate's current term,
// then the candidate recognizes the leader as legitimate and returns to follower state. If the term in the RPC is
// smaller than the candidate's current term, then the candidate rejects the RPC and continues in candidate state."
func TestPaperACandidateRecognizesALegitimateLeaderOnly(t *testing.T) {
	n := startReal(t)
	term := n.campaigns()
	n.three.awaitsVote(term)
	campaigning := state{role: candidate, term: term, last: 1, commit: 1}
	n.wants(campaigning)
	n.three.wantAppend(appendEntries{term: term - 1, prev: born, entries: []uint64{term - 1}, commit: 1}, appendReply{term: term})
	n.wants(campaigning)
	n.three.wantAppend(appendEntries{term: term, prev: born, entries: []uint64{term}, commit: 1}, accepted(term))
	n.wants(state{role: follower, term: term, leader: 3, last: 2, commit: 1})
}

// Section 5.1: "If a candidate or leader discovers that its term is out of date, it immediately reverts to follower
// state."
func TestPaperACandidateOrLeaderWithAnOldTermRevertsToFollower(t *testing.T) {
	n := startReal(t)
	n.given(2)
	term := n.campaigns()
	n.three.awaitsVote(term)
	n.three.says(&raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_VOTE_RESPONSE, Term: term + 3, Reject: true})
	n.wants(state{role: follower, term: term + 3, last: 2, commit: 1})

	term = n.leads()
	a := n.three.awaitsAppend(term, 2)
	n.three.says(&raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_APPEND_RESPONSE, Term: term + 5, Index: a.GetIndex(), Reject: true})
	if s := n.state(); s.role != follower || s.term != term+5 || s.leader != 0 || s.commit != 1 {
		t.Fatalf("after an answer of term %d it is %+v", term+5, s)
	}

	term = n.leads()
	n.three.wantAppend(appendEntries{term: term + 1, prev: at{2, 2}, entries: []uint64{term + 1}, commit: 1}, accepted(term+1))
	n.wants(state{role: follower, term: term + 1, leader: 3, last: 3, commit: 1})
}

// Figure 3, Leader Append-Only: "a leader never overwrites or deletes entries in its log; it only appends new
// entries."
//
// Nobody else may lead in its term: who claims to breaks the protocol, and is told so.
func TestPaperALeaderNeverOverwritesItsLog(t *testing.T) {
	n := startReal(t)
	n.given(2, 2)
	term := n.leads()
	_, err := n.three.appends(appendEntries{term: term, prev: at{2, 2}, entries: []uint64{term, term}, commit: 4})
	if status.Code(err) != codes.InvalidArgument {
		t.Fatalf("a second leader of term %d was answered %v", term, err)
	}
	if s := n.state(); s.role != leader || s.term != term || s.commit != 1 {
		t.Fatalf("now it is %+v", s)
	}
	n.wantLog(2, 2)
}

// Section 5.3: "When the entry has been safely replicated (as described below), the leader applies the entry to its
// state machine and returns the result of that execution to the client."
//
// Safely replicated is what a majority has answered for: one of the two peers, and not before.
func TestPaperAClientIsAnsweredWhenAMajorityHasItsEntry(t *testing.T) {
	n := startReal(t)
	term, before := n.leadsInPeace()
	answer := n.commands()
	for _, p := range []*fakePeer{n.two, n.three} {
		if a := p.awaitsAppend(term, before.last); len(a.GetEntries()) != 1 || a.GetCommit() != before.commit {
			t.Fatalf("node %d was sent %v", p.id, a)
		}
	}
	after := before
	after.last++
	n.wants(after)
	select {
	case err := <-answer:
		t.Fatalf("answered with %v when the leader alone had the entry", err)
	default:
	}
	n.three.acknowledges(term, after.last)
	must(t, <-answer)
	after.commit++
	n.wants(after)
}

// leadsInPeace makes the real node the leader, and has both peers follow until it wants nothing of them: all that
// it does by itself, such as to register, is committed.
func (n *realNode) leadsInPeace() (term uint64, s state) {
	n.t.Helper()
	term = n.leads()
	n.until("the leader is registered, and everything committed and acknowledged", func() bool {
		two, three := n.two.keepsUp(), n.three.keepsUp()
		st, err := n.client.admin.ClusterStatus(n.ctx, &multiraftv1.ClusterStatusRequest{})
		must(n.t, err)
		s = n.state()
		return len(st.GetNodes()) == 1 && s.commit == s.last && two == s.last && three == s.last
	})
	return term, s
}

// commands makes a client ask for something that takes an entry of the metadata group.
func (n *realNode) commands() (answer chan error) {
	answer = make(chan error, 1)
	go func() {
		_, err := n.client.log.InitProducer(n.ctx, &multiraftv1.InitProducerRequest{})
		answer <- err
	}()
	return answer
}

// Section 5.3: "The leader keeps track of the highest index it knows to be committed, and it includes that index in
// future AppendEntries RPCs (including heartbeats) so that the other servers eventually find out."
//
// Who has not answered yet is told as well as who has.
func TestPaperALeaderIncludesItsCommitIndexInFutureAppendEntries(t *testing.T) {
	n := startReal(t)
	term, s := n.leadsInPeace()
	answer := n.commands()
	for _, p := range []*fakePeer{n.two, n.three} {
		if a := p.awaitsAppend(term, s.last); a.GetCommit() != s.commit {
			t.Fatalf("commit index %d with an entry that nobody has acknowledged, want %d", a.GetCommit(), s.commit)
		}
	}
	n.three.acknowledges(term, s.last+1)
	n.two.awaitsCommit(term, s.last+1)
	n.three.awaitsCommit(term, s.last+1)
	must(t, <-answer)
}

// Section 5.3: "After a rejection, the leader decrements nextIndex and retries the AppendEntries RPC. Eventually
// nextIndex will reach a point where the leader and follower logs match."
func TestPaperALeaderDecrementsNextIndexUntilTheLogsMatch(t *testing.T) {
	n := startReal(t)
	n.given(2, 2, 3, 3)
	term := n.leads()
	terms := []uint64{0, 1, 2, 2, 3, 3, term}
	// Node 3 has the first two entries, and says no more than that this one does not match.
	const match = 2
	for prev := uint64(5); prev > match; prev-- {
		a := n.three.awaitsAppend(term, prev)
		if a.GetLogTerm() != terms[prev] {
			t.Fatalf("the entry before is said to be %d of term %d", prev, a.GetLogTerm())
		}
		n.three.lacks(a, prev-1)
	}
	a := n.three.awaitsAppend(term, match)
	for i, e := range a.GetEntries()[:4] {
		index := match + 1 + uint64(i)
		if e.GetIndex() != index || e.GetTerm() != terms[index] || index <= 5 && string(e.GetData()) != string(content(index, terms[index])) {
			t.Fatalf("node 3 was sent %v at index %d", e, index)
		}
	}
	n.three.acknowledges(term, 6)
	n.three.awaitsCommit(term, 6)
}

// Section 5.4.2: "Only log entries from the leader's current term are committed by counting replicas; once an entry
// from the current term has been committed in this way, then all prior entries are committed indirectly because of
// the Log Matching Property."
func TestPaperOnlyEntriesOfTheCurrentTermAreCommittedByCounting(t *testing.T) {
	n := startReal(t)
	n.given(2, 2)
	term := n.leads()
	n.three.awaitsAppend(term, 3)
	for _, index := range []uint64{2, 3} { // of term 2, and now on a majority
		n.three.acknowledges(term, index)
		if s := n.state(); s.role != leader || s.commit != 1 {
			t.Fatalf("with entry %d of term 2 on a majority it is %+v", index, s)
		}
	}
	n.three.acknowledges(term, 4) // its own first entry
	if s := n.state(); s.role != leader || s.commit != 4 {
		t.Fatalf("with an entry of its own term on a majority it is %+v", s)
	}
}
