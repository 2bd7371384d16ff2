package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/proto/recordbatch"
)

// Position says where to begin or stop. The zero Position is the start.
type Position struct {
	kind  positionKind
	value int64
}

type positionKind int

const (
	atStart positionKind = iota
	atEnd
	atOffset
	atTime
)

// Start is the first offset that is still stored.
func Start() Position { return Position{} }

// End is the linearizable end at the time of the call.
func End() Position { return Position{kind: atEnd} }

// Offset is an offset.
func Offset(o int64) Position { return Position{kind: atOffset, value: o} }

// Time is the first record stored at or after t, by the leaders' clocks.
func Time(t time.Time) Position { return Position{kind: atTime, value: t.UnixMilli()} }

// ReadConfig says what to read of one partition.
type ReadConfig struct {
	Partition uint32
	// From is where to begin. Default: the start.
	From Position
	// To is where to stop, exclusive: an offset or End. Default (and Start): the end. Ignored with Follow.
	To Position
	// Follow goes on at the end and waits for more.
	Follow bool
	// ResponseBytes bounds one response; a batch always fits. Default: the node's, 1 MiB.
	ResponseBytes uint32
	// RetryTimeout is how long the reader looks for a node that it can go on with. Default 0: until ctx ends.
	RetryTimeout time.Duration
}

// Reader reads one partition in the order of its offsets. When a node fails it goes on at the next offset on
// another one. It is not safe for concurrent use.
//
// It checks what it is given: each batch's checksum, and that offsets continue without a gap.
type Reader struct {
	client  *Client
	cfg     ReadConfig
	topic   string
	id      uint64
	leader  uint64
	start   Position // where the next stream begins
	started bool     // bounds are known: start is an offset
	decoded bool     // a record has been returned, or is about to be

	next, end, logStart, highWatermark int64 // end -1: follows, or not known yet

	rpc      grpc.ServerStreamingClient[multiraftv1.ReadResponse]
	cancel   context.CancelFunc
	addr     string
	opened   time.Time
	failures int       // in a row, without a record between them
	since    time.Time // of the first of them
	batches  [][]byte
	records  []Record
	at       int
	err      error // final
}

// openTimeout bounds how long a node may take for the first response.
const openTimeout = attemptTimeout

// NewReader resolves the topic. ctx bounds this call only; the first Next opens the stream.
func (c *Client) NewReader(ctx context.Context, topic string, cfg ReadConfig) (*Reader, error) {
	if cfg.To.kind == atTime {
		return nil, errors.New("client: a read cannot end at a time")
	}
	desc, err := c.Describe(ctx, topic, false)
	if err != nil {
		return nil, err
	}
	if int(cfg.Partition) >= len(desc.GetPartitions()) {
		return nil, &Error{Op: "read", Code: codes.NotFound, Reason: UnknownPartition, Message: fmt.Sprintf("topic %s has partitions 0 to %d, not %d",
			topic, len(desc.GetPartitions())-1, cfg.Partition)}
	}
	return &Reader{client: c, cfg: cfg, topic: topic, id: desc.GetTopicId(), start: cfg.From, end: -1,
		leader: desc.GetPartitions()[cfg.Partition].GetLeader(), cancel: func() {}}, nil
}

// TopicID is the id of the topic that is read: another topic under its name has another one.
func (r *Reader) TopicID() uint64 { return r.id }

// Offset is the offset after the last record or batch that was returned; 0 before the first call of Next or NextBatch.
func (r *Reader) Offset() int64 { return r.next - int64(r.Buffered()) }

// NextBatch returns the next record batch as it is stored, with its base offset, io.EOF at the end. The first may
// begin before the offset that was asked for, the last may go past the end. What is said of Next's records and errors
// holds for it too. Use Next or NextBatch on a Reader, not both.
func (r *Reader) NextBatch(ctx context.Context) ([]byte, error) {
	var whole []byte
	err := r.advance(ctx, func(batch []byte) (taken bool, err error) {
		if taken, err = r.pass(batch); taken {
			whole = batch
		}
		return taken, err
	})
	return whole, err
}

