// Command bench runs `mrbench append --verify` against three real processes on this machine, for each record
// size, and prints beside mrbench's own figures what the nodes' counters say of the batching behind them:
// envelopes per frame, appends merged per log entry, and group appends that shared one fsync. Those are
// differences of the sums over all nodes, taken right before and right after the run.
//
// It judges nothing. All processes share the machine's disk and processors with the load generator, so its
// figures compare runs on one machine, not machines or products. `make bench` runs it; arguments after "--" go to
// mrbench as they are.
package main
