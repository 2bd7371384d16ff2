package main

import (
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/multiraftd/multiraftd/actors"
	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/metadata"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// snapshots is how a world makes its nodes need and send snapshots. The zero value: as a real node, so never.
type snapshots struct {
	keep                        actors.Keep // of the metadata group's log: so little that who misses some commands needs one
	chunkBytes                  int         // so small that a snapshot has many
	lossPerMille, spoilPerMille uint64      // streams broken with a chunk, bits flipped
	pace                        time.Duration
}

// drawSnapshots draws from a sequence of its own: worlds without snapshots are as they were before there were any.
func drawSnapshots(seed uint64) snapshots {
	rnd := rand.New(rand.NewPCG(seed, 3))
	if rnd.IntN(2) == 0 {
		return snapshots{}
	}
	s := snapshots{
		keep:       actors.Keep{Entries: 2 + rnd.IntN(12), Bytes: 1 << 20},
		chunkBytes: 100 + rnd.IntN(900), pace: time.Duration(20+rnd.IntN(200)) * time.Millisecond,
	}
	if rnd.IntN(3) > 0 {
		s.lossPerMille = rnd.Uint64N(300)
	}
	if rnd.IntN(3) > 0 {
		s.spoilPerMille = rnd.Uint64N(300)
	}
	return s
}

func (s snapshots) on() bool { return s.chunkBytes > 0 }

// churn is a client that goes on giving the metadata group commands, while there are faults.
func (w *world) churn() {
	if !w.faulty || !w.shape.snapshots.on() {
		return
	}
	w.allocate(func(int64) {})
	w.after(w.between(0, w.shape.snapshots.pace), w.churn)
}

// promisesSnapshot holds the answer to a snapshot against what is synced on the disk at that moment.
func (n *node) promisesSnapshot(req *raftv1.InstallSnapshotRequest, resp *raftv1.InstallSnapshotResponse) {
	if !resp.GetSuccess() {
		return
	}
	g := raftcore.GroupID(req.GetHeader().GetGroupId())
	disk := n.mem.Synced()
	s, err := store.Inspect(disk, g)
	if n.deletesReplica(g, raftcore.ReplicaID(req.GetHeader().GetToReplica())) {
		return
	}
	held := uint64(s.Commit) >= req.GetLastIncludedIndex()
	if err == nil && !held { // a log that has the snapshot's last entry needs no snapshot
		var at raftcore.Position
		at, _, err = store.EntryData(disk, g, s.Generation, raftcore.Index(req.GetLastIncludedIndex()))
		held = at.Term == req.GetLastIncludedTerm()
	}
	if err != nil || s.Term < resp.GetTerm() || uint64(s.Last) < resp.GetMatchIndex() || !held {
		n.w.violate("a snapshot acknowledged before it is durable", "node %d, group %d acknowledges a snapshot at %d and a log to %d in term %d; its disk has %+v (%v)",
			n.id, req.GetHeader().GetGroupId(), req.GetLastIncludedIndex(), resp.GetMatchIndex(), resp.GetTerm(), s, err)
		return
	}
	if s.Term == resp.GetTerm() { // else a vote of a later term is in the same commit, and about to be told
		n.watchCastVote(s)
	}
}

// watchCastVote wants the vote on a disk, after a snapshot, to be one that this replica has cast: it has told who
// it is for, or it is its own, or it was there when the node started.
func (n *node) watchCastVote(s store.Stored) {
	vote, before := raftcore.ReplicaID(s.Vote), n.began[s.Group]
	told := n.w.votes[reign{s.Group, s.Term, s.Replica}]
	if vote != 0 && vote != s.Replica && vote != told && (before.Term != s.Term || before.Vote != s.Vote) {
		n.w.violate("a vote that was not cast", "node %d, group %d, term %d: its disk says %d, it has told %d", n.id, s.Group, s.Term, vote, told)
	}
}

// watchOwnVote holds the vote on a disk against what its node has told others: nobody else can have changed it.
func (n *node) watchOwnVote(s store.Stored) {
	told, ok := n.w.votes[reign{s.Group, s.Term, s.Replica}]
	if ok && s.Vote != uint64(told) {
		n.w.violate("a vote changes on the disk", "node %d, group %d, term %d: it has voted for replica %d, its disk says %d", n.id, s.Group, s.Term, told, s.Vote)
	}
}

// tidy looks at what replacing logs has left: nothing but the generation in force, and machines in memory that are
// those in the store.
func (w *world) tidy() {
	if w.broken != nil {
		return
	}
	var where *node
	clean := func() bool {
		i := slices.IndexFunc(w.nodes, func(n *node) bool { return n.up && n.hasStrays() })
		if i >= 0 {
			where = w.nodes[i]
		}
		return i < 0
	}
	if !w.await(tidyMax, clean) && w.broken == nil {
		w.violate("keys of other generations stay", "on node %d", where.id)
	}
	for _, n := range w.nodes {
		n.watchMemory()
	}
}

// tidyMax is after which time a replica drops a snapshot that does not go on, and some more.
const tidyMax = 40 * electionTimeout

func (n *node) hasStrays() bool {
	for _, g := range n.core.Table().Groups() {
		v, err := n.mem.View()
		if err != nil {
			return false
		}
		s, err := store.Inspect(v, g)
		if err == nil && s.Strays {
			return true
		}
	}
	return false
}

// watchMemory compares the metadata that a node shows with those that it has stored, when they are of one moment.
func (n *node) watchMemory() {
	s := n.status(raftcore.MetadataGroup)
	if !n.up || n.paused || s == nil || n.stored(raftcore.MetadataGroup) != s.Applied {
		return
	}
	v, err := n.mem.View()
	if err != nil {
		return
	}
	generation, err := store.CurrentGeneration(v, raftcore.MetadataGroup)
	if err != nil {
		n.w.violate("the store can't be read", "node %d: %v", n.id, err)
		return
	}
	m, err := metadata.Open(v, store.MachinePrefix(raftcore.MetadataGroup, generation))
	if err != nil {
		n.w.violate("the store can't be read", "node %d: %v", n.id, err)
		return
	}
	shown, stored := n.core.Table().Meta, m.State()
	same := slices.EqualFunc(shown.Topics(), stored.Topics(), func(a, b *metav1.Topic) bool { return proto.Equal(a, b) })
	if !same || shown.Allocators() != stored.Allocators() {
		n.w.violate("a node shows other metadata than it has stored", "node %d: %d topics, %+v; stored %d, %+v",
			n.id, len(shown.Topics()), shown.Allocators(), len(stored.Topics()), stored.Allocators())
	}
}
