// Package store is the only room that touches disk: the key layout of a node's store, the log and state of
// each Raft group over it, and the two stores that hold the keys.
//
//	Log (one per group, implements raft.Storage)      Node, Groups, EntryData
//	        |  operations into a Batch                        |  reads
//	        v                                                 v
//	     KV.Commit(batch, sync)                           KV.View()
//	        |                                                 |
//	        +--------------- Pebble  or  MemKV ---------------+
//
// Everything above KV is pure: it makes operations and reads images, and is told when they are durable.
// A Log belongs to its replica's actor, the write side of a KV to the LogWriter. Views may be taken and used
// on any goroutine.
//
// Keys are one byte of space, then big-endian ids; each value starts with the version of its encoding:
//
//	0 F                            format of the store
//	0 N                            the node: cluster, store, node id, start number
//	1 group I                      identity: replica id, generation, tombstone
//	1 group H                      hard state
//	2 group generation A           applied state: index, hash, ConfState, truncated position
//	2 group generation M ...       what the group's state machine keeps
//	2 group generation L index     entries
//
// A snapshot of a group is a range of space 2 and never holds its hard state: a copied vote is a double vote. It
// is read from one View (snapshot.go) and received into the next generation (staging.go), of which nothing is in
// force before one batch makes it the current one and deletes the old.
//
// The package acknowledges nothing and does not decide what is committed; but for Pebble's side it reads no clock.
// It starts two goroutines for an open Pebble store (Pebble starts more), none for a MemKV. It does not repair: a store that
// cannot be trusted is refused, and the node is replaced.
//
// Failure. Pebble's Commit returns nil when an fsync has failed, and panics when a write has failed. Here both
// become an error of KV.Commit and one call of OnFatal; from then on no commit succeeds, and Pebble is not
// called again, not even to close it (pebble_fail.go). Damage to Pebble's log that Pebble takes for its end is
// found before it is opened (pebble_wal.go).
//
// Where this deviates from the plan: PebbleOptions.OnFatal may return (a node is a library, only cmd exits);
// Fatalf still never returns to Pebble. Node keeps the bootstrap set as text, not its hash, since refusals
// have to name it. Opening a foreign Pebble directory is refused by our comparer's name, before anything in
// it is changed; the format record covers the rest.
package store
