package main

import (
	"encoding/binary"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/multiraftd/multiraftd/actors"
	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/metadata"
	"github.com/multiraftd/multiraftd/router"
)

// command sends a command to the leader of the metadata group, on behalf of from (nil = a client), as the
// services of a node forward it. then hears of the end, if there is one.
func (w *world) command(from *node, c *metav1.Command, then func(actors.ProposeResult)) {
	to := w.leaderOf(raftcore.MetadataGroup)
	if to == nil || from != nil && !w.reaches(from, to) {
		return
	}
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(c)
	if err != nil {
		panic("mrsim: a command that can't be marshalled: " + err.Error())
	}
	life := to.life
	w.after(w.between(time.Millisecond/10, clientDelayMax), func() {
		if to.alive(life) {
			to.core.Dispatch(router.Routed{Group: raftcore.MetadataGroup, Msg: &actors.Propose{Payload: data, Reply: commandReply{to, life, then}}})
		}
	})
}

func (w *world) reaches(from, to *node) bool {
	return from == to || w.cuts[[2]uint64{from.id, to.id}] == 0 && w.cuts[[2]uint64{to.id, from.id}] == 0
}

type commandReply struct {
	n    *node
	life int
	then func(actors.ProposeResult)
}

// Proposed is part of actors.ProposeReply.
func (r commandReply) Proposed(res actors.ProposeResult) {
	if r.then != nil && r.n.alive(r.life) {
		r.then(res)
	}
}

// leaderOf returns a node whose replica says that it leads a group; there may be another that has not heard.
func (w *world) leaderOf(g raftcore.GroupID) *node {
	var found *node
	term := uint64(0)
	for _, n := range w.nodes {
		if s := n.status(g); s != nil && s.Role == raftcore.Leader && s.Term > term {
			found, term = n, s.Term
		}
	}
	return found
}

func (n *node) status(g raftcore.GroupID) *actors.Status {
	if !n.up || n.core == nil {
		return nil
	}
	h, ok := n.core.Table().Hosted(g)
	if !ok {
		return nil
	}
	return h.Board.Load()
}

// groups are the metadata group and all partitions but those that are being deleted, ascending.
func (w *world) groups() []raftcore.GroupID {
	all := []raftcore.GroupID{raftcore.MetadataGroup}
	for _, r := range w.requests {
		for _, l := range r.ledgers {
			if !l.deleting {
				all = append(all, l.group)
			}
		}
	}
	return all
}

// topicRequest is a client that wants a topic and asks until it has it.
type topicRequest struct {
	w       *world
	number  int
	create  *metav1.CreateTopic
	topic   uint64
	ledgers []*ledger
	then    func() // when it is there

	deleting, deleted bool
	shown             map[shownBy]bool // false again: it was there, and is not any more
}

func (w *world) requestTopic(partitions, replicas int) *topicRequest {
	return w.requestNamed("topic-"+string(rune('a'+len(w.requests))), partitions, replicas, nil)
}

func (w *world) requestNamed(name string, partitions, replicas int, then func()) *topicRequest {
	r := &topicRequest{w: w, number: len(w.requests) + 1, then: then, shown: map[shownBy]bool{}}
	id := binary.BigEndian.AppendUint64(make([]byte, metadata.RequestIDBytes-8), uint64(r.number))
	r.create = &metav1.CreateTopic{Name: name, Partitions: uint32(partitions), Replicas: uint32(replicas), RequestId: id,
		Config: drawRetention(w.rnd)}
	w.requests = append(w.requests, r)
	r.ask()
	return r
}

func (r *topicRequest) ask() {
	if r.topic != 0 {
		return
	}
	r.w.command(nil, &metav1.Command{Command: &metav1.Command_CreateTopic{CreateTopic: r.create}}, func(res actors.ProposeResult) {
		if t, ok := res.Outcome.Value.(*metav1.Topic); ok && res.Err == nil {
			r.w.after(r.w.between(0, clientDelayMax), func() { r.created(t) })
		}
	})
	r.w.after(r.w.between(100*time.Millisecond, electionTimeout), r.ask)
}

// created is the answer: each time for the same topic.
func (r *topicRequest) created(t *metav1.Topic) {
	w := r.w
	if r.topic != 0 {
		if r.topic != t.GetTopicId() {
			w.violate("a topic is created twice", "request %d: topics %d and %d", r.number, r.topic, t.GetTopicId())
		}
		return
	}
	r.topic = t.GetTopicId()
	w.tell("topic %d is there: %s, %d partitions", r.topic, t.GetName(), len(t.GetPartitions()))
	for i, p := range t.GetPartitions() {
		g := raftcore.GroupID(p.GetGroupId())
		if w.logs[g] != nil {
			w.violate("a group id is used twice", "group %d", g)
			return
		}
		l := &ledger{group: g, topic: r.topic, number: uint32(i), values: map[raftcore.Offset]uint64{}}
		w.logs[g] = l
		r.ledgers = append(r.ledgers, l)
	}
	if r.then != nil {
		r.then()
	}
}

// watchTopics holds the metadata that a node shows against what clients were told: what is created stays,
// and what is deleted stays so.
func (w *world) watchTopics(n *node) {
	meta := n.core.Table().Meta
	if n.meta == any(meta) {
		return
	}
	n.meta = meta
	seen := map[string]uint64{}
	for _, t := range meta.TopicsAfter(0) {
		if other, twice := seen[string(t.GetRequestId())]; twice {
			w.violate("a topic is created twice", "node %d: topics %d and %d from one request", n.id, other, t.GetTopicId())
		}
		seen[string(t.GetRequestId())] = t.GetTopicId()
	}
	for _, r := range w.requests {
		r.watchDeletion(n, seen[string(r.create.GetRequestId())] != 0)
		if id, ok := seen[string(r.create.GetRequestId())]; ok && r.topic != 0 && id != r.topic {
			w.violate("a topic changes", "node %d: request %d has topic %d, its client was told %d", n.id, r.number, id, r.topic)
		}
	}
}

// allocate gets a producer id, and goes on asking until it has one.
func (w *world) allocate(then func(int64)) {
	done := false
	var ask func()
	ask = func() {
		if done {
			return
		}
		w.command(nil, &metav1.Command{Command: &metav1.Command_AllocateProducers{AllocateProducers: &metav1.AllocateProducers{Count: 1}}}, func(res actors.ProposeResult) {
			r, ok := res.Outcome.Value.(*metadata.ProducerRange)
			if res.Err != nil || !ok || done {
				return
			}
			done = true
			if w.granted[r.First] {
				w.violate("a producer id is given out twice", "%d", r.First)
			}
			w.granted[r.First] = true
			w.after(w.between(0, clientDelayMax), func() { then(r.First) })
		})
		w.after(electionTimeout, ask)
	}
	ask()
}
