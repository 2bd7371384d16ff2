package main

import "testing"

// Section 5.1: "If a server receives a request with a stale term number, it rejects the request."
func TestPaperARequestWithAStaleTermIsRejected(t *testing.T) {
	n := startReal(t)
	n.given(2, 5)
	before := n.state()
	n.two.wantAppend(appendEntries{term: 4, prev: at{2, 2}, entries: []uint64{4}, commit: 3}, appendReply{term: 5})
	n.two.wantAppend(appendEntries{term: 4, prev: at{3, 4}, commit: 3}, appendReply{term: 5})
	n.two.wantVote(requestVote{term: 4, last: at{9, 4}}, voteReply{term: 5})
	n.two.wantVote(requestVote{term: 4, last: at{9, 4}, preVote: true}, voteReply{term: 5})
	n.wants(before)
	n.wantLog(2, 5)
}

// Section 5.2: "Leaders send periodic heartbeats (AppendEntries RPCs that carry no log entries) to all followers
// in order to maintain their authority."
//
// A heartbeat changes nothing but who leads: not the log, not the commit index, not the vote.
func TestPaperAHeartbeatMaintainsAuthorityAndChangesNothingElse(t *testing.T) {
	n := startReal(t)
	n.given(2, 2, 3)
	n.two.wantVote(requestVote{term: 4, last: at{4, 3}}, voteReply{4, true})
	n.wants(state{role: follower, term: 4, last: 4, commit: 1})
	for range 3 {
		n.two.wantAppend(appendEntries{term: 4, prev: at{4, 3}, commit: 1}, accepted(4))
		n.wants(state{role: follower, term: 4, leader: 2, last: 4, commit: 1})
	}
	n.three.wantVote(requestVote{term: 4, last: at{4, 3}}, voteReply{term: 4})
	n.two.wantVote(requestVote{term: 4, last: at{4, 3}}, voteReply{4, true})
	n.wantLog(2, 2, 3)
}

// Section 5.3: "If the follower does not find an entry in its log with the same index and term, then it refuses
// the new entries."
func TestPaperNewEntriesAreRefusedWithoutTheEntryBeforeThem(t *testing.T) {
	n := startReal(t)
	n.given(2, 2, 3)
	for _, prev := range []at{{5, 3}, {5, 4}, {9, 4}, {4, 2}, {4, 4}, {3, 1}, {3, 3}, {2, 1}} {
		reply, err := n.two.appends(appendEntries{term: 4, prev: prev, entries: []uint64{4}, commit: 9})
		if err != nil || reply.success || reply.term != 4 {
			t.Fatalf("after %+v: %+v, %v", prev, reply, err)
		}
		n.wants(state{role: follower, term: 4, leader: 2, last: 4, commit: 1})
	}
	n.wantLog(2, 2, 3)
}

// Section 5.3: "when rejecting an AppendEntries request, the follower can include the term of the conflicting
// entry and the first index it stores for that term."
//
// A log that is too short has no conflicting entry: the index is the one after its end.
func TestPaperARejectionNamesTheConflictingTermAndItsFirstIndex(t *testing.T) {
	n := startReal(t)
	n.given(2, 2, 2, 3, 3)
	for _, row := range []struct {
		name           string
		prev, conflict at
	}{
		{"a gap", at{9, 4}, at{7, 0}},
		{"one entry too few", at{7, 3}, at{7, 0}},
		{"the last entry conflicts", at{6, 4}, at{5, 3}},
		{"the first of a term conflicts", at{5, 4}, at{5, 3}},
		{"the last of a term conflicts", at{4, 3}, at{2, 2}},
		{"one in the middle of a term conflicts", at{3, 3}, at{2, 2}},
		{"an entry of a later term than the leader's", at{5, 2}, at{5, 3}},
	} {
		n.row(row.name, func() {
			n.two.wantAppend(appendEntries{term: 4, prev: row.prev, commit: 1}, appendReply{term: 4, conflict: row.conflict})
		})
	}
}

