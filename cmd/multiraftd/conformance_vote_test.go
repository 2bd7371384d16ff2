package main

import "testing"

// Section 5.2: "Each server will vote for at most one candidate in a given term, on a first-come-first-served
// basis."
func TestPaperAServerVotesForAtMostOneCandidateInATerm(t *testing.T) {
	n := startReal(t)
	ask := requestVote{term: 2, last: born}
	n.two.wantVote(ask, voteReply{2, true})
	n.three.wantVote(ask, voteReply{term: 2})
	n.two.wantVote(ask, voteReply{2, true})
	n.three.wantVote(requestVote{term: 2, last: at{9, 2}}, voteReply{term: 2})
	n.wants(state{role: follower, term: 2, last: 1, commit: 1})
	ask.term = 3
	n.three.wantVote(ask, voteReply{3, true})
	n.two.wantVote(ask, voteReply{term: 3})
	n.three.wantVote(ask, voteReply{3, true})
	n.wants(state{role: follower, term: 3, last: 1, commit: 1})
}

// Section 5.4.1: "the voter denies its vote if its own log is more up-to-date than that of the candidate."
func TestPaperTheVoteIsDeniedToALogThatIsLessUpToDate(t *testing.T) {
	n := startReal(t)
	n.given(2, 2, 3, 3)
	for i, row := range []struct {
		name    string
		last    at
		granted bool
	}{
		{"the same last entry", at{5, 3}, true},
		{"the same last term, a longer log", at{6, 3}, true},
		{"the same last term, a shorter log", at{4, 3}, false},
		{"a later last term, a shorter log", at{2, 4}, true},
		{"a later last term, a longer log", at{9, 4}, true},
		{"an earlier last term, a longer log", at{9, 2}, false},
		{"an earlier last term, a shorter log", at{3, 2}, false},
		{"an empty log", at{}, false},
	} {
		n.row(row.name, func() {
			term := uint64(4 + i)
			n.two.wantVote(requestVote{term: term, last: row.last, preVote: true}, voteReply{term - 1, row.granted})
			n.two.wantVote(requestVote{term: term, last: row.last}, voteReply{term, row.granted})
			// Who was denied has not used up the vote of the term.
			n.three.wantVote(requestVote{term: term, last: at{5, 3}}, voteReply{term, !row.granted})
			n.wants(state{role: follower, term: term, last: 5, commit: 1})
		})
	}
}

// Section 5.1: "if one server's current term is smaller than the other's, then it updates its current term to the
// larger value."
func TestPaperASmallerTermIsUpdatedToTheLarger(t *testing.T) {
	n := startReal(t)
	n.given(2, 3)
	n.two.wantVote(requestVote{term: 5, last: born}, voteReply{term: 5}) // even by a vote that is denied
	n.wants(state{role: follower, term: 5, last: 3, commit: 1})
	n.two.wantAppend(appendEntries{term: 7, prev: at{9, 7}, commit: 1}, appendReply{term: 7, conflict: at{4, 0}}) // or by entries that are refused
	n.wants(state{role: follower, term: 7, leader: 2, last: 3, commit: 1})
	n.three.wantAppend(appendEntries{term: 1000, prev: at{3, 3}, commit: 1}, accepted(1000))
	n.wants(state{role: follower, term: 1000, leader: 3, last: 3, commit: 1})
	n.killsAndRestarts()
	n.two.wantAppend(appendEntries{term: 999, prev: at{3, 3}, commit: 1}, appendReply{term: 1000})
	n.wants(state{role: follower, term: 1000, last: 3, commit: 1})
}

// Dissertation, section 9.6: "In the Pre-Vote algorithm, a candidate only increments its term if it first learns
// from a majority of the cluster that they would be willing to grant the candidate their votes."
//
// To be asked changes neither the term nor the vote.
func TestPaperAPreVoteChangesNeitherTermNorVote(t *testing.T) {
	n := startReal(t)
	n.given(2, 3)
	n.two.wantVote(requestVote{term: 4, last: at{3, 3}}, voteReply{4, true})
	before := n.state()
	n.three.wantVote(requestVote{term: 9, last: at{3, 3}, preVote: true}, voteReply{4, true})
	n.three.wantVote(requestVote{term: 5, last: at{3, 3}, preVote: true}, voteReply{4, true})
	n.three.wantVote(requestVote{term: 5, last: born, preVote: true}, voteReply{term: 4})
	n.three.wantVote(requestVote{term: 4, last: at{3, 3}, preVote: true}, voteReply{term: 4}) // the vote of term 4 is cast
	n.three.wantVote(requestVote{term: 3, last: at{3, 3}, preVote: true}, voteReply{term: 4})
	n.wants(before)
	n.three.wantVote(requestVote{term: 4, last: at{3, 3}}, voteReply{term: 4})
	n.two.wantVote(requestVote{term: 4, last: at{3, 3}}, voteReply{4, true})
	// Nor is the promise of term 5 a vote.
	n.two.wantVote(requestVote{term: 5, last: at{3, 3}}, voteReply{5, true})
}

