package router

import (
	"cmp"
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/multiraftd/multiraftd/actors"
	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/proto/recordbatch"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/partition"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

type readServer = grpc.ServerStreamingServer[multiraftv1.ReadResponse]

// readPatience is how many election timeouts a reader stays with a replica that has no leader.
const readPatience = 10

// reading is one Read call on a replica of this node. Each chunk comes from a view of its own, which is closed
// before the chunk is sent: a slow client holds no snapshot of the store.
type reading struct {
	s         *Services
	out       *outlet
	ctx       context.Context
	h         *Hosted
	topic     *metav1.Topic
	partition uint32
	next, end raftcore.Offset // end -1: follows
	bytesMax  int
	// known is what the leader said exists. Below it a replica that has nothing to read is behind, above it
	// there may be nothing yet.
	known raftcore.Offset
}

// Read streams the committed records of one partition.
func (s *Services) Read(req *multiraftv1.ReadRequest, rpc readServer) error {
	if err := s.enterRead(); err != nil {
		return err
	}
	defer s.exitRead()
	ctx, cancel := context.WithCancel(rpc.Context())
	defer cancel()
	defer context.AfterFunc(s.draining, cancel)()
	err := s.read(ctx, req, rpc)
	if err != nil && s.draining.Err() != nil && rpc.Context().Err() == nil {
		return errStopping()
	}
	return s.refused(err)
}

func (s *Services) read(ctx context.Context, req *multiraftv1.ReadRequest, rpc readServer) error {
	if err := checkRead(req); err != nil {
		return err
	}
	t := s.core.Table()
	g, err := groupOf(t, req.GetTopicId(), req.GetPartition())
	if err != nil {
		return err
	}
	topic, _ := t.Meta.Topic(req.GetTopicId())
	h, ok := t.Hosted(g)
	var st *actors.Status
	if ok {
		st = h.Board.Load()
	}
	if st == nil || st.Failure != "" {
		return s.readElsewhere(ctx, t, g, st, req, rpc)
	}
	r := &reading{s: s, ctx: ctx, h: h, topic: topic, partition: req.GetPartition(), out: &outlet{share: s.outflow.open(ctx), rpc: rpc},
		bytesMax: min(cmp.Or(int(req.GetMaxBytes()), readBytesDefault), readBytesMax)}
	defer r.out.close()
	first, err := r.begin(req)
	if err != nil {
		return err
	}
	if err := r.out.send(first, 0); err != nil {
		return err
	}
	return r.run()
}

func checkRead(req *multiraftv1.ReadRequest) error {
	switch from := req.GetFrom().(type) {
	case *multiraftv1.ReadRequest_Offset:
		if from.Offset < 0 {
			return badField("offset", "%d is negative", from.Offset)
		}
	case *multiraftv1.ReadRequest_Position:
		if p := from.Position; p != multiraftv1.Position_POSITION_START && p != multiraftv1.Position_POSITION_END {
			return badField("position", "%v is neither start nor end", p)
		}
	case *multiraftv1.ReadRequest_TimestampMs:
	default:
		return badField("from", "it is required: an offset, a position or a timestamp")
	}
	if req.ToOffset == nil {
		return nil
	}
	if req.GetFollow() {
		return badField("to_offset", "follow excludes it")
	}
	if req.GetToOffset() < 0 {
		return badField("to_offset", "%d is negative", req.GetToOffset())
	}
	return nil
}

// readElsewhere passes on what another node reads.
func (s *Services) readElsewhere(ctx context.Context, t *Table, g raftcore.GroupID, st *actors.Status, req *multiraftv1.ReadRequest, rpc readServer) error {
	o := originOf(ctx)
	otherwise := fail(notLeader, "group %d has no replica on node %d", g, s.core.Node())
	if st != nil {
		otherwise = fail(replicaFailed, "the replica of group %d on node %d has failed: %s", g, s.core.Node(), st.Failure)
	}
	r, err := s.aside(t, g, o, otherwise)
	if err != nil {
		return err
	}
	out := &outlet{share: s.outflow.open(ctx), rpc: rpc, stallEnd: relayStallMax}
	defer out.close()
	req = proto.CloneOf(req)
	req.MaxBytes = min(cmp.Or(req.GetMaxBytes(), readBytesDefault), readBytesDefault) // a response is held here before there is room for it
	_, err = at(ctx, s, o, r.node, lostHarmless, func(ctx context.Context, conn *grpc.ClientConn) (struct{}, error) {
		from, err := multiraftv1.NewLogServiceClient(conn).Read(ctx, req)
		if err == nil {
			err = out.relay(ctx, from)
		}
		return struct{}{}, err
	})
	return err
}

// begin finds where to begin and to stop. The leader is asked only where the answer depends on the end.
func (r *reading) begin(req *multiraftv1.ReadRequest) (*multiraftv1.ReadResponse, error) {
	local, err := r.bounds()
	if err != nil {
		return nil, err
	}
	end := local
	if needsEnd(req, local.high) {
		if end, err = r.linearizable(); err != nil {
			return nil, err
		}
	}
	r.known = max(local.high, end.high)
	if r.next, err = r.position(req, local, end); err != nil {
		return nil, err
	}
	r.end = end.high
	switch {
	case req.GetFollow():
		r.end = -1
	case req.ToOffset != nil:
		r.end = min(raftcore.Offset(req.GetToOffset()), r.known)
	}
	if r.end >= 0 {
		if _, byTime := req.GetFrom().(*multiraftv1.ReadRequest_TimestampMs); byTime {
			r.next = min(r.next, r.end)
		}
	}
	return &multiraftv1.ReadResponse{NextOffset: int64(r.next), HighWatermark: int64(r.known), LogStart: int64(local.start), EndOffset: int64(r.end)}, nil
}

// needsEnd says whether a read depends on where the log ends, which only the leader knows.
func needsEnd(req *multiraftv1.ReadRequest, high raftcore.Offset) bool {
	switch from := req.GetFrom().(type) {
	case *multiraftv1.ReadRequest_TimestampMs:
		return true // the first record since then may not be here yet
	case *multiraftv1.ReadRequest_Position:
		if from.Position == multiraftv1.Position_POSITION_END {
			return true
		}
	case *multiraftv1.ReadRequest_Offset:
		if raftcore.Offset(from.Offset) > high {
			return true
		}
	}
	if req.ToOffset != nil {
		return raftcore.Offset(req.GetToOffset()) > high
	}
	return !req.GetFollow()
}

func (r *reading) position(req *multiraftv1.ReadRequest, local, end bounds) (raftcore.Offset, error) {
	switch from := req.GetFrom().(type) {
	case *multiraftv1.ReadRequest_Offset:
		o := raftcore.Offset(from.Offset)
		if o < local.start || o > r.known {
			return 0, &partition.OutOfRangeError{Offset: o, LogStart: local.start, HighWatermark: r.known}
		}
		return o, nil
	case *multiraftv1.ReadRequest_TimestampMs:
		if err := r.awaitReadable(end.high - 1); err != nil {
			return 0, err
		}
		return r.offsetAt(from.TimestampMs)
	case *multiraftv1.ReadRequest_Position:
		if from.Position == multiraftv1.Position_POSITION_END {
			return end.high, nil
		}
	}
	return local.start, nil
}

func (r *reading) run() error {
	room := int64(max(r.bytesMax, r.s.cfg.BatchBytesMax)) // a batch is read whatever its size
	for r.end < 0 || r.next < r.end {
		if err := r.out.reserve(r.ctx, room); err != nil {
			return err
		}
		chunk, err := r.chunk()
		if err != nil {
			return err
		}
		if len(chunk.Batches) == 0 {
			r.out.give(room)
			if err := r.out.flush(); err != nil {
				return err
			}
			if err := r.awaitReadable(r.next); err != nil {
				return err
			}
			continue
		}
		r.next = chunk.Next
		resp := &multiraftv1.ReadResponse{Batches: chunk.Batches, NextOffset: int64(chunk.Next), HighWatermark: int64(chunk.HighWatermark),
			LogStart: int64(chunk.LogStart), EndOffset: int64(r.end)}
		if err := r.out.send(resp, room); err != nil {
			return err
		}
	}
	return r.out.flush() // what this call holds ends with it
}

// chunk reads what is there at the next offset; nothing when it is not here yet.
func (r *reading) chunk() (c partition.Chunk, err error) {
	began := time.Now()
	err = r.view(func(v store.View, prefix []byte, generation uint64) error {
		source := func(i raftcore.Index) (raftcore.Position, []byte, error) {
			return store.EntryData(v, r.h.Group, generation, i)
		}
		c, err = partition.Read(v, prefix, source, r.next, r.bytesMax)
		return err
	})
	var out *partition.OutOfRangeError
	if errors.As(err, &out) && out.Offset > out.HighWatermark {
		return partition.Chunk{}, nil
	}
	if err != nil {
		return partition.Chunk{}, err
	}
	if err := r.trim(&c); err != nil {
		return partition.Chunk{}, err
	}
	for _, b := range c.Batches {
		r.s.cfg.Counters.ReadBytes.Add(uint64(len(b)))
	}
	r.s.cfg.Counters.ReadBatches.Add(uint64(len(c.Batches)))
	if len(c.Batches) > 0 {
		r.s.cfg.Counters.Read.Observe(time.Since(began).Nanoseconds())
	}
	return c, nil
}

// trim drops the batches that begin at the end or after it.
func (r *reading) trim(c *partition.Chunk) error {
	for r.end >= 0 && len(c.Batches) > 1 {
		last := c.Batches[len(c.Batches)-1]
		info, err := recordbatch.ParseHeader(last)
		if err != nil {
			return errors.Join(partition.ErrCorrupt, err)
		}
		if raftcore.Offset(info.BaseOffset) < r.end {
			return nil
		}
		c.Batches, c.Next = c.Batches[:len(c.Batches)-1], raftcore.Offset(info.BaseOffset)
	}
	return nil
}

// view calls f with an image of the store.
func (r *reading) view(f func(v store.View, prefix []byte, generation uint64) error) error {
	v, err := r.s.core.View()
	if err != nil {
		return err
	}
	generation, err := store.CurrentGeneration(v, r.h.Group)
	if err == nil {
		err = f(v, store.MachinePrefix(r.h.Group, generation), generation)
	}
	return errors.Join(err, v.Close())
}

func (r *reading) bounds() (b bounds, err error) {
	err = r.view(func(v store.View, prefix []byte, _ uint64) (err error) {
		b.start, b.high, err = partition.ReadBounds(v, prefix)
		return err
	})
	return b, err
}

func (r *reading) offsetAt(millis int64) (o raftcore.Offset, err error) {
	err = r.view(func(v store.View, prefix []byte, _ uint64) (err error) {
		o, err = partition.OffsetAt(v, prefix, millis)
		return err
	})
	return o, err
}

func (r *reading) linearizable() (bounds, error) {
	ctx, cancel := context.WithTimeout(r.ctx, unaryTimeout)
	defer cancel()
	return r.s.linearizable(ctx, r.h.Group, r.topic, r.partition)
}

// awaitReadable waits until a view has the record at an offset. A replica that is behind, or stays without a
// leader, is given up: another one may serve.
func (r *reading) awaitReadable(o raftcore.Offset) error {
	if o < 0 {
		return nil
	}
	id, reply := r.s.waitIDs.Add(1), make(chan error, 1)
	r.s.core.Dispatch(Routed{r.h.Group, &actors.WaitReadable{ID: id, Offset: o, Reply: reply}})
	began, led := time.Now(), time.Now()
	look := time.NewTicker(sweepInterval)
	defer look.Stop()
	for {
		select {
		case err := <-reply:
			return err
		case <-r.ctx.Done():
			r.s.core.Dispatch(Routed{r.h.Group, &actors.CancelWait{ID: id}})
			return r.ctx.Err()
		case now := <-look.C:
			st := r.h.Board.Load()
			if st.Leader != 0 {
				led = now
			}
			if err := r.giveUp(o, st, now.Sub(began), now.Sub(led)); err != nil {
				r.s.core.Dispatch(Routed{r.h.Group, &actors.CancelWait{ID: id}})
				return err
			}
		}
	}
}

func (r *reading) giveUp(o raftcore.Offset, st *actors.Status, waited, leaderless time.Duration) error {
	switch {
	case st.Failure != "":
		return fail(replicaFailed, "the replica of group %d on node %d has failed: %s", r.h.Group, r.s.core.Node(), st.Failure)
	case o < r.known && waited > catchUpTimeout:
		return fail(noLeader, "the replica on node %d is behind: it has records up to %d, not %d", r.s.core.Node(), st.HighWatermark, o)
	case leaderless > readPatience*r.s.cfg.ElectionTimeout:
		return fail(noLeader, "the replica on node %d has no leader", r.s.core.Node())
	}
	return nil
}
