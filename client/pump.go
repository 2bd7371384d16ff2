package client

import (
	"context"
	"fmt"
	"time"

	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
)

const (
	idleInterval  = time.Second            // pace looks this often when nothing calls for it
	choreInterval = 100 * time.Millisecond // chores run at most this often
)

// pump moves l along: whatever can be sent now is given to a courier, whatever is settled to deliver.
func (p *Producer) pump(l *lane, now time.Time) {
	l.drain()
	p.settle(l, now) // what is settled would count against the window
	if l.due(now, p.cfg.Linger, p.cfg.InFlight) {
		l.close(now)
	}
	for b := l.next(now, p.cfg.InFlight); b != nil; b = l.next(now, p.cfg.InFlight) {
		if err := l.freeze(b); err != nil {
			b.settle(Receipt{}, err)
			p.settle(l, now)
			continue
		}
		via := p.route(l, now)
		if via == nil {
			break
		}
		p.dispatch(l, b, via, now)
	}
}

// move is pump for all but pace: it tells pace and chores what they did not know.
func (p *Producer) move(l *lane, now time.Time) {
	p.pump(l, now)
	p.arm(l, now)
	if !l.idle() && (l.needsID || l.leader == 0 && l.failures > 0) {
		notify(p.wakeChores)
	}
}

// arm makes pace look in time for l.
func (p *Producer) arm(l *lane, now time.Time) {
	if at := l.wake(now, p.cfg.Linger, p.cfg.InFlight); at.Before(p.wakeAt) {
		p.wakeAt = at
		notify(p.wakePace)
	}
}

func (p *Producer) dispatch(l *lane, b *batch, via courier, now time.Time) {
	p.requests++
	p.inFlight[p.requests] = b
	l.sent(b, via, p.requests, now)
	item := &multiraftv1.AppendItem{RequestId: p.requests, TopicId: p.id, Partition: l.partition,
		Content: &multiraftv1.AppendItem_Batch{Batch: b.encoded}}
	if p.client.cfg.Tracer != nil {
		p.traceBatch(b)
		item.Traceparent = b.span.At().Traceparent()
	}
	via.send(item)
}

// route finds the courier for l: to its leader's node, else to any, which will forward. Batches in flight
// pin it: two couriers could change their order, so a lane changes over when nothing is in flight.
func (p *Producer) route(l *lane, now time.Time) courier {
	addr := ""
	if l.leader != 0 {
		addr = p.client.dir.addr(l.leader, now)
	}
	switch {
	case addr == "" && l.via != nil && p.couriers[l.via.address()] == l.via:
		return l.via
	case addr == "":
		addr = p.client.dir.order(l.leader, now)[0]
	}
	via := p.couriers[addr]
	if l.inFlight > 0 && via != l.via {
		return nil
	}
	if via != nil {
		return via
	}
	return p.hire(addr, l, now)
}

// hire starts a courier to addr; nil, with l stalled, when there cannot be one.
func (p *Producer) hire(addr string, l *lane, now time.Time) courier {
	conn, err := p.client.conn(addr)
	if err != nil {
		e := fromStatus("append", err)
		e.unsent = true
		l.stall(e, now)
		return nil
	}
	if p.cfg.Unary {
		p.couriers[addr] = newCalls(p.ctx, conn, addr, p, &p.wg)
	} else {
		p.couriers[addr] = newStream(p.ctx, conn, addr, p, &p.wg)
	}
	return p.couriers[addr]
}

// settle hands settled batches to deliver.
func (p *Producer) settle(l *lane, now time.Time) {
	popped := l.pop(now)
	if len(popped) == 0 {
		return
	}
	p.acks = append(p.acks, popped...)
	p.lastAck = popped[len(popped)-1]
	notify(p.wakeDeliver)
}

// answered implements sender.
func (p *Producer) answered(via courier, outcomes []outcome) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	touched := make(map[*lane]struct{}, len(outcomes))
	for _, o := range outcomes {
		b, ok := p.inFlight[o.request]
		if !ok {
			continue // given up on, or answered twice
		}
		delete(p.inFlight, o.request)
		touched[b.lane] = struct{}{}
		if o.err == nil {
			p.client.dir.succeeded(via.address())
			b.lane.acked(b, receiptOf(o.receipt))
			continue
		}
		b.lane.refused(b, o.err, now)
		p.reroute(b.lane, via, o.err, now)
	}
	for l := range touched {
		p.move(l, now)
	}
}

// reroute draws the conclusions from a refusal for where l is led.
func (p *Producer) reroute(l *lane, via courier, e *Error, now time.Time) {
	switch e.Reason {
	case NotLeader:
		node, addr := e.leader()
		p.client.dir.hint(node, addr)
		l.leader = node
	case Stopping, "":
		p.client.dir.failed(via.address(), now)
		l.leader = 0
	case NoLeader, ReplicaFailed, OutcomeUnknown, UnknownTopic, UnknownPartition:
		l.leader = 0
	default:
		return // the leader, or the batch itself
	}
	l.via = nil
}

