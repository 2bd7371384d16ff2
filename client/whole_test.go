package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/multiraftd/multiraftd/client/clienttest"
	"github.com/multiraftd/multiraftd/proto/recordbatch"
)

// wholeBatches reads to the end, batch by batch.
func wholeBatches(t *testing.T, r *Reader) (batches [][]byte) {
	t.Helper()
	for {
		b, err := r.NextBatch(testContext(t))
		if errors.Is(err, io.EOF) {
			return batches
		}
		if err != nil {
			t.Fatal(err)
		}
		batches = append(batches, b)
	}
}

func TestWholeBatchesComeAsTheyAreStoredWhateverFails(t *testing.T) {
	cluster, c := filled(t, 3, 2000)
	want := cluster.Batches("t", 0)
	calls := 0
	cluster.SetFault(func(call clienttest.Call) clienttest.Fault {
		if calls++; call.Read && calls%3 == 0 {
			return clienttest.BreakBefore
		}
		return clienttest.None
	})
	r := newTestReader(t, c, ReadConfig{ResponseBytes: 1000})
	got := wholeBatches(t, r)
	if len(got) != want || r.Offset() != 2000 {
		t.Fatalf("%d batches to offset %d, the partition has %d, to 2000", len(got), r.Offset(), want)
	}
	records, err := cluster.Records("t", 0)
	if err != nil {
		t.Fatal(err)
	}
	next := int64(0)
	for _, b := range got {
		rs, err := recordbatch.Decode(b)
		if err != nil || rs[0].Offset != next {
			t.Fatalf("a batch at %d: %v, %v", next, rs, err)
		}
		for i := range rs {
			if string(rs[i].Value) != string(records[next].Value) {
				t.Fatalf("offset %d: %q", next, rs[i].Value)
			}
			next++
		}
	}
}

