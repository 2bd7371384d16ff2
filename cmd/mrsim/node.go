package main

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/multiraftd/multiraftd/actors"
	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
	"github.com/multiraftd/multiraftd/router"
	"github.com/multiraftd/multiraftd/transport"

	nodes "github.com/multiraftd/multiraftd/node"
)

// electionTimeout is that of every node; its clock may be off by driftMax.
const (
	electionTimeout = time.Second
	tickInterval    = electionTimeout / nodes.ElectionTicks
)

// node is one node of a world. Its disk outlives it; all else belongs to one life, from start to crash.
type node struct {
	w    *world
	id   uint64
	mem  *store.MemKV
	life int
	up   bool
	down bool // kept down until the end of the calm

	core  *router.Core
	link  *transport.InprocLink
	disk  *disk
	self  store.Node
	seen  map[raftcore.GroupID]*actors.Status // the boards as last watched
	began map[raftcore.GroupID]store.Stored   // what was on the disk at the start
	meta  any                                 // the metadata state as last watched
	drift float64                             // of its clock: 1.05 = runs 5 % fast
	skew  time.Duration

	space  actors.Space  // of the disk: it outlives a life
	full   time.Duration // since when it has been low; while it is
	paused bool
	parked []runnable
	open   map[any]bool  // requests that a replica here has not ended
	quiet  time.Duration // since when nothing has been wrong with it
	// doomed says that an injected I/O error has hit this life: it may fail, and must not go on acknowledging.
	doomed bool
}

func newNode(w *world, id uint64) *node {
	n := &node{w: w, id: id, mem: store.NewMem(), drift: w.shape.drift[id-1], skew: w.shape.skew[id-1]}
	members := map[raftcore.ReplicaID]raftcore.NodeID{}
	for i := 1; i <= min(w.shape.nodes, metadataVoters); i++ {
		members[raftcore.ReplicaID(i)] = raftcore.NodeID(i)
	}
	b := new(store.Batch)
	store.PutNode(b, store.Node{
		Cluster: "sim", StoreID: storeID(id), NodeID: raftcore.NodeID(id), State: raftv1.StoreState_STORE_STATE_FORMED,
	})
	store.PutBirth(b, store.Birth{Group: raftcore.MetadataGroup, Replica: raftcore.ReplicaID(id), Members: members})
	if err := n.mem.Commit(b, true); err != nil {
		panic(fmt.Sprintf("mrsim: founding node %d: %v", id, err))
	}
	return n
}

func (n *node) String() string { return fmt.Sprintf("node %d", n.id) }

// metadataVoters found the cluster.
const metadataVoters = 5

func storeID(id uint64) string { return fmt.Sprintf("store-%d", id) }

// alive says whether a life is the present one and goes on.
func (n *node) alive(life int) bool { return n.up && n.life == life }

// start begins a new life on what is on the disk.
func (n *node) start() {
	if n.up {
		return
	}
	n.life++
	n.up, n.doomed, n.paused, n.parked = true, false, false, nil
	n.seen, n.open = map[raftcore.GroupID]*actors.Status{}, map[any]bool{}
	n.began, n.quiet = map[raftcore.GroupID]store.Stored{}, n.w.now
	n.watchDisk()
	n.disk = &disk{n: n, life: n.life, mem: n.mem, quiet: n.w.now}
	self, err := n.nextStart()
	if err != nil {
		if n.alive(n.disk.life) { // else the crash in it has arranged what follows
			n.exit(err)
		}
		return
	}
	n.self = self
	n.w.tell("node %d starts, for the %d. time", n.id, self.Start)
	n.core = nodes.Assemble(self, nodes.Parts{
		KV: n.disk, Sender: sender{n, n.life}, Snapshots: sender{n, n.life}, Clock: n, Space: &n.space, Logger: silent,
		Dispatcher: dispatcher{n, n.life}, Disk: diskDispatcher{n, n.life},
		OnFailure:      n.onFailure(n.life),
		Controller:     n.w.controller(),
		CacheBytes:     n.w.shape.cacheBytes,
		EntryBytesMax:  n.w.shape.entryBytesMax,
		MetadataKeep:   n.w.shape.snapshots.keep,
		ChunkBytes:     n.w.shape.snapshots.chunkBytes,
		RetentionTicks: retentionTicks,
		ActorCounters:  &n.w.counters,
		CoreCounters:   &raftcore.Counters{},
		RouterCounters: &router.Counters{},
	})
	n.link = n.w.net.Attach(transport.Identity{Cluster: "sim", StoreID: storeID(n.id), Node: n.id, Start: self.LatestStart()}, receiver{n, n.life})
	n.link.ServeSnapshots(receiver{n, n.life})
	n.beat(n.life)
	n.register(n.life)
}

