package actors

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// small makes a log that keeps so little that a follower which misses some entries needs a snapshot.
var small = Keep{Entries: 8, Bytes: 1 << 20}

func words(prefix string, n, bytes int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("%s%d", prefix, i) + strings.Repeat(".", bytes)
	}
	return all
}

// behind makes a group whose node 3 was away for so long that the log it needs is gone. Payloads are of some bytes.
func behind(t *testing.T, bytes int) *group {
	t.Helper()
	g := newGroup(t, small)
	g.propose(words("before", 3, 0)...)
	g.cut[3] = true
	g.propose(words("after", 30, bytes)...)
	g.tick(30) // node 1 sees that 3 is away, and probes
	if n := len(g.carry); n != 0 {
		t.Fatalf("%d snapshots were announced to a node that is away", n)
	}
	g.cut[3] = false
	return g
}

func (g *group) wantCaughtUp(id raftcore.NodeID) {
	g.t.Helper()
	g.propose("more")
	g.until(fmt.Sprintf("node %d is caught up", id), func() bool {
		a, b := g.nodes[1].status(), g.nodes[id].status()
		return a.Applied == b.Applied && a.Hash == b.Hash && b.Leader == 1
	})
	if want, got := g.nodes[1].machine.payloads, g.nodes[id].machine.payloads; !slices.Equal(want, got) {
		g.t.Fatalf("node %d has %d payloads, node 1 has %d", id, len(got), len(want))
	}
	if c := &g.nodes[1].counters; c.SnapshotsAnnounced.Load() != c.SnapshotsSent.Load()+c.SnapshotsFailed.Load() {
		g.t.Fatalf("%d snapshots announced, %d reported done, %d failed", c.SnapshotsAnnounced.Load(), c.SnapshotsSent.Load(), c.SnapshotsFailed.Load())
	}
}

// wantOneGeneration checks that the store holds keys of the current generation only.
func (m *member) wantOneGeneration(want uint64) {
	m.g.t.Helper()
	v, err := m.kv.View()
	if err != nil {
		m.g.t.Fatal(err)
	}
	gen, err := store.CurrentGeneration(v, rigGroup)
	if err != nil || gen != want {
		m.g.t.Fatalf("generation %d, want %d; %v", gen, want, err)
	}
	for _, other := range []uint64{gen - 1, gen + 1} {
		lo, hi := store.MachinePrefix(rigGroup, other), store.MachinePrefix(rigGroup, other)
		lo[len(lo)-1], hi[len(hi)-1] = 0, 255
		if err := v.Scan(lo, hi, false, func(key, _ []byte) bool {
			m.g.t.Errorf("key %x of generation %d is left", key, other)
			return true
		}); err != nil {
			m.g.t.Fatal(err)
		}
	}
	if err := v.Close(); err != nil {
		m.g.t.Fatal(err)
	}
}

func TestAFollowerThatTheLogHasLeftBehindComesBackByASnapshot(t *testing.T) {
	g := behind(t, 100<<10)
	if s := g.nodes[1].status(); g.nodes[1].counters.Discarded.Load() == 0 {
		t.Fatalf("nothing was discarded: %+v", s)
	}
	before := g.nodes[3].status()
	c := g.awaitSnapshot()
	resp := c.finish()
	if !resp.GetSuccess() || resp.GetMatchIndex() != c.open.GetLastIncludedIndex() || c.chunk < 2 {
		t.Fatalf("answer %v after chunk %d", resp, c.chunk)
	}
	if after := g.nodes[3].status(); after.Applied <= before.Applied || after.Commit < raftcore.Index(resp.GetMatchIndex()) {
		t.Fatalf("before %+v\nafter  %+v", before, after)
	}
	g.wantCaughtUp(3)
	g.nodes[3].wantOneGeneration(2)
	if n := len(g.carry); n != 1 {
		t.Fatalf("%d snapshots, want one", n)
	}
	g.nodes[3].crash()
	g.wantCaughtUp(3)
}

