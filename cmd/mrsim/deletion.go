package main

import (
	"time"

	"github.com/multiraftd/multiraftd/actors"
	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	"github.com/multiraftd/multiraftd/raftcore"
)

// A topic that is to be deleted stands long enough for no copy of the request for it to be on its way any more.
const (
	deletionMille  = 500
	standsMin      = 200 * time.Millisecond
	recreatedMille = 500
)

// deleteTopics lets a client want another topic, in some worlds, fill it, and delete it while there are faults.
func (w *world) deleteTopics() {
	if !w.chance(deletionMille) {
		return
	}
	w.after(w.between(0, w.shape.duration/2), func() {
		var r *topicRequest
		r = w.requestNamed("passing", 1+w.rnd.IntN(2), 3, func() {
			for i := range r.ledgers {
				w.fillDoomed(r.ledgers[i])
			}
			w.after(w.between(standsMin, w.shape.duration/2), r.delete)
		})
	})
}

// fillDoomed appends to a partition until its topic is to go, or the calm has begun.
func (w *world) fillDoomed(l *ledger) {
	if w.still {
		return
	}
	p := &producer{w: w, id: len(w.producers) + 1, log: l}
	w.producers = append(w.producers, p)
	w.allocate(func(id int64) {
		p.pid = id
		p.work()
	})
}

// delete asks for the end of the topic until it is answered. Its producers expect nothing more.
func (r *topicRequest) delete() {
	if r.w.broken != nil {
		return
	}
	r.deleting = true
	for _, l := range r.ledgers {
		l.deleting = true
	}
	for _, p := range r.w.producers {
		if p.log.deleting {
			p.stopped, p.queue = true, nil
		}
	}
	r.w.tell("topic %d is to be deleted", r.topic)
	r.askDeleted()
}

func (r *topicRequest) askDeleted() {
	if r.deleted {
		return
	}
	w := r.w
	w.command(nil, &metav1.Command{Command: &metav1.Command_DeleteTopic{DeleteTopic: &metav1.DeleteTopic{TopicId: r.topic}}}, func(res actors.ProposeResult) {
		if res.Err != nil || r.deleted {
			return
		}
		switch res.Outcome.Verdict {
		case raftcore.Accepted, raftcore.Duplicate:
			r.deleted = true
			w.fire(topicDeleted, "topic %d is deleted", r.topic)
			if w.chance(recreatedMille) {
				w.requestNamed(r.create.GetName(), 1, 3, func() { w.fire(topicAgain, "") })
			}
		default:
			w.violate("a topic can't be deleted", "topic %d: %v", r.topic, res.Outcome.Verdict)
		}
	})
	w.after(w.between(200*time.Millisecond, electionTimeout), r.askDeleted)
}

// shownBy is a life of a node.
type shownBy struct {
	node uint64
	life int
}

// watchDeletion: within a life, a node that has shown a topic, and then no more, does not show it again.
func (r *topicRequest) watchDeletion(n *node, shows bool) {
	by := shownBy{n.id, n.life}
	before, known := r.shown[by]
	switch {
	case known && !before && shows:
		r.w.violate("a deleted topic is back", "node %d: topic %d, %s", n.id, r.topic, r.create.GetName())
	case known && before && !shows && !r.deleting:
		r.w.violate("a topic is gone", "node %d: topic %d, %s, which nobody has deleted", n.id, r.topic, r.create.GetName())
	}
	if known || shows {
		r.shown[by] = shows
	}
}
