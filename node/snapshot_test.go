package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/multiraftd/multiraftd/actors"
	"github.com/multiraftd/multiraftd/client"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/partition"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// away is a cluster of three whose node 3 is stopped and started, with everything that others say to it passing
// through a wire that a test can cut and spoil.
type away struct {
	t       *testing.T
	ctx     context.Context
	peers   map[raftcore.NodeID]string
	listen  map[raftcore.NodeID]string
	clients map[raftcore.NodeID]string
	disks   map[raftcore.NodeID]vfs.FS
	kvs     map[raftcore.NodeID]store.KV
	nodes   map[raftcore.NodeID]*Node
	wire    *wire
	rate    int
	silence time.Duration // the election timeout
	keep    actors.Keep
	client  *client.Client
	// change is shown each Config before the node starts; it may put something before the store.
	change  func(*Config)
	options store.PebbleOptions
}

func newAway(t *testing.T, change func(*away)) *away {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	a := &away{t: t, ctx: ctx, peers: map[raftcore.NodeID]string{}, listen: map[raftcore.NodeID]string{}, clients: map[raftcore.NodeID]string{},
		disks: map[raftcore.NodeID]vfs.FS{}, kvs: map[raftcore.NodeID]store.KV{}, nodes: map[raftcore.NodeID]*Node{}, silence: 250 * time.Millisecond}
	if change != nil {
		change(a)
	}
	for id := raftcore.NodeID(1); id <= 3; id++ {
		a.clients[id], a.listen[id], a.disks[id] = freeAddr(t), freeAddr(t), vfs.NewMem()
		a.peers[id] = a.listen[id]
	}
	a.wire = newWire(t, a.listen[3])
	a.peers[3] = a.wire.addr()
	var all sync.WaitGroup
	var mu sync.Mutex
	for id := range a.peers {
		all.Go(func() { a.start(id, &mu) })
	}
	all.Wait()
	t.Cleanup(func() {
		for id := range a.nodes {
			a.stop(id)
		}
	})
	var err error
	if a.client, err = client.Open(client.Config{Addrs: []string{a.clients[1], a.clients[2]}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, a.client.Close()) })
	for _, n := range a.nodes {
		must(t, n.Ready(ctx))
	}
	return a
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (a *away) start(id raftcore.NodeID, mu sync.Locker) {
	options := a.options
	options.Dir, options.FS, options.OnFatal = "store", a.disks[id], func(err error) { a.t.Error(err) }
	kv, err := store.OpenPebble(options)
	if err != nil {
		a.t.Error(err)
		return
	}
	cfg := Config{
		ID: id, KV: kv, Bootstrap: a.peers, ElectionTimeout: a.silence, ClientAddr: a.clients[id],
		PeerAddr: a.listen[id], AdvertisePeer: a.peers[id], HTTPAddr: "127.0.0.1:0", SnapshotBytesPerSecond: a.rate, metadataKeep: a.keep,
	}
	if a.change != nil {
		a.change(&cfg)
	}
	n, err := Start(a.ctx, cfg)
	if err != nil {
		a.t.Error(err)
		return
	}
	mu.Lock()
	defer mu.Unlock()
	a.kvs[id], a.nodes[id] = kv, n
}

func (a *away) stop(id raftcore.NodeID) {
	a.t.Helper()
	must(a.t, errors.Join(a.nodes[id].Close(), a.kvs[id].Close()))
	delete(a.nodes, id)
}

func (a *away) until(what string, done func() bool) {
	a.t.Helper()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for !done() {
		select {
		case <-look.C:
		case <-a.ctx.Done():
			a.t.Fatalf("it was never so that %s", what)
		}
	}
}

func (a *away) status(id raftcore.NodeID, g raftcore.GroupID) *actors.Status {
	if n := a.nodes[id]; n != nil {
		if h, ok := n.core.Table().Hosted(g); ok && h.Board.Load() != nil {
			return h.Board.Load()
		}
	}
	return &actors.Status{}
}

// group returns the group of a topic's only partition.
func (a *away) group(topic string) raftcore.GroupID {
	a.t.Helper()
	desc, err := a.client.Describe(a.ctx, topic, false)
	must(a.t, err)
	return raftcore.GroupID(desc.GetPartitions()[0].GetGroupId())
}

// value is record i's.
func value(i, bytes int) []byte {
	v := fmt.Appendf(nil, "record %d ", i)
	random := rand.New(rand.NewPCG(uint64(i), 7))
	for len(v) < bytes {
		v = append(v, byte(random.Uint32()))
	}
	return v
}