// Section 5.3: "one AppendEntries RPC will be required for each term with conflicting entries, rather than one
// RPC per entry."
//
// The logs are those of figure 7: the leader of term 8 at the top, and six followers. The real node is each.
func TestPaperOneRejectionPerConflictingTermRepairsTheLogsOfFigure7(t *testing.T) {
	top := []uint64{1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 8} // with the first entry of its own term
	for _, row := range []struct {
		name       string
		log        []uint64
		rejections int
	}{
		{"a: misses an entry", []uint64{1, 1, 1, 4, 4, 5, 5, 6, 6}, 1},
		{"b: misses many", []uint64{1, 1, 1, 4}, 1},
		{"c: has an extra entry", []uint64{1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6}, 0},
		{"d: has two of a later term", []uint64{1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7}, 0},
		{"e: misses some and has extra", []uint64{1, 1, 1, 4, 4, 4, 4}, 2},
		{"f: led twice and committed nothing", []uint64{1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3}, 2},
	} {
		t.Run(row.name, func(t *testing.T) {
			n := startReal(t)
			n.given(row.log[1:]...)
			if got := n.two.repairs(top, 8); got != row.rejections {
				t.Fatalf("%d rejections, want %d", got, row.rejections)
			}
			n.wants(state{role: follower, term: 8, leader: 2, last: 11, commit: 1})
			n.wantLog(top[1:]...)
		})
	}
}

// repairs is a leader as the paper describes it: from the end of its log (of these terms, from index 1) back to
// where the follower's agrees, then everything from there on. It returns how often it was rejected.
func (p *fakePeer) repairs(log []uint64, term uint64) (rejections int) {
	p.t.Helper()
	for next := uint64(len(log)); ; rejections++ { // the last entry is new
		prev := at{next - 1, log[next-2]}
		reply, err := p.appends(appendEntries{term: term, prev: prev, entries: log[next-1:], commit: 1})
		must(p.t, err)
		if reply.success {
			return rejections
		}
		back := reply.conflict.index
		for i := uint64(len(log)); i > 0 && reply.conflict.term > 0; i-- {
			if log[i-1] == reply.conflict.term {
				back = i + 1
				break
			}
		}
		if back >= next || back < 2 {
			p.t.Fatalf("no progress: next index %d, then %d after %+v", next, back, reply)
		}
		next = back
	}
}

// Figure 2, AppendEntries 3: "If an existing entry conflicts with a new one (same index but different terms),
// delete the existing entry and all that follow it."
func TestPaperAConflictingEntryAndAllThatFollowItAreDeleted(t *testing.T) {
	n := startReal(t)
	n.given(2, 2, 3, 3)
	n.two.wantAppend(appendEntries{term: 5, prev: at{3, 2}, entries: []uint64{5}, commit: 1}, accepted(5))
	n.wants(state{role: follower, term: 5, leader: 2, last: 4, commit: 1})
	n.two.wantAppend(appendEntries{term: 5, prev: at{5, 3}, commit: 1}, appendReply{term: 5, conflict: at{5, 0}})
	n.two.wantAppend(appendEntries{term: 5, prev: at{4, 3}, commit: 1}, appendReply{term: 5, conflict: at{4, 5}})
	n.wantLog(2, 2, 5)
}

// Figure 2, AppendEntries 4: "Append any new entries not already in the log."
func TestPaperEntriesNotAlreadyInTheLogAreAppended(t *testing.T) {
	n := startReal(t)
	n.two.wantAppend(appendEntries{term: 2, prev: born, entries: []uint64{2, 2}, commit: 1}, accepted(2))
	n.wants(state{role: follower, term: 2, leader: 2, last: 3, commit: 1})
	n.two.wantAppend(appendEntries{term: 2, prev: at{2, 2}, entries: []uint64{2, 2, 2}, commit: 1}, accepted(2))
	n.wants(state{role: follower, term: 2, leader: 2, last: 5, commit: 1})
	n.wantLog(2, 2, 2, 2)
}