func TestAReplicaBornEmptyIsFilledAndVotesForNobodyBefore(t *testing.T) {
	g := newGroup(t, small)
	g.propose(words("x", 5, 100<<10)...)
	b := new(store.Batch)
	store.PutJoin(b, rigGroup, 4)
	joiner := g.add(4, b)
	g.tick(100)
	if st := joiner.status(); st.Role != raftcore.Follower || st.Term != 0 {
		t.Fatalf("before it was told anything: %+v", st)
	}
	g.nodes[1].tell(&SetTarget{Target: raftcore.Target{ID: 1, Voters: map[raftcore.ReplicaID]raftcore.NodeID{1: 1, 2: 2, 3: 3}, Learners: map[raftcore.ReplicaID]raftcore.NodeID{4: 4}}})
	resp := g.awaitSnapshot().finish()
	if !resp.GetSuccess() {
		t.Fatalf("%v", resp)
	}
	g.wantCaughtUp(4)
	joiner.wantOneGeneration(2)
	if st := joiner.status(); !slices.Equal(st.Learners, []raftcore.NodeID{4}) || len(st.Voters) != 3 {
		t.Fatalf("%+v", st)
	}
	joiner.crash()
	g.wantCaughtUp(4)
}

func TestAStreamThatBreaksGoesOnWhereItBroke(t *testing.T) {
	g := behind(t, 400<<10)
	c := g.awaitSnapshot()
	for range 3 {
		if a := c.next(); a.Err != nil || a.Snapshot != nil {
			t.Fatalf("%+v", a)
		}
	}
	where := c.offset
	data, _, err := c.source.Chunk(0)
	if err != nil {
		t.Fatal(err)
	}
	for name, offset := range map[string]uint64{"a chunk that came before": where - uint64(len(data)), "one too far": where + 1} {
		if a := c.send(offset, data, false); a.Err != nil || a.Snapshot == nil || a.Snapshot.GetSuccess() || a.Snapshot.GetNextOffset() != where {
			t.Fatalf("%s: %+v, want to go on at %d", name, a, where)
		}
	}
	if a := c.send(where, nil, false); a.Err != nil || a.Snapshot != nil {
		t.Fatalf("an empty chunk at the right place: %+v", a)
	}
	if resp := c.finish(); !resp.GetSuccess() {
		t.Fatalf("%v", resp)
	}
	g.wantCaughtUp(3)
	if n := g.nodes[3].counters.SnapshotsBegun.Load(); n != 1 {
		t.Fatalf("it began %d times", n)
	}
}

func TestTheAnswerToALastChunkMayBeLostAndAskedForAgain(t *testing.T) {
	g := behind(t, 10)
	c := g.awaitSnapshot()
	a := c.next()
	for a.Err == nil && a.Snapshot == nil {
		a = c.next()
	}
	if !a.Snapshot.GetSuccess() {
		t.Fatalf("%+v", a)
	}
	end := c.open.GetLastIncludedIndex()
	if again := c.send(0, nil, false); !again.Snapshot.GetSuccess() || again.Snapshot.GetMatchIndex() < end {
		t.Fatalf("asked again: %+v", again)
	}
	c.end(a)
	g.wantCaughtUp(3)
}

func TestAChunkThatHasChangedIsRefusedAndCanBeSentAgain(t *testing.T) {
	g := behind(t, 400<<10)
	c := g.awaitSnapshot()
	c.next()
	g.spoil = func(_ *carried, req *raftv1.InstallSnapshotRequest) { req.Data[len(req.Data)/2] ^= 4 }
	if a := c.next(); !errors.Is(a.Err, ErrSnapshotChecksum) {
		t.Fatalf("%+v", a)
	}
	g.spoil = nil
	if resp := c.finish(); !resp.GetSuccess() {
		t.Fatalf("%v", resp)
	}
	g.wantCaughtUp(3)
}

func TestContentThatIsNotTheSnapshotIsDropped(t *testing.T) {
	g := behind(t, 10)
	before := *g.nodes[3].status()
	c := g.awaitSnapshot()
	g.spoil = func(_ *carried, req *raftv1.InstallSnapshotRequest) {
		req.Data = req.Data[:len(req.Data)-1]
		req.Checksum = SnapshotChecksum(req.Data)
	}
	if c.finish() != nil || g.nodes[3].counters.SnapshotsInstalled.Load() != 0 {
		t.Fatal("half a record was taken for a snapshot")
	}
	if after := g.nodes[3].status(); after.Applied != before.Applied || after.Hash != before.Hash {
		t.Fatalf("before %+v\nafter  %+v", before, after)
	}
	g.nodes[3].wantOneGeneration(1)
	g.spoil = nil
	if resp := g.awaitSnapshot().finish(); !resp.GetSuccess() { // Raft was told, and tries again
		t.Fatalf("%v", resp)
	}
	g.wantCaughtUp(3)
}