var silent = slog.New(slog.DiscardHandler)

func (n *node) nextStart() (store.Node, error) {
	v, err := n.disk.View()
	if err != nil {
		return store.Node{}, err
	}
	self, ok, err := store.LoadNode(v)
	if err := errors.Join(err, v.Close()); err != nil {
		return store.Node{}, err
	}
	if !ok {
		n.w.violate("disk", "node %d has lost its identity", n.id)
		return store.Node{}, errDown
	}
	return nodes.NextStart(n.disk, self)
}

// beat ticks like the real node's ticker, on a clock that may run fast or slow.
func (n *node) beat(life int) {
	interval := time.Duration(float64(tickInterval) / n.drift)
	n.w.after(interval+n.w.between(0, time.Millisecond), func() {
		if n.alive(life) {
			n.core.Tick()
			n.beat(life)
		}
	})
}

// NowMillis is part of actors.Clock.
func (n *node) NowMillis() int64 {
	return epochMillis + int64(float64(n.w.now.Milliseconds())*n.drift) + n.skew.Milliseconds()
}

// epochMillis is the wall clock at the beginning of time.
const epochMillis = 1_700_000_000_000

// register does what the real node's registrar does: tells the metadata group of this start until it knows.
func (n *node) register(life int) {
	if !n.alive(life) {
		return
	}
	rec, ok := n.core.Table().Meta.Node(raftcore.NodeID(n.id))
	if !ok || rec.GetStartNumber() < n.self.Start {
		n.w.command(n, &metav1.Command{Command: &metav1.Command_RegisterNode{RegisterNode: &metav1.RegisterNode{EarlierBootIds: n.self.EarlierBootIDs, Node: &metav1.Node{
			NodeId: n.id, StoreId: storeID(n.id), StartNumber: n.self.Start, BootId: n.self.BootID, Rack: fmt.Sprintf("rack-%d", n.id%3),
			ClientAddr: fmt.Sprintf("node-%d:1", n.id), PeerAddr: fmt.Sprintf("node-%d:2", n.id),
		}}}}, nil)
	}
	n.w.after(registerInterval+n.w.between(0, registerInterval), func() { n.register(life) })
}

const registerInterval = 250 * time.Millisecond

// crash ends this life as a power loss does: what was not synced is gone, but for a prefix that is drawn.
func (n *node) crash() (kept, unsynced int) {
	n.up = false
	if n.link != nil {
		n.link.Detach()
	}
	n.mem = n.mem.Crash(func(count int) int {
		kept, unsynced = n.w.rnd.IntN(count+1), count
		return kept
	})
	n.w.mix(n.id, uint64(kept), uint64(unsynced))
	if unsynced > kept {
		n.w.fire(unsyncedLost, "")
	}
	return kept, unsynced
}

// restartLater starts the node again after a while.
func (n *node) restartLater(within time.Duration) {
	n.w.after(n.w.between(5*time.Millisecond, within), func() {
		if !n.down {
			n.start()
		}
	})
}

// onFailure is the end of the process: the store can't be written, or the router has panicked.
func (n *node) onFailure(life int) func(error) {
	return func(err error) {
		if n.alive(life) {
			n.exit(err)
		}
	}
}

// exit is what cmd/multiraftd does when its node has failed, and its supervisor then.
func (n *node) exit(err error) {
	if !n.doomed {
		n.w.violate("fail-stop", "node %d fails without an injected fault: %v", n.id, err)
	}
	n.w.tell("node %d exits: %v", n.id, err)
	n.crash()
	n.restartLater(2 * time.Second)
}

