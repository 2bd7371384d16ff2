package node

import (
	"container/heap"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/proto"

	"github.com/multiraftd/multiraftd/actors"
	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/proto/recordbatch"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/partition"
	"github.com/multiraftd/multiraftd/raftcore/store"
	"github.com/multiraftd/multiraftd/router"
	"github.com/multiraftd/multiraftd/transport"
)

// world runs three nodes in one goroutine: a heap of timed events, a queue of mailboxes that are ready to
// run, taken in an order drawn from the seed, an in-memory network and disks that forget what was not
// synced. One seed gives one run.
type world struct {
	t      *testing.T
	rnd    *rand.Rand
	now    time.Duration
	seq    int
	events eventHeap
	ready  []runnable
	net    *transport.Inproc
	nodes  map[uint64]*simNode
	trace  uint64
	acked  []ackedAppend
	next   uint64
	wrap   func(store.KV) store.KV
	fault  string
}

type event struct {
	at  time.Duration
	seq int
	f   func()
}

type eventHeap []event

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].seq < h[j].seq
}
func (h eventHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *eventHeap) Push(x any)   { *h = append(*h, x.(event)) }
func (h *eventHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	*h = old[:len(old)-1]
	return e
}

type runnable struct {
	node *simNode
	life int
	f    func()
}

type ackedAppend struct {
	id     uint64
	offset raftcore.Offset
}

const simGroup raftcore.GroupID = 2

// simNode is one node; life counts its starts, and what belongs to an earlier one never runs.
type simNode struct {
	w    *world
	id   uint64
	life int
	up   bool
	disk *store.MemKV
	core *router.Core
	link *transport.InprocLink
}

func (n *simNode) Send(to raftcore.NodeID, env *raftv1.Envelope) { n.link.Send(uint64(to), env) }
func (n *simNode) SendReport(to raftcore.NodeID, r *raftv1.NodeReport) {
	n.link.SendReport(uint64(to), r)
}

func (n *simNode) SendControl(to raftcore.NodeID, c *raftv1.Control) {
	n.link.SendControl(uint64(to), c)
}
func (n *simNode) SendSnapshot(to raftcore.NodeID, source *actors.SnapshotSource) {
	n.link.SendSnapshot(uint64(to), source)
}
func (n *simNode) NowMillis() int64 { return n.w.now.Milliseconds() }

// lifeDispatcher queues the mailboxes of one life of a node.
type lifeDispatcher struct {
	n    *simNode
	life int
}

func (d lifeDispatcher) Schedule(f func()) {
	d.n.w.ready = append(d.n.w.ready, runnable{d.n, d.life, f})
}
func (d lifeDispatcher) Throughput() int { return 1 << 30 }

func newWorld(t *testing.T, seed uint64, wrap func(store.KV) store.KV) *world {
	cryptotest.SetGlobalRandom(t, seed) // etcd/raft draws its election timeouts from crypto/rand
	w := &world{t: t, rnd: rand.New(rand.NewPCG(seed, 1)), nodes: map[uint64]*simNode{}, wrap: wrap}
	w.net = transport.NewInproc(w.after, func(n uint64) uint64 { return w.rnd.Uint64N(n) })
	members := map[raftcore.ReplicaID]raftcore.NodeID{1: 1, 2: 2, 3: 3}
	for id := uint64(1); id <= 3; id++ {
		n := &simNode{w: w, id: id, disk: store.NewMem()}
		b := new(store.Batch)
		store.PutNode(b, store.Node{Format: store.FormatVersion, Cluster: "sim", StoreID: fmt.Sprint("store-", id), NodeID: raftcore.NodeID(id), State: raftv1.StoreState_STORE_STATE_FORMED})
		store.PutBirth(b, store.Birth{Group: raftcore.MetadataGroup, Replica: raftcore.ReplicaID(id), Members: members})
		if err := n.disk.Commit(b, true); err != nil {
			t.Fatal(err)
		}
		w.nodes[id] = n
		n.start()
	}
	return w
}

func (w *world) after(d time.Duration, f func()) {
	w.seq++
	heap.Push(&w.events, event{w.now + d, w.seq, f})
}

