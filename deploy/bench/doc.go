// Command bench runs `mrbench append --verify` against three real processes on this machine, for each record
// size, and prints beside mrbench's own figures what the nodes' counters say of the batching behind them:
// envelopes per frame, appends merged per log entry, and group appends that shared one fsync. Those are
// differences of the sums over all nodes, taken right before and right after the run.
//
// With -rounds it compares instead: every -arm (the binaries of a folder, and flags for the nodes) runs once per round,
// in an order that moves on, each time on new processes; at the end stands the ratio of each arm to the first, over
// the pairs of the rounds, with its 95 % interval. What tracing costs, against the tree before it:
//
//	bin/bench -sizes 1024 -rounds 10 -arm before=/tmp/before/bin -arm off=bin -arm "1%=bin --trace-ratio 0.01" -arm "100%=bin --trace-ratio 1"
//
// It judges nothing. All processes share the machine's disk and processors with the load generator, so its
// figures compare runs on one machine, not machines or products. `make bench` runs it; arguments after "--" go to
// mrbench as they are.
package main
