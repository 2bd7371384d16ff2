package metadata

import (
	"cmp"
	"slices"

	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	"github.com/multiraftd/multiraftd/raftcore"
)

// Member is a replica of a group and its node.
type Member struct {
	ID   raftcore.ReplicaID
	Node raftcore.NodeID
}

// Target is the membership that a group should have. ID is another one whenever that changes.
type Target struct {
	ID               uint64
	Voters, Learners []Member // the first voter of a partition should lead
}

// Nodes returns the nodes of the voters, in their order.
func (t Target) Nodes() []raftcore.NodeID { return nodesOf(t.Voters) }

// Removal orders a node to delete a replica.
type Removal struct {
	Group   raftcore.GroupID
	Replica raftcore.ReplicaID
}

// ordered is a Removal and the node that it is for.
type ordered struct {
	node raftcore.NodeID
	Removal
}

func compareRemoval(a, b Removal) int {
	return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Replica, b.Replica))
}

// Group is a partition's group.
type Group struct {
	ID        raftcore.GroupID
	Topic     *metav1.Topic // nil from GroupOf
	Partition uint32        // of Topic
	// Replicas are the initial voters: each of them is born with all of them. The first is asked to campaign
	// first.
	Replicas []Member
	// Current are the voters since the last target that was reached, the initial ones before.
	Current []Member
	// Open is the target that the group is on the way to; valid when Moving.
	Open   Target
	Moving bool
	// Leaving are replicas of superseded targets, which may be members still.
	Leaving []Member
}

// Node returns where a replica that was not ordered deleted was placed. An initial one that has left is gone
// from here.
func (g *Group) Node(id raftcore.ReplicaID) (raftcore.NodeID, bool) {
	for _, set := range [...][]Member{g.Current, g.Open.Voters, g.Leaving} {
		for _, m := range set {
			if m.ID == id {
				return m.Node, true
			}
		}
	}
	return 0, false
}

// Placed returns every replica that was not ordered deleted, once each: where the group may have members.
func (g *Group) Placed() []Member {
	all := slices.Clone(g.Current)
	for _, m := range append(slices.Clone(g.Open.Voters), g.Leaving...) {
		if !slices.Contains(all, m) {
			all = append(all, m)
		}
	}
	return all
}

// Members returns the initial members as the group's own state keeps them.
func (g *Group) Members() map[raftcore.ReplicaID]raftcore.NodeID {
	members := make(map[raftcore.ReplicaID]raftcore.NodeID, len(g.Replicas))
	for _, m := range g.Replicas {
		members[m.ID] = m.Node
	}
	return members
}

// GroupOf returns the group of a partition.
func GroupOf(p *metav1.Partition) Group {
	g := Group{ID: raftcore.GroupID(p.GetGroupId()), Replicas: membersOf(p.GetReplicas())}
	if g.Current = g.Replicas; len(p.GetMembers()) > 0 {
		g.Current = membersOf(p.GetMembers())
	}
	if p.GetTarget() != nil {
		g.Moving, g.Open = true, Target{ID: p.GetTarget().GetTargetId(), Voters: membersOf(p.GetTarget().GetVoters())}
	}
	g.Leaving = membersOf(p.GetLeaving())
	return g
}

// Target returns the membership that a group should have: of a partition while it is on the way there, of
// the metadata group always once its voters are recorded. There every node of the cluster is a member, and
// the replica id is the node id.
func (s *State) Target(id raftcore.GroupID) (Target, bool) {
	if id == raftcore.MetadataGroup {
		return s.metadataTarget()
	}
	p := s.partition(id)
	if p.GetTarget() == nil {
		return Target{}, false
	}
	return Target{ID: p.GetTarget().GetTargetId(), Voters: membersOf(p.GetTarget().GetVoters())}, true
}