func (w *world) mix(values ...uint64) {
	h := fnv.New64a()
	var buf [8]byte
	for _, v := range append(values, w.trace) {
		binary.BigEndian.PutUint64(buf[:], v)
		h.Write(buf[:])
	}
	w.trace = h.Sum64()
}

func (n *simNode) start() {
	n.life++
	n.up = true
	life := n.life
	boot := make([]byte, 16)
	binary.BigEndian.PutUint64(boot, uint64(life))
	kv := store.KV(n.disk)
	if n.w.wrap != nil {
		kv = n.w.wrap(kv)
	}
	silent := slog.New(slog.DiscardHandler)
	n.core = router.StartCore(router.Config{
		Replica: actors.ReplicaConfig{
			Node: raftcore.NodeID(n.id), Start: uint64(life), Log: kv, Clock: n,
			Snapshots: n, Counters: &actors.Counters{}, Core: &raftcore.Counters{}, Logger: silent,
		},
		Sender: n, Tables: router.NewTables(), Counters: &router.Counters{},
		Writer: actors.LogWriterConfig{OnFailure: func(err error) { n.w.fail("node %d: storage: %v", n.id, err) }, Counters: &actors.Counters{}},
		Props:  []actor.PropsOption{actor.WithDispatcher(lifeDispatcher{n, life})},
	})
	n.link = n.w.net.Attach(transport.Identity{Cluster: "sim", StoreID: fmt.Sprint("store-", n.id), Node: n.id, Start: uint64(life), BootID: boot}, tracer{n, n.core})
	n.link.ServeSnapshots(tracer{n, n.core})
	var beat func()
	beat = func() {
		if n.up && n.life == life {
			n.core.Tick()
			n.w.after(100*time.Millisecond+time.Duration(n.w.rnd.IntN(10))*time.Millisecond, beat)
		}
	}
	n.w.after(time.Duration(n.w.rnd.IntN(100))*time.Millisecond, beat)
}

// crash loses everything that this node had not synced, but for a prefix drawn by lot.
func (n *simNode) crash() {
	n.up = false
	n.life++
	n.link.Detach()
	n.disk = n.disk.Crash(func(unsynced int) int { return n.w.rnd.IntN(unsynced + 1) })
}

// tracer mixes every frame that arrives into the trace.
type tracer struct {
	n    *simNode
	core *router.Core
}

func (t tracer) Frame(from uint64, f *raftv1.Frame) {
	t.n.w.mix(uint64(t.n.w.now), from, t.n.id, uint64(proto.Size(f)), uint64(len(f.GetEnvelopes())))
	t.core.Frame(from, f)
}

func (t tracer) SnapshotChunk(from uint64, req *raftv1.InstallSnapshotRequest, reply func(*raftv1.InstallSnapshotResponse, error)) {
	t.n.w.mix(uint64(t.n.w.now), from, t.n.id, req.GetOffset())
	t.core.SnapshotChunk(from, req, reply)
}
func (t tracer) Lost(node uint64, groups []uint64) { t.core.Lost(node, groups) }
func (t tracer) Gone(node uint64)                  { t.core.Gone(node) }

func (w *world) fail(format string, args ...any) {
	if w.fault == "" {
		w.fault = fmt.Sprintf("at %v: ", w.now) + fmt.Sprintf(format, args...)
	}
}

// run lets simulated time pass. Mailboxes that are ready run before the next event, in an order by lot.
func (w *world) run(d time.Duration) {
	end := w.now + d
	for w.fault == "" {
		if len(w.ready) > 0 {
			i := w.rnd.IntN(len(w.ready))
			r := w.ready[i]
			w.ready[i] = w.ready[len(w.ready)-1]
			w.ready = w.ready[:len(w.ready)-1]
			if r.node.up && r.node.life == r.life {
				r.f()
			}
			continue
		}
		if len(w.events) == 0 || w.events[0].at > end {
			break
		}
		e := heap.Pop(&w.events).(event)
		w.now = e.at
		e.f()
	}
	w.now = max(w.now, end)
}

