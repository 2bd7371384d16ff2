package main

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/multiraftd/multiraftd/actors"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
)

// parting is the end of a joint membership that those hear of who leave, and not those who stay. Then the calm begins,
// without the leader: those who stay have to find out by themselves.
type parting struct {
	rnd    *rand.Rand // nil = not in this world
	group  raftcore.GroupID
	leader *node
	index  uint64 // of the entry that ends the joint membership; 0 = there is none now
	over   bool   // the leader has applied it
}

// partingMax is how long a leader has to commit the entry.
const partingMax = 2 * electionTimeout

// drawParting draws from a sequence of its own: worlds without it are as they were before there was any.
func drawParting(seed uint64) parting {
	rnd := rand.New(rand.NewPCG(seed, 4))
	if rnd.IntN(3) > 0 {
		return parting{}
	}
	return parting{rnd: rnd}
}

// watchParting looks at what a node sends. Who stays hears nothing more of the leader once it has acknowledged the
// entry; those who leave get all that comes after it.
func (w *world) watchParting(n *node, to uint64, env *raftv1.Envelope) {
	p := &w.parting
	if p.rnd == nil || !w.faulty {
		return
	}
	switch g := raftcore.GroupID(env.GetGroupId()); env.GetType() {
	case raftv1.MessageType_MESSAGE_TYPE_APPEND:
		s := n.status(g)
		if s == nil || !s.Joint || p.index > 0 {
			return
		}
		i := slices.IndexFunc(env.GetEntries(), func(e *raftv1.LogEntry) bool { // one change at a time: this one ends it
			return e.GetType() == raftv1.EntryType_ENTRY_TYPE_CONF_CHANGE_V2 && e.GetIndex() > uint64(s.Applied)
		})
		if i < 0 || p.rnd.IntN(2) == 0 {
			return
		}
		p.group, p.leader, p.index = g, n, env.GetEntries()[i].GetIndex()
		index := p.index
		w.after(partingMax, func() {
			if p.index == index {
				p.index = 0
			}
		})
	case raftv1.MessageType_MESSAGE_TYPE_APPEND_RESPONSE:
		s := n.status(g)
		if p.index > 0 && g == p.group && to == p.leader.id && !env.GetReject() && env.GetIndex() >= p.index && s != nil && slices.Contains(s.VoterIDs, s.Replica) {
			w.cut(to, n.id, partingMax)
		}
	}
}

// watchParted looks for the leader that has applied the entry. What it has sent before that still arrives; in half of
// the cases it lives on for so long that who has left could be deleted.
func (w *world) watchParted(n *node, last, s *actors.Status) {
	p := &w.parting
	if p.index == 0 || n != p.leader || s.Group != p.group || last == nil || !last.Joint || s.Joint || !w.faulty {
		return
	}
	w.fire(parted, "group %d: the membership %v is in force, and node %d has told nobody who stays", s.Group, s.Voters, n.id)
	more := 50 * time.Millisecond
	if p.rnd.IntN(2) == 0 {
		more = electionTimeout
	}
	w.after(w.shape.delayMax+time.Duration(p.rnd.Int64N(int64(more))), func() { p.over = true })
}
