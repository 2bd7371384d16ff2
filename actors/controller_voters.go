package actors

import (
	"cmp"
	"slices"

	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/metadata"
)

// metadataVoters records who votes in the metadata group, and keeps that on nodes that live.
func (p *plan) metadataVoters() {
	st := p.c.w.Metadata
	t, ok := p.meta.Target(raftcore.MetadataGroup)
	if !ok {
		if !st.Joint {
			p.setTarget(raftcore.MetadataGroup, st.Voters, false)
		}
		return
	}
	now := t.Nodes()
	next := p.votersFor(now)
	if sameSet(now, next) {
		return
	}
	// One change after the other, unless what is under way is not wanted any more.
	if settled := sameSet(now, st.Voters) && !st.Joint; settled || slices.ContainsFunc(now, p.mayNotVote) {
		p.setTarget(raftcore.MetadataGroup, next, false)
	}
}

// votersFor returns who should vote instead of now:
//
//   - a draining voter leaves, replaced if there is somebody to replace it;
//   - a voter that has been dead for too long leaves if there is somebody to replace it;
//   - there are more of them, an odd number up to five, as there are more nodes.
//
// A voter that is only silent for a while stays: it has the data. Two are left rather than one, which would be
// the only one with the data.
func (p *plan) votersFor(now []raftcore.NodeID) []raftcore.NodeID {
	keep := slices.DeleteFunc(slices.Clone(now), p.mayNotVote)
	spare := p.spareVoters(now)
	all := len(keep) + len(spare)
	want := oddUpTo(all, metadata.MetadataVotersMax)
	if all < 3 {
		want = min(all, len(now))
	}
	for len(keep) < want && len(spare) > 0 {
		keep, spare = append(keep, spare[0]), spare[1:]
	}
	if !slices.ContainsFunc(now, p.draining) {
		for _, n := range now { // dead, and nobody can replace it
			if len(keep) < len(now) && !slices.Contains(keep, n) {
				keep = append(keep, n)
			}
		}
	}
	if len(keep) > 3 {
		keep = p.trim(keep, oddUpTo(len(keep), metadata.MetadataVotersMax))
	}
	if len(keep) == 0 {
		return now
	}
	return keep
}

// mayNotVote says that a voter is being drained or has been dead for too long.
func (p *plan) mayNotVote(n raftcore.NodeID) bool {
	after := p.c.cfg.ReplaceAfterTicks
	return p.draining(n) || after > 0 && n != p.c.cfg.Node && p.c.w.Silence[n] >= after
}

// spareVoters returns the nodes that could vote and don't, those in racks without a voter first.
func (p *plan) spareVoters(now []raftcore.NodeID) (spare []raftcore.NodeID) {
	racks := map[string]int{}
	for _, n := range now {
		if !p.mayNotVote(n) {
			racks[p.rack(n)]++
		}
	}
	for _, n := range p.meta.Nodes() {
		id := raftcore.NodeID(n.GetNodeId())
		if !slices.Contains(now, id) && p.c.alive(id) && p.c.fresh(id) != nil && n.GetState() != metav1.NodeState_NODE_STATE_DRAINING {
			spare = append(spare, id)
		}
	}
	slices.SortStableFunc(spare, func(a, b raftcore.NodeID) int {
		return cmp.Or(cmp.Compare(racks[p.rack(a)], racks[p.rack(b)]), cmp.Compare(a, b))
	})
	return spare
}

// trim lets voters go until want are left: silent ones first, then those with the highest ids, this node last.
func (p *plan) trim(voters []raftcore.NodeID, want int) []raftcore.NodeID {
	rank := func(n raftcore.NodeID) int {
		switch {
		case n == p.c.cfg.Node:
			return 0
		case p.c.alive(n):
			return 1
		}
		return 2
	}
	slices.SortFunc(voters, func(a, b raftcore.NodeID) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b)) })
	voters = voters[:want]
	slices.Sort(voters)
	return voters
}

// oddUpTo returns the largest odd number up to both; 1 at least.
func oddUpTo(n, most int) int {
	n = max(1, min(n, most))
	return n - 1 + n%2
}

func sameSet(a, b []raftcore.NodeID) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}