// leader returns the node that leads a group, as its own board says.
func (w *world) leader(g raftcore.GroupID) *simNode {
	for id := range uint64(len(w.nodes)) {
		if s := w.status(id+1, g); s != nil && s.Failure == "" && s.Role == raftcore.Leader {
			return w.nodes[id+1]
		}
	}
	return nil
}

func (w *world) status(id uint64, g raftcore.GroupID) *actors.Status {
	n := w.nodes[id]
	if !n.up {
		return nil
	}
	h, ok := n.core.Table().Hosted(g)
	if !ok {
		return nil
	}
	return h.Board.Load()
}

// until runs until cond holds, for at most a simulated minute.
func (w *world) until(what string, cond func() bool) {
	for range 6000 {
		if w.fault != "" || cond() {
			return
		}
		w.run(10 * time.Millisecond)
	}
	w.fail("not within a minute: %s", what)
}

// reply notes an acknowledgement.
type reply struct {
	w  *world
	id uint64
}

func (r reply) Proposed(res actors.ProposeResult) {
	if res.Err != nil || res.Outcome.Verdict != raftcore.Accepted {
		return
	}
	r.w.mix(r.id, uint64(res.Outcome.Offset), uint64(r.w.now))
	r.w.acked = append(r.w.acked, ackedAppend{r.id, res.Outcome.Offset})
}

type ignored struct{}

func (ignored) Proposed(actors.ProposeResult) {}

func (w *world) createTopic() {
	w.until("a metadata leader", func() bool { return w.leader(raftcore.MetadataGroup) != nil })
	l := w.leader(raftcore.MetadataGroup)
	for id := uint64(1); id <= 3; id++ {
		w.command(l, &metav1.Command{Command: &metav1.Command_RegisterNode{RegisterNode: &metav1.RegisterNode{
			Node: &metav1.Node{NodeId: id, StoreId: fmt.Sprint("store-", id), StartNumber: 1}}}})
	}
	w.command(l, &metav1.Command{Command: &metav1.Command_CreateTopic{CreateTopic: &metav1.CreateTopic{
		Name: "t", Partitions: 1, Replicas: 3, RequestId: make([]byte, 16)}}})
	w.until("a partition leader", func() bool { return w.leader(simGroup) != nil })
}

func (w *world) command(n *simNode, c *metav1.Command) {
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(c)
	if err != nil {
		w.t.Fatal(err)
	}
	n.core.Dispatch(router.Routed{Group: raftcore.MetadataGroup, Msg: &actors.Propose{Payload: data, Reply: ignored{}}})
}

// append proposes one record, with its id as content, at whoever leads.
func (w *world) append() {
	l := w.leader(simGroup)
	if l == nil {
		return
	}
	w.next++
	value := binary.BigEndian.AppendUint64(nil, w.next)
	batch, err := recordbatch.Encode(nil, recordbatch.None, []recordbatch.Record{{Value: value, TimestampMillis: 1}})
	if err != nil {
		w.t.Fatal(err)
	}
	l.core.Dispatch(router.Routed{Group: simGroup, Msg: &actors.Propose{Payload: batch, Reply: reply{w, w.next}}})
}

// load appends every few milliseconds until the given time.
func (w *world) load(until time.Duration) {
	var again func()
	again = func() {
		if w.now < until {
			w.append()
			w.after(time.Duration(1+w.rnd.IntN(8))*time.Millisecond, again)
		}
	}
	again()
}

// check reads every replica's log back: all of them alike, and every acknowledged record at its offset.
func (w *world) check() {
	w.until("equal replicas", func() bool {
		a, b, c := w.status(1, simGroup), w.status(2, simGroup), w.status(3, simGroup)
		return a != nil && b != nil && c != nil && a.Applied == b.Applied && b.Applied == c.Applied && a.Applied == a.Last
	})
	if w.fault != "" {
		return
	}
	for id := uint64(1); id <= 3; id++ {
		if a, b := w.status(1, simGroup), w.status(id, simGroup); a.Hash != b.Hash {
			w.fail("nodes 1 and %d have applied different entries up to %d", id, a.Applied)
			return
		}
		records := w.read(id)
		for _, a := range w.acked {
			if got, ok := records[a.offset]; !ok || got != a.id {
				w.fail("node %d: record %d, acknowledged at offset %d, is lost (found %d)", id, a.id, a.offset, got)
				return
			}
		}
	}
	w.mix(uint64(len(w.acked)), w.status(1, simGroup).Hash)
}

