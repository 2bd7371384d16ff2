package router

import (
	"cmp"
	"slices"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/multiraftd/multiraftd/actors"
	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/metadata"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// What follows makes the replicas here those that metadata want here. It compares states: after each applied
// entry, after a snapshot of the metadata and after a restart it looks at what there is and goes on from there.
//
//	placed here, nothing stored  --> birth, synced          --> spawned
//	a target                     --> told to the replica, which steers its group when it leads
//	ordered deleted              --> stopped, has ended     --> tombstone, synced --> reported until confirmed
//
// Rule: a replica is deleted because a record orders it, and never because something is not mentioned.

// buried says that the tombstone of a replica is durable.
type buried struct{ metadata.Removal }

// phase is how far the deletion of a replica has come.
type phase uint8

const (
	beingStopped phase = iota // its actor has been told to stop, and may still write
	beingBuried               // the tombstone is on its way to the disk
	deletedHere               // nothing is left of it; metadata do not know yet
)

// removing is a deletion on its way.
type removing struct {
	metadata.Removal
	phase phase
}

func (r *Router) metadataApplied(ctx actor.Context, s *metadata.State) {
	before := r.meta
	r.meta = s
	self := r.cfg.Replica.Node
	for g, rm := range r.removing { // each by itself: the order does not matter
		if rm.phase == deletedHere && !slices.Contains(s.Removals(self), rm.Removal) { // confirmed
			delete(r.removing, g)
		}
	}
	r.publish()
	r.retain(ctx, before)
	changedPartitions(before, s, func(p *metav1.Partition) { r.place(ctx, p) })
	r.aim(ctx, raftcore.MetadataGroup)
	for _, order := range s.Removals(self) {
		r.remove(ctx, order)
	}
}

// changedPartitions calls f for the partitions of after that are not the same in before. States share what has
// not changed, so that this compares pointers.
func changedPartitions(before, after *metadata.State, f func(*metav1.Partition)) {
	old := before.Topics()
	for _, t := range after.Topics() {
		for len(old) > 0 && old[0].GetTopicId() < t.GetTopicId() {
			old = old[1:]
		}
		var was []*metav1.Partition
		if len(old) > 0 && old[0].GetTopicId() == t.GetTopicId() {
			if old[0] == t {
				continue
			}
			was = old[0].GetPartitions()
		}
		for i, p := range t.GetPartitions() {
			if i >= len(was) || was[i] != p {
				f(p)
			}
		}
	}
}

// place gives birth to the replica that a partition should have here, and tells the one that it has where its
// group is to go. Initial replicas are born with the initial membership, later ones empty: a snapshot fills them.
func (r *Router) place(ctx actor.Context, p *metav1.Partition) {
	g := metadata.GroupOf(p)
	r.aim(ctx, g.ID)
	if r.groups[g.ID] != nil || r.birth[g.ID] || r.removing[g.ID] != nil {
		return
	}
	here := func(m metadata.Member) bool { return m.Node == r.cfg.Replica.Node }
	wanted := slices.Concat(g.Open.Voters, g.Current)
	i := slices.IndexFunc(wanted, here)
	if i < 0 || wanted[i].ID <= r.buried[g.ID] { // its id was used up here
		return
	}
	me := wanted[i]
	w := &actors.Write{Batch: new(store.Batch), Sync: true, To: ctx.Self()}
	if initial := slices.Index(g.Replicas, me); initial >= 0 {
		store.PutBirth(w.Batch, store.Birth{Group: g.ID, Replica: me.ID, Members: g.Members()})
		w.Done = &born{g.ID, me.ID, initial == 0 && !g.Moving}
	} else {
		store.PutJoin(w.Batch, g.ID, me.ID)
		w.Done = &born{g.ID, me.ID, false}
		r.cfg.Replica.Logger.Info("replica placed here", "group", g.ID, "replica", me.ID)
	}
	r.birth[g.ID] = true
	ctx.Send(r.writer, w)
}

// wasBorn starts a replica whose first records are durable.
func (r *Router) wasBorn(ctx actor.Context, m *born) {
	delete(r.birth, m.group)
	r.track(ctx, r.spawn(ctx, m.group, m.replica, m.campaign))
	r.publishSoon(ctx)
	for _, order := range r.meta.Removals(r.cfg.Replica.Node) { // ordered meanwhile
		if order.Group == m.group {
			r.remove(ctx, order)
		}
	}
}

// aim tells a replica the target of its group, unless it knows it.
func (r *Router) aim(ctx actor.Context, g raftcore.GroupID) {
	h := r.groups[g]
	if h == nil {
		return
	}
	t, ok := r.meta.Target(g)
	if !ok {
		t.ID = 0
	}
	if h.target == t.ID {
		return
	}
	h.target = t.ID
	ctx.Send(h.PID, &actors.SetTarget{Target: raftcore.Target{ID: t.ID, Voters: membersMap(t.Voters), Learners: membersMap(t.Learners)}})
}

func membersMap(members []metadata.Member) map[raftcore.ReplicaID]raftcore.NodeID {
	all := make(map[raftcore.ReplicaID]raftcore.NodeID, len(members))
	for _, m := range members {
		all[m.ID] = m.Node
	}
	return all
}

// remove begins to delete a replica that is ordered deleted, or does nothing when that is under way. A replica
// that was never born is buried all the same, so that it never will be.
func (r *Router) remove(ctx actor.Context, order metadata.Removal) {
	if r.removing[order.Group] != nil || r.birth[order.Group] {
		return
	}
	if order.Replica <= r.buried[order.Group] {
		r.removing[order.Group] = &removing{order, deletedHere}
		r.publishSoon(ctx)
		return
	}
	h := r.groups[order.Group]
	switch {
	case h == nil:
		r.removing[order.Group] = &removing{order, beingBuried}
		r.bury(ctx, order)
	case h.Replica == order.Replica && order.Group != raftcore.MetadataGroup:
		r.removing[order.Group] = &removing{order, beingStopped}
		r.cfg.Replica.Logger.Info("replica is ordered deleted", "group", order.Group, "replica", order.Replica)
		if h.ended {
			r.ended(ctx, h)
			return
		}
		ctx.Stop(h.PID)
	case h.Replica > order.Replica: // done and confirmed long ago: the metadata here are older than this replica
	default:
		r.cfg.Replica.Logger.Error("the order to delete a replica fits none here", "group", order.Group, "replica", order.Replica, "here", h.Replica)
	}
}

// ended notes that a replica's actor is no more: what it wrote is in the LogWriter's queue. One that is to be
// deleted leaves the table and is buried.
func (r *Router) ended(ctx actor.Context, h *Hosted) {
	h.ended = true
	rm := r.removing[h.Group]
	if rm == nil || rm.phase != beingStopped {
		return
	}
	r.unhost(h)
	rm.phase = beingBuried
	r.publishSoon(ctx)
	r.bury(ctx, rm.Removal)
}

func (r *Router) bury(ctx actor.Context, order metadata.Removal) {
	w := &actors.Write{Batch: new(store.Batch), Sync: true, To: ctx.Self(), Done: &buried{order}}
	store.PutTombstone(w.Batch, order.Group, order.Replica)
	ctx.Send(r.writer, w)
}

func (r *Router) wasBuried(ctx actor.Context, m *buried) {
	r.buried[m.Group] = max(r.buried[m.Group], m.Replica)
	r.cfg.Counters.ReplicasDeleted.Add(1)
	r.cfg.Replica.Logger.Info("replica deleted", "group", m.Group, "replica", m.Replica)
	if rm := r.removing[m.Group]; rm != nil {
		rm.phase = deletedHere
	}
	r.publishSoon(ctx)
}

// deleted returns the replicas whose deletion is durable and that metadata still order deleted, by group.
func (r *Router) deleted() (all []metadata.Removal) {
	for _, rm := range r.removing { // sorted below: the order of the map must not show
		if rm.phase == deletedHere {
			all = append(all, rm.Removal)
		}
	}
	slices.SortFunc(all, func(a, b metadata.Removal) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Replica, b.Replica))
	})
	return all
}
