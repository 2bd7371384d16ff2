package raftcore

import (
	"crypto/rand"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"pgregory.net/rapid"
)

// movers is a group whose target changes again and again, while replicas crash, messages are lost or come late,
// and some know only an older target. Replica i is on node i; those that a settled target does not name are
// deleted, as an order to delete would have it.
type movers struct {
	*testNetwork
	target  Target
	known   map[ReplicaID]Target // what the metadata of a node say: the target or an earlier one
	settled []ReplicaID          // members of the last target that was settled
	gone    map[ReplicaID]bool   // deleted for good
	placed  ReplicaID            // highest id that was ever placed
	late    []*raftpb.Message
	stuck   map[ReplicaID]bool   // their metadata do not get on
	leaders map[uint64]ReplicaID // by term
	log     map[Index]string     // what was applied there, by anyone
	looked  map[ReplicaID]Index
	moves   int
}

func newMovers(t rapid.TB) *movers {
	m := &movers{
		testNetwork: newTestNetwork(t, 3), known: map[ReplicaID]Target{}, settled: []ReplicaID{1, 2, 3}, gone: map[ReplicaID]bool{},
		placed: 3, leaders: map[uint64]ReplicaID{}, log: map[Index]string{}, stuck: map[ReplicaID]bool{}, looked: map[ReplicaID]Index{},
	}
	m.configure = func(c *Config) {
		c.Staged = func(Position) bool { return true }
		c.Vouch = func(r ReplicaID, n NodeID) bool { return !m.gone[r] && NodeID(r) == n && r <= m.placed }
	}
	m.elect(1)
	m.target = Target{ID: 1, Voters: onOwnNodes([]uint64{1, 2, 3})}
	return m
}

// retarget wants other members: some of those that there are, some new ones.
func (m *movers) retarget(t *rapid.T) {
	if m.placed > 40 {
		return
	}
	pool := slices.Clone(m.settled)
	for _, r := range m.target.members() {
		if !slices.Contains(pool, r) {
			pool = append(pool, r)
		}
	}
	want := Target{ID: m.target.ID + 1, Voters: map[ReplicaID]NodeID{}, Learners: map[ReplicaID]NodeID{}}
	for range rapid.IntRange(0, 2).Draw(t, "new") {
		m.placed++
		pool = append(pool, m.placed)
	}
	for _, r := range pool {
		switch rapid.IntRange(0, 4).Draw(t, "as") {
		case 0:
			want.Learners[r] = NodeID(r)
		case 1, 2, 3:
			want.Voters[r] = NodeID(r)
		}
	}
	if len(want.Voters) == 0 {
		want.Voters[pool[0]] = NodeID(pool[0])
		delete(want.Learners, pool[0])
	}
	m.target = want
	for _, r := range want.members() {
		if m.nodes[r] == nil {
			m.join(r)
		}
	}
	m.say("target %d: %v and %v", want.ID, slices.Sorted(maps.Keys(want.Voters)), slices.Sorted(maps.Keys(want.Learners)))
}

// steer lets everyone who leads take a step, with what its node knows.
func (m *movers) steer() {
	for _, id := range m.ids() {
		c := m.core(id)
		if c == nil || c.Status().Role != Leader {
			continue
		}
		before := c.Progress()
		step, err := c.Steer(m.known[id])
		if err != nil && err != ErrDropped {
			m.t.Fatalf("leader %d: %v\n%s", id, err, m.trace.String())
		}
		if step.Handover != 0 && c.TransferLeader(step.Handover) != nil {
			m.t.Fatalf("leader %d may not hand over to %d, as it was told\n%s", id, step.Handover, m.trace.String())
		}
		if step.Change != nil && err == nil {
			m.say("%d: proposes to %s", id, describeChange(m.t, step.Change))
			m.checkPromoted(c, before, step.Change)
		}
	}
}

// checkPromoted: nobody becomes a voter who has not caught up.
func (m *movers) checkPromoted(c *Core, members []Progress, change *raftpb.ConfChangeV2) {
	for _, one := range change.GetChanges() {
		if one.GetType() != raftpb.ConfChangeAddNode {
			continue
		}
		i := slices.IndexFunc(members, func(p Progress) bool { return p.Replica == ReplicaID(one.GetNodeId()) })
		if i < 0 || members[i].Match == 0 || members[i].Match+lagEntriesMax < c.Status().Commit {
			m.t.Fatalf("%d is made a voter with %+v\n%s", one.GetNodeId(), members, m.trace.String())
		}
	}
}