func TestAnnouncementsThatRaftWouldNotTakeStageNothing(t *testing.T) {
	g := behind(t, 10)
	c := g.awaitSnapshot()
	for name, row := range map[string]struct {
		spoil func(*raftv1.InstallSnapshotRequest)
		want  raftcore.Reason
	}{
		"for another replica":        {func(r *raftv1.InstallSnapshotRequest) { r.Header.ToReplica = 2 }, raftcore.ReasonTo},
		"from a stranger":            {func(r *raftv1.InstallSnapshotRequest) { r.Header.FromReplica, r.LeaderId = 9, 9 }, raftcore.ReasonNode},
		"from another node's":        {func(r *raftv1.InstallSnapshotRequest) { r.Header.FromReplica, r.LeaderId = 2, 2 }, raftcore.ReasonNode},
		"a leader by another name":   {func(r *raftv1.InstallSnapshotRequest) { r.LeaderId = 2 }, raftcore.ReasonLeaderID},
		"term 0":                     {func(r *raftv1.InstallSnapshotRequest) { r.Term = 0 }, raftcore.ReasonTerm},
		"a term that kills a group":  {func(r *raftv1.InstallSnapshotRequest) { r.Term = 1 << 60 }, raftcore.ReasonTerm},
		"without a membership":       {func(r *raftv1.InstallSnapshotRequest) { r.ConfState = nil }, raftcore.ReasonConfState},
		"an entry of a later term":   {func(r *raftv1.InstallSnapshotRequest) { r.LastIncludedTerm = r.Term + 1 }, raftcore.ReasonSnapshotData},
		"without a position":         {func(r *raftv1.InstallSnapshotRequest) { r.LastIncludedIndex = 0 }, raftcore.ReasonSnapshotData},
		"an entry of an older term":  {func(r *raftv1.InstallSnapshotRequest) { r.LastIncludedTerm = 1 }, raftcore.ReasonCommitted},
		"a membership without sense": {func(r *raftv1.InstallSnapshotRequest) { r.ConfState.Learners = []uint64{1} }, raftcore.ReasonConfState},
	} {
		c.open = nil
		g.spoil = func(_ *carried, req *raftv1.InstallSnapshotRequest) { row.spoil(req) }
		open, err := c.source.Open()
		if err != nil {
			t.Fatal(err)
		}
		c.open = open
		var refusal *raftcore.Refusal
		if a := c.send(0, []byte("x"), false); !errors.As(a.Err, &refusal) || refusal.Reason != row.want {
			t.Errorf("%s: %+v", name, a)
		}
	}
	if n := g.nodes[3].counters.SnapshotsBegun.Load(); n != 0 {
		t.Fatalf("%d have begun", n)
	}
	if a := c.send(0, make([]byte, SnapshotChunkBytesMax+1), false); a.Err == nil {
		t.Fatal("a chunk of more than 1 MiB was taken")
	}
}

// outdated makes node 3 hear of a later term, and returns it.
func (g *group) outdated() uint64 {
	term := g.nodes[3].status().Term + 3
	g.nodes[3].tell(&Inbound{From: 2, Envelopes: []*raftv1.Envelope{{GroupId: uint64(rigGroup), FromReplica: 2, ToReplica: 3,
		Type: raftv1.MessageType_MESSAGE_TYPE_APPEND, Term: term, Index: 1, LogTerm: 1, Commit: 1}}})
	return term
}

func TestAStaleLeadersSnapshotIsAnsweredWithTheTerm(t *testing.T) {
	g := behind(t, 400<<10)
	c := g.awaitSnapshot()
	c.next()
	term := g.outdated()
	g.run()
	if a := c.next(); a.Err != nil || a.Snapshot.GetSuccess() || a.Snapshot.GetTerm() != term {
		t.Fatalf("%+v, want term %d", a, term)
	}
	if n := g.nodes[3].counters.SnapshotsInstalled.Load(); n != 0 {
		t.Fatal("installed")
	}
}