// append appends records first to last-1.
func (a *away) append(topic string, first, last, bytes int) {
	a.t.Helper()
	p, err := a.client.NewProducer(a.ctx, topic, client.ProducerConfig{})
	must(a.t, err)
	for i := first; i < last; i++ {
		_, err := p.Append(a.ctx, 0, client.Record{Value: value(i, bytes)})
		must(a.t, err)
	}
	must(a.t, p.Close(a.ctx))
}

// leftBehind makes a topic of which node 3 has a few records and misses so many that those after its own are gone:
// it returns the group and how many there are. About 12 MiB are kept.
func (a *away) leftBehind(topic string) (g raftcore.GroupID, records int) {
	a.t.Helper()
	const recordBytes, total = 64 << 10, 400
	_, ready, err := a.client.CreateTopicWith(a.ctx, topic, 1, 3, client.Retention{Bytes: 12 << 20})
	if err != nil || !ready {
		a.t.Fatalf("ready %v, %v", ready, err)
	}
	g = a.group(topic)
	a.append(topic, 0, 20, recordBytes)
	a.until("node 3 has the first records", func() bool { return a.status(3, g).HighWatermark == 20 })
	last := a.status(3, g).Last
	a.stop(3)
	a.append(topic, 20, total, recordBytes)
	a.until("both others have discarded what node 3 needs", func() bool {
		return a.status(1, g).FirstIndex > last+1 && a.status(2, g).FirstIndex > last+1
	})
	return g, total
}

// wantBack starts node 3 again and waits until it has what the leader has.
func (a *away) wantBack(g raftcore.GroupID) {
	a.t.Helper()
	a.start(3, &sync.Mutex{})
	a.until("node 3 is like node 1", func() bool { return a.alike(g) })
}

func (a *away) alike(g raftcore.GroupID) bool {
	one, three := a.status(1, g), a.status(3, g)
	return one.Applied > 0 && one.Applied == three.Applied && one.Hash == three.Hash && one.LogStart == three.LogStart && one.HighWatermark == three.HighWatermark
}

// read reads all records of a group in one image of node 3's store, checks them, and returns how many there are.
func (a *away) read(id raftcore.NodeID, g raftcore.GroupID) (start, high raftcore.Offset) {
	v, err := a.kvs[id].View()
	if err != nil {
		a.t.Error(err)
		return 0, 0
	}
	defer func() {
		if err := v.Close(); err != nil {
			a.t.Error(err)
		}
	}()
	gen, err := store.CurrentGeneration(v, g)
	if err != nil {
		a.t.Error(err)
		return 0, 0
	}
	prefix := store.MachinePrefix(g, gen)
	if start, high, err = partition.ReadBounds(v, prefix); err != nil {
		a.t.Error(err)
	}
	source := func(i raftcore.Index) (raftcore.Position, []byte, error) { return store.EntryData(v, g, gen, i) }
	for next := start; next < high; {
		chunk, err := partition.Read(v, prefix, source, next, 1<<20)
		if err != nil || chunk.Next <= next {
			a.t.Errorf("generation %d, records [%d, %d): at %d: %v", gen, start, high, next, err)
			return start, high
		}
		next = chunk.Next
	}
	return start, high
}

func TestAFollowerWhoseLogIsGoneComesBackThroughInstallSnapshot(t *testing.T) {
	for name, row := range map[string]struct{ cuts, flips int32 }{
		"undisturbed":                {},
		"with the wire cut 20 times": {cuts: 20},
		"with bits flipped":          {flips: 3},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAway(t, nil)
			g, records := a.leftBehind("t")
			a.wire.cuts.Store(row.cuts)
			a.wire.flips.Store(row.flips)
			a.wantBack(g)
			start, high := a.read(3, g)
			if start == 0 || int(high) != records {
				t.Fatalf("records [%d, %d), want to %d", start, high, records)
			}
			c := &a.nodes[3].counters.actors
			if c.SnapshotsInstalled.Load() == 0 {
				t.Fatal("without a snapshot")
			}
			resumed := a.nodes[1].peers.Counters().SnapshotStreamsResumed.Load() + a.nodes[2].peers.Counters().SnapshotStreamsResumed.Load()
			if row.cuts+row.flips > 0 && resumed < uint64(row.cuts+row.flips)/2 {
				t.Fatalf("%d streams were resumed", resumed)
			}
			if c.ChunksRefused.Load() == 0 && row.flips > 0 {
				t.Fatalf("no chunk was refused, though %d bits were flipped", row.flips)
			}
			if left := a.wire.cuts.Load(); left != 0 {
				t.Fatalf("%d of %d cuts were not made", left, row.cuts)
			}
			if left := a.wire.flips.Load(); left != 0 {
				t.Fatalf("%d of %d bits were not flipped", left, row.flips)
			}
			t.Logf("%d streams resumed, %d chunks, %d refused, %d begun, %d installed", resumed, c.SnapshotChunks.Load(), c.ChunksRefused.Load(), c.SnapshotsBegun.Load(), c.SnapshotsInstalled.Load())
			a.append("t", records, records+10, 10)
			a.until("node 3 goes on", func() bool { return a.alike(g) && a.status(3, g).HighWatermark == raftcore.Offset(records+10) })
		})
	}
}

