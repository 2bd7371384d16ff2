package main

import (
	"slices"
	"time"

	"github.com/multiraftd/multiraftd/actors"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// reign is a term of a group; for votes, of one replica of it.
type reign struct {
	group   raftcore.GroupID
	term    uint64
	replica raftcore.ReplicaID
}

type leader struct {
	node  uint64
	life  int
	since time.Duration // in which it was seen to lead; not where leaders of minutes are compared
}

// applied is a place in a group's log.
type applied struct {
	group raftcore.GroupID
	index raftcore.Index
}

type hashAt struct {
	hash uint64
	node uint64
}

// watch looks at what the replicas of a node show after one of its mailboxes has run.
func (w *world) watch(n *node) {
	if !n.up || n.core == nil {
		return
	}
	t := n.core.Table()
	for _, g := range t.Groups() {
		h, _ := t.Hosted(g)
		s := h.Board.Load()
		if last := n.seen[g]; s != nil && s != last {
			n.seen[g] = s
			w.watchStatus(n, last, s)
		}
	}
	w.watchDeleted(n, t.Deleted)
	w.watchTopics(n)
	w.watchKeeping(n)
}

func (w *world) watchStatus(n *node, last, s *actors.Status) {
	if s.Failure != "" {
		if !n.doomed {
			w.violate("a replica fails", "node %d, group %d: %s", n.id, s.Group, s.Failure)
		}
		return
	}
	if last != nil && last.Replica != s.Replica {
		last = nil // deleted meanwhile, and another is born
	}
	w.note(s)
	w.watchReplica(n, s)
	if last != nil {
		switch {
		case s.Term < last.Term:
			w.violate("the term falls", "node %d, group %d: %d after %d", n.id, s.Group, s.Term, last.Term)
		case s.Commit < last.Commit:
			w.violate("the commit index falls", "node %d, group %d: %d after %d", n.id, s.Group, s.Commit, last.Commit)
		case s.HighWatermark < last.HighWatermark:
			w.violate("the watermark falls", "node %d, group %d: %d after %d", n.id, s.Group, s.HighWatermark, last.HighWatermark)
		case s.LogStart < last.LogStart:
			w.violate("the log start falls", "node %d, group %d: %d after %d", n.id, s.Group, s.LogStart, last.LogStart)
		}
	}
	if s.Applied > s.Commit {
		w.violate("applied before committed", "node %d, group %d: applied %d, commit %d", n.id, s.Group, s.Applied, s.Commit)
	}
	w.watchHash(n, s)
	w.watchStart(n, s.Group, s.Applied, s.LogStart, s.HighWatermark)
	if last != nil && s.FirstIndex != last.FirstIndex {
		w.truncated++
		w.watchTruncated(n, s.Group)
	}
	w.watchDeposed(n, last, s)
	w.watchParted(n, last, s)
	if s.Role == raftcore.Candidate && (last == nil || last.Role != s.Role) {
		w.strikeCandidate(n)
	}
	if s.Role == raftcore.Leader && (last == nil || last.Role != raftcore.Leader || last.Term != s.Term) {
		w.watchLeader(n, s)
	}
}

// watchHash holds replicas against each other: the same log up to an index has the same hash.
func (w *world) watchHash(n *node, s *actors.Status) {
	at := applied{s.Group, s.Applied}
	known, ok := w.hashes[at]
	if !ok {
		w.hashes[at] = hashAt{s.Hash, n.id}
		return
	}
	if known.hash != s.Hash {
		w.violate("logs differ", "group %d: nodes %d and %d have applied different entries up to %d", s.Group, known.node, n.id, s.Applied)
	}
}

func (w *world) watchLeader(n *node, s *actors.Status) {
	at := reign{group: s.Group, term: s.Term}
	if known, ok := w.leaders[at]; ok && (known.node != n.id || known.life != n.life) {
		w.violate("two leaders in one term", "group %d, term %d: nodes %d and %d", s.Group, s.Term, known.node, n.id)
		return
	}
	w.leaders[at] = leader{n.id, n.life, w.now}
	w.mix(n.id, uint64(s.Group), s.Term)
	w.tell("node %d leads group %d in term %d, from index %d", n.id, s.Group, s.Term, s.Last)
	w.strikeStale(n, s.Group)
	w.strikeElected(n, s)
}

// steady is how long nothing may have gone wrong before a leader is called healthy.
const steady = 3 * electionTimeout

// watchDeposed looks at a leader that gives up in its own term, as CheckQuorum makes it do when a majority
// has been silent: not while its majority was there all the time. A pause of its own is no reason.
func (w *world) watchDeposed(n *node, last, s *actors.Status) {
	if last == nil || last.Role != raftcore.Leader || s.Role == raftcore.Leader || s.Term != last.Term || w.faulty && w.shape.lossPerMille+w.shape.latePerMille > 0 || w.now-w.connected < steady || !n.disk.sound() {
		return
	}
	if w.cutNow() {
		return
	}
	if since := w.leaders[reign{group: s.Group, term: s.Term}].since; since >= n.quiet && w.now-n.quiet < electionTimeout {
		return // it won when it went on after a pause, with votes from before: the ticks of the pause come after them
	}
	if !slices.Contains(s.VoterIDs, s.Replica) {
		return // it has left the group
	}
	following := 1
	for _, id := range s.Voters {
		m := w.node(id)
		if m == nil || m == n || !m.healthy() {
			continue
		}
		if f := m.status(s.Group); f != nil && f.Term == s.Term && f.Leader == raftcore.NodeID(n.id) {
			following++
		}
	}
	if following > len(s.Voters)/2 {
		w.violate("a healthy leader gives up", "node %d, group %d, term %d: %d of %d voters follow it", n.id, s.Group, s.Term, following, len(s.Voters))
	}
}

// healthy says that nothing has been wrong with a node for a while.
func (n *node) healthy() bool {
	return n.up && !n.paused && !n.doomed && n.disk.sound() && n.w.now-n.quiet >= steady
}

// sound says that nothing has been wrong with a disk for a while.
func (d *disk) sound() bool {
	return d.slowness == 0 && d.stalled <= d.n.w.now && d.n.w.now-d.quiet >= steady
}

// watchDisk looks at the logs that a node starts from: terms never fall along a log, nor are they above the
// replica's own.
func (n *node) watchDisk() {
	v, err := n.mem.View()
	if err != nil {
		return
	}
	defer v.Close()
	groups, err := store.Groups(v)
	if err != nil {
		n.w.violate("disk", "node %d: %v", n.id, err)
		return
	}
	for _, g := range groups {
		if g.Tombstone {
			continue
		}
		s, err := store.Inspect(v, g.Group)
		if err != nil {
			n.w.violate("disk", "node %d: %v", n.id, err)
			return
		}
		n.began[g.Group] = s
		n.watchOwnVote(s)
		term := uint64(0)
		for i := s.Truncated + 1; i <= s.Last; i++ {
			at, _, err := store.EntryData(v, g.Group, g.Generation, i)
			if err != nil || at.Term < term || at.Term > s.Term {
				n.w.violate("disk", "node %d, group %d: entry %d is of term %d, after term %d, hard state %d (%v)", n.id, g.Group, i, at.Term, term, s.Term, err)
				return
			}
			term = at.Term
		}
	}
}

// promises holds what leaves a node against what is synced on its disk at that moment. One commit may hold
// more: then the disk is in a later term already, in which nothing of the earlier one can be promised again.
func (n *node) promises(env *raftv1.Envelope) {
	if env.GetReject() {
		return
	}
	g, w := raftcore.GroupID(env.GetGroupId()), n.w
	switch env.GetType() {
	case raftv1.MessageType_MESSAGE_TYPE_VOTE_RESPONSE:
		s, err := store.Inspect(n.mem.Synced(), g)
		if n.deletes(env) {
			return
		}
		if err != nil || s.Term < env.GetTerm() || s.Term == env.GetTerm() && s.Vote != env.GetToReplica() {
			w.violate("a vote before it is durable", "node %d, group %d votes for replica %d in term %d; its disk has term %d, vote %d (%v)",
				n.id, g, env.GetToReplica(), env.GetTerm(), s.Term, s.Vote, err)
			return
		}
		n.watchVote(env)
	case raftv1.MessageType_MESSAGE_TYPE_APPEND_RESPONSE:
		s, err := store.Inspect(n.mem.Synced(), g)
		if n.deletes(env) {
			return
		}
		if err != nil || s.Term < env.GetTerm() || s.Term == env.GetTerm() && uint64(s.Last) < env.GetIndex() {
			w.violate("an append acknowledged before it is durable", "node %d, group %d acknowledges index %d in term %d; its disk has entries to %d, term %d (%v)",
				n.id, g, env.GetIndex(), env.GetTerm(), s.Last, s.Term, err)
		}
	}
}

// deletes says that the commit which released a message has also deleted its replica, as it was ordered to.
func (n *node) deletes(env *raftv1.Envelope) bool {
	return n.deletesReplica(raftcore.GroupID(env.GetGroupId()), raftcore.ReplicaID(env.GetFromReplica()))
}

func (n *node) deletesReplica(group raftcore.GroupID, replica raftcore.ReplicaID) bool {
	groups, err := store.Groups(n.mem.Synced())
	return err == nil && slices.ContainsFunc(groups, func(g store.StoredGroup) bool {
		return g.Group == group && (g.Tombstone || g.Replica > replica)
	})
}

func (n *node) watchVote(env *raftv1.Envelope) {
	at := reign{raftcore.GroupID(env.GetGroupId()), env.GetTerm(), raftcore.ReplicaID(env.GetFromReplica())}
	to := raftcore.ReplicaID(env.GetToReplica())
	if before, ok := n.w.votes[at]; ok && before != to {
		n.w.violate("a vote changes within a term", "node %d, group %d, term %d: replica %d, before it replica %d", n.id, at.group, at.term, to, before)
	}
	n.w.votes[at] = to
}

// durable counts the nodes that have an entry synced, and how many are needed: of these voters, or of those that
// the group has now, when some of these have been deleted since.
func (w *world) durable(g raftcore.GroupID, at raftcore.Position, voters []raftcore.NodeID) (have, need int) {
	have, need = w.durableOn(g, at, voters)
	now := w.members[g]
	if have < need && now != nil {
		have, need = w.durableOn(g, at, now.Voters)
	}
	// What a joint membership found committed was so by the one before; nothing of it need be on the new half yet.
	if before := w.settled[g]; have < need && now != nil && now.Joint && before != nil {
		have, need = w.durableOn(g, at, before.Voters)
	}
	return have, need
}

func (w *world) durableOn(g raftcore.GroupID, at raftcore.Position, voters []raftcore.NodeID) (have, need int) {
	for _, id := range voters {
		if n := w.node(id); n != nil && n.holds(g, at) {
			have++
		}
	}
	return have, len(voters)/2 + 1
}

func (n *node) holds(g raftcore.GroupID, at raftcore.Position) bool {
	v := n.mem.Synced()
	generation, err := store.CurrentGeneration(v, g)
	if err != nil {
		return false
	}
	found, _, err := store.EntryData(v, g, generation, at.Index)
	if err == nil {
		return found == at
	}
	s, err := store.Inspect(v, g)
	return err == nil && s.Truncated >= at.Index
}
