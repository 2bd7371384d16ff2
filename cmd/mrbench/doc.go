// Command mrbench loads a multiraftd cluster and says how it did: append, read, or append while following
// (mixed).
//
// Every client is a producer of its own, with its own share of the window; package load says how they take turns and
// what is measured. The latency of a record is from its Append call to the acknowledgement of its batch: it contains the
// linger, the queues of the client, and every retry. A client stays on a partition for a batch as the client library does
// for records without a key, but so that it is known which record each acknowledgement is about. Unary mode sends each
// batch in a call of its own, one at a time per client and partition.
//
// Figures: throughput counts acknowledged records from the first Append to the last acknowledgement, and
// values only, 1 MB = 10^6 bytes. There is no warm-up: connecting is in the maximum. Quantiles come from a
// histogram whose buckets are less than 1/128 wide; the bucket's upper edge is shown, so they are overstated by
// at most 0.8 %, never understated; the maximum is exact. A stop is a time in which something was in flight and
// nothing was acknowledged, in one partition or in all; with a small window, one partition that stops soon stops all,
// since each client waits for room. CPU is of the whole process while it loads.
//
// The first batch that fails, after --timeout without success, ends the run: it is reported and the exit code is
// 1. With --verify every record carries run, client and sequence (16 bytes, the rest is a fixed pattern), and all
// of the run is read back: an acknowledged record that is missing, stored twice, changed, or behind a later one of its
// client in its partition makes the exit code 1. read --verify compares what was read with the bounds of the partitions.
//
// Long-lived goroutines: one generator per client, one reader per worker or followed partition, and one that
// prints progress; with --until-eof one that reads standard input, to its end or that of the process. All others end before the report.
//
// It does not start clusters or judge figures; deploy/bench does the former.
package main
