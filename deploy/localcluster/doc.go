// Package localcluster runs real multiraftd processes on free loopback ports, for the demo, the benchmark and
// end-to-end tests: start, kill -9, start again, ask. It is black-box: it knows the binaries and their command
// lines (the command contract), and none of the project's code.
//
// It does not build the binaries, and it does not interpret what a node logs: each node's stderr goes to a file
// beside its data, and Tail shows the end of it when something went wrong.
//
// Process, Launch, FreePorts and Tail serve those who start other servers beside it.
//
// Ownership: a Cluster owns the processes that it started. Each has one goroutine that waits for its end. Close
// kills by process id what still runs, waits for all of them, and leaves the files to the caller.
package localcluster
