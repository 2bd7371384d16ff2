package router

import (
	"slices"
	"testing"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/multiraftd/multiraftd/actors"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// watchman is a Router beside a cluster of nodes 1, its own, and 2, with a replica of group 7 that remembers what it is
// told.
type watchman struct {
	*coreRig
	rt     *Router
	router *actor.PID
	board  *actors.Board
	got    []any
}

func newWatchman(t *testing.T) *watchman {
	t.Helper()
	w := &watchman{coreRig: newCoreRig(t), board: &actors.Board{}}
	w.join(t)
	opts := []actor.PropsOption{actor.WithDispatcher(w)}
	root := w.core.system.Root
	replica := root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
		switch m := ctx.Message().(type) {
		case *actors.Suspect, *actors.NodeBack, *actors.Wake, *actors.Quiesce, *actors.NodeGone:
			w.got = append(w.got, m)
		}
	}, opts...))
	sink := root.Spawn(actor.PropsFromFunc(func(actor.Context) {}, opts...))
	w.rt = &Router{cfg: w.core.cfg, meta: w.core.Table().Meta, groups: map[raftcore.GroupID]*Hosted{7: {Group: 7, PID: replica, Board: w.board}}, ids: []raftcore.GroupID{7}, byPID: map[string]*Hosted{},
		hearing: newHearing(), inbound: map[raftcore.GroupID]*actors.Inbound{}, clock: sink, full: map[raftcore.NodeID]int{}}
	w.rt.cfg.Tables = NewTables()
	w.rt.publish()
	w.router = root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
		switch m := ctx.Message().(type) {
		case *Frame:
			w.rt.frame(ctx, m)
		case *actors.ClockTick:
			w.rt.tick(ctx, m)
		case *NodeGone:
			w.rt.nodeGone(ctx, m.Node)
		}
	}, opts...))
	return w
}

// hears lets the Router handle something, and returns what the replica was told.
func (w *watchman) hears(m any) []any {
	w.got = nil
	w.core.system.Root.Send(w.router, m)
	w.run()
	return w.got
}

func frameOf(from raftcore.NodeID, start uint64, controls ...*raftv1.Control) *Frame {
	return &Frame{From: from, Frame: &raftv1.Frame{Header: &raftv1.Header{StartNumber: start}, Controls: controls}}
}

func wantTold(t *testing.T, what string, got []any, want ...any) {
	t.Helper()
	same := slices.EqualFunc(got, want, func(g, w any) bool {
		switch w := w.(type) {
		case *actors.Suspect:
			m, ok := g.(*actors.Suspect)
			return ok && *m == *w
		case *actors.NodeBack:
			m, ok := g.(*actors.NodeBack)
			return ok && *m == *w
		case *actors.NodeGone:
			m, ok := g.(*actors.NodeGone)
			return ok && *m == *w
		case *actors.Quiesce:
			m, ok := g.(*actors.Quiesce)
			return ok && *m == *w
		case *actors.Wake:
			_, ok := g.(*actors.Wake)
			return ok
		}
		return false
	})
	if !same {
		t.Errorf("%s: the replica was told %v, want %v", what, got, want)
	}
}

func TestASilentNodeIsSuspectedOnce(t *testing.T) {
	w := newWatchman(t)
	w.hears(frameOf(2, 1))
	var all []any
	for range 5 * electionTicksDefault {
		all = append(all, w.hears(&actors.ClockTick{})...)
	}
	wantTold(t, "silence", all, &actors.Suspect{Node: 2})
	if !w.rt.gone(2) || w.rt.gone(1) || w.rt.gone(9) {
		t.Error("node 2, and nobody else, should be gone")
	}
	wantTold(t, "heard again", w.hears(frameOf(2, 1)), &actors.NodeBack{Node: 2})
	wantTold(t, "heard once more", w.hears(frameOf(2, 1)))
	all = nil
	for i := range 3 * electionTicksDefault {
		if i < electionTicksDefault-1 { // not silent for as long as that
			wantTold(t, "less than an election timeout", all)
		}
		all = append(all, w.hears(&actors.ClockTick{})...)
	}
	wantTold(t, "silence again", all, &actors.Suspect{Node: 2})
}

func TestANodeThatHasStartedAnewIsSuspected(t *testing.T) {
	w := newWatchman(t)
	wantTold(t, "the first frame", w.hears(frameOf(2, 1)))
	wantTold(t, "the same start", w.hears(frameOf(2, 1)))
	wantTold(t, "another start", w.hears(frameOf(2, 2)), &actors.Suspect{Node: 2})
	wantTold(t, "again the same", w.hears(frameOf(2, 2)))
	w.hears(frameOf(99, 1))
	wantTold(t, "a stranger", w.hears(frameOf(99, 2)))
	if len(w.rt.hearing.heard) > 1 || len(w.rt.hearing.starts) > 1 {
		t.Errorf("strangers are remembered: %v, %v", w.rt.hearing.heard, w.rt.hearing.starts)
	}
}

func TestANodeThatIsGoneIsSuspectedByThoseThatItDoesNotLeadAsFarAsTheirBoardsSay(t *testing.T) {
	w := newWatchman(t)
	wantTold(t, "no board yet", w.hears(&NodeGone{2}), &actors.Suspect{Node: 2})
}

func TestPeersSayThatGroupsGoQuietAndMayNot(t *testing.T) {
	w := newWatchman(t)
	quiesce := &raftv1.Control{Kind: raftv1.Control_KIND_QUIESCE, GroupId: 7, Term: 3, Commit: 9}
	wantTold(t, "quiesce", w.hears(frameOf(2, 1, quiesce)), &actors.Quiesce{From: 2, Term: 3, Commit: 9})
	for _, kind := range []raftv1.Control_Kind{raftv1.Control_KIND_WAKE, raftv1.Control_KIND_REPLICA_FAILED} {
		wantTold(t, kind.String(), w.hears(frameOf(2, 1, &raftv1.Control{Kind: kind, GroupId: 7})), &actors.Wake{})
		wantTold(t, kind.String()+" of a stranger", w.hears(frameOf(99, 1, &raftv1.Control{Kind: kind, GroupId: 7})))
		wantTold(t, kind.String()+" of another group", w.hears(frameOf(2, 1, &raftv1.Control{Kind: kind, GroupId: 8})))
	}
}

// TestWhoHasAFailedReplicaSaysSoAgainAndAgain, because nobody asks while the others of its group are quiet.
func TestWhoHasAFailedReplicaSaysSoAgainAndAgain(t *testing.T) {
	w := newWatchman(t)
	other := &coreRig{t: t, kv: &countingKV{KV: store.NewMem()}}
	b := new(store.Batch)
	store.PutBirth(b, store.Birth{Group: 7, Replica: 1, Members: map[raftcore.ReplicaID]raftcore.NodeID{1: 1, 2: 2}})
	must(t, other.kv.Commit(b, true))
	other.startCore()
	h, _ := other.core.Table().Hosted(7)
	w.rt.groups[7] = h
	w.rt.publish()
	said := func() (n int) {
		w.controls = nil
		for range 3 * electionTicksDefault {
			w.hears(&actors.ClockTick{})
		}
		for _, c := range w.controls {
			if c.GetKind() == raftv1.Control_KIND_REPLICA_FAILED && c.GetGroupId() == 7 && c.GetReplicaId() == 1 {
				n++
			}
		}
		return n
	}
	if n := said(); n != 0 {
		t.Fatalf("said %d times of a replica that is well", n)
	}
	h.Board.Fail(7, 1, "broken")
	if n := said(); n != 3 {
		t.Errorf("said %d times in three election timeouts", n)
	}
}