// settle is the controller's part: when the leader has reached the newest target, what it does not name is deleted.
func (m *movers) settle() {
	for _, id := range m.ids() {
		c := m.core(id)
		if c == nil || c.Status().Role != Leader || c.FollowedTarget() != m.target.ID || !m.target.Reached(c.ConfState()) || !c.Told() {
			continue
		}
		m.settled = m.target.members()
		for _, r := range m.ids() {
			if !m.target.has(r) {
				m.gone[r] = true
				delete(m.nodes, r)
				m.say("%d is deleted", r)
			}
		}
		m.moves++
		return
	}
}

// step lets a tick pass, on everyone who runs, and everything that follows from it happen; some messages are
// lost, some come late.
func (m *movers) step(draw func() int) {
	for _, id := range m.ids() {
		if c := m.core(id); c != nil {
			c.Tick()
		}
	}
	m.steer()
	for range 4 {
		for _, id := range m.ids() {
			m.take(id)
			m.sync(id)
		}
		m.queue = slices.DeleteFunc(m.queue, func(msg *raftpb.Message) bool {
			switch draw() {
			case 0:
				m.reportSnapshot(msg, false)
				return true
			case 1:
				if msg.GetType() != raftpb.MsgSnap {
					m.late = append(m.late, msg)
					return true
				}
			}
			return false
		})
		m.deliver(func(*raftpb.Message) bool { return true })
		m.check()
	}
}

// check compares what everyone has applied, and that a term has one leader.
func (m *movers) check() {
	for _, id := range m.ids() {
		node := m.nodes[id]
		if node.core == nil {
			continue
		}
		if st := node.core.Status(); st.Role == Leader {
			if other, ok := m.leaders[st.Term]; ok && other != id {
				m.t.Fatalf("%d and %d lead in term %d\n%s", other, id, st.Term, m.trace.String())
			}
			m.leaders[st.Term] = id
		}
		for i := max(m.looked[id], node.log.cut.Index) + 1; i <= node.applied; i++ {
			e := node.log.entries[i-node.log.cut.Index-1]
			says := fmt.Sprintf("%d %v %x", e.GetTerm(), e.GetType(), e.GetData())
			if other, ok := m.log[i]; ok && other != says {
				m.t.Fatalf("replica %d applied another entry at %d than somebody before\n%s", id, i, m.trace.String())
			}
			m.log[i] = says
		}
		m.looked[id] = node.applied
	}
	m.checkConfs()
}

// checkConfs: one change at a time, never a joint configuration upon another, and what was deleted never
// comes back.
func (m *movers) checkConfs() {
	for i := 1; i < len(m.confs); i++ {
		before, now := m.confs[i-1].conf, m.confs[i].conf
		if joint(before) && joint(now) {
			m.t.Fatalf("joint upon joint: %v, then %v", before, now)
		}
		if !joint(before) && !joint(now) && !slices.Equal(slices.Sorted(slices.Values(before.GetVoters())), slices.Sorted(slices.Values(now.GetVoters()))) {
			m.t.Fatalf("voters changed without a joint configuration: %v, then %v", before, now)
		}
	}
	now := m.confs[len(m.confs)-1]
	for r := range now.members {
		if m.gone[r] {
			m.t.Fatalf("%d was deleted and is a member again: %v\n%s", r, now.conf, m.trace.String())
		}
	}
}

// lag sets what the nodes know of the target.
func (m *movers) lag(draw func() int) {
	for _, id := range m.ids() {
		if m.known[id].ID < m.target.ID && !m.stuck[id] && draw() == 0 {
			m.known[id] = m.target
		}
	}
}

