package main

import (
	"math/rand/v2"
	"time"

	"google.golang.org/protobuf/proto"

	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/partition"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// retentionTicks is how often leaders of a world look at what is to go: often enough for what is appended in it.
const retentionTicks = 5

// drawRetention is how long records are kept: for good in a third of the worlds, else so short that it matters.
func drawRetention(rnd *rand.Rand) (c *metav1.TopicConfig) {
	if rnd.IntN(3) == 0 {
		return nil
	}
	c = &metav1.TopicConfig{}
	if rnd.IntN(2) == 0 {
		c.RetentionMs = 200 + rnd.Int64N(5000)
	}
	if rnd.IntN(2) == 0 {
		c.RetentionBytes = 100 + rnd.Int64N(5000)
	}
	return c
}

// alterTopics changes how long records are kept, now and then while faults are on.
func (w *world) alterTopics() {
	if !w.faulty {
		return
	}
	r := w.requests[w.rnd.IntN(len(w.requests))]
	if c := drawRetention(w.rnd); r.topic != 0 && c != nil {
		w.command(nil, &metav1.Command{Command: &metav1.Command_AlterTopic{AlterTopic: &metav1.AlterTopic{
			TopicId: r.topic, RetentionMs: proto.Int64(c.GetRetentionMs()), RetentionBytes: proto.Int64(c.GetRetentionBytes())}}}, nil)
		w.tell("topic %d is to be kept for %d ms, %d bytes", r.topic, c.GetRetentionMs(), c.GetRetentionBytes())
	}
	w.after(w.between(500*time.Millisecond, 5*time.Second), w.alterTopics)
}

// watchStart looks at a log start that has moved: whoever leads has ordered it, so that it was committed, and it
// is where others have it when they have applied as much (compare). What is gone must be allowed to go.
func (w *world) watchStart(n *node, g raftcore.GroupID, index raftcore.Index, start, high raftcore.Offset) {
	if start > high {
		w.violate("a truncation past the end", "node %d, group %d: log start %d, watermark %d", n.id, g, start, high)
	}
	at := applied{g, index}
	known, ok := w.starts[at]
	if !ok {
		w.starts[at] = startAt{start, n.id}
		return
	}
	if known.start != start {
		w.violate("log starts differ", "group %d: having applied %d, node %d has log start %d, node %d had %d", g, index, n.id, start, known.node, known.start)
	}
}

// startAt is the log start that a replica showed.
type startAt struct {
	start raftcore.Offset
	node  uint64
}

// watchTruncated holds a replica's disk against itself: what its machine still serves is in its log, and the log
// is not cut beyond what it has applied.
func (w *world) watchTruncated(n *node, g raftcore.GroupID) {
	v, err := n.mem.View()
	if err != nil {
		return
	}
	defer v.Close()
	s, err := store.Inspect(v, g)
	if err != nil {
		return // gone, or not there yet
	}
	if s.Truncated > s.Applied {
		w.violate("a truncation past what is applied", "node %d, group %d: truncated to %d, applied %d", n.id, g, s.Truncated, s.Applied)
	}
	generation, err := store.CurrentGeneration(v, g)
	if err != nil || g == raftcore.MetadataGroup {
		return
	}
	start, high, err := partition.ReadBounds(v, store.MachinePrefix(g, generation))
	if err != nil || start == high {
		return
	}
	if p, err := readPiece(v, g, start, 1); err != nil || len(p.values) == 0 {
		w.violate("a record is gone that is not truncated", "node %d, group %d: offset %d, which the log starts with: %d records, %v", n.id, g, start, len(p.values), err)
	}
}
