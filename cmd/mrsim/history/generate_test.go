package history

import (
	"math/rand/v2"
	"slices"
)

// toy is a partition with one correct log and clients that see all that clients of the real one can see: lost
// answers, appends that come through long after their client gave up, retries, sequence gaps, lagging reads and
// truncation. What it records is a correct history by construction.
type toy struct {
	rng       *rand.Rand
	h         *History
	now       int64
	log       []uint64
	logStart  int64
	truncates bool
	value     uint64
	producer  map[int64]*session // what the partition's machine knows
	clients   []*toyClient
	limbo     []*request // nobody waits for these any more; they may take effect, or never
	fired     map[string]int
}

type session struct {
	next    int64 // expected sequence
	batches []stored
}

type stored struct{ sequence, offset, count int64 }

type toyClient struct {
	id       int
	producer Producer // zero: plain
	inFlight []*request
	again    []batchOf // to be sent before anything new, in this order
	windowOf int
}

type batchOf struct {
	producer Producer
	values   []uint64
}

type request struct {
	ref     Ref
	kind    Kind
	batch   batchOf
	from    int64
	applied bool
	outcome Outcome
	offset  int64
	start   int64
	high    int64
	values  []uint64
}

const (
	toyBatchMax  = 4
	toyWindowMax = 3 // in flight per idempotent client
	toyRemember  = 2 // batches whose offsets a session remembers
)

// generate makes a history of about n operations by that many clients, half of them idempotent.
func generate(seed uint64, clients, n int) *toy { return newToy(seed, clients, true).run(n) }

func newToy(seed uint64, clients int, truncates bool) *toy {
	t := &toy{
		rng: rand.New(rand.NewPCG(seed, 77)), h: new(History), truncates: truncates,
		producer: map[int64]*session{}, fired: map[string]int{},
	}
	for i := range clients {
		c := &toyClient{id: i, windowOf: 1}
		if i%2 == 0 {
			c.producer = Producer{ID: int64(i + 1)}
			c.windowOf = 1 + t.rng.IntN(toyWindowMax)
		}
		t.clients = append(t.clients, c)
	}
	return t
}

func (t *toy) run(n int) *toy {
	for t.h.Len() < n {
		t.step()
	}
	t.h.SetLog(t.logStart, slices.Clone(t.log[t.logStart:]))
	return t
}

func (t *toy) chance(percent int) bool { return t.rng.IntN(100) < percent }

func (t *toy) step() {
	if t.chance(70) {
		t.now += t.rng.Int64N(40)
	}
	switch c := t.clients[t.rng.IntN(len(t.clients))]; {
	case t.rng.IntN(1000) < 4:
		t.changeLeader()
	case t.truncates && t.rng.IntN(1000) < 4:
		t.truncate()
	case len(t.limbo) > 0 && t.chance(5):
		i := t.rng.IntN(len(t.limbo))
		t.apply(t.limbo[i])
		t.limbo = slices.Delete(t.limbo, i, i+1)
		t.fired["late"]++
	case len(c.inFlight) > 0 && (len(c.inFlight) == c.windowOf || t.chance(60)):
		t.advance(c)
	default:
		t.call(c)
	}
}

// changeLeader leaves every append under way with an unknown outcome, or lost for certain.
func (t *toy) changeLeader() {
	t.fired["leader"]++
	for _, c := range t.clients {
		for _, r := range slices.Clone(c.inFlight) {
			switch {
			case r.kind != Append:
			case !r.applied && t.chance(30):
				t.h.Failed(r.ref, t.now)
				t.fired["lost"]++
				t.forget(c, r, true)
			default:
				t.giveUp(c, r)
			}
		}
	}
}

func (t *toy) giveUp(c *toyClient, r *request) {
	t.fired["unknown"]++
	if !r.applied {
		t.limbo = append(t.limbo, r)
	}
	t.forget(c, r, true)
}

// forget ends a request; an unstored batch is sent again always by an idempotent client, sometimes by a plain one,
// which now and then sends a stored one again too.
func (t *toy) forget(c *toyClient, r *request, unstored bool) {
	c.inFlight = slices.DeleteFunc(c.inFlight, func(o *request) bool { return o == r })
	idempotent := c.producer.ID != 0
	if r.kind == Append && (unstored && (idempotent || t.chance(50)) || !idempotent && t.chance(5)) {
		c.again = append(c.again, r.batch)
		slices.SortStableFunc(c.again, func(a, b batchOf) int { return int(a.producer.Sequence - b.producer.Sequence) })
	}
}

