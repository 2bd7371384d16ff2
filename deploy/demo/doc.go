// Command demo shows the guarantee on three real processes: it appends the Go toolchain's own source, line by
// line, while the node that leads is killed with SIGKILL and started again, over and over; then it reads
// everything back. `make demo` runs it in full, the end-to-end test on a smaller input (-lines).
//
// One partition: the output is compared with the input byte by byte. Three partitions: the sorted lines of the
// output equal those of the input, and the offsets of each partition are 0..n-1. In both, the receipts must count
// every record once and name at least a majority of the replicas.
//
// How long appends stand still. For each kill: the time from right before the SIGKILL to the moment at which
// this program reads, on the stdout of `mrctl append --receipt`, the first receipt of that partition with a term
// above the killed leader's. A receipt that the old leader had sent before it died carries the old term, so it
// cannot be mistaken for a new acknowledgement, however late it is read. It is what the appending user sees: it
// includes the election, the client's own retry, and the pipe. A node is only killed while the cluster is
// healthy and the leader that it names is the one whose term the latest receipt carries; it is started again
// two fifths of the interval after its death, but not before the new leader has acknowledged: two of three have
// to do it alone.
//
// It fails when fewer kills happened than asked for, or when a node ended by itself. Figures go to stdout,
// progress to stderr. Processes are ended by process id; the scratch folder is removed unless -keep is given.
package main
