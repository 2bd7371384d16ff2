package transport

import (
	"google.golang.org/protobuf/proto"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/proto/trace"
)

// Limits bound an Outbox, in bytes.
type Limits struct {
	// EnvelopeBytesMax bounds one envelope.
	EnvelopeBytesMax int
	// QueueBytesMax bounds what waits; above it appends are dropped. A reserve on top takes the rest.
	QueueBytesMax int
}

// Fate is what became of an envelope or control that was given to an Outbox.
type Fate uint8

// The fates. All from NotConnected on are drops.
const (
	Queued          Fate = iota
	Folded               // took the place of an older heartbeat or control
	NotConnected         // the peer is not there, and no attempt to reach it is under way
	UnknownPeer          // no address for the node
	AppendQueueFull      // an append above the budget
	QueueFull            // anything above budget and reserve
	EnvelopeTooBig       // above EnvelopeBytesMax: it would never fit
	Malformed            // nil
	ConnectionLost       // was waiting when the connection ended
	fates
)

var fateNames = [fates]string{"queued", "folded", "not_connected", "unknown_peer", "append_queue_full", "queue_full", "too_large", "malformed", "connection_lost"}

func (f Fate) String() string { return fateNames[f] }

// Dropped says that it is gone.
func (f Fate) Dropped() bool { return f >= NotConnected }

// Outbox holds what waits for one peer and makes frames of it. It is pure: no lock, goroutine, clock or
// randomness; its owner serialises the calls. TakeFrame fills a frame in this order:
//
//  1. heartbeats and their answers, only the newest of each (group, from, to, response), and beside it the
//     newest that carries a read-index context, which may never be lost to one without;
//  2. controls, only the newest of each (kind, group, replica);
//  3. the report, only the newest;
//  4. the small lane: envelopes under bulkEnvelopeBytesMin, first in first out;
//  5. the bulk lane: the others, and after them whatever their groups send while one still waits there.
//
// So heartbeats pass everything, small messages pass bulk catch-up of other groups, and every group's
// envelopes leave in the order in which they came. Nothing starves: heartbeats, controls and the small lane
// give at least one item to each frame, and so does the bulk lane once no small envelope waits that came
// before its first; that first one may exceed the fill.
//
// An Outbox begins down, where it drops everything. Open before an attempt to connect, Up after a
// handshake, Fail when either is lost.
type Outbox struct {
	limits     Limits
	state      linkState
	heartbeats latest[heartbeatKey, *raftv1.GroupHeartbeat]
	controls   latest[controlKey, *raftv1.Control]
	report     *raftv1.NodeReport // nil = none waits
	small      fifo[waiting]
	bulk       fifo[waiting]
	// Invariant: bulkGroups counts the envelopes of each group in bulk; a group in it adds only there.
	bulkGroups map[uint64]int
	// Invariant: bytes is the sum of the sizes of everything that waits.
	bytes  int
	number uint64 // of the last envelope queued
	losses losses
}

type linkState uint8

const (
	linkDown linkState = iota
	linkOpening
	linkUp
)

type waiting struct {
	envelope *raftv1.Envelope
	size     int
	number   uint64
	beside   []trace.Carried
}

type heartbeatKey struct {
	group, from, to      uint64
	response, hasContext bool
}

type controlKey struct {
	kind           raftv1.Control_Kind
	group, replica uint64
}

// NewOutbox returns an empty Outbox that is down. Zero limits mean the defaults of Config.
func NewOutbox(l Limits) *Outbox {
	if l.EnvelopeBytesMax == 0 {
		l.EnvelopeBytesMax = envelopeBytesMax
	}
	if l.QueueBytesMax == 0 {
		l.QueueBytesMax = queueBytesMax
	}
	return &Outbox{limits: l, bulkGroups: make(map[uint64]int)}
}

// Open lets things wait for a connection that is being tried.
func (o *Outbox) Open() {
	if o.state == linkDown {
		o.state = linkOpening
	}
}

// Up says that the peer is connected. What was lost before belongs to an older connection.
func (o *Outbox) Up() {
	o.state = linkUp
	o.losses.newConnection()
}

