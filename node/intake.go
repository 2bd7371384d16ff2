package node

import (
	"context"
	"slices"
	"sync"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/router"
	"github.com/multiraftd/multiraftd/transport"
)

// Limits of what peers may have in this node's mailboxes: of one node that metadata name, and of all strangers
// together. Sizes are of the unpacked messages, estimated. They are small because mailboxes are queues: what one peer
// has in them the others wait for. All strangers together have a rate as well, some 170,000 messages a second, because
// refusing takes processors from others: a node that is not known yet has little to say.
const (
	intakeBytesMax     = 1 << 20
	strangersBytesMax  = 64 << 10
	strangersPerSecond = 32 << 20 // bytes
	pieceMessagesMax   = 256
	heartbeatBytes     = 192
	envelopeBytes      = 384
	entryBytes         = 128
	controlBytes       = 96
	strangers          = 0 // in place of a node's id
	frameBytesOverhead = 512
)

// intake hands peers' frames to the Core as fast as it works them off. Mailboxes never refuse: without this a
// peer that sends faster than its messages can be refused would fill this node's memory, and keep everybody else's
// messages waiting behind its own. A peer is held up by its own frames only, down to its connection's flow control,
// and at last drops appends itself (rule 21). Large frames are handed over in pieces. Strangers are held up by each
// other, and to a rate.
type intake struct {
	*router.Core
	hand  func(from uint64, f *raftv1.Frame, done func()) // Core.FrameThen
	ctx   context.Context                                 // ends when frames are of no use any more
	named func(node uint64) bool                          // metadata have a record of it
	pace  transport.Pacer                                 // of strangers

	mu    sync.Mutex
	held  map[uint64]int64
	freed chan struct{} // closed when there is more room; nil: nobody waits
}

func newIntake(ctx context.Context, c *router.Core, named func(uint64) bool) *intake {
	return &intake{Core: c, hand: c.FrameThen, ctx: ctx, named: named, pace: transport.Pacer{BytesPerSecond: strangersPerSecond}, held: map[uint64]int64{}}
}

// Frame is part of transport.Receiver. It waits until there is room; one piece always fits.
func (i *intake) Frame(from uint64, f *raftv1.Frame) {
	account := from
	if !i.named(from) {
		account = strangers
	}
	for _, piece := range pieces(f) {
		size := frameBytes(piece)
		if account == strangers && i.pace.Wait(i.ctx, int(size)) != nil || !i.enter(account, size) {
			return // the node stops
		}
		i.hand(from, piece, func() { i.leave(account, size) })
	}
}

// pieces cuts a frame into frames of so many messages that they take the mailboxes' owners little time. The order of
// what a group gets stays: heartbeats, envelopes, controls.
func pieces(f *raftv1.Frame) (all []*raftv1.Frame) {
	if len(f.GetHeartbeats())+len(f.GetEnvelopes())+len(f.GetControls()) <= pieceMessagesMax {
		return []*raftv1.Frame{f}
	}
	for part := range slices.Chunk(f.GetHeartbeats(), pieceMessagesMax) {
		all = append(all, &raftv1.Frame{Header: f.GetHeader(), Heartbeats: part})
	}
	for part := range slices.Chunk(f.GetEnvelopes(), pieceMessagesMax) {
		all = append(all, &raftv1.Frame{Header: f.GetHeader(), Envelopes: part, Traces: f.GetTraces()})
	}
	for part := range slices.Chunk(f.GetControls(), pieceMessagesMax) {
		all = append(all, &raftv1.Frame{Header: f.GetHeader(), Controls: part})
	}
	return all
}

// enter waits until there is room; false = the node stops.
func (i *intake) enter(account uint64, size int64) bool {
	for {
		freed, ok := i.tryEnter(account, size)
		if ok {
			return true
		}
		select {
		case <-freed:
		case <-i.ctx.Done():
			return false
		}
	}
}

func (i *intake) tryEnter(account uint64, size int64) (freed <-chan struct{}, ok bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	most := int64(intakeBytesMax)
	if account == strangers {
		most = strangersBytesMax
	}
	if held := i.held[account]; held > 0 && held+size > most {
		if i.freed == nil {
			i.freed = make(chan struct{})
		}
		return i.freed, false
	}
	i.held[account] += size
	return nil, true
}

func (i *intake) leave(account uint64, size int64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.held[account] -= size; i.held[account] == 0 {
		delete(i.held, account)
	}
	if i.freed != nil {
		close(i.freed)
		i.freed = nil
	}
}

func frameBytes(f *raftv1.Frame) int64 {
	n := frameBytesOverhead + len(f.GetHeartbeats())*heartbeatBytes + len(f.GetControls())*controlBytes
	for _, e := range f.GetEnvelopes() {
		n += envelopeBytes + len(e.GetEntries())*entryBytes
		for _, entry := range e.GetEntries() {
			n += len(entry.GetData())
		}
	}
	return int64(n)
}
