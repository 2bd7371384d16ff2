package client_test

import (
	"context"
	"fmt"
	"log"

	"github.com/multiraftd/multiraftd/client"
	"github.com/multiraftd/multiraftd/client/clienttest"
)

// Append three records and read them back.
func Example() {
	cluster, err := clienttest.Start(3) // in real life: the addresses of a multiraftd cluster
	if err != nil {
		log.Fatal(err)
	}
	defer cluster.Close()
	if err := run(context.Background(), cluster.Addrs()); err != nil {
		log.Fatal(err)
	}
	// Output:
	// 0 ordered
	// 1 packed
	// 2 sent
}

func run(ctx context.Context, addrs []string) error {
	c, err := client.Open(client.Config{Addrs: addrs})
	if err != nil {
		return err
	}
	defer c.Close()
	if _, _, err := c.CreateTopic(ctx, "orders", 1, 3); err != nil {
		return err
	}
	p, err := c.NewProducer(ctx, "orders", client.ProducerConfig{})
	if err != nil {
		return err
	}
	for _, v := range []string{"ordered", "packed", "sent"} {
		if _, err := p.Append(ctx, client.AnyPartition, client.Record{Value: []byte(v)}); err != nil {
			return err
		}
	}
	if err := p.Close(ctx); err != nil {
		return err
	}
	r, err := c.NewReader(ctx, "orders", client.ReadConfig{Partition: 0})
	if err != nil {
		return err
	}
	for rec, err := range r.All(ctx) {
		if err != nil {
			return err
		}
		fmt.Printf("%d %s\n", rec.Offset, rec.Value)
	}
	return r.Close()
}
