package node_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/multiraftd/multiraftd/client"
	"github.com/multiraftd/multiraftd/node"
	"github.com/multiraftd/multiraftd/raftcore"
)

// A whole node inside another program: a cluster of one, which three would join in founding with three
// addresses in Bootstrap.
func ExampleStart() {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	n, err := node.Start(ctx, node.Config{
		ID: 1, DataDir: dir, ClientAddr: "127.0.0.1:0", PeerAddr: "127.0.0.1:0",
		Bootstrap: map[raftcore.NodeID]string{1: "127.0.0.1:0"},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer n.Close()
	if err := n.Ready(ctx); err != nil {
		log.Fatal(err)
	}
	c, err := client.Open(client.Config{Addrs: []string{n.ClientAddr()}})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	_, ready, err := c.CreateTopic(ctx, "events", 1, 1)
	fmt.Println("ready:", ready, err)
	// Output: ready: true <nil>
}
