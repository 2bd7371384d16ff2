package client

import (
	"context"
	"testing"

	"github.com/multiraftd/multiraftd/client/clienttest"
)

// BenchmarkAppend is the client's and a node's encoding, streams and bookkeeping without any storage: what
// the client costs per record at most.
func BenchmarkAppend(b *testing.B) {
	cluster, err := clienttest.Start(1)
	if err != nil {
		b.Fatal(err)
	}
	defer cluster.Close()
	cluster.CreateTopic("t", 1)
	c, err := Open(Config{Addrs: cluster.Addrs()})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	ctx := context.Background()
	p, err := c.NewProducer(ctx, "t", ProducerConfig{})
	if err != nil {
		b.Fatal(err)
	}
	value := make([]byte, 100)
	b.ReportAllocs()
	b.SetBytes(int64(len(value)))
	for b.Loop() {
		if _, err := p.Append(ctx, 0, Record{Value: value}); err != nil {
			b.Fatal(err)
		}
	}
	if err := p.Close(ctx); err != nil {
		b.Fatal(err)
	}
}