func (w *world) read(id uint64) map[raftcore.Offset]uint64 {
	v, err := w.nodes[id].disk.View()
	if err != nil {
		w.t.Fatal(err)
	}
	defer v.Close()
	records := map[raftcore.Offset]uint64{}
	gen, err := store.CurrentGeneration(v, simGroup)
	if err != nil {
		w.t.Fatal(err)
	}
	src := func(i raftcore.Index) (raftcore.Position, []byte, error) { return store.EntryData(v, simGroup, gen, i) }
	for from := raftcore.Offset(0); ; {
		chunk, err := partition.Read(v, store.MachinePrefix(simGroup, gen), src, from, 1<<20)
		if err != nil {
			w.t.Fatal(err)
		}
		if len(chunk.Batches) == 0 {
			return records
		}
		for _, b := range chunk.Batches {
			decoded, err := recordbatch.Decode(b)
			if err != nil {
				w.t.Fatal(err)
			}
			for _, r := range decoded {
				records[raftcore.Offset(r.Offset)] = binary.BigEndian.Uint64(r.Value)
			}
		}
		from = chunk.Next
	}
}

// tenSeconds is the run of the tests below: load, lost and reordered messages, one node crashing, then all.
func tenSeconds(t *testing.T, seed uint64, wrap func(store.KV) store.KV) *world {
	w := newWorld(t, seed, wrap)
	w.createTopic()
	w.net.SetFaults(transport.Faults{LossPerMille: 50, DuplicatePerMille: 30, DelayMin: time.Millisecond, DelayMax: 15 * time.Millisecond, Reorder: true})
	begin := w.now
	w.load(begin + 9*time.Second)
	victim := w.nodes[1+w.rnd.Uint64N(3)]
	w.after(time.Duration(1+w.rnd.IntN(2000))*time.Millisecond, func() {
		victim.crash()
		w.after(time.Second, victim.start)
	})
	w.after(time.Duration(4000+w.rnd.IntN(1000))*time.Millisecond, func() {
		for id := uint64(1); id <= 3; id++ {
			w.nodes[id].crash()
			w.after(200*time.Millisecond, w.nodes[id].start)
		}
	})
	w.run(10 * time.Second)
	w.net.SetFaults(transport.Faults{DelayMin: time.Millisecond, DelayMax: 2 * time.Millisecond})
	w.check()
	return w
}

func TestASeedGivesTheSameTraceTwice(t *testing.T) {
	for seed := uint64(1); seed <= 5; seed++ {
		a, b := tenSeconds(t, seed, nil), tenSeconds(t, seed, nil)
		if a.fault != "" {
			t.Fatalf("seed %d: %s", seed, a.fault)
		}
		if a.trace != b.trace {
			t.Fatalf("seed %d: trace %x, then %x", seed, a.trace, b.trace)
		}
		if faults := a.net.Counters().FramesLost.Load(); faults == 0 || len(a.acked) < 100 {
			t.Fatalf("seed %d: %d messages lost, %d records acknowledged: this run tested nothing", seed, faults, len(a.acked))
		}
		t.Logf("seed %d: trace %x, %d records acknowledged", seed, a.trace, len(a.acked))
	}
}

// lazyKV is the planted bug: it says that a commit is synced and does not sync it.
type lazyKV struct{ store.KV }

func (k lazyKV) Commit(b *store.Batch, _ bool) error { return k.KV.Commit(b, false) }

func TestAcknowledgingBeforeTheFsyncIsFound(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		w := tenSeconds(t, seed, func(kv store.KV) store.KV { return lazyKV{kv} })
		if w.fault != "" {
			t.Logf("found with seed %d: %s", seed, w.fault)
			return
		}
	}
	t.Fatal("a disk that never syncs went unnoticed in 20 runs")
}