func TestTheFirstWholeBatchMayBeginBeforeWhatWasAskedFor(t *testing.T) {
	_, c := filled(t, 1, 100)
	r := newTestReader(t, c, ReadConfig{From: Offset(7)})
	first, err := r.NextBatch(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	info, err := recordbatch.ParseHeader(first)
	if err != nil || info.BaseOffset > 7 || info.BaseOffset+int64(info.Count) <= 7 || r.Offset() != info.BaseOffset+int64(info.Count) {
		t.Fatalf("%+v, %v, then offset %d", info, err, r.Offset())
	}
}

// someBatches encodes n batches of one to four numbers, as a producer of another cluster would have.
func someBatches(t *testing.T, n int) (batches [][]byte, records int) {
	t.Helper()
	for i := range n {
		var rs []Record
		for range 1 + i%4 {
			rs = append(rs, Record{Value: fmt.Append(nil, records), TimestampMillis: int64(records)}) // 0 stays 0
			records++
		}
		b, err := recordbatch.Encode(nil, recordbatch.Producer{ID: 99, Epoch: 3, Sequence: 1 << 20}, rs)
		if err != nil {
			t.Fatal(err)
		}
		recordbatch.SetBase(b, 1<<40, 77)
		batches = append(batches, b)
	}
	return batches, records
}

func TestWholeBatchesAreStoredOnceAndInOrderWhateverFails(t *testing.T) {
	cluster, c := startCluster(t, 3)
	cluster.CreateTopic("t", 1)
	cluster.SetFault(faults(3, clienttest.NotLeader, clienttest.Overloaded, clienttest.UnknownLost, clienttest.UnknownStored, clienttest.BreakBefore, clienttest.BreakAfter))
	p := newTestProducer(t, c, "t", ProducerConfig{})
	batches, records := someBatches(t, 100)
	for _, b := range batches {
		given := bytes.Clone(b)
		if _, err := p.AppendBatch(testContext(t), 0, b); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(given, b) {
			t.Fatal("the caller's batch was changed")
		}
		clear(b) // it was copied
	}
	if err := p.Flush(testContext(t)); err != nil {
		t.Fatal(err)
	}
	wantStored(t, cluster, len(batches), records)
}

func TestWholeBatchesOfAProducerThatWasForgottenAreStored(t *testing.T) {
	cluster, c := startCluster(t, 1)
	cluster.CreateTopic("t", 1)
	p := newTestProducer(t, c, "t", ProducerConfig{})
	batches, records := someBatches(t, 20)
	for i, b := range batches {
		if i == 10 {
			if err := p.Flush(testContext(t)); err != nil {
				t.Fatal(err)
			}
			cluster.ForgetProducers("t", 0)
		}
		if _, err := p.AppendBatch(testContext(t), 0, b); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Flush(testContext(t)); err != nil {
		t.Fatal(err)
	}
	wantStored(t, cluster, len(batches), records)
}

// wantStored wants what someBatches made.
func wantStored(t *testing.T, cluster *clienttest.Cluster, batches, records int) {
	t.Helper()
	got, err := cluster.Records("t", 0)
	if n := cluster.Batches("t", 0); err != nil || n != batches || len(got) != records {
		t.Fatalf("%d batches of %d, %d records of %d, %v", n, batches, len(got), records, err)
	}
	for i, r := range got {
		if string(r.Value) != fmt.Sprint(i) || r.TimestampMillis != int64(i) || r.Offset != int64(i) {
			t.Fatalf("record %d is %+v", i, r)
		}
	}
}

func TestWholeBatchesAndRecordsKeepTheirOrder(t *testing.T) {
	cluster, c := startCluster(t, 1)
	cluster.CreateTopic("t", 1)
	p := newTestProducer(t, c, "t", ProducerConfig{Linger: 1 << 40})
	batch, err := recordbatch.Encode(nil, recordbatch.None, []Record{{Value: []byte("b")}})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := p.Append(testContext(t), 0, Record{Value: []byte("r")}); err != nil {
			t.Fatal(err)
		}
		if _, err := p.AppendBatch(testContext(t), 0, batch); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Flush(testContext(t)); err != nil {
		t.Fatal(err)
	}
	rs, err := cluster.Records("t", 0)
	var values []byte
	for _, r := range rs {
		values = append(values, r.Value...)
	}
	if err != nil || string(values) != "rbrbrb" {
		t.Errorf("%q, %v", values, err)
	}
}

func TestABatchThatIsNoneIsRefusedAtOnce(t *testing.T) {
	cluster, c := startCluster(t, 1)
	cluster.CreateTopic("t", 1)
	p := newTestProducer(t, c, "t", ProducerConfig{BufferBytes: 1})
	good, err := recordbatch.Encode(nil, recordbatch.None, []Record{{}})
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(good)
	bad[len(bad)-1]++
	for _, tt := range []struct {
		partition int
		batch     []byte
		want      Reason
	}{{0, nil, InvalidBatch}, {0, bad, InvalidBatch}, {1, good, UnknownPartition}, {AnyPartition, good, UnknownPartition}} {
		if _, err := p.AppendBatch(testContext(t), tt.partition, tt.batch); !errors.Is(err, tt.want) {
			t.Errorf("partition %d, %d bytes: %v, want %s", tt.partition, len(tt.batch), err, tt.want)
		}
	}
	cluster.MoveLeader("t", 0, 0)
	if _, err := p.AppendBatch(testContext(t), 0, good); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.AppendBatch(ctx, 0, good); !errors.Is(err, context.Canceled) {
		t.Errorf("with a full buffer: %v", err)
	}
}

func TestARequestIDFindsTheTopicThatItCreated(t *testing.T) {
	cluster, c := startCluster(t, 1)
	one, two := [RequestIDBytes]byte{1}, [RequestIDBytes]byte{2}
	create := func(request [RequestIDBytes]byte) (uint64, error) {
		id, _, err := c.CreateTopicAs(testContext(t), request, "t", 2, 1, Retention{})
		return id, err
	}
	first, err := create(one)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := create(one); err != nil || again != first {
		t.Errorf("the same request: topic %d, %v, want %d", again, err, first)
	}
	if _, err := create(two); !errors.Is(err, TopicExists) {
		t.Errorf("another request: %v", err)
	}
	cluster.DeleteTopic("t")
	if id, err := create(one); err != nil || id == first {
		t.Errorf("after a deletion: topic %d, %v", id, err)
	}
}