// Section 6: "if a server receives a RequestVote RPC within the minimum election timeout of hearing from a current
// leader, it does not update its term or grant its vote."
func TestPaperADisruptiveServerIsNotHeardWhileThereIsALeader(t *testing.T) {
	n := startReal(t)
	n.two.wantAppend(appendEntries{term: 2, prev: born, commit: 1}, accepted(2))
	following := state{role: follower, term: 2, leader: 2, last: 1, commit: 1}
	n.wants(following)
	n.three.wantVote(requestVote{term: 9, last: at{9, 8}}, voteReply{term: 2})
	n.three.wantVote(requestVote{term: 9, last: at{9, 8}, preVote: true}, voteReply{term: 2})
	n.wants(following)
	n.killsAndRestarts() // it has heard of no leader since it started
	n.three.wantVote(requestVote{term: 9, last: at{9, 8}}, voteReply{9, true})
	n.wants(state{role: follower, term: 9, last: 1, commit: 1})
	term := n.leads()
	n.three.wantVote(requestVote{term: term + 9, last: at{9, term + 8}}, voteReply{term: term})
	if s := n.state(); s.role != leader || s.term != term {
		t.Fatalf("the leader of term %d was disrupted: %+v", term, s)
	}
}

// Dissertation, section 4.2.3: "RequestVote messages should be processed by other servers even when they believe a
// current cluster leader exists. Those RequestVote requests can include a special flag to indicate this behavior."
func TestPaperACandidateByTransferIsHeardThoughThereIsALeader(t *testing.T) {
	n := startReal(t)
	n.two.wantAppend(appendEntries{term: 2, prev: born, entries: []uint64{2}, commit: 1}, accepted(2))
	n.three.wantVote(requestVote{term: 3, last: at{2, 2}}, voteReply{term: 2})
	n.three.wantVote(requestVote{term: 3, last: born, transfer: true}, voteReply{term: 3}) // heard, and its log is too short
	n.three.wantVote(requestVote{term: 4, last: at{2, 2}, transfer: true}, voteReply{4, true})
	n.wants(state{role: follower, term: 4, last: 2, commit: 1})
}

// Figure 2, State: "Persistent state on all servers: (Updated on stable storage before responding to RPCs)"
//
// currentTerm and votedFor: kill -9 comes as soon as the answer is here.
func TestPaperAVoteSurvivesKillNine(t *testing.T) {
	n := startReal(t)
	for term := uint64(2); term < 6; term++ {
		first, other := n.two, n.three
		if term%2 == 1 {
			first, other = other, first
		}
		ask := requestVote{term: term, last: born}
		first.wantVote(ask, voteReply{term, true})
		n.killsAndRestarts()
		other.wantVote(ask, voteReply{term: term})
		first.wantVote(ask, voteReply{term, true})
		n.wants(state{role: follower, term: term, last: 1, commit: 1})
	}
}

// Figure 2, State: "Persistent state on all servers: (Updated on stable storage before responding to RPCs)"
//
// log[]: what was acknowledged is there after kill -9, and what was overwritten does not come back.
func TestPaperAcknowledgedEntriesSurviveKillNine(t *testing.T) {
	n := startReal(t)
	n.two.wantAppend(appendEntries{term: 2, prev: born, entries: []uint64{2, 2, 2, 2}, commit: 1}, accepted(2))
	n.killsAndRestarts()
	n.wants(state{role: follower, term: 2, last: 5, commit: 1})
	n.three.wantAppend(appendEntries{term: 3, prev: at{5, 2}, commit: 1}, accepted(3))
	n.three.wantAppend(appendEntries{term: 3, prev: at{3, 2}, entries: []uint64{3}, commit: 1}, accepted(3))
	n.killsAndRestarts()
	n.wants(state{role: follower, term: 3, last: 4, commit: 1})
	n.two.wantAppend(appendEntries{term: 4, prev: at{4, 2}, commit: 1}, appendReply{term: 4, conflict: at{4, 3}})
	n.two.wantAppend(appendEntries{term: 4, prev: at{4, 3}, commit: 1}, accepted(4))
	n.wantLog(2, 2, 3)
}
