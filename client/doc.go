// Package client is the Go client of multiraftd: it appends records to topics, reads them back by offset, and
// asks the cluster about itself.
//
//	c, err := client.Open(client.Config{Addrs: []string{"127.0.0.1:7071"}})
//	p, err := c.NewProducer(ctx, "orders", client.ProducerConfig{})
//	ticket, err := p.Append(ctx, client.AnyPartition, client.Record{Key: key, Value: value})
//	offset, err := ticket.Wait(ctx)
//
// An acknowledged record is fsynced on a majority of the replicas. A Producer stores each record exactly once
// and in order within its partition, through changes of leaders and restarts of nodes: batches carry a
// producer id and a sequence, a retry sends the same bytes, and the partition recognises them. When it has to
// give up before it knows, the error is OutcomeUnknown, and no other error leaves that in doubt.
//
// Who does what:
//
//	Client     connections, the directory of nodes, unary calls and their retries
//	Producer   batches, buffer, routes; one stream per node (courier)
//	lane       one partition's order, window and retries: pure, the heart of the package
//	Reader     one partition's records in order, from node to node
//
// Errors: an *Error carries what a node said; errors.Is(err, client.NotLeader) and its like ask for the
// reason. Contexts bound the call that they are given to, never the life of what it returns.
//
// It does not store anything, balance consumers, or remember how far somebody has read; it speaks plaintext
// unless Config.DialOptions say otherwise. It does not compress: batches of this client are uncompressed.
//
// The package clienttest is a cluster in memory for tests.
package client
