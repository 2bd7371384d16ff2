// Package router brings requests to replicas: the Router actor, the admission limits, and the gRPC services
// in front of it.
//
//	client stream --> LogService --admit--> Router actor --> Replica mailbox ... --> reply on the stream
//	peer frame ---> Receiver (Core) -------> Router actor --> Replica mailboxes
//	peer RPC -----> Peers -----------------> Router actor --> Replica mailbox
//
// The Router actor owns the table group -> mailbox: it spawns the replicas that are stored here, gives birth
// to those that metadata places here, deletes those that metadata order deleted (reconcile.go), marks those that
// fail, and publishes the table copy-on-write, so that services look things up without asking it. It never waits
// for Raft or the disk.
//
// The services decode, validate, admit and enqueue. They hold no lock while they wait, and touch no replica.
// What this node can't answer they forward to the leader's node, at most two hops.
//
// # Every request ends
//
// With success, a definite error, or OUTCOME_UNKNOWN. A replica ends what it was given. What can get lost with
// one, in a mailbox that a panic left behind, the services end themselves: the sweeper ends proposals of a
// replica whose board says that it has failed, and any that is 30 s old; reads look at the board while they
// wait; all other calls have a deadline, their client's or 30 s. What is sent to an actor that is gone comes
// back as a dead letter and is refused.
//
// # What strangers cost
//
// Package guard stands in front of the server: connections, calls, and messages that have begun and not ended
// are bounded. What was made for clients that do not take it, chunks of records and results of appends, is
// bounded by outflow: when it is full, calls wait, and the clients that have taken nothing for longest go.
//
// Admission is given back when a replica is done with a proposal, not when its client has heard: bytes that a
// stalled replica still holds stay counted.
//
// # Goroutines
//
//	NewServices         the sweeper, until Close
//	Server.Start        accepting, until Close; and gRPC's own, per connection and call
//	an Append call      one that reads, ends soon after the call; per node that it forwards to, one that
//	                    connects and sends and one that receives, end before the call
//	fan-outs            one per node asked, end before the call
//
// The Router actor, Core and admission start none, and know no clock: they run in the simulator.
//
// The package does not know connections between peers (transport) and does not decide about membership.
package router
