package raftcore

import (
	"crypto/rand"
	"maps"
	mathrand "math/rand/v2"
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"pgregory.net/rapid"
)

// bereaved is movers whose leaders die in the middle of it.
type bereaved struct {
	*movers
	counters Counters
	deaths   int
}

// spared says whether a majority is there without a replica: in the membership of everyone who is left, and in the
// last one that anybody has ever applied. Who was deleted counts as there: nobody may depend on it any more.
func (b *bereaved) spared(without ReplicaID) bool {
	enough := func(voters []uint64) bool {
		up := 0
		for _, v := range voters {
			if r := ReplicaID(v); r != without && (b.gone[r] || b.nodes[r] != nil && b.core(r) != nil) {
				up++
			}
		}
		return len(voters) == 0 || up > len(voters)/2
	}
	last := b.confs[len(b.confs)-1].conf
	if !enough(last.GetVoters()) || !enough(last.GetVotersOutgoing()) {
		return false
	}
	for _, id := range b.ids() {
		if c := b.core(id); c != nil && id != without && (!enough(c.ConfState().GetVoters()) || !enough(c.ConfState().GetVotersOutgoing())) {
			return false
		}
	}
	return true
}

// leaderDies takes the leader away if a majority is there without it, and wants another one to be elected.
func (b *bereaved) leaderDies() {
	const ticksMax = 300 // ten elections and more
	id := b.leader()
	if id == noReplica || !b.spared(id) {
		return
	}
	b.deaths++
	b.say("%d dies", id)
	b.crash(id)
	b.looked[id] = min(b.looked[id], b.nodes[id].applied)
	b.queue = slices.DeleteFunc(b.queue, func(m *raftpb.Message) bool { return m.GetFrom() == uint64(id) })
	clear(b.cut)
	for ticks := 0; b.leader() == noReplica; ticks++ {
		if ticks > ticksMax {
			b.t.Fatalf("nobody is elected after %d\n%s", id, b.trace.String())
		}
		b.step(func() int { return -1 })
	}
	b.start(id)
}

func (b *bereaved) leader() (leads ReplicaID) {
	for _, id := range b.ids() {
		if c := b.core(id); c != nil && c.Status().Role == Leader && (leads == noReplica || c.Status().Term > b.core(leads).Status().Term) {
			leads = id
		}
	}
	return leads
}

// differs says that not everybody knows of the same members.
func (b *bereaved) differs() bool {
	var confs []*raftpb.ConfState
	for _, id := range b.ids() {
		if c := b.core(id); c != nil {
			confs = append(confs, c.ConfState())
		}
	}
	return slices.ContainsFunc(confs, func(c *raftpb.ConfState) bool { return c.Equivalent(confs[0]) != nil })
}

// swap wants one voter to leave, or another one, or both.
func (b *bereaved) swap(source *mathrand.Rand) {
	want := Target{ID: b.target.ID + 1, Voters: maps.Clone(b.target.Voters)}
	voters := b.target.members()
	if len(voters) > 3 || source.IntN(2) == 0 {
		delete(want.Voters, voters[source.IntN(len(voters))])
	}
	if len(want.Voters) < 3 || source.IntN(2) == 0 {
		b.placed++
		want.Voters[b.placed] = NodeID(b.placed)
		b.join(b.placed)
	}
	b.target = want
	b.say("target %d: %v", want.ID, want.members())
}

// underWay lets time pass until the change is under way, and everybody is in two minds.
func (b *bereaved) underWay() {
	for range 60 {
		if l := b.leader(); l != noReplica && joint(b.core(l).ConfState()) {
			return
		}
		b.lag(func() int { return 0 })
		b.step(func() int { return -1 })
		b.settle()
	}
}

// moment lets one thing happen to somebody: everybody is as far as it happens to be.
func (b *bereaved) moment(source *mathrand.Rand) {
	ids := b.ids()
	who := ids[source.IntN(len(ids))]
	toWho := func(m *raftpb.Message) bool { return m.GetTo() == uint64(who) }
	switch n := source.IntN(100); {
	case n < 5:
		for _, id := range ids {
			b.core(id).Tick()
		}
		b.lag(func() int { return 0 })
		b.settle()
	case n < 15:
		b.steer()
	case n < 25:
		if l := b.leader(); l != noReplica && b.core(l).Propose([][]byte{[]byte("x")}) != nil {
			b.say("%d takes no proposal", l)
		}
	case n < 60:
		b.take(who)
		b.sync(who)
	case n < 62:
		b.queue = slices.DeleteFunc(b.queue, toWho)
	default:
		b.deliver(toWho)
	}
	b.check()
}

func TestAMajorityElectsALeaderWhateverItKnowsOfTheMembers(t *testing.T) {
	real := rand.Reader
	t.Cleanup(func() { rand.Reader = real })
	deaths, changes, learned := 0, 0, uint64(0)
	rapid.Check(t, func(t *rapid.T) {
		seed := [32]byte{}
		seed[0] = rapid.Byte().Draw(t, "elections")
		rand.Reader = mathrand.NewChaCha8(seed)
		b := &bereaved{movers: newMovers(t)}
		configure := b.configure
		b.configure = func(c *Config) {
			configure(c)
			c.Counters = &b.counters
		}
		for _, id := range b.ids() {
			b.crash(id)
			b.start(id)
		}
		source := mathrand.New(mathrand.NewPCG(rapid.Uint64().Draw(t, "luck"), 0))
		for range 20 {
			b.swap(source)
			b.underWay()
			for range 1 + source.IntN(200) {
				if b.moment(source); b.differs() && source.IntN(20) == 0 {
					break
				}
			}
			b.leaderDies()
		}
		deaths, changes, learned = deaths+b.deaths, changes+len(b.confs)-1, learned+b.counters.CommitsLearned.Load()
	})
	if t.Logf("%d leaders died, %d memberships, %d commits were learned from votes", deaths, changes, learned); deaths < 100 {
		t.Errorf("%d leaders died: the test did not happen", deaths)
	}
}
