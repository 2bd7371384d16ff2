// Package clienttest is a cluster in memory for tests of what talks to one: several nodes that serve
// LogService and AdminService on loopback ports, in one process, and misbehave when asked to.
//
// Partitions judge batches as multiraftd does: by producer, epoch and sequence, with a window of five. So a
// test can see whether a client stores each record once and in order, while a Fault makes nodes refuse,
// lose answers, and break connections, and while leaders move and nodes stop.
//
// It does not run Raft, store anything, or forward: by default a node that does not lead answers NOT_LEADER.
package clienttest
