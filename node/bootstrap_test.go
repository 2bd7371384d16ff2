package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// founding is a set of stores that found a cluster in the test's own steps. A node that is down does not
// answer, and takes no step.
type founding struct {
	t     *testing.T
	set   map[raftcore.NodeID]string
	kvs   map[raftcore.NodeID]*store.MemKV
	nodes map[raftcore.NodeID]*founder
	down  map[raftcore.NodeID]bool
	drawn int
}

func newFounding(t *testing.T) *founding {
	f := &founding{
		t: t, set: map[raftcore.NodeID]string{1: "a:1", 2: "b:1", 3: "c:1"}, kvs: map[raftcore.NodeID]*store.MemKV{},
		nodes: map[raftcore.NodeID]*founder{}, down: map[raftcore.NodeID]bool{},
	}
	for id := range f.set {
		f.kvs[id] = store.NewMem()
		f.start(id)
	}
	return f
}

// start reads the identity from the store, as a process that starts does.
func (f *founding) start(id raftcore.NodeID) {
	f.t.Helper()
	self, err := loadIdentity(f.kvs[id], Config{ID: id, Bootstrap: f.set})
	if err != nil {
		f.t.Fatal(err)
	}
	peers := map[raftcore.NodeID]string{}
	for other, addr := range f.set {
		if other != id {
			peers[other] = addr
		}
	}
	f.nodes[id] = &founder{
		self: self, kv: f.kvs[id], peers: peers, probe: f.probe, saved: func(store.Node) {}, log: slog.New(slog.DiscardHandler),
		uuid: func() string { f.drawn++; return fmt.Sprintf("cluster-%d", f.drawn) },
	}
	f.down[id] = false
}

func (f *founding) probe(_ context.Context, addr string) (*raftv1.ProbeResponse, error) {
	for id, a := range f.set {
		if a == addr && !f.down[id] {
			self := f.nodes[id].self
			return &raftv1.ProbeResponse{State: self.State, ClusterId: self.Cluster, NodeId: uint64(self.NodeID), BootstrapHash: bootstrapHash(self.Bootstrap)}, nil
		}
	}
	return nil, errors.New("down")
}

func (f *founding) step(id raftcore.NodeID) (waiting string, err error) {
	if f.down[id] || f.formed(id) {
		return "", nil
	}
	return f.nodes[id].round(context.Background())
}

func (f *founding) formed(id raftcore.NodeID) bool {
	return f.nodes[id].self.State == raftv1.StoreState_STORE_STATE_FORMED
}

// settle steps everybody until nothing changes any more.
func (f *founding) settle() {
	f.t.Helper()
	for range 20 {
		for _, id := range []raftcore.NodeID{3, 1, 2} {
			if _, err := f.step(id); err != nil {
				f.t.Fatalf("node %d: %v", id, err)
			}
		}
	}
}

func (f *founding) wipe(id raftcore.NodeID) {
	f.kvs[id] = store.NewMem()
	f.start(id)
}

func (f *founding) wantOneCluster() {
	f.t.Helper()
	for id := range f.set {
		if !f.formed(id) || f.nodes[id].self.Cluster != f.nodes[1].self.Cluster {
			f.t.Fatalf("node %d: %+v", id, f.nodes[id].self)
		}
		v, err := f.kvs[id].View()
		if err != nil {
			f.t.Fatal(err)
		}
		groups, err := store.Groups(v)
		if err != nil || len(groups) != 1 || groups[0].Group != raftcore.MetadataGroup || uint64(groups[0].Replica) != uint64(id) {
			f.t.Fatalf("node %d: groups %+v, %v", id, groups, err)
		}
		v.Close()
	}
}

func TestThreeEmptyNodesFoundOneCluster(t *testing.T) {
	f := newFounding(t)
	f.settle()
	f.wantOneCluster()
	if f.drawn != 1 {
		t.Fatalf("%d cluster ids drawn", f.drawn)
	}
}

func TestACrashBetweenAnyTwoStepsContinues(t *testing.T) {
	for crashAt := range 8 {
		for id := range raftcore.NodeID(3) {
			f := newFounding(t)
			for i := range crashAt {
				if _, err := f.step(raftcore.NodeID(i%3) + 1); err != nil {
					t.Fatal(err)
				}
			}
			f.kvs[id+1] = f.kvs[id+1].Crash(func(int) int { return 0 })
			f.start(id + 1)
			f.settle()
			f.wantOneCluster()
		}
	}
}

// powerless is a disk that loses power during every write.
type powerless struct{ store.KV }

var errPower = errors.New("power lost")

func (powerless) Commit(*store.Batch, bool) error { return errPower }