// Section 5.5: "Raft RPCs are idempotent, so this causes no harm. For example, if a follower receives an
// AppendEntries request that includes log entries already present in its log, it ignores those entries in the
// new request."
func TestPaperARepeatedOrReorderedAppendEntriesCausesNoHarm(t *testing.T) {
	n := startReal(t)
	first := appendEntries{term: 2, prev: born, entries: []uint64{2, 2}, commit: 1}
	second := appendEntries{term: 2, prev: at{3, 2}, entries: []uint64{2, 2}, commit: 3}
	third := appendEntries{term: 2, prev: at{5, 2}, commit: 4}
	for i, a := range []appendEntries{first, second, third} {
		n.two.wantAppend(a, accepted(2))
		n.wants(state{role: follower, term: 2, leader: 2, last: []uint64{3, 5, 5}[i], commit: []uint64{1, 3, 4}[i]})
	}
	for _, a := range []appendEntries{third, first, second, first, third, second} {
		n.two.wantAppend(a, accepted(2))
		n.wants(state{role: follower, term: 2, leader: 2, last: 5, commit: 4})
	}
	n.wantLog(2, 2, 2, 2)
}

// Figure 2, AppendEntries 5: "If leaderCommit > commitIndex, set commitIndex = min(leaderCommit, index of last new
// entry)."
func TestPaperTheCommitIndexIsTheLesserOfLeaderCommitAndTheLastNewEntry(t *testing.T) {
	n := startReal(t)
	n.given(2, 2, 2)
	for _, row := range []struct {
		name         string
		a            appendEntries
		last, commit uint64
	}{
		{"a heartbeat commits up to the entry before", appendEntries{prev: at{2, 2}, commit: 9}, 4, 2},
		{"entries that are there count as new", appendEntries{prev: at{2, 2}, entries: []uint64{2}, commit: 9}, 4, 3},
		{"leader commit is the lesser", appendEntries{prev: at{4, 2}, entries: []uint64{3, 3}, commit: 4}, 6, 4},
		{"it does not go back", appendEntries{prev: at{6, 3}, commit: 3}, 6, 4},
		{"it does not go back with a rejection", appendEntries{prev: at{9, 3}, commit: 9}, 6, 4},
		{"all is committed", appendEntries{prev: at{6, 3}, commit: 6}, 6, 6},
	} {
		n.row(row.name, func() {
			row.a.term = 3
			_, err := n.two.appends(row.a)
			must(n.t, err)
			n.wants(state{role: follower, term: 3, leader: 2, last: row.last, commit: row.commit})
		})
	}
}

// Section 5.3: "Once a follower learns that a log entry is committed, it applies the entry to its local state
// machine (in log order)."
func TestPaperACommittedEntryIsApplied(t *testing.T) {
	n := startReal(t)
	n.two.wantAppend(appendEntries{term: 2, prev: born, entries: []uint64{2, 2}, commit: 1}, accepted(2))
	n.settle()
	before := n.status()
	if before.GetApplied() != 1 {
		t.Fatalf("applied before it was committed: %v", before)
	}
	n.two.wantAppend(appendEntries{term: 2, prev: at{3, 2}, commit: 2}, accepted(2))
	n.until("the committed entry is applied", func() bool { return n.status().GetApplied() == 2 })
	if n.status().GetHash() == before.GetHash() {
		t.Fatal("applied, but the hash over all applied entries is what it was")
	}
}

// Figure 3, State Machine Safety: "if a server has applied a log entry at a given index to its state machine, no
// other server will ever apply a different log entry for the same index."
//
// Who would overwrite a committed entry is no leader that Raft can elect. It is refused, whatever its term.
func TestPaperACommittedEntryIsNeverOverwritten(t *testing.T) {
	n := startReal(t)
	n.given(2, 2, 2)
	n.two.wantAppend(appendEntries{term: 3, prev: at{4, 2}, commit: 4}, accepted(3))
	for _, a := range []appendEntries{
		{prev: at{3, 2}, entries: []uint64{4}},
		{prev: at{2, 2}, entries: []uint64{4, 4, 4, 4}},
		{prev: born, entries: []uint64{2, 4}},
		{prev: at{4, 3}, entries: []uint64{4}},
		{prev: at{4, 1}, entries: []uint64{4}},
	} {
		a.term, a.commit = 4, 4
		reply, err := n.three.appends(a)
		if err != nil || reply.success || reply.term != 4 {
			t.Fatalf("%+v: %+v, %v", a, reply, err)
		}
		n.wants(state{role: follower, term: 4, leader: 3, last: 4, commit: 4})
	}
	n.wantLog(2, 2, 2)
}
