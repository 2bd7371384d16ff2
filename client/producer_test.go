package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/multiraftd/multiraftd/client/clienttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func startCluster(t *testing.T, nodes int) (*clienttest.Cluster, *Client) {
	t.Helper()
	cluster, err := clienttest.Start(nodes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	c, err := Open(Config{Addrs: cluster.Addrs()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return cluster, c
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func newTestProducer(t *testing.T, c *Client, topic string, cfg ProducerConfig) *Producer {
	t.Helper()
	p, err := c.NewProducer(testContext(t), topic, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // tests have flushed what they care about
		_ = p.Close(ctx)
	})
	return p
}

// appendNumbers appends "0" to "n-1" and flushes.
func appendNumbers(t *testing.T, p *Producer, partition, n int) {
	t.Helper()
	for i := range n {
		if _, err := p.Append(testContext(t), partition, Record{Value: fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Flush(testContext(t)); err != nil {
		t.Fatal(err)
	}
}

func wantNumbers(t *testing.T, cluster *clienttest.Cluster, topic string, partition, n int) {
	t.Helper()
	records, err := cluster.Records(topic, partition)
	if err != nil {
		t.Fatal(err)
	}
	if len(records) != n {
		t.Fatalf("%d records, want %d", len(records), n)
	}
	for i, r := range records {
		if string(r.Value) != fmt.Sprint(i) || r.Offset != int64(i) {
			t.Fatalf("record %d is %q at offset %d", i, r.Value, r.Offset)
		}
	}
}

func TestRecordsArriveInOrderInFewBatches(t *testing.T) {
	cluster, c := startCluster(t, 1)
	cluster.CreateTopic("t", 1)
	p := newTestProducer(t, c, "t", ProducerConfig{BatchBytes: 4 << 10})
	appendNumbers(t, p, 0, 5000)
	wantNumbers(t, cluster, "t", 0, 5000)
	if n := cluster.Batches("t", 0); n > 500 {
		t.Errorf("%d batches for 5000 records", n)
	}
}

func TestAbsentAndEmptyStayDifferent(t *testing.T) {
	cluster, c := startCluster(t, 1)
	cluster.CreateTopic("t", 1)
	p := newTestProducer(t, c, "t", ProducerConfig{})
	sent := []Record{{Key: []byte{}, Value: []byte{}}, {}, {Key: []byte("k")}, {Value: []byte{}, Headers: []Header{{Key: "h", Value: []byte{}}, {Key: "n"}}}}
	for _, r := range sent {
		if _, err := p.Append(testContext(t), 0, r); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Flush(testContext(t)); err != nil {
		t.Fatal(err)
	}
	got, err := cluster.Records("t", 0)
	if err != nil || len(got) != len(sent) {
		t.Fatalf("%d records, %v", len(got), err)
	}
	for i := range sent {
		got[i].Offset, got[i].TimestampMillis = 0, 0
		if !reflect.DeepEqual(got[i], sent[i]) {
			t.Errorf("record %d: sent %#v, got %#v", i, sent[i], got[i])
		}
	}
}

// faults draws a fault every few calls, from a seed.
func faults(seed uint64, kinds ...clienttest.Fault) func(clienttest.Call) clienttest.Fault {
	rng := rand.New(rand.NewPCG(seed, 1))
	return func(clienttest.Call) clienttest.Fault {
		if rng.IntN(4) > 0 {
			return clienttest.None
		}
		return kinds[rng.IntN(len(kinds))]
	}
}

func TestEveryRecordIsStoredOnceAndInOrderWhateverFails(t *testing.T) {
	kinds := map[string][]clienttest.Fault{
		"refusals":         {clienttest.NotLeader, clienttest.NoLeader, clienttest.Overloaded},
		"unknown outcomes": {clienttest.UnknownLost, clienttest.UnknownStored},
		"broken streams":   {clienttest.BreakBefore, clienttest.BreakAfter},
		"everything": {clienttest.NotLeader, clienttest.NoLeader, clienttest.Overloaded, clienttest.UnknownLost,
			clienttest.UnknownStored, clienttest.BreakBefore, clienttest.BreakAfter},
	}
	for name, fs := range kinds {
		for _, unary := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, unary %v", name, unary), func(t *testing.T) {
				cluster, c := startCluster(t, 3)
				cluster.CreateTopic("t", 2)
				cluster.SetFault(faults(1, fs...))
				p := newTestProducer(t, c, "t", ProducerConfig{BatchBytes: 200, Unary: unary})
				var wg sync.WaitGroup
				for partition := range 2 {
					wg.Go(func() { appendNumbers(t, p, partition, 300) })
				}
				wg.Wait()
				wantNumbers(t, cluster, "t", 0, 300)
				wantNumbers(t, cluster, "t", 1, 300)
			})
		}
	}
}

func TestAppendsSurviveLeadersThatMoveAndNodesThatDie(t *testing.T) {
	cluster, c := startCluster(t, 3)
	cluster.CreateTopic("t", 1)
	acks := make(chan struct{}, 10000)
	p := newTestProducer(t, c, "t", ProducerConfig{BatchBytes: 100, OnAck: func(Ack) { acks <- struct{}{} }})
	var wg sync.WaitGroup
	wg.Go(func() { appendNumbers(t, p, 0, 3000) })
	for round := range 6 {
		for range 3 {
			<-acks // it goes on in between
		}
		id := uint64(round%3 + 1)
		cluster.StopNode(id)
		<-acks
		if err := cluster.StartNode(id); err != nil {
			t.Error(err)
		}
		cluster.MoveLeader("t", 0, id)
	}
	wg.Wait()
	wantNumbers(t, cluster, "t", 0, 3000)
}

func TestALeaderlessPartitionIsWaitedFor(t *testing.T) {
	cluster, c := startCluster(t, 2)
	cluster.CreateTopic("t", 1)
	cluster.MoveLeader("t", 0, 0)
	p := newTestProducer(t, c, "t", ProducerConfig{})
	ticket, err := p.Append(testContext(t), 0, Record{Value: []byte("0")})
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{})
	var once sync.Once
	cluster.SetFault(func(clienttest.Call) clienttest.Fault {
		once.Do(func() { close(asked) })
		return clienttest.None
	})
	<-asked
	cluster.MoveLeader("t", 0, 2)
	if offset, err := ticket.Wait(testContext(t)); err != nil || offset != 0 {
		t.Fatalf("offset %d, %v", offset, err)
	}
}

func TestAnIdleProducerThatWasForgottenGoesOn(t *testing.T) {
	cluster, c := startCluster(t, 1)
	cluster.CreateTopic("t", 1)
	p := newTestProducer(t, c, "t", ProducerConfig{})
	appendNumbers(t, p, 0, 10)
	cluster.ForgetProducers("t", 0)
	for i := 10; i < 20; i++ {
		if _, err := p.Append(testContext(t), 0, Record{Value: fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Flush(testContext(t)); err != nil {
		t.Fatal(err)
	}
	wantNumbers(t, cluster, "t", 0, 20)
}

func TestAFinalRefusalFailsItsBatchAndTheNextOnesGoOn(t *testing.T) {
	cluster, c := startCluster(t, 1)
	cluster.CreateTopic("t", 1)
	var acks []Ack
	p := newTestProducer(t, c, "t", ProducerConfig{OnAck: func(a Ack) { acks = append(acks, a) }})
	cluster.SetFault(func(clienttest.Call) clienttest.Fault { return clienttest.TooLarge })
	if _, err := p.Append(testContext(t), 0, Record{Value: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	if err := p.Flush(testContext(t)); !errors.Is(err, BatchTooLarge) {
		t.Fatalf("flush: %v", err)
	}
	cluster.SetFault(nil)
	appendNumbers(t, p, 0, 3)
	wantNumbers(t, cluster, "t", 0, 3)
	if len(acks) < 2 || !errors.Is(acks[0].Err, BatchTooLarge) || acks[len(acks)-1].Err != nil {
		t.Fatalf("acks: %+v", acks)
	}
}

func TestAFullDiskIsWaitedForAsLongAsABatchMayTake(t *testing.T) {
	cluster, c := startCluster(t, 1)
	cluster.CreateTopic("t", 1)
	refusals := 0
	cluster.SetFault(func(clienttest.Call) clienttest.Fault {
		if refusals++; refusals > 3 {
			return clienttest.None
		}
		return clienttest.DiskFull
	})
	p := newTestProducer(t, c, "t", ProducerConfig{})
	appendNumbers(t, p, 0, 3)
	wantNumbers(t, cluster, "t", 0, 3)
	cluster.SetFault(func(clienttest.Call) clienttest.Fault { return clienttest.DiskFull })
	p = newTestProducer(t, c, "t", ProducerConfig{DeliveryTimeout: 50 * time.Millisecond})
	if _, err := p.Append(testContext(t), 0, Record{}); err != nil {
		t.Fatal(err)
	}
	if err := p.Flush(testContext(t)); !errors.Is(err, DiskFull) || !errors.Is(err, ErrTimedOut) {
		t.Fatalf("flush: %v", err)
	}
}

func TestClosingSaysWhatMayBeStored(t *testing.T) {
	for fault, want := range map[clienttest.Fault]error{clienttest.SwallowedReply: OutcomeUnknown, clienttest.NoLeader: ErrClosed} {
		cluster, c := startCluster(t, 1)
		cluster.CreateTopic("t", 1)
		called := make(chan struct{})
		var once sync.Once
		cluster.SetFault(func(clienttest.Call) clienttest.Fault {
			once.Do(func() { close(called) })
			return fault
		})
		p := newTestProducer(t, c, "t", ProducerConfig{})
		ticket, err := p.Append(testContext(t), 0, Record{Value: []byte("x")})
		if err != nil {
			t.Fatal(err)
		}
		<-called
		if fault == clienttest.NoLeader {
			cluster.Close() // so that no attempt is on its way at the end
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := p.Close(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("close: %v", err)
		}
		if _, err := ticket.Wait(testContext(t)); fault == clienttest.SwallowedReply && !errors.Is(err, want) {
			t.Errorf("fault %d: %v, want %v", fault, err, want)
		}
		if _, err := p.Append(testContext(t), 0, Record{}); !errors.Is(err, ErrClosed) {
			t.Errorf("append after close: %v", err)
		}
	}
}

func TestADeliveryTimeoutNamesTheCause(t *testing.T) {
	cluster, c := startCluster(t, 1)
	cluster.CreateTopic("t", 1)
	p := newTestProducer(t, c, "t", ProducerConfig{DeliveryTimeout: 500 * time.Millisecond})
	cluster.MoveLeader("t", 0, 0)
	if _, err := p.Append(testContext(t), 0, Record{}); err != nil {
		t.Fatal(err)
	}
	if err := p.Flush(testContext(t)); !errors.Is(err, NoLeader) || !errors.Is(err, ErrTimedOut) {
		t.Fatalf("flush: %v", err)
	}
}

func TestAFullBufferBlocksAppendUntilItsContextEnds(t *testing.T) {
	cluster, c := startCluster(t, 1)
	cluster.CreateTopic("t", 1)
	cluster.MoveLeader("t", 0, 0)
	p := newTestProducer(t, c, "t", ProducerConfig{BufferBytes: 1000, BatchBytes: 500})
	ctx, cancel := context.WithCancel(testContext(t))
	time.AfterFunc(20*time.Millisecond, cancel)
	var err error
	taken := 0
	for ; err == nil; taken++ {
		_, err = p.Append(ctx, 0, Record{Value: make([]byte, 100)})
	}
	if !errors.Is(err, context.Canceled) || taken > 10 {
		t.Fatalf("%d records taken, then %v", taken, err)
	}
	cluster.MoveLeader("t", 0, 1)
	if _, err := p.Append(testContext(t), 0, Record{Value: make([]byte, 100)}); err != nil {
		t.Fatal(err)
	}
}

func TestOversizedRecordsAndUnknownPartitionsAreRefusedAtOnce(t *testing.T) {
	cluster, c := startCluster(t, 1)
	cluster.SetRecordBytesMax(100)
	cluster.CreateTopic("t", 1)
	p := newTestProducer(t, c, "t", ProducerConfig{})
	if _, err := p.Append(testContext(t), 0, Record{Value: make([]byte, 101)}); !errors.Is(err, RecordTooLarge) {
		t.Errorf("oversized: %v", err)
	}
	if _, err := p.Append(testContext(t), 1, Record{}); !errors.Is(err, UnknownPartition) {
		t.Errorf("partition 1 of 1: %v", err)
	}
	if _, err := c.NewProducer(testContext(t), "nope", ProducerConfig{}); !errors.Is(err, UnknownTopic) {
		t.Errorf("unknown topic: %v", err)
	}
}

func TestKeysChooseThePartitionAndRecordsWithoutKeySpread(t *testing.T) {
	cluster, c := startCluster(t, 2)
	cluster.CreateTopic("t", 4)
	p := newTestProducer(t, c, "t", ProducerConfig{BatchBytes: 200})
	for i := range 400 {
		for _, r := range []Record{{Key: fmt.Append(nil, i), Value: []byte("keyed")}, {Value: []byte("free")}} {
			if _, err := p.Append(testContext(t), AnyPartition, r); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := p.Flush(testContext(t)); err != nil {
		t.Fatal(err)
	}
	for partition := range 4 {
		records, err := cluster.Records("t", partition)
		if err != nil {
			t.Fatal(err)
		}
		free := 0
		for _, r := range records {
			if r.Key == nil {
				free++
			} else if KeyPartition(r.Key, 4) != partition {
				t.Fatalf("key %q in partition %d", r.Key, partition)
			}
		}
		if free < 20 {
			t.Errorf("partition %d has %d records without key", partition, free)
		}
	}
}

func TestForwardingNodesTakeAppendsAndTheLeaderIsFound(t *testing.T) {
	cluster, c := startCluster(t, 3)
	cluster.SetForward(true)
	cluster.CreateTopic("t", 3)
	p := newTestProducer(t, c, "t", ProducerConfig{})
	for partition := range 3 {
		appendNumbers(t, p, partition, 100)
		wantNumbers(t, cluster, "t", partition, 100)
	}
}