func TestACrashThatLosesTheStepThatWasBeingWrittenContinues(t *testing.T) {
	f := newFounding(t)
	for _, id := range []raftcore.NodeID{1, 2, 3, 1, 2, 3} {
		f.nodes[id].kv = powerless{f.kvs[id]}
		if _, err := f.step(id); !errors.Is(err, errPower) {
			t.Fatalf("node %d: %v: it wrote nothing, so nothing was interrupted", id, err)
		}
		f.start(id)
		if _, err := f.step(id); err != nil {
			t.Fatal(err)
		}
	}
	f.settle()
	f.wantOneCluster()
}

func TestAWipedNodeNeverFoundsASecondCluster(t *testing.T) {
	for _, wiped := range [][]raftcore.NodeID{{1}, {2}, {3}, {1, 2}, {1, 3}, {2, 3}} {
		f := newFounding(t)
		f.settle()
		first := f.nodes[1].self.Cluster
		for _, id := range wiped {
			f.wipe(id)
		}
		for _, id := range wiped {
			_, err := f.step(id)
			var data *DataError
			if !errors.As(err, &data) {
				t.Fatalf("wiped %v: node %d: %v, want a refusal", wiped, id, err)
			}
			if f.nodes[id].self.State != raftv1.StoreState_STORE_STATE_EMPTY {
				t.Fatalf("wiped %v: node %d wrote %+v", wiped, id, f.nodes[id].self)
			}
		}
		if f.drawn != 1 {
			t.Fatalf("a second cluster beside %s", first)
		}
	}
}

func TestWipedNodesWaitWhileTheOneThatKnowsIsDown(t *testing.T) {
	f := newFounding(t)
	f.settle()
	f.wipe(2)
	f.wipe(3)
	f.down[1] = true
	for range 10 {
		for _, id := range []raftcore.NodeID{2, 3} {
			if waiting, err := f.step(id); err != nil || waiting == "" {
				t.Fatalf("node %d: waiting %q, %v", id, waiting, err)
			}
		}
	}
	f.down[1] = false
	if _, err := f.step(2); err == nil {
		t.Fatal("node 2 was not refused after node 1 came back")
	}
}

func TestANodeThatLostItsDataDoesNotAdoptFromOneThatLagsBehind(t *testing.T) {
	f := newFounding(t)
	for _, id := range []raftcore.NodeID{1, 2, 3, 2, 3} { // 1 founds, 2 and 3 adopt and form; 1 is still founding
		if _, err := f.step(id); err != nil {
			t.Fatal(err)
		}
	}
	if f.formed(1) || !f.formed(2) || !f.formed(3) {
		t.Fatal("not the state that this test is about")
	}
	f.wipe(3)
	f.down[2] = true
	if waiting, err := f.step(3); err != nil || waiting == "" {
		t.Fatalf("waiting %q, %v", waiting, err)
	}
	f.down[2] = false
	if _, err := f.step(3); err == nil {
		t.Fatal("node 3 came back under its old id")
	}
}

func TestADifferentBootstrapIsRefused(t *testing.T) {
	f := newFounding(t)
	f.nodes[2].self.Bootstrap = "1=a:1,2=b:1"
	var data *DataError
	if _, err := f.step(1); !errors.As(err, &data) {
		t.Fatalf("%v", err)
	}
	f = newFounding(t)
	f.set[2], f.set[3] = f.set[3], f.set[2]
	if _, err := f.step(1); !errors.As(err, &data) {
		t.Fatalf("swapped addresses: %v", err)
	}
}

func TestANodeThatIsStillFoundingNeedsNoBootstrapFlagToWaitForTheOthers(t *testing.T) {
	kv := store.NewMem()
	b := new(store.Batch)
	store.PutNode(b, store.Node{Cluster: "c-1", StoreID: "s-1", NodeID: 1, State: raftv1.StoreState_STORE_STATE_FOUNDING,
		Bootstrap: "1=127.0.0.1:1,2=" + freeAddr(t) + ",3=" + freeAddr(t)})
	if err := kv.Commit(b, true); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	waits := slog.New(slog.NewTextHandler(cancelOn{"does not answer", cancel}, nil))
	_, err := Start(ctx, Config{ID: 1, KV: kv, ClientAddr: "127.0.0.1:0", PeerAddr: "127.0.0.1:0", Logger: waits})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("%v: it did not wait for the nodes that it founds the cluster with", err)
	}
	v, err := kv.View()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if groups, err := store.Groups(v); err != nil || len(groups) != 0 {
		t.Fatalf("it formed groups %+v alone, %v", groups, err)
	}
}

// cancelOn cancels when a text is logged.
type cancelOn struct {
	text   string
	cancel context.CancelFunc
}

func (c cancelOn) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte(c.text)) {
		c.cancel()
	}
	return len(line), nil
}
