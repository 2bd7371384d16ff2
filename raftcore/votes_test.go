package raftcore

import (
	"errors"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

// uncertain makes replica 1, alone: voters 1 to 3, learner 4, term 3, committed to 2. Its log goes on with a membership
// change of term 2 at 3, and an entry of term 3 at 4.
func uncertain(t *testing.T, role Role) *testNetwork {
	n := newTestNetwork(t, 4)
	node := n.nodes[1]
	n.confs[0].conf = &raftpb.ConfState{Voters: []uint64{1, 2, 3}, Learners: []uint64{4}, AutoLeave: new(false)}
	node.disk.conf = n.confs[0].conf
	change := changeEntry(t, changes(t, "v4", nil))
	node.disk.entries = []*raftpb.Entry{entryAt(2, 2), change, entryAt(4, 3)}
	node.disk.hard = &raftpb.HardState{Term: new(uint64(3)), Vote: new(uint64(2)), Commit: new(uint64(2))}
	n.configure = func(c *Config) {
		c.Vouch = func(r ReplicaID, _ NodeID) bool { return r == 9 }
	}
	n.start(1)
	n.run() // applies 2
	if role != Follower {
		if err := n.core(1).Campaign(); err != nil {
			t.Fatal(err)
		}
		n.run()
	}
	if role == Candidate || role == Leader {
		elect(t, n, raftpb.MsgPreVoteResp)
	}
	if role == Leader {
		elect(t, n, raftpb.MsgVoteResp)
	}
	if got := n.core(1).Status().Role; got != role {
		t.Fatalf("it is a %v", got)
	}
	return n
}

func elect(t *testing.T, n *testNetwork, kind raftpb.MessageType) {
	if err := n.core(1).Step(3, newMessage(scalars{kind: kind, from: 3, to: 1, term: 4})); err != nil {
		t.Fatal(err)
	}
	n.run()
}

// telling is a message to replica 1 which says that an entry is committed.
func telling(kind raftpb.MessageType, from, term, index, entryTerm uint64) scalars {
	s := scalars{kind: kind, from: from, to: 1, term: term, commit: index, rejectHint: entryTerm, reject: isVoteAnswer(kind)}
	if !s.reject {
		s.index, s.logTerm = 1, 1
	}
	return s
}

func TestAVoteTellsOnlyWhatTheLogConfirms(t *testing.T) {
	with := func(s scalars, f func(*scalars)) scalars { f(&s); return s }
	for _, row := range []struct {
		name string
		role Role
		m    scalars
		want Index // committed then
		why  Reason
	}{
		{"the change itself", PreCandidate, telling(raftpb.MsgPreVoteResp, 2, 3, 3, 2), 3, admitted},
		{"all of the log", PreCandidate, telling(raftpb.MsgPreVoteResp, 2, 3, 4, 3), 4, admitted},
		{"by a voter of an earlier term", PreCandidate, telling(raftpb.MsgPreVoteResp, 2, 2, 3, 2), 3, admitted},
		{"by a voter of a later term", PreCandidate, telling(raftpb.MsgPreVoteResp, 2, 5, 3, 2), 3, admitted},
		{"by a voter in the real election", Candidate, telling(raftpb.MsgVoteResp, 2, 4, 4, 3), 4, admitted},
		{"in another term than here", PreCandidate, telling(raftpb.MsgPreVoteResp, 2, 3, 3, 3), 2, admitted},
		{"in an earlier term than here", PreCandidate, telling(raftpb.MsgPreVoteResp, 2, 3, 4, 2), 2, admitted},
		{"beyond the log", PreCandidate, telling(raftpb.MsgPreVoteResp, 2, 3, 5, 3), 2, admitted},
		{"what is known", PreCandidate, telling(raftpb.MsgPreVoteResp, 2, 3, 2, 2), 2, admitted},
		{"nothing", PreCandidate, telling(raftpb.MsgPreVoteResp, 2, 3, 0, 0), 2, admitted},
		{"by a learner, who was not asked", PreCandidate, telling(raftpb.MsgPreVoteResp, 4, 3, 4, 3), 2, admitted},
		{"in an election that is over", Candidate, telling(raftpb.MsgVoteResp, 2, 3, 4, 3), 2, admitted},
		{"in an election that has not begun", PreCandidate, telling(raftpb.MsgVoteResp, 2, 3, 4, 3), 2, admitted},
		{"to one who has not asked", Follower, telling(raftpb.MsgPreVoteResp, 2, 3, 4, 3), 2, admitted},
		{"to the leader", Leader, telling(raftpb.MsgVoteResp, 2, 4, 4, 3), 2, admitted},
		{"by a stranger", PreCandidate, telling(raftpb.MsgPreVoteResp, 9, 3, 4, 3), 2, ReasonNotMember},
		{"against what is committed", PreCandidate, telling(raftpb.MsgPreVoteResp, 2, 3, 2, 1), 2, ReasonCommitted},
		{"behind it in an earlier term", PreCandidate, telling(raftpb.MsgPreVoteResp, 2, 3, 4, 1), 2, ReasonCommitted},
		{"in a term that the sender has not reached", PreCandidate, telling(raftpb.MsgPreVoteResp, 2, 3, 4, 4), 2, ReasonLogTerm},
		{"an index without a term", PreCandidate, telling(raftpb.MsgPreVoteResp, 2, 3, 4, 0), 2, ReasonIndex},
		{"a term without an index", PreCandidate, telling(raftpb.MsgPreVoteResp, 2, 3, 0, 3), 2, ReasonIndex},
		{"an index near overflow", PreCandidate, telling(raftpb.MsgPreVoteResp, 2, 3, indexMax+1, 3), 2, ReasonIndex},
		{"with a vote that is granted", PreCandidate, with(telling(raftpb.MsgPreVoteResp, 2, 4, 4, 3), func(s *scalars) { s.reject = false }), 2, ReasonField},

		{"by a candidate that is refused", Follower, telling(raftpb.MsgVote, 2, 4, 4, 3), 4, admitted},
		{"by one that asks for a pre-vote", Follower, telling(raftpb.MsgPreVote, 4, 4, 3, 2), 3, admitted},
		{"by one that is refused by another candidate", Candidate, telling(raftpb.MsgVote, 2, 4, 4, 3), 4, admitted},
		{"by a candidate that gets the vote", Follower, with(telling(raftpb.MsgVote, 2, 4, 4, 3), func(s *scalars) { s.index, s.logTerm = 4, 3 }), 2, admitted},
		{"by a candidate with another entry", Follower, telling(raftpb.MsgVote, 2, 4, 4, 2), 2, admitted},
		{"by a candidate that is no member", Follower, telling(raftpb.MsgVote, 9, 4, 4, 3), 2, admitted},
		{"by a candidate, to the leader", Leader, telling(raftpb.MsgVote, 2, 4, 4, 3), 2, admitted},
		{"by a candidate against what is committed", Follower, telling(raftpb.MsgVote, 2, 4, 2, 1), 2, ReasonCommitted},
	} {
		t.Run(row.name, func(t *testing.T) {
			n := uncertain(t, row.role)
			c := n.core(1)
			vote := c.Status().Vote
			err := c.Step(NodeID(row.m.from), newMessage(row.m))
			if row.why == admitted && err != nil || row.why != admitted && !errors.Is(err, refuse(row.why)) {
				t.Errorf("got %v", err)
			}
			n.run()
			st, learned := c.Status(), learnedFromVotes(c)
			if st.Commit != row.want || st.Applied != row.want || learned != (row.want > 2) {
				t.Errorf("committed %d, applied %d, counted: %v", st.Commit, st.Applied, learned)
			}
			if learned && (st.Role != Follower || st.Leader != noReplica) {
				t.Errorf("it is a %v, led by %d", st.Role, st.Leader)
			}
			if row.m.term <= 3 && (st.Vote != vote || st.Role != row.role && !learned) {
				t.Errorf("vote %d after %d, %v after %v", st.Vote, vote, st.Role, row.role)
			}
			if hard := n.nodes[1].disk.hard; hard.GetTerm() != st.Term || hard.GetVote() != st.Vote {
				t.Errorf("on disk is %v, in force %+v", hard, st)
			}
			if hard := n.nodes[1].log.hard; Index(hard.GetCommit()) != st.Commit { // the disk may forget that
				t.Errorf("written is %v, in force %+v", hard, st)
			}
		})
	}
}

// learnedFromVotes says whether the counter of that has moved.
func learnedFromVotes(c *Core) (moved bool) {
	c.cfg.Counters.Each(func(name, _, _, _ string, v uint64) {
		moved = moved || name == "raft_commits_learned_from_votes_total" && v > 0
	})
	return moved
}

// Without a membership change in between, a campaign is not given up: it may still be won.
func TestACommitOfRecordsDoesNotEndACampaign(t *testing.T) {
	n := uncertain(t, Follower)
	n.nodes[1].disk.entries[1] = entryAt(3, 2)
	n.start(1)
	n.run()
	c := n.core(1)
	if err := c.Campaign(); err != nil {
		t.Fatal(err)
	}
	n.run()
	for _, index := range []uint64{3, 4, 4} {
		if err := c.Step(2, newMessage(telling(raftpb.MsgPreVoteResp, 2, 3, index, index-1))); err != nil {
			t.Fatal(err)
		}
		n.run()
	}
	if st := c.Status(); st.Role != PreCandidate || st.Commit != 2 {
		t.Errorf("status %+v", st)
	}
	if c.plain != 4 {
		t.Errorf("read to %d: the next refusal reads the log again", c.plain)
	}
}

func TestWhatIsKnownOfTheLogEndsWhereItChanges(t *testing.T) {
	n := uncertain(t, PreCandidate)
	c := n.core(1)
	c.plain = 4
	app := msg(raftpb.MsgApp, inLog(2, 2, changeEntry(t, changes(t, "v4", nil))))
	app.Term = new(uint64(5))
	if err := c.Step(2, app); err != nil {
		t.Fatal(err)
	}
	n.run()
	if c.plain > 2 {
		t.Errorf("the log up to %d is known, but is another one", c.plain)
	}
}