// LatestTarget returns the id of the latest target that a partition has had; 0 = none.
func (s *State) LatestTarget(g raftcore.GroupID) (uint64, bool) {
	p := s.partition(g)
	return p.GetTargetId(), p != nil
}

func (s *State) metadataTarget() (Target, bool) {
	if s.voters == nil {
		return Target{}, false
	}
	t := Target{ID: s.voters.GetTargetId()}
	for _, n := range s.voters.GetNodeIds() {
		t.Voters = append(t.Voters, Member{raftcore.ReplicaID(n), raftcore.NodeID(n)})
	}
	for _, n := range s.nodes {
		if id := n.GetNodeId(); !slices.Contains(s.voters.GetNodeIds(), id) {
			t.Learners = append(t.Learners, Member{raftcore.ReplicaID(id), raftcore.NodeID(id)})
		}
	}
	return t, true
}

// Births calls f for the replicas that targets have placed on a node beyond the initial ones, by group. They
// are born empty and filled by a snapshot.
func (s *State) Births(n raftcore.NodeID, f func(raftcore.GroupID, raftcore.ReplicaID)) {
	for _, id := range s.moved {
		p := s.partition(id)
		for _, r := range append(slices.Clone(p.GetTarget().GetVoters()), p.GetMembers()...) {
			if raftcore.NodeID(r.GetNodeId()) == n && !contains(p.GetReplicas(), r) {
				f(id, raftcore.ReplicaID(r.GetReplicaId()))
				break // one replica of a group per node
			}
		}
	}
}

// Removals returns the replicas that a node has to delete and has not confirmed, by group.
func (s *State) Removals(n raftcore.NodeID) []Removal { return s.removals[n] }

// Removed says whether a node was a member and has been removed, and with which store.
func (s *State) Removed(n raftcore.NodeID) (storeID string, ok bool) {
	i, ok := slices.BinarySearchFunc(s.removed, uint64(n), compareRemoved)
	if !ok {
		return "", false
	}
	return s.removed[i].GetStoreId(), true
}

// Vouches says whether a replica of a group may speak for a node (rule 16).
func (s *State) Vouches(g raftcore.GroupID, r raftcore.ReplicaID, n raftcore.NodeID) bool {
	if _, removed := s.Removed(n); removed {
		return false
	}
	if g == raftcore.MetadataGroup {
		return uint64(r) == uint64(n)
	}
	p := s.partition(g)
	if p == nil {
		return false
	}
	group := GroupOf(p)
	node, ok := group.Node(r)
	return ok && node == n
}

// wanted are the replicas where a partition is or should soon be.
func wanted(p *metav1.Partition) []*metav1.Replica {
	if p.GetTarget() != nil {
		return p.GetTarget().GetVoters()
	}
	return current(p)
}

func current(p *metav1.Partition) []*metav1.Replica {
	if len(p.GetMembers()) > 0 {
		return p.GetMembers()
	}
	return p.GetReplicas()
}

// placed are all replicas that were not ordered deleted, each once.
func placed(p *metav1.Partition) []*metav1.Replica {
	all := slices.Clone(current(p))
	for _, r := range append(slices.Clone(p.GetTarget().GetVoters()), p.GetLeaving()...) {
		if !contains(all, r) {
			all = append(all, r)
		}
	}
	return all
}

func contains(all []*metav1.Replica, r *metav1.Replica) bool {
	return slices.ContainsFunc(all, func(o *metav1.Replica) bool { return o.GetReplicaId() == r.GetReplicaId() })
}

func membersOf(replicas []*metav1.Replica) []Member {
	members := make([]Member, len(replicas))
	for i, r := range replicas {
		members[i] = Member{raftcore.ReplicaID(r.GetReplicaId()), raftcore.NodeID(r.GetNodeId())}
	}
	return members
}

func nodesOf(members []Member) []raftcore.NodeID {
	nodes := make([]raftcore.NodeID, len(members))
	for i, m := range members {
		nodes[i] = m.Node
	}
	return nodes
}