func (t *toy) truncate() {
	if n := int64(len(t.log)) - t.logStart; n > 0 {
		t.logStart += t.rng.Int64N(n+1) / 2
		t.fired["truncate"]++
	}
}

func (t *toy) call(c *toyClient) {
	r := &request{kind: Append}
	switch {
	case len(c.again) > 0:
		t.fired["retry"]++
		r.batch, c.again = c.again[0], c.again[1:]
	case t.chance(60) || len(c.inFlight) > 0:
		r.batch = t.newBatch(c)
	default:
		r.kind = []Kind{End, End, Read, ReadToEnd}[t.rng.IntN(4)]
		r.from = max(t.logStart, int64(len(t.log))-t.rng.Int64N(12))
	}
	switch r.kind {
	case Append:
		r.ref = t.h.Append(t.now, c.id, r.batch.producer, r.batch.values)
	case End:
		r.ref = t.h.End(t.now, c.id)
	case Read:
		r.ref = t.h.Read(t.now, c.id, r.from)
	case ReadToEnd:
		r.ref = t.h.ReadToEnd(t.now, c.id, r.from)
	}
	c.inFlight = append(c.inFlight, r)
}

func (t *toy) newBatch(c *toyClient) batchOf {
	b := batchOf{producer: c.producer}
	for range 1 + t.rng.IntN(toyBatchMax) {
		t.value++
		b.values = append(b.values, t.value)
	}
	if c.producer.ID != 0 {
		c.producer.Sequence += int64(len(b.values))
	}
	return b
}

// advance lets one request of a client take effect, or be answered.
func (t *toy) advance(c *toyClient) {
	r := c.inFlight[t.rng.IntN(len(c.inFlight))]
	switch {
	case !r.applied:
		t.apply(r)
	case r.kind == Append && t.chance(4): // the answer is lost
		t.giveUp(c, r)
	default:
		t.answer(c, r)
	}
}

func (t *toy) apply(r *request) {
	r.applied, r.outcome = true, Done
	r.start, r.high = t.logStart, int64(len(t.log))
	switch r.kind {
	case Append:
		t.applyAppend(r)
	case ReadToEnd:
		r.values = t.log[r.from:]
		if r.from < t.logStart {
			r.kind = End // refused with both ends
		}
	case Read: // a replica that lags, a limit in bytes
		high := max(r.from, r.high-t.rng.Int64N(8))
		r.values = t.log[r.from:min(high, r.from+t.rng.Int64N(10))]
	}
}

func (t *toy) applyAppend(r *request) {
	r.offset = int64(len(t.log))
	p := r.batch.producer
	if p.ID == 0 {
		t.log = append(t.log, r.batch.values...)
		return
	}
	s := t.producer[p.ID]
	if s == nil {
		s = new(session)
		t.producer[p.ID] = s
	}
	switch {
	case p.Sequence == s.next:
		t.log = append(t.log, r.batch.values...)
		n := int64(len(r.batch.values))
		s.next += n
		s.batches = append(s.batches, stored{p.Sequence, r.offset, n})
	case p.Sequence > s.next:
		r.outcome = Failed
		t.fired["gap"]++
	default:
		i := slices.IndexFunc(s.batches, func(b stored) bool { return b.sequence == p.Sequence })
		r.offset = s.batches[i].offset
		t.fired["duplicate"]++
		if i < len(s.batches)-toyRemember {
			r.outcome = Duplicate
			t.fired["forgotten"]++
		}
	}
}

func (t *toy) answer(c *toyClient, r *request) {
	switch {
	case r.outcome == Failed:
		t.h.Failed(r.ref, t.now)
	case r.outcome == Duplicate:
		t.h.Duplicate(r.ref, t.now)
	case r.kind == Append:
		t.h.Acked(r.ref, t.now, r.offset)
	case r.kind == End:
		t.h.Bounds(r.ref, t.now, r.start, r.high)
	default:
		t.h.Records(r.ref, t.now, r.values)
	}
	t.forget(c, r, r.outcome == Failed)
}