func (m *movers) actions() map[string]func(*rapid.T) {
	someone := func(t *rapid.T) ReplicaID { return rapid.SampledFrom(m.ids()).Draw(t, "who") }
	return map[string]func(*rapid.T){
		"retarget": m.retarget,
		"time passes": func(t *rapid.T) {
			source := mathrand.New(mathrand.NewPCG(rapid.Uint64().Draw(t, "luck"), 0))
			loss := rapid.SampledFrom([]int{5, 30, 1 << 30}).Draw(t, "loss")
			for range rapid.IntRange(1, 30).Draw(t, "ticks") {
				m.lag(func() int { return source.IntN(10) })
				m.step(func() int { return source.IntN(loss) })
				if source.IntN(4) == 0 {
					m.settle()
				}
			}
		},
		"crash": func(t *rapid.T) {
			if id := someone(t); m.core(id) != nil {
				m.crash(id)
				m.looked[id] = min(m.looked[id], m.nodes[id].applied)
			}
		},
		"restart": func(t *rapid.T) {
			if id := someone(t); m.core(id) == nil {
				m.start(id)
			}
		},
		"cut":  func(t *rapid.T) { m.cut[someone(t)] = true },
		"heal": func(*rapid.T) { clear(m.cut) },
		"old messages come": func(*rapid.T) {
			m.queue, m.late = append(m.queue, m.late...), nil
		},
		"propose": func(t *rapid.T) {
			entries := make([][]byte, rapid.SampledFrom([]int{1, 3, 2 * lagEntriesMax}).Draw(t, "entries"))
			for i := range entries {
				entries[i] = []byte("x")
			}
			for _, id := range m.ids() {
				if c := m.core(id); c != nil && c.Propose(entries) == nil {
					return
				}
			}
		},
		"metadata lag":    func(t *rapid.T) { m.stuck[someone(t)] = true },
		"metadata get on": func(t *rapid.T) { delete(m.stuck, someone(t)) },
		"hand over": func(t *rapid.T) {
			to := someone(t)
			for _, id := range m.ids() {
				if c := m.core(id); c != nil && c.TransferLeader(to) == nil {
					m.say("%d hands over to %d", id, to)
				}
			}
		},
	}
}

// converge ends the faults: within this many ticks the group has to have the members of the newest target.
func (m *movers) converge() {
	const ticksMax = 600
	clear(m.cut)
	clear(m.stuck)
	m.queue, m.late = append(m.queue, m.late...), nil
	for _, id := range m.ids() {
		if m.core(id) == nil {
			m.start(id)
		}
	}
	for range ticksMax {
		m.lag(func() int { return 0 })
		m.step(func() int { return -1 })
		moves := m.moves
		if m.settle(); m.moves > moves {
			return
		}
	}
	m.t.Fatalf("after %d quiet ticks the group has %v, wanted is %+v\n%s", ticksMax, m.confs[len(m.confs)-1].conf, m.target, m.trace.String())
}

func TestAGroupFollowsItsTargetThroughCrashesAndChangesOfLeader(t *testing.T) {
	real := rand.Reader
	t.Cleanup(func() { rand.Reader = real })
	moves, changes := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		seed := [32]byte{}
		seed[0] = rapid.Byte().Draw(t, "elections")
		rand.Reader = mathrand.NewChaCha8(seed)
		m := newMovers(t)
		t.Repeat(m.actions())
		m.converge()
		m.check()
		moves, changes = moves+m.moves, changes+len(m.confs)-1
	})
	if t.Logf("%d targets settled, %d membership changes applied", moves, changes); moves < 10 || changes < 10 {
		t.Errorf("%d targets settled in %d changes: the test did not happen", moves, changes)
	}
}

// settleOn moves the group to a target without faults.
func (m *movers) settleOn(t *testing.T, want Target) {
	t.Helper()
	for _, r := range want.members() {
		if m.placed = max(m.placed, r); m.nodes[r] == nil {
			m.join(r)
		}
	}
	m.target = want
	m.converge()
}

func TestALeaderWithOldMetadataCannotUndoALaterTarget(t *testing.T) {
	fixedElectionTimeouts(t)
	m := newMovers(t)
	first := Target{ID: 2, Voters: onOwnNodes([]uint64{1, 2, 4})}
	m.settleOn(t, Target{ID: 3, Voters: onOwnNodes([]uint64{2, 3, 5})})
	asked := 0
	for _, r := range []ReplicaID{5, 3, 2} { // 5 was filled by a snapshot; all know it after a restart too
		m.crash(r)
		m.start(r)
		if err := m.core(r).Campaign(); err != nil {
			t.Fatal(err)
		}
		m.run()
		for range 15 { // whoever else leads, lets go after an election timeout
			m.step(func() int { return -1 })
		}
		for _, id := range m.ids() {
			c := m.core(id)
			if c.FollowedTarget() != 3 {
				t.Errorf("%d follows target %d, of which the group knows 3", id, c.FollowedTarget())
			}
			if c.Status().Role != Leader {
				continue
			}
			asked++
			if step, err := c.Steer(first); err != nil || step.Wait != WaitStale || step.Change != nil {
				t.Errorf("leader %d wants to follow an old target: %+v, %v", id, step, err)
			}
		}
	}
	if asked == 0 {
		t.Error("nobody led")
	}
}
