package client

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/multiraftd/multiraftd/client/clienttest"
)

func TestATopicsRetentionIsCreatedAlteredAndShown(t *testing.T) {
	_, c := startCluster(t, 2)
	ctx := testContext(t)
	id, _, err := c.CreateTopicWith(ctx, "t", 1, 1, Retention{Age: time.Hour, Bytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	bytes := int64(5)
	altered, now, err := c.AlterTopic(ctx, "t", RetentionChange{Bytes: &bytes})
	if err != nil || altered != id || now != (Retention{time.Hour, 5}) {
		t.Fatalf("%d, %+v, %v", altered, now, err)
	}
	forever := time.Duration(0)
	if _, now, err = c.AlterTopic(ctx, "t", RetentionChange{Age: &forever}); err != nil || now != (Retention{0, 5}) {
		t.Fatalf("%+v, %v", now, err)
	}
	desc, err := c.Describe(ctx, "t", false)
	if err != nil || desc.GetRetentionMs() != 0 || desc.GetRetentionBytes() != 5 {
		t.Fatalf("%v, %v", desc, err)
	}
	if _, _, err := c.AlterTopic(ctx, "u", RetentionChange{Bytes: &bytes}); !errors.Is(err, UnknownTopic) {
		t.Fatalf("%v", err)
	}
}

func TestATopicIsDeletedOnceThoughItsAnswerIsLost(t *testing.T) {
	cluster, c := startCluster(t, 2)
	cluster.CreateTopic("t", 1)
	var calls atomic.Int32
	cluster.SetFault(func(clienttest.Call) clienttest.Fault {
		if calls.Add(1) == 1 {
			return clienttest.BreakAfter
		}
		return clienttest.None
	})
	if id, err := c.DeleteTopic(testContext(t), "t"); err != nil || id != 1 || calls.Load() != 2 {
		t.Fatalf("id %d, %v after %d calls", id, err, calls.Load())
	}
	if _, err := c.DeleteTopic(testContext(t), "t"); !errors.Is(err, UnknownTopic) {
		t.Fatalf("a topic that is not there was deleted: %v", err)
	}
}

func TestWhoHoldsADeletedTopicsIDIsToldSoThoughTheNameIsBack(t *testing.T) {
	cluster, c := startCluster(t, 2)
	ctx := testContext(t)
	cluster.CreateTopic("t", 1)
	p := newTestProducer(t, c, "t", ProducerConfig{})
	appendNumbers(t, p, 0, 3)
	r, err := c.NewReader(ctx, "t", ReadConfig{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := r.Next(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.DeleteTopic(ctx, "t"); err != nil {
		t.Fatal(err)
	}
	cluster.CreateTopic("t", 1)
	if _, err := p.Append(ctx, 0, Record{}); err != nil {
		t.Fatal(err)
	}
	if err := p.Flush(ctx); !errors.Is(err, UnknownTopic) {
		t.Errorf("the producer: %v", err)
	}
	if _, err := r.Next(ctx); !errors.Is(err, UnknownTopic) {
		t.Errorf("the reader: %v", err)
	}
	if records, err := cluster.Records("t", 0); err != nil || len(records) != 0 {
		t.Errorf("the new topic holds %d records, %v", len(records), err)
	}
	if _, err := c.AppendOnce(ctx, "t", 0, Record{}); err != nil { // resolves the name anew
		t.Errorf("an append by name: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func TestAReaderFromTheStartBeginsAnewWhenItsFirstRecordGoes(t *testing.T) {
	cluster, c := startCluster(t, 1)
	ctx := testContext(t)
	cluster.CreateTopic("t", 1)
	for range 3 {
		if _, err := c.AppendOnce(ctx, "t", 0, Record{}); err != nil {
			t.Fatal(err)
		}
	}
	reads := 0
	cluster.SetFault(func(call clienttest.Call) clienttest.Fault {
		if reads++; reads == 2 || reads == 5 { // 1 and 3 begin a stream, 4 brings the first chunk
			return clienttest.Truncated
		}
		return clienttest.None
	})
	r, err := c.NewReader(ctx, "t", ReadConfig{ResponseBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	if rec, err := r.Next(ctx); err != nil || rec.Offset != 1 {
		t.Fatalf("%+v, %v, want the record at offset 1", rec, err)
	}
	if _, err := r.Next(ctx); err != nil {
		t.Fatalf("the record at offset 2: %v", err)
	}
	r, err = c.NewReader(ctx, "t", ReadConfig{From: Offset(0)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Next(ctx); !errors.Is(err, OffsetOutOfRange) {
		t.Fatalf("a read from an offset that is gone: %v", err)
	}
}