// forget drops the requests of l that are in flight on via, or, with nil, on any courier.
func (p *Producer) forget(l *lane, via courier) {
	for _, b := range l.queue {
		if b.via != nil && (via == nil || b.via == via) {
			delete(p.inFlight, b.request)
		}
	}
}

// lost implements sender.
func (p *Producer) lost(via courier, e *Error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	via.stop()
	if p.couriers[via.address()] == via {
		delete(p.couriers, via.address())
	}
	now := time.Now()
	if !p.closed {
		p.client.dir.failed(via.address(), now)
	}
	for _, l := range p.lanes {
		p.forget(l, via)
		l.lost(via, e, now)
		if l.via == via {
			l.via, l.leader = nil, 0
		}
		p.move(l, now)
	}
}

// pace runs what time makes due.
func (p *Producer) pace() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-p.wakePace:
		case <-timer.C:
		}
		timer.Reset(p.tick(time.Now()))
	}
}

// tick looks at every lane and returns when to look again.
func (p *Producer) tick(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wakeAt = now.Add(idleInterval)
	chores := false
	for _, l := range p.lanes {
		if l.idle() {
			continue
		}
		p.expire(l, now)
		p.pump(l, now)
		chores = chores || l.leader == 0 || l.needsID
		if at := l.wake(now, p.cfg.Linger, p.cfg.InFlight); at.Before(p.wakeAt) {
			p.wakeAt = at
		}
	}
	if chores {
		notify(p.wakeChores)
	}
	return max(p.wakeAt.Sub(now), time.Millisecond)
}

// expire ends couriers that do not answer, and batches that were tried for too long.
func (p *Producer) expire(l *lane, now time.Time) {
	b := l.oldest()
	if b == nil {
		return
	}
	if b.via != nil && now.Sub(b.sentAt) > answerTimeout {
		b.via.stop() // what is in flight on it comes back as lost
		if addr := b.via.address(); p.couriers[addr] == b.via {
			delete(p.couriers, addr)
		}
	}
	if p.cfg.DeliveryTimeout == 0 || now.Sub(l.headSince) < p.cfg.DeliveryTimeout {
		return
	}
	p.forget(l, nil)
	if l.lastErr != nil {
		l.abandon(fmt.Errorf("%w: %w", ErrTimedOut, l.lastErr))
	} else {
		l.abandon(ErrTimedOut)
	}
}

// chores makes the calls that lanes need: who leads, and new producer ids.
func (p *Producer) chores() {
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-p.wakeChores:
		}
		p.renewIDs()
		p.findLeaders()
		if sleep(p.ctx, choreInterval) != nil {
			return
		}
		notify(p.wakePace) // which decides whether there is more to do
	}
}

// findLeaders asks where the topic is led. A failure shows in the batches that wait for it.
func (p *Producer) findLeaders() {
	ctx, cancel := context.WithTimeout(p.ctx, attemptTimeout)
	defer cancel()
	desc, err := p.client.Describe(ctx, p.topic, false)
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for i, l := range p.lanes {
		if err == nil && i < len(desc.GetPartitions()) && desc.GetTopicId() == p.id {
			info := desc.GetPartitions()[i]
			l.led(info.GetLeader(), info.GetTerm(), now)
		}
		p.move(l, now)
	}
}

// renewIDs gives a producer id to each lane that waits for one. They share one: sequences are per partition.
func (p *Producer) renewIDs() {
	if len(p.renewable()) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(p.ctx, attemptTimeout)
	defer cancel()
	id, err := p.client.newProducerID(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for _, l := range p.lanes {
		if !l.renewable() {
			continue
		}
		if err == nil {
			l.renew(id)
		} else {
			l.lastErr = err
		}
		p.move(l, now)
	}
}

func (p *Producer) renewable() (lanes []*lane) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.lanes {
		if l.renewable() {
			lanes = append(lanes, l)
		}
	}
	return lanes
}

// deliver tells the fate of batches, in order.
func (p *Producer) deliver() {
	for {
		p.mu.Lock()
		acks := p.acks
		p.acks = nil
		p.mu.Unlock()
		for _, b := range acks {
			p.tell(b)
		}
		if len(acks) > 0 {
			continue
		}
		select {
		case <-p.wakeDeliver:
		case <-p.ctx.Done():
			if p.told() {
				return
			}
		}
	}
}

func (p *Producer) tell(b *batch) {
	p.cfg.OnAck(b.ack)
	p.mu.Lock()
	if p.failure == nil {
		p.failure = b.ack.Err
	}
	p.release(b.bytes)
	p.mu.Unlock()
	close(b.done)
}

func (p *Producer) told() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.acks) == 0
}