// resume lets the parked mailboxes of a paused process run.
func (n *node) resume() {
	n.paused, n.quiet = false, n.w.now
	n.w.ready = append(n.w.ready, n.parked...)
	n.parked = nil
}

// dispatcher queues the mailboxes of one life.
type dispatcher struct {
	n    *node
	life int
}

// Schedule is part of actor.Dispatcher.
func (d dispatcher) Schedule(f func()) { d.n.w.ready = append(d.n.w.ready, runnable{d.n, d.life, f}) }

// Throughput is part of actor.Dispatcher.
func (d dispatcher) Throughput() int { return 1 << 30 }

// diskDispatcher runs the log writer, as late as the disk is slow.
type diskDispatcher struct {
	n    *node
	life int
}

// Schedule is part of actor.Dispatcher.
func (d diskDispatcher) Schedule(f func()) {
	if d.n.alive(d.life) {
		d.n.disk.run(f)
	}
}

// Throughput is part of actor.Dispatcher.
func (d diskDispatcher) Throughput() int { return 1 << 30 }

// sender is a life's way to the network.
type sender struct {
	n    *node
	life int
}

// Send is part of actors.Sender.
func (s sender) Send(to raftcore.NodeID, env *raftv1.Envelope) {
	if s.n.alive(s.life) {
		s.n.promises(env)
		s.n.watchStall(env)
		s.n.w.watchParting(s.n, uint64(to), env)
		s.n.link.Send(uint64(to), env)
	}
}

// SendControl is part of router.Sender.
func (s sender) SendControl(to raftcore.NodeID, c *raftv1.Control) {
	if s.n.alive(s.life) {
		s.n.link.SendControl(uint64(to), c)
	}
}

// SendReport is part of router.Sender.
func (s sender) SendReport(to raftcore.NodeID, r *raftv1.NodeReport) {
	if s.n.alive(s.life) {
		s.n.link.SendReport(uint64(to), r)
	}
}

// SendSnapshot is part of actors.SnapshotSender.
func (s sender) SendSnapshot(to raftcore.NodeID, source *actors.SnapshotSource) {
	if s.n.alive(s.life) {
		s.n.link.SendSnapshot(uint64(to), source)
	}
}

// receiver makes what arrives part of the trace.
type receiver struct {
	n    *node
	life int
}

// Frame is part of transport.Receiver.
func (r receiver) Frame(from uint64, f *raftv1.Frame) {
	if !r.n.alive(r.life) {
		return
	}
	w := r.n.w
	w.mix(uint64(w.now), from, r.n.id)
	for _, h := range f.GetHeartbeats() {
		w.mix(h.GetGroupId(), h.GetTerm(), h.GetCommit())
	}
	for _, e := range f.GetEnvelopes() {
		w.mix(e.GetGroupId(), uint64(e.GetType()), e.GetTerm(), e.GetIndex(), uint64(len(e.GetEntries())))
	}
	r.n.core.Frame(from, f)
}

// SnapshotChunk is part of transport.ChunkReceiver.
func (r receiver) SnapshotChunk(from uint64, req *raftv1.InstallSnapshotRequest, reply func(*raftv1.InstallSnapshotResponse, error)) {
	if !r.n.alive(r.life) {
		return
	}
	r.n.w.mix(uint64(r.n.w.now), from, r.n.id, req.GetOffset(), uint64(len(req.GetData())))
	r.n.core.SnapshotChunk(from, req, func(resp *raftv1.InstallSnapshotResponse, err error) {
		if r.n.alive(r.life) {
			r.n.promisesSnapshot(req, resp)
			reply(resp, err)
		}
	})
}

// Lost is part of transport.Receiver.
func (r receiver) Lost(to uint64, groups []uint64) {
	if r.n.alive(r.life) {
		r.n.core.Lost(to, groups)
	}
}

// Gone is part of transport.Receiver.
func (r receiver) Gone(peer uint64) {
	if r.n.alive(r.life) {
		r.n.core.Gone(peer)
	}
}