// Next returns the next record, io.EOF at the end. The record is valid for good. An error is final, but for
// that of ctx: a Reader can be used again after its call was cut short.
func (r *Reader) Next(ctx context.Context) (Record, error) {
	for r.at == len(r.records) {
		if err := r.fill(ctx); err != nil {
			return Record{}, err
		}
	}
	rec := r.records[r.at]
	r.at++
	return rec, nil
}

// Buffered is how many records Next will return without waiting.
func (r *Reader) Buffered() int { return len(r.records) - r.at }

// All iterates to the end. An error is the last item.
func (r *Reader) All(ctx context.Context) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for {
			rec, err := r.Next(ctx)
			if errors.Is(err, io.EOF) || !yield(rec, err) || err != nil {
				return
			}
		}
	}
}

// Bounds are the first stored offset and the high watermark, as of the last response; 0, 0 before the first.
func (r *Reader) Bounds() (logStart, highWatermark int64) { return r.logStart, r.highWatermark }

// Close ends the stream.
func (r *Reader) Close() error {
	r.disconnect()
	r.err = ErrClosed
	r.records, r.batches, r.at = nil, nil, 0
	return nil
}

// fill makes at least one record available, or says why not.
func (r *Reader) fill(ctx context.Context) error {
	return r.advance(ctx, func(batch []byte) (bool, error) {
		err := r.decode(batch)
		return len(r.records) > 0, err
	})
}

// advance hands batches to take until that has one to return, or says why there is none.
func (r *Reader) advance(ctx context.Context, take func(batch []byte) (bool, error)) error {
	for r.err == nil {
		if len(r.batches) > 0 {
			batch := r.batches[0]
			r.batches = r.batches[1:]
			taken, err := take(batch)
			if err != nil {
				r.err = err
				break
			}
			if taken {
				return nil
			}
			continue
		}
		if r.started && r.end >= 0 && r.next >= r.end {
			r.err = io.EOF
			break
		}
		if err := r.receive(ctx); err != nil {
			return err
		}
	}
	r.disconnect()
	return r.err
}

// decode makes a batch's records available, without those before the next offset and from the end on.
func (r *Reader) decode(batch []byte) error {
	records, err := recordbatch.Decode(batch)
	if err != nil {
		return r.unreadable(err)
	}
	if base := records[0].Offset; base > r.next {
		return r.gap(base)
	}
	skip := min(r.next-records[0].Offset, int64(len(records)))
	records = records[skip:]
	if past := r.next + int64(len(records)) - r.end; r.end >= 0 && past > 0 {
		records = records[:int64(len(records))-past]
	}
	r.records, r.at, r.decoded = records, 0, true
	r.next += int64(len(records))
	return nil
}

// pass checks a batch and goes past it; taken = it has records that were not passed before.
func (r *Reader) pass(batch []byte) (taken bool, err error) {
	info, err := recordbatch.Check(batch)
	if err != nil {
		return false, r.unreadable(err)
	}
	if info.BaseOffset > r.next {
		return false, r.gap(info.BaseOffset)
	}
	if end := info.BaseOffset + int64(info.Count); end > r.next {
		r.next, r.decoded = end, true
		return true, nil
	}
	return false, nil
}

func (r *Reader) unreadable(err error) error {
	return fmt.Errorf("read %s/%d at offset %d: %w", r.topic, r.cfg.Partition, r.next, err)
}

func (r *Reader) gap(base int64) error {
	return fmt.Errorf("read %s/%d: %w: offset %d follows %d", r.topic, r.cfg.Partition, ErrGap, base, r.next-1)
}

// receive takes one response, from a new stream if need be. It returns an error only to be passed on.
func (r *Reader) receive(ctx context.Context) error {
	if r.rpc == nil {
		return r.reopen(ctx)
	}
	stop := context.AfterFunc(ctx, r.cancel)
	resp, err := r.rpc.Recv()
	stop()
	if err != nil {
		return r.failed(ctx, err)
	}
	r.failures = 0
	r.batches, r.logStart, r.highWatermark = resp.GetBatches(), resp.GetLogStart(), resp.GetHighWatermark()
	return nil
}

