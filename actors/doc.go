// Package actors holds the actors of a node: Replica (one per group), LogWriter (one per disk) and Clock.
//
// A Replica owns one raftcore.Core and is its loop: the mailbox is the select. Messages are stepped as they
// come; when the mailbox has drained, one turn flushes what they asked for:
//
//	            +-------------------------- mailbox --------------------------+
//	Propose     |  Inbound, Unary   ReadEnd   Persisted   tick   drained      |
//	   |        +-------------------------------------------------------------+
//	   v                 | step at once, in order              | turn
//	wait for the turn    v                                     v
//	                  Core.Step            ticks, one merged proposal, one ReadIndex, then Effects:
//	                                         messages  -> Sender (at once: replication overlaps the fsync)
//	                                         append    -> LogWriter -> answers to peers, Persisted to self
//	                                         apply     -> machine, replies now -> LogWriter, unsynced
//
// A group in which nothing happens goes quiet, and takes no ticks: replica_quiet.go.
//
// The disk is a peer (etcd/raft's AsyncStorageWrites): acknowledgements and votes wait in the responses of
// an append until the LogWriter has synced it. A reply travels with its request and is released by whoever
// makes it true. Every request ends.
//
// The package does not open files or sockets, knows no gRPC and no transport, starts no goroutine and reads
// no clock: the Log, the Sender, the Clock and the actor system's dispatcher are given to it. The same
// messages in the same order give the same effects.
//
// A panic in a replica means a broken invariant: the router's supervisor stops that replica for good and
// the other groups go on. A failed LogWriter is the end of the process.
package actors
