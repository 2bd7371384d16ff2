package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/multiraftd/multiraftd/client/clienttest"
)

// filled is a cluster whose topic "t" holds the numbers 0 to n-1 in its only partition.
func filled(t *testing.T, nodes, n int) (*clienttest.Cluster, *Client) {
	t.Helper()
	cluster, c := startCluster(t, nodes)
	cluster.CreateTopic("t", 1)
	appendNumbers(t, newTestProducer(t, c, "t", ProducerConfig{BatchBytes: 400}), 0, n)
	return cluster, c
}

func newTestReader(t *testing.T, c *Client, cfg ReadConfig) *Reader {
	t.Helper()
	r, err := c.NewReader(testContext(t), "t", cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// wantRun reads from to to-1 and then, unless the reader follows, the end.
func wantRun(t *testing.T, r *Reader, from, to int64) {
	t.Helper()
	for want := from; want < to; want++ {
		rec, err := r.Next(testContext(t))
		if err != nil {
			t.Fatalf("at %d: %v", want, err)
		}
		if rec.Offset != want || string(rec.Value) != fmt.Sprint(want) {
			t.Fatalf("offset %d, value %q, want %d", rec.Offset, rec.Value, want)
		}
	}
	if r.cfg.Follow {
		return
	}
	if rec, err := r.Next(testContext(t)); !errors.Is(err, io.EOF) {
		t.Fatalf("after the end: %+v, %v", rec, err)
	}
}

func TestReadsBeginAndStopWhereTold(t *testing.T) {
	_, c := filled(t, 1, 100)
	for _, tt := range []struct {
		from, to   Position
		first, end int64
	}{
		{Start(), End(), 0, 100},
		{Position{}, Position{}, 0, 100},
		{Offset(37), End(), 37, 100},
		{Offset(37), Offset(41), 37, 41},
		{Offset(37), Offset(37), 37, 37},
		{End(), End(), 100, 100},
		{Time(time.UnixMilli(1)), Offset(3), 0, 3},
	} {
		wantRun(t, newTestReader(t, c, ReadConfig{From: tt.from, To: tt.to}), tt.first, tt.end)
	}
}

func TestAReadGoesOnAtTheNextOffsetWhateverFails(t *testing.T) {
	cluster, c := filled(t, 3, 500)
	cluster.SetFault(faults(3, clienttest.NoLeader, clienttest.BreakBefore))
	r := newTestReader(t, c, ReadConfig{From: Offset(7), ResponseBytes: 1})
	wantRun(t, r, 7, 500)
	if start, end := r.Bounds(); start != 0 || end != 500 {
		t.Errorf("bounds %d, %d", start, end)
	}
}

func TestTheEndOfAReadIsThatOfItsBeginning(t *testing.T) {
	cluster, c := filled(t, 2, 50)
	r := newTestReader(t, c, ReadConfig{ResponseBytes: 1})
	if _, err := r.Next(testContext(t)); err != nil {
		t.Fatal(err)
	}
	p := newTestProducer(t, c, "t", ProducerConfig{})
	if _, err := p.Append(testContext(t), 0, Record{Value: []byte("later")}); err != nil {
		t.Fatal(err)
	}
	if err := p.Flush(testContext(t)); err != nil {
		t.Fatal(err)
	}
	cluster.StopNode(1)
	wantRun(t, r, 1, 50)
}

func TestAFollowingReadSeesWhatIsAppendedLater(t *testing.T) {
	cluster, c := filled(t, 2, 10)
	r := newTestReader(t, c, ReadConfig{Follow: true})
	wantRun(t, r, 0, 10)
	ctx, cancel := context.WithCancel(testContext(t))
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := r.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("cut short: %v", err)
	}
	cluster.StopNode(1)
	p := newTestProducer(t, c, "t", ProducerConfig{})
	for i := 10; i < 20; i++ {
		if _, err := p.Append(testContext(t), 0, Record{Value: fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
	}
	wantRun(t, r, 10, 20)
}

func TestAnOffsetOutOfRangeIsSaidWithBothEnds(t *testing.T) {
	_, c := filled(t, 1, 10)
	_, err := newTestReader(t, c, ReadConfig{From: Offset(11)}).Next(testContext(t))
	var e *Error
	if !errors.Is(err, OffsetOutOfRange) || !errors.As(err, &e) || e.Metadata["high_watermark"] != "10" {
		t.Fatalf("error is %v", err)
	}
	if _, err := c.NewReader(testContext(t), "t", ReadConfig{Partition: 1}); !errors.Is(err, UnknownPartition) {
		t.Fatalf("partition 1 of 1: %v", err)
	}
}

func TestAReaderGivesUpWhenNoNodeComesBack(t *testing.T) {
	cluster, c := filled(t, 1, 10)
	r := newTestReader(t, c, ReadConfig{RetryTimeout: 10 * time.Millisecond})
	cluster.StopNode(1)
	if _, err := r.Next(testContext(t)); !errors.Is(err, ErrUnreachable) {
		t.Fatalf("error is %v", err)
	}
}

func TestAGapInWhatANodeSendsIsSaid(t *testing.T) {
	r := &Reader{topic: "t", next: 5, end: -1}
	records := newBatch(&lane{}, testEpoch)
	records.add(Record{Value: []byte("x")}, 1)
	if err := records.freeze(testProducerID); err != nil {
		t.Fatal(err)
	}
	setBase(records.encoded, 6)
	if err := r.decode(records.encoded); !errors.Is(err, ErrGap) {
		t.Fatalf("error is %v", err)
	}
	records.encoded[len(records.encoded)-1] ^= 1
	if err := r.decode(records.encoded); err == nil || errors.Is(err, ErrGap) {
		t.Fatalf("a flipped bit: %v", err)
	}
}

func TestAllIteratesToTheEnd(t *testing.T) {
	_, c := filled(t, 1, 25)
	n := 0
	for rec, err := range newTestReader(t, c, ReadConfig{}).All(testContext(t)) {
		if err != nil || rec.Offset != int64(n) {
			t.Fatalf("record %d: %+v, %v", n, rec, err)
		}
		n++
	}
	if n != 25 {
		t.Fatalf("%d records", n)
	}
}