// failed decides what becomes of a failure: another try after a pause, or the end.
func (r *Reader) failed(ctx context.Context, err error) error {
	if r.rpc != nil && time.Since(r.opened) > openTimeout {
		r.failures = 0 // it had worked for a while
	}
	r.disconnect()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	e := fromStatus(fmt.Sprintf("read %s/%d", r.topic, r.cfg.Partition), err)
	if e.Reason == OffsetOutOfRange && r.start.kind == atStart && r.started && !r.decoded {
		r.started = false // the first record went after a node had named it: there is another first one now
		return nil
	}
	if !errors.Is(err, io.EOF) && !e.retriable() && !(e.Reason == UnknownTopic && r.failures < unknownTopicTriesMax) {
		r.err = e
		return r.err
	}
	now := time.Now()
	if r.failures == 0 {
		r.since = now
	}
	if r.cfg.RetryTimeout > 0 && now.Sub(r.since) >= r.cfg.RetryTimeout {
		r.err = e
		return r.err
	}
	if e.Reason == "" {
		r.client.dir.failed(r.addr, now)
	}
	r.leader = 0 // the next stream begins at any node
	if node, addr := e.leader(); node != 0 {
		r.client.dir.hint(node, addr)
		r.leader = node
	}
	r.failures++
	return sleep(ctx, pause(r.failures-1, e.RetryAfter))
}

// reopen opens a stream at the next offset and takes its first response, which tells the bounds.
func (r *Reader) reopen(ctx context.Context) error {
	r.addr = r.client.dir.order(r.leader, time.Now())[0]
	conn, err := r.client.conn(r.addr)
	if err != nil {
		r.err = err
		return err
	}
	// The stream outlives this call, so it does not end with ctx but with disconnect.
	sctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r.cancel = cancel
	stop := context.AfterFunc(ctx, cancel)
	late := time.AfterFunc(openTimeout, cancel)
	defer stop()
	defer late.Stop()
	rpc, err := multiraftv1.NewLogServiceClient(conn).Read(sctx, r.request())
	if err != nil {
		return r.failed(ctx, err)
	}
	first, err := rpc.Recv()
	if err != nil {
		return r.failed(ctx, err)
	}
	r.client.dir.succeeded(r.addr)
	r.rpc, r.opened = rpc, time.Now()
	r.begin(first)
	return nil
}

func (r *Reader) request() *multiraftv1.ReadRequest {
	req := &multiraftv1.ReadRequest{TopicId: r.id, Partition: r.cfg.Partition, Follow: r.cfg.Follow, MaxBytes: r.cfg.ResponseBytes}
	switch r.start.kind {
	case atOffset:
		req.From = &multiraftv1.ReadRequest_Offset{Offset: r.start.value}
	case atTime:
		req.From = &multiraftv1.ReadRequest_TimestampMs{TimestampMs: r.start.value}
	case atEnd:
		req.From = &multiraftv1.ReadRequest_Position{Position: multiraftv1.Position_POSITION_END}
	default:
		req.From = &multiraftv1.ReadRequest_Position{Position: multiraftv1.Position_POSITION_START}
	}
	if r.started {
		req.From = &multiraftv1.ReadRequest_Offset{Offset: r.next}
	}
	if to := r.cfg.To; !r.cfg.Follow && (r.end >= 0 || to.kind == atOffset) {
		end := to.value
		if r.end >= 0 {
			end = r.end // what the first stream announced
		}
		req.ToOffset = &end
	}
	return req
}

// begin takes the bounds from the first response of a stream. Those of the first stream stand: the end is
// that of the time of the call, whatever was appended since.
func (r *Reader) begin(first *multiraftv1.ReadResponse) {
	r.logStart, r.highWatermark = first.GetLogStart(), first.GetHighWatermark()
	r.batches = first.GetBatches()
	if r.started {
		return
	}
	r.started, r.next = true, first.GetNextOffset()
	if !r.cfg.Follow {
		r.end = first.GetEndOffset()
	}
}

func (r *Reader) disconnect() {
	r.cancel()
	r.rpc, r.batches = nil, nil
}