// The last chunk is on its way to the disk when a later leader is heard: Raft ignores the snapshot.
func TestASnapshotThatRaftIgnoresIsDropped(t *testing.T) {
	g := behind(t, 10)
	c := g.awaitSnapshot()
	term := uint64(0)
	g.staged = func() { term = g.outdated() }
	a := c.next()
	g.staged = nil
	if a.Err != nil || a.Snapshot.GetSuccess() || a.Snapshot.GetTerm() != term || !c.last {
		t.Fatalf("%+v, want term %d", a, term)
	}
	m := g.nodes[3]
	if m.counters.SnapshotsDropped.Load() != 1 || m.counters.SnapshotsInstalled.Load() != 0 || m.status().Applied > 6 {
		t.Fatalf("dropped %d, installed %d, %+v", m.counters.SnapshotsDropped.Load(), m.counters.SnapshotsInstalled.Load(), m.status())
	}
	m.wantOneGeneration(1)
	c.end(a)
	if s := g.nodes[1].status(); s.Role == raftcore.Leader {
		t.Fatalf("a leader that was told of term %d leads on: %+v", term, s)
	}
}

func TestARestartDeletesWhatWasStaged(t *testing.T) {
	g := behind(t, 400<<10)
	c := g.awaitSnapshot()
	c.next()
	c.next()
	g.nodes[3].crash()
	g.nodes[3].wantOneGeneration(1)
	a := c.next()
	if a.Err != nil || a.Snapshot.GetNextOffset() != 0 || a.Snapshot.GetSuccess() {
		t.Fatalf("%+v, want to begin anew", a)
	}
	c.chunk, c.offset = 0, 0
	if resp := c.finish(); !resp.GetSuccess() {
		t.Fatalf("%v", resp)
	}
	g.wantCaughtUp(3)
	g.nodes[3].wantOneGeneration(2)
}

func TestASnapshotThatDoesNotGoOnIsGivenUpOnBothSides(t *testing.T) {
	g := behind(t, 400<<10)
	c := g.awaitSnapshot()
	c.next()
	g.tick(snapshotIdleTimeouts*electionTicksDefault + 5)
	if n := g.nodes[1].counters.SnapshotsFailed.Load(); n != 1 {
		t.Fatalf("%d reported as failed, want 1", n)
	}
	if n := g.nodes[3].counters.SnapshotsDropped.Load(); n != 1 {
		t.Fatalf("%d dropped, want 1", n)
	}
	g.nodes[3].wantOneGeneration(1)
	a := c.next()
	if !errors.Is(a.Err, ErrSnapshotCancelled) {
		t.Fatalf("%+v", a)
	}
	c.end(a) // late, and reported already
	if resp := g.awaitSnapshot().finish(); !resp.GetSuccess() {
		t.Fatalf("%v", resp)
	}
	g.wantCaughtUp(3)
}

func TestASnapshotIsReportedOnceAlsoWhenItEndsTwice(t *testing.T) {
	g := behind(t, 10)
	c := g.awaitSnapshot()
	c.end(UnaryAnswer{Err: errors.New("planted")})
	c.source.Ended(nil, errors.New("planted again"))
	g.tick(snapshotRetryTicks)
	d := g.awaitSnapshot()
	c.source.Ended(&raftv1.InstallSnapshotResponse{Success: true, Term: 1, MatchIndex: 1}, nil)
	g.run()
	if n := g.nodes[1].counters.SnapshotsFailed.Load(); n != 1 {
		t.Fatalf("%d reported as failed, want 1", n)
	}
	if resp := d.finish(); !resp.GetSuccess() {
		t.Fatalf("%v", resp)
	}
	g.wantCaughtUp(3)
}

func TestALeaderThatStepsDownCancelsWhatItSends(t *testing.T) {
	g := behind(t, 400<<10)
	c := g.awaitSnapshot()
	c.next()
	g.cut[1] = true
	g.until("node 1 has lost its leadership", func() bool { return g.nodes[1].status().Role != raftcore.Leader })
	if a := c.next(); !errors.Is(a.Err, ErrSnapshotCancelled) {
		t.Fatalf("%+v", a)
	}
}

