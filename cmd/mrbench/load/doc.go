// Package load is the load that mrbench puts on a cluster, without the cluster: clients that append records through
// whatever Producer they are given, and the figures of what was acknowledged. `make compare` puts the same load on other
// systems with it (deploy/tools/peers).
//
// Every client has its own share of the window: it takes in a record only while fewer than window/clients of its
// records are in flight. So the load is closed; with a rate it is paced as well, and the result says by how much it fell
// behind, because latencies of a load that waits for the cluster look better than they are.
//
//	Generator (one per client) -> window -> Producer ~~> cluster ~~> Acked -> window, histogram
//
// A client stays on a partition until a batch is full, the linger is over, or a quarter of its window went there, and
// then takes the next one.
//
// Throughput counts acknowledged records from the first Append to the last acknowledgement, and values only. There is
// no warm-up. Quantiles come from a histogram whose buckets are less than 1/128 wide; the bucket's upper edge is shown.
//
// Long-lived goroutines: one per client and one that prints progress, to the end of Run; with an input one that reads
// it, to its end or that of the process.
//
// It knows no system and no command line, and it judges nothing.
package load
