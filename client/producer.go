package client

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/proto/recordbatch"
)

// Producer appends records to one topic, each exactly once and in the order of the Append calls within its
// partition, through changes of leaders and restarts of nodes. It is safe for concurrent use.
//
// Append only takes a record in. Batches leave when they are full or have lingered; while the window of a
// partition is full its batch keeps growing, so load makes batches larger instead of queues longer. All
// partitions led by one node share one stream to it.
//
// Long-lived goroutines, started in NewProducer and ended in Close: pace (timers), chores (leaders and
// producer ids, which take calls), deliver (OnAck). Each courier adds two that end with it.
//
//	Append -> lane -> courier ~~> node ~~> courier -> answered -> lane -> deliver -> OnAck, Ticket
type Producer struct {
	client *Client
	cfg    ProducerConfig
	topic  string
	id     uint64

	recordBytesMax int
	ctx            context.Context
	cancel         context.CancelFunc
	wg             sync.WaitGroup

	mu       sync.Mutex
	lanes    []*lane
	sticky   int // where records without a key go until that batch is closed
	couriers map[string]courier
	inFlight map[uint64]*batch // by request id
	requests uint64
	buffered int
	space    chan struct{} // closed and replaced when buffered shrinks
	wakeAt   time.Time     // when pace looks next
	acks     []*batch      // settled, to be delivered
	lastAck  *batch        // the last that was ever in acks
	failure  error         // the first since the last Flush
	closed   bool

	wakePace, wakeChores, wakeDeliver chan struct{} // hold one each
}

// NewProducer resolves the topic and gets a producer id; ctx bounds this only.
func (c *Client) NewProducer(ctx context.Context, topic string, cfg ProducerConfig) (*Producer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	desc, err := c.Describe(ctx, topic, false)
	if err != nil {
		return nil, err
	}
	id, err := c.newProducerID(ctx)
	if err != nil {
		return nil, err
	}
	p := newProducer(c, cfg.withDefaults(), desc, id)
	p.wg.Go(p.pace)
	p.wg.Go(p.chores)
	p.wg.Go(p.deliver)
	return p, nil
}

func newProducer(c *Client, cfg ProducerConfig, desc *multiraftv1.DescribeResponse, id recordbatch.Producer) *Producer {
	p := &Producer{client: c, cfg: cfg, topic: desc.GetName(), id: desc.GetTopicId(), recordBytesMax: int(desc.GetRecordBytesMax()),
		couriers: make(map[string]courier), inFlight: make(map[uint64]*batch), space: make(chan struct{}),
		wakePace: make(chan struct{}, 1), wakeChores: make(chan struct{}, 1), wakeDeliver: make(chan struct{}, 1)}
	if p.recordBytesMax == 0 {
		p.recordBytesMax = math.MaxInt32 // the node did not say; it will judge
	}
	// The node takes larger batches than records: a batch of the record limit is always acceptable.
	p.cfg.BatchBytes = min(p.cfg.BatchBytes, p.recordBytesMax)
	p.ctx, p.cancel = context.WithCancel(context.Background())
	for _, info := range desc.GetPartitions() {
		p.lanes = append(p.lanes, &lane{partition: info.GetPartition(), leader: info.GetLeader(), term: info.GetTerm(), producer: id})
	}
	return p
}

func (c *Client) newProducerID(ctx context.Context) (recordbatch.Producer, error) {
	resp, err := c.initProducer(ctx)
	if err != nil {
		return recordbatch.None, err
	}
	if resp.GetEpoch() < 0 || resp.GetEpoch() > math.MaxInt16 || resp.GetProducerId() < 1 {
		return recordbatch.None, fmt.Errorf("client: node gave out producer %d with epoch %d", resp.GetProducerId(), resp.GetEpoch())
	}
	return recordbatch.Producer{ID: resp.GetProducerId(), Epoch: int16(resp.GetEpoch())}, nil
}

// TopicID is the id of the topic: another topic under its name has another one.
func (p *Producer) TopicID() uint64 { return p.id }

// Partitions is how many partitions the topic has.
func (p *Producer) Partitions() int { return len(p.lanes) }

// RecordBytesMax is the largest record that the cluster takes: key, value and headers.
func (p *Producer) RecordBytesMax() int { return p.recordBytesMax }

// Append takes r in for a partition, or AnyPartition, and returns at once; it blocks, until ctx ends, while
// the buffer is full. It copies r. A timestamp of 0 becomes the time of the call. An error means that r was
// not taken in; what happens later is told by the Ticket, OnAck and Flush.
func (p *Producer) Append(ctx context.Context, partition int, r Record) (Ticket, error) {
	if partition != AnyPartition {
		if err := p.checkPartition(partition); err != nil {
			return Ticket{}, err
		}
	}
	if n := r.Bytes(); n > p.recordBytesMax {
		return Ticket{}, refuse(RecordTooLarge, codes.InvalidArgument, "a record of %d bytes, the limit is %d", n, p.recordBytesMax)
	}
	bytes := r.EncodedBytesMax()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.reserve(ctx, bytes); err != nil {
		return Ticket{}, err
	}
	now := time.Now()
	if r.TimestampMillis == 0 {
		r.TimestampMillis = now.UnixMilli()
	}
	return p.put(p.choose(partition, r.Key, bytes), r, bytes, now), nil
}