// Fail drops everything that waits, marks the groups whose appends went with the connection as lost, and
// returns how many envelopes and heartbeats were dropped, and how many controls.
func (o *Outbox) Fail() (envelopes, controls int) {
	o.state = linkDown
	envelopes, controls = o.heartbeats.len()+o.small.len()+o.bulk.len(), o.controls.len()
	o.losses.connectionLost()
	for _, lane := range [...]*fifo[waiting]{&o.small, &o.bulk} {
		for lane.len() > 0 {
			w := lane.pop()
			if isAppend(w.envelope) {
				o.losses.outage(w.envelope.GetGroupId())
			}
			dropCarried(w.beside, ConnectionLost)
		}
	}
	o.heartbeats, o.controls = latest[heartbeatKey, *raftv1.GroupHeartbeat]{}, latest[controlKey, *raftv1.Control]{}
	clear(o.bulkGroups)
	o.bytes, o.report = 0, nil // the next report says it all again
	return envelopes, controls
}

// Add takes e, which belongs to the Outbox from then on, unless it is dropped.
func (o *Outbox) Add(e *raftv1.Envelope) Fate { return o.AddCarrying(e, nil) }

// AddCarrying is Add with the contexts of sampled writes in e, which go beside it in its frame. They count for no
// limit: what is traced travels like what is not.
func (o *Outbox) AddCarrying(e *raftv1.Envelope, beside []trace.Carried) Fate {
	fate := o.add(e, beside)
	if fate != Queued {
		dropCarried(beside, fate)
	}
	return fate
}

func (o *Outbox) add(e *raftv1.Envelope, beside []trace.Carried) Fate {
	if e == nil {
		return Malformed
	}
	if o.state == linkDown {
		return o.lose(e, NotConnected)
	}
	if t := e.GetType(); t == raftv1.MessageType_MESSAGE_TYPE_HEARTBEAT || t == raftv1.MessageType_MESSAGE_TYPE_HEARTBEAT_RESPONSE {
		return o.addHeartbeat(e)
	}
	size := envelopeSize(e)
	switch {
	case size > o.limits.EnvelopeBytesMax:
		return o.lose(e, EnvelopeTooBig)
	case isAppend(e) && o.bytes+size > o.limits.QueueBytesMax:
		return o.lose(e, AppendQueueFull)
	case o.bytes+size > o.limits.QueueBytesMax+queueReserveBytesMax:
		return o.lose(e, QueueFull)
	}
	o.enqueue(e, size, beside)
	return Queued
}

// AddControl takes c, unless it is dropped.
func (o *Outbox) AddControl(c *raftv1.Control) Fate {
	if c == nil {
		return Malformed
	}
	if o.state == linkDown {
		return NotConnected
	}
	key := controlKey{c.GetKind(), c.GetGroupId(), c.GetReplicaId()}
	if o.controls.len() >= controlsMax && !o.controls.has(key) {
		return QueueFull
	}
	if _, replaced := o.controls.put(key, c); replaced {
		return Folded
	}
	o.bytes += controlBytes
	return Queued
}

// SetReport takes r, in place of one that still waits, unless it is dropped.
func (o *Outbox) SetReport(r *raftv1.NodeReport) Fate {
	switch size := proto.Size(r); {
	case r == nil:
		return Malformed
	case o.state == linkDown:
		return NotConnected
	case size > reportBytesMax:
		return EnvelopeTooBig
	case o.bytes+size-proto.Size(o.report) > o.limits.QueueBytesMax+queueReserveBytesMax:
		return QueueFull
	default:
		replaced := o.report != nil
		o.bytes += size - proto.Size(o.report)
		if o.report = r; replaced {
			return Folded
		}
		return Queued
	}
}

// Waiting says that TakeFrame would return a frame.
func (o *Outbox) Waiting() bool {
	return o.state == linkUp && (o.report != nil || o.heartbeats.len()+o.controls.len()+o.small.len()+o.bulk.len() > 0)
}

