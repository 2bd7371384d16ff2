package transport

import (
	"fmt"
	"testing"
	"time"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
)

func TestTheFaultyNetworkCarriesSnapshotsAndOneSeedGivesOneRun(t *testing.T) {
	var before string
	for range 2 {
		w := newWorld(11, Faults{DelayMin: time.Millisecond, DelayMax: 5 * time.Millisecond, ChunkLossPerMille: 40, ChunkSpoilPerMille: 40})
		a, c := &assembler{}, newContent(13, 300, 100)
		w.b.ServeSnapshots(a)
		w.a.SendSnapshot(2, c)
		w.schedule(200*time.Millisecond, func() { w.net.Cut(1, 2) })
		w.schedule(300*time.Millisecond, func() { w.net.Heal(1, 2) })
		w.run()
		if resp := <-c.ended; c.err != nil || !resp.GetSuccess() {
			t.Fatalf("%v, %v", resp, c.err)
		}
		a.wantWhole(t, c)
		n := w.net.Counters()
		if n.SnapshotChunksLost.Load() < 10 || n.SnapshotChunksSpoilt.Load() < 5 || len(w.net.snapshots) != 0 {
			t.Fatalf("%d lost, %d spoilt, %d left", n.SnapshotChunksLost.Load(), n.SnapshotChunksSpoilt.Load(), len(w.net.snapshots))
		}
		run := fmt.Sprint(w.now, n.SnapshotChunksSent.Load(), n.SnapshotChunksLost.Load(), n.SnapshotChunksSpoilt.Load(), a.begun)
		if before != "" && run != before {
			t.Fatalf("first %s, then %s", before, run)
		}
		before = run
	}
}

func TestInTheFaultyNetworkEverySnapshotEnds(t *testing.T) {
	for name, does := range map[string]func(w *world, a *assembler){
		"nobody serves":             func(w *world, _ *assembler) { w.b.ServeSnapshots(nil) },
		"the receiver goes":         func(w *world, _ *assembler) { w.schedule(20*time.Millisecond, w.b.Detach) },
		"the sender goes":           func(w *world, _ *assembler) { w.schedule(20*time.Millisecond, w.a.Detach) },
		"the way is cut":            func(w *world, _ *assembler) { w.schedule(20*time.Millisecond, func() { w.net.Cut(1, 2) }) },
		"the receiver says nothing": func(w *world, _ *assembler) { w.b.ServeSnapshots(mute{}) },
	} {
		w := newWorld(5, Faults{DelayMin: time.Millisecond, DelayMax: 2 * time.Millisecond})
		a, c := &assembler{}, newContent(1, 100, 10)
		w.b.ServeSnapshots(a)
		does(w, a)
		w.a.SendSnapshot(2, c)
		w.run()
		select {
		case <-c.ended:
			if c.err == nil {
				t.Errorf("%s: it ended without a reason", name)
			}
		default:
			t.Errorf("%s: it has not ended", name)
		}
	}
}

type mute struct{}

func (mute) SnapshotChunk(uint64, *raftv1.InstallSnapshotRequest, func(*raftv1.InstallSnapshotResponse, error)) {
}
