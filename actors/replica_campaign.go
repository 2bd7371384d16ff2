package actors

import (
	"errors"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/multiraftd/multiraftd/raftcore"
)

// campaignsMax is how often a replica campaigns early before it waits for its election timeout like any other:
// its peers may not have spawned their replicas yet, or not have heard of the leader's end.
const campaignsMax = 4

// campaignSpacing is how many ticks lie between the early campaigns of two replicas, so that they do not
// split the vote: the timeouts of etcd/raft are drawn by lot for the same reason.
const campaignSpacing = 3

// campaignEarly campaigns without waiting for the election timeout, once per tick at most, while the group
// has no leader. A pre-vote changes nothing at who knows better.
func (r *Replica) campaignEarly(ticks int) {
	r.campaignIn -= ticks
	if r.campaignIn > 0 {
		return
	}
	st := r.core.Status()
	if st.Leader != 0 {
		r.campaigns = 0
		return
	}
	if st.Role == raftcore.Candidate {
		return
	}
	r.campaigns--
	r.campaignIn = 1
	if err := r.core.Campaign(); err != nil {
		r.cfg.Logger.Warn("campaign refused", "group", r.cfg.Group, "err", err)
	}
}

// outdo takes a request for a pre-vote of somebody who did not wait as long: if this replica's log is longer, it has
// been asked in vain, and this replica campaigns now. Under load that is about every second group.
func (r *Replica) outdo(m *raftpb.Message) {
	if r.campaigns == 0 || r.campaignIn <= 1 || m.GetType() != raftpb.MsgPreVote {
		return
	}
	last, err := r.log.LastIndex()
	if err != nil {
		return // the same as not having been asked: its turn comes
	}
	term, err := r.log.Term(last)
	if err == nil && (term > m.GetLogTerm() || term == m.GetLogTerm() && last > m.GetIndex()) {
		r.campaignIn = 0
	}
}

// nodeGone lets go of a leader whose process has ended, and campaigns: the first of the remaining voters at
// once, the others later, should the first have too short a log (see outdo). Nothing is unsafe if the news is wrong: votes
// count as ever, and a leader that lives keeps its term unless a majority has let go of it.
func (r *Replica) nodeGone(n raftcore.NodeID) {
	leader := r.core.Status().Leader
	if leader == 0 || r.nodeOf(leader) != n || leader == r.log.Replica() {
		return
	}
	if err := r.core.ForgetLeader(); err != nil {
		if !errors.Is(err, raftcore.ErrQuarantine) {
			r.cfg.Logger.Warn("leader not forgotten", "group", r.cfg.Group, "err", err)
		}
		return
	}
	r.cfg.Counters.LeadersGone.Add(1)
	r.campaigns, r.campaignIn = campaignsMax, 0
	for _, id := range r.state.ConfState.GetVoters() {
		if raftcore.ReplicaID(id) == r.log.Replica() {
			return
		}
		if raftcore.ReplicaID(id) != leader {
			r.campaignIn += campaignSpacing
		}
	}
	r.campaigns = 0 // no voter
}