func TestOtherGroupsGoOnWhileABigSnapshotIsSentSlowly(t *testing.T) {
	a := newAway(t, func(a *away) { a.rate, a.silence = 3<<20, time.Second })
	_, _, err := a.client.CreateTopic(a.ctx, "other", 1, 3)
	must(t, err)
	other := a.group("other")
	g, _ := a.leftBehind("t")
	a.start(3, &sync.Mutex{})
	c := &a.nodes[3].counters.actors
	a.until("the snapshot arrives", func() bool { return c.SnapshotChunks.Load() > 0 })
	terms := [2]uint64{a.status(1, g).Term, a.status(1, other).Term}
	began, appended, slowest, followed := time.Now(), 0, time.Duration(0), raftcore.Index(0)
	first := a.status(3, other).Applied
	for c.SnapshotsInstalled.Load() == 0 {
		one := time.Now()
		_, err := a.client.AppendOnce(a.ctx, "other", 0, client.Record{Value: []byte("x")})
		must(t, err)
		slowest = max(slowest, time.Since(one))
		appended++
		followed = a.status(3, other).Applied - first
	}
	t.Logf("%d appends to another group acknowledged in the %v of the snapshot, the slowest in %v; node 3 applied %d entries of it", appended, time.Since(began), slowest, followed)
	if appended < 100 || followed < 50 {
		t.Errorf("%d appends, %d followed by node 3", appended, followed)
	}
	if now := [2]uint64{a.status(1, g).Term, a.status(1, other).Term}; now != terms {
		t.Errorf("terms %v, before %v: somebody has missed heartbeats", now, terms)
	}
	a.until("node 3 is like node 1", func() bool { return a.alike(g) && a.alike(other) })
}

func TestAReaderOnTheReplicaSeesOneImageWhileItIsReplaced(t *testing.T) {
	a := newAway(t, nil)
	g, records := a.leftBehind("t")
	a.start(3, &sync.Mutex{})
	stop := make(chan struct{})
	var reads atomic.Int32
	var reader sync.WaitGroup
	old, replaced := 0, 0
	reader.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				start, high := a.read(3, g)
				switch {
				case start == 0 && high == 20:
					old++
				case start > 0 && int(high) == records:
					replaced++
				default:
					t.Errorf("records [%d, %d)", start, high)
				}
				reads.Add(1)
			}
		}
	})
	a.until("node 3 is like node 1", func() bool { return a.alike(g) })
	for n := reads.Load(); reads.Load() < n+2; {
		runtime.Gosched()
	}
	close(stop)
	reader.Wait()
	t.Logf("%d reads of the old image, %d of the new", old, replaced)
	if old == 0 || replaced == 0 {
		t.Errorf("%d reads of the old image, %d of the new", old, replaced)
	}
}

func TestTheMetadataGroupTruncatesItsLogAndFillsWhoMissedIt(t *testing.T) {
	a := newAway(t, func(a *away) { a.keep = actors.Keep{Entries: 10, Bytes: 1 << 20} })
	a.stop(3)
	for i := range 24 {
		_, _, err := a.client.CreateTopic(a.ctx, fmt.Sprint("topic", i), 1, 3)
		must(t, err)
	}
	if first := a.status(1, raftcore.MetadataGroup).FirstIndex; first < 12 {
		t.Fatalf("the log of the metadata group begins at %d", first)
	}
	a.start(3, &sync.Mutex{})
	a.until("node 3 knows all topics", func() bool {
		return len(a.nodes[3].core.Table().Meta.Topics()) == 24 && a.alike(raftcore.MetadataGroup)
	})
	if n := a.nodes[3].counters.actors.SnapshotsInstalled.Load(); n == 0 {
		t.Fatal("without a snapshot")
	}
	must(t, a.nodes[3].Ready(a.ctx))
	a.stop(3)
	a.start(3, &sync.Mutex{})
	must(t, a.nodes[3].Ready(a.ctx))
	if n := len(a.nodes[3].core.Table().Meta.Topics()); n != 24 {
		t.Fatalf("%d topics after a restart", n)
	}
}