// TakeFrame removes and returns the next frame, without header, filled to maxBytes; nil when nothing waits
// or the peer is not connected. One envelope of each lane may exceed the fill: Config.FrameBytesMax.
func (o *Outbox) TakeFrame(maxBytes int) *raftv1.Frame {
	if !o.Waiting() {
		return nil
	}
	f, left := &raftv1.Frame{}, maxBytes
	for o.heartbeats.len() > 0 && (left > 0 || f.Heartbeats == nil) {
		h := o.heartbeats.pop()
		f.Heartbeats = append(f.Heartbeats, h)
		left -= o.release(heartbeatSize(h))
	}
	for o.controls.len() > 0 && (left > 0 || f.Controls == nil) {
		f.Controls = append(f.Controls, o.controls.pop())
		left -= o.release(controlBytes)
	}
	if o.report != nil {
		f.Report = o.report
		left -= o.release(proto.Size(o.report))
		o.report = nil
	}
	for first := true; o.small.len() > 0 && (first || o.small.front().size <= left); first = false {
		left -= o.takeEnvelope(&o.small, f)
	}
	for first := true; o.bulkIsNext() && (first || o.bulk.front().size <= left); first = false {
		left -= o.takeEnvelope(&o.bulk, f)
	}
	return f
}

// HasLost says that TakeLost would return something.
func (o *Outbox) HasLost() bool { return o.losses.pending.len() > 0 }

// TakeLost removes and returns the groups of which an append was lost since the last call, ascending.
func (o *Outbox) TakeLost() []uint64 { return o.losses.take() }

// bulkIsNext: a bulk envelope never passes a small one that came before it, which may be of its group.
func (o *Outbox) bulkIsNext() bool {
	return o.bulk.len() > 0 && (o.small.len() == 0 || o.bulk.front().number < o.small.front().number)
}

func (o *Outbox) takeEnvelope(lane *fifo[waiting], f *raftv1.Frame) (size int) {
	w := lane.pop()
	f.Envelopes = append(f.Envelopes, w.envelope)
	group := w.envelope.GetGroupId()
	if w.beside != nil {
		carry(f, group, w.beside)
	}
	if isAppend(w.envelope) {
		o.losses.handedOut(group, w.size)
	}
	if lane == &o.bulk {
		o.leaveBulk(group)
	}
	return o.release(w.size)
}

func (o *Outbox) enqueue(e *raftv1.Envelope, size int, beside []trace.Carried) {
	o.bytes += size
	o.number++
	w, group := waiting{e, size, o.number, beside}, e.GetGroupId()
	if w.size < bulkEnvelopeBytesMin && (len(o.bulkGroups) == 0 || o.bulkGroups[group] == 0) {
		o.small.push(w)
		return
	}
	o.bulkGroups[group]++
	o.bulk.push(w)
}

func (o *Outbox) leaveBulk(group uint64) {
	if o.bulkGroups[group]--; o.bulkGroups[group] == 0 {
		delete(o.bulkGroups, group)
	}
}

func (o *Outbox) release(size int) int {
	o.bytes -= size
	return size
}

// addHeartbeat folds e. Keeping the newest with context apart costs one heartbeat, and keeps a read from
// hanging until its retry.
func (o *Outbox) addHeartbeat(e *raftv1.Envelope) Fate {
	h := fold(e)
	key := heartbeatKey{h.GroupId, h.FromReplica, h.ToReplica, h.Response, len(h.Context) > 0}
	size := heartbeatSize(h)
	if o.bytes+size > o.limits.QueueBytesMax+queueReserveBytesMax && !o.heartbeats.has(key) {
		return QueueFull
	}
	old, replaced := o.heartbeats.put(key, h)
	o.bytes += size
	if !replaced {
		return Queued
	}
	o.bytes -= heartbeatSize(old)
	return Folded
}

func (o *Outbox) lose(e *raftv1.Envelope, why Fate) Fate {
	switch {
	case !isAppend(e):
	case o.state == linkUp:
		o.losses.dropped(e.GetGroupId())
	default:
		o.losses.outage(e.GetGroupId())
	}
	return why
}

func fold(e *raftv1.Envelope) *raftv1.GroupHeartbeat {
	return &raftv1.GroupHeartbeat{
		GroupId: e.GetGroupId(), FromReplica: e.GetFromReplica(), ToReplica: e.GetToReplica(),
		Term: e.GetTerm(), Commit: e.GetCommit(), Context: e.GetContext(),
		Response: e.GetType() == raftv1.MessageType_MESSAGE_TYPE_HEARTBEAT_RESPONSE,
	}
}

func isAppend(e *raftv1.Envelope) bool { return e.GetType() == raftv1.MessageType_MESSAGE_TYPE_APPEND }