// AppendBatch takes in a record batch as it came from Reader.NextBatch or as recordbatch.Encode made it, to be stored
// as one batch, after what was appended to its partition before. Base offset and producer are not part of it: it gets
// those of here. The records, with their timestamps, stay as they are. Blocking, copying and errors as in Append; that
// a record is too large is for the node to say.
func (p *Producer) AppendBatch(ctx context.Context, partition int, encoded []byte) (Ticket, error) {
	if err := p.checkPartition(partition); err != nil {
		return Ticket{}, err
	}
	info, err := recordbatch.Check(encoded)
	if err != nil {
		return Ticket{}, refuse(InvalidBatch, codes.InvalidArgument, "%v", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.reserve(ctx, len(encoded)); err != nil {
		return Ticket{}, err
	}
	now := time.Now()
	l := p.lanes[partition]
	b := newBatch(l, now)
	b.whole, b.raw, b.bytes, b.ack.Records = true, slices.Clone(encoded), len(encoded), info.Count
	l.enqueue(b, now)
	p.move(l, now)
	return Ticket{batch: b}, nil
}

func (p *Producer) checkPartition(partition int) error {
	if partition < 0 || partition >= len(p.lanes) {
		return refuse(UnknownPartition, codes.NotFound, "topic %s has partitions 0 to %d, not %d", p.topic, len(p.lanes)-1, partition)
	}
	return nil
}

func refuse(reason Reason, code codes.Code, format string, args ...any) *Error {
	return &Error{Op: "append", Code: code, Reason: reason, Message: fmt.Sprintf(format, args...), unsent: true}
}

// reserve waits for room in the buffer, giving up the lock meanwhile. A record larger than the buffer goes
// in when it is empty.
func (p *Producer) reserve(ctx context.Context, bytes int) error {
	for !p.closed {
		if p.buffered == 0 || p.buffered+bytes <= p.cfg.BufferBytes {
			p.buffered += bytes
			return nil
		}
		space := p.space
		p.mu.Unlock()
		var err error
		select {
		case <-space:
		case <-ctx.Done():
			err = fmt.Errorf("append: the buffer is full: %w", ctx.Err())
		}
		p.mu.Lock()
		if err != nil {
			return err
		}
	}
	return fmt.Errorf("append: %w", ErrClosed)
}

// choose finds the lane. Without a key, records stay together until a batch is closed: spreading each record
// would make as many batches as there are partitions.
func (p *Producer) choose(partition int, key []byte, bytes int) *lane {
	if partition != AnyPartition {
		return p.lanes[partition]
	}
	if key != nil {
		return p.lanes[KeyPartition(key, len(p.lanes))]
	}
	if b := p.lanes[p.sticky].open; b == nil || b.bytes+bytes > p.cfg.BatchBytes {
		p.sticky = (p.sticky + 1) % len(p.lanes)
	}
	return p.lanes[p.sticky]
}

// put adds r to l's open batch. What the batch itself takes is counted too, past the limit if need be.
func (p *Producer) put(l *lane, r Record, bytes int, now time.Time) Ticket {
	if l.open != nil && l.open.bytes+bytes > p.cfg.BatchBytes {
		l.close(now)
		p.move(l, now)
	}
	if l.open == nil {
		l.open = newBatch(l, now)
		p.buffered += l.open.bytes
	}
	b := l.open
	t := Ticket{batch: b, index: b.add(r, bytes)}
	if p.cfg.Linger == 0 {
		p.move(l, now)
	} else if t.index == 0 {
		p.arm(l, now)
	}
	return t
}

// Flush sends what is waiting and returns when all that was appended before is settled and told. Its error
// is the first failure since the last Flush, or ctx's.
func (p *Producer) Flush(ctx context.Context) error {
	for _, done := range p.flush() {
		select {
		case <-done:
		case <-ctx.Done():
			return fmt.Errorf("flush: %w", ctx.Err())
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.failure
	p.failure = nil
	return err
}

// flush makes every open batch due and returns what to wait for.
func (p *Producer) flush() []chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	var last []chan struct{}
	if p.lastAck != nil { // they are delivered in order
		last = append(last, p.lastAck.done)
	}
	now := time.Now()
	for _, l := range p.lanes {
		if l.open != nil {
			l.flushing = true
			last = append(last, l.open.done)
		} else if n := len(l.queue); n > 0 {
			last = append(last, l.queue[n-1].done)
		}
		p.move(l, now)
	}
	return last
}

// Close flushes until ctx ends and gives up on what is left: those batches fail with OutcomeUnknown where an
// attempt may have been stored, else with ErrClosed. Its error is that of Flush.
func (p *Producer) Close(ctx context.Context) error {
	p.mu.Lock()
	again := p.closed
	p.closed = true
	p.release(0) // who waits for room hears of it
	p.mu.Unlock()
	if again {
		return nil
	}
	err := p.Flush(ctx)
	p.mu.Lock()
	now := time.Now()
	for _, l := range p.lanes {
		l.abandon(ErrClosed)
		p.settle(l, now)
	}
	clear(p.inFlight)
	p.mu.Unlock()
	p.cancel()
	p.wg.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return errors.Join(err, p.failure)
}

// release gives back room in the buffer.
func (p *Producer) release(bytes int) {
	p.buffered -= bytes
	close(p.space)
	p.space = make(chan struct{})
}

// notify leaves a note for a goroutine that will look; one note is enough.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
