// Package node is a whole node as a library: Start(ctx, Config) builds it, Close takes it apart in reverse.
//
//	listeners -> store -> founding or identity -> router.Core (actors) -> peer transport -> services -> loops
//
// It owns the order in which things start and stop, the node's identity (which cluster, which store, how
// often started), the founding of a cluster, and the goroutines that drive the actors from outside: the tick
// loop and the registrar. It does not know Raft and decides nothing about data. Between the peer transport and the
// actors it holds up who sends faster than its messages are worked off (intake): mailboxes never refuse.
//
// It watches the free space of its data directory's disk: when it is low, appends are refused; when it is short, what
// leaders append is not taken either, and a reserve file is given up (space.go).
//
// A node never ends the process. When its store fails it stops acknowledging, Done is closed and Err says
// why; what to do then is the caller's: cmd/multiraftd exits.
//
// Long-lived goroutines, in the order of their start: the watch over the disk's space, the peer transport's (one
// per peer and connection), the tick loop, the registrar, the servers of the client and the HTTP address.
package node