func TestTheLogIsNotTruncatedPastASnapshotOnItsWay(t *testing.T) {
	g := behind(t, 400<<10)
	c := g.awaitSnapshot()
	c.next()
	at := c.open.GetLastIncludedIndex()
	g.propose(words("meanwhile", 40, 0)...)
	v, err := g.nodes[1].kv.View()
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.OpenSnapshot(v, rigGroup)
	if err != nil || uint64(s.State.Truncated.Index) > at {
		t.Fatalf("truncated to %d, the snapshot is at %d; %v", s.State.Truncated.Index, at, err)
	}
	if resp := c.finish(); !resp.GetSuccess() {
		t.Fatalf("%v", resp)
	}
	g.wantCaughtUp(3)
	if n := len(g.carry); n != 1 {
		t.Fatalf("%d snapshots, want one", n)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestASelfTruncatingLogKeepsWhatItIsToldTo(t *testing.T) {
	for _, row := range []struct {
		keep Keep
		n    int
		data int
		want int
	}{
		{Keep{Entries: 8, Bytes: 1 << 20}, 100, 10, 8},
		{Keep{Entries: 1000, Bytes: 10_000}, 100, 1000, 9}, // an entry has some bytes more than its payload
	} {
		g := newGroup(t, row.keep)
		g.propose(words("x", row.n, row.data)...)
		for id, m := range g.nodes {
			v, err := m.kv.View()
			if err != nil {
				t.Fatal(err)
			}
			s, err := store.OpenSnapshot(v, rigGroup)
			if err != nil {
				t.Fatal(err)
			}
			if kept := int(s.State.Applied - s.State.Truncated.Index); kept < row.want || kept > row.want+row.want/4+1 {
				t.Errorf("%+v: node %d keeps %d entries, want %d to a quarter more", row.keep, id, kept, row.want)
			}
			if err := v.Close(); err != nil {
				t.Fatal(err)
			}
		}
		g.nodes[2].crash()
		g.propose(words("y", row.n, row.data)...)
	}
}

// A snapshot message whose data nobody has sent comes by the ordinary way.
func TestASnapshotMessageOnTheExchangeIsRefused(t *testing.T) {
	g := behind(t, 10)
	c := g.awaitSnapshot()
	open, err := c.source.Open()
	if err != nil {
		t.Fatal(err)
	}
	env := raftcore.ToEnvelope(rigGroup, &raftpb.Message{Type: raftpb.MsgSnap.Enum(), From: new(uint64(1)), To: new(uint64(3)), Term: new(open.GetTerm()),
		Snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: new(open.GetLastIncludedIndex()), Term: new(open.GetLastIncludedTerm()), ConfState: &raftpb.ConfState{Voters: []uint64{1, 2, 3}}}}})
	g.nodes[3].tell(&Inbound{From: 1, Envelopes: []*raftv1.Envelope{env}})
	g.run()
	if n := g.nodes[3].core.Refused(raftcore.ReasonSnapshotUnstaged); n != 1 {
		t.Fatalf("%d refused", n)
	}
}

func TestAReaderDuringTheReplacementSeesOneStateOrTheOther(t *testing.T) {
	g := behind(t, 100<<10)
	m := g.nodes[3]
	before := len(m.machine.payloads)
	seen := map[int]bool{}
	read := func() {
		v, err := m.kv.View()
		if err != nil {
			t.Fatal(err)
		}
		gen, err := store.CurrentGeneration(v, rigGroup)
		if err != nil {
			t.Fatal(err)
		}
		state, err := store.LoadState(v, rigGroup, gen)
		if err != nil {
			t.Fatal(err)
		}
		opened, err := openStoredMachine(v, store.MachinePrefix(rigGroup, gen))
		if err != nil {
			t.Fatal(err)
		}
		read := opened.(*storedMachine)
		if read.last > state.Applied || len(read.payloads) != before && len(read.payloads) != len(g.nodes[1].machine.payloads) {
			t.Fatalf("generation %d, applied %d: %d payloads to entry %d", gen, state.Applied, len(read.payloads), read.last)
		}
		if _, _, err := store.EntryData(v, rigGroup, gen, state.Applied); err != nil {
			t.Fatalf("generation %d: the entry applied last: %v", gen, err)
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		seen[len(read.payloads)] = true
	}
	c := g.awaitSnapshot()
	g.staged = func() {
		for len(g.disp.queue) > 0 {
			read()
			g.disp.one()
		}
		read()
	}
	c.finish()
	if len(seen) != 2 {
		t.Fatalf("seen %v", seen)
	}
}
