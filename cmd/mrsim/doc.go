// Command mrsim runs whole clusters in one goroutine, with faults, and checks what they may never do.
//
//	make sim SEEDS=1000            many seeds
//	make sim SEED=17 V=1           one seed again, with what happened in it
//	make sim-selftest              bugs planted on purpose, each of which must be found
//
// # A world
//
// A world is some nodes, a network, disks and clients. The nodes are the real ones below their sockets:
// node.Assemble's router, replicas, log writer and clock, on a dispatcher that is a queue. Everything that a
// real node gets from outside is drawn from the seed:
//
//	time        a heap of events; nothing happens between two of them
//	order       mailboxes that are ready run one at a time, which next is drawn
//	network     transport.Inproc: real frames, lost, doubled, delayed, overtaken, cut
//	disks       store.MemKV: what was not synced is lost in a crash, but for a prefix that is drawn
//	elections   crypto/rand.Reader is replaced: etcd/raft draws its timeouts from it
//
// So a seed is a run: its trace, a hash over every frame, fault and acknowledgement, is the same each time.
//
//	start -> topic created, often with a short retention -> faults while clients work and retention changes -> calm: a quorum heals -> everybody heals -> all compared
//
// # Who checks what
//
//	watch.go      after every mailbox run: terms, commit, watermark, leaders, hash chains of the node that ran
//	promise.go    each vote and acknowledgement that leaves a node, against what is synced on its disk
//	clients.go    each answer to a client, against what is synced on a majority
//	calm.go       that everything pending ends, and that all replicas are alike to the last byte
//	history/      what clients were told, against the log that came out of it
//
// # Planted bugs
//
// planted/*.bug are changes of the product's source, each of which breaks one rule. They are compiled into a
// binary of its own with go build -overlay: the product itself has no hook for them. A change that no longer
// fits the source fails the build, so that none of them goes stale.
//
// The command does not simulate gRPC, Pebble or the founding of a cluster: these start goroutines, and have
// tests of their own.
package main
