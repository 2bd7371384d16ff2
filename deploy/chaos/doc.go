// Command chaos shows on real processes on this machine what a cluster lives through, with figures. Each scenario has a
// cluster of its own, prints one line, and fails when a record that was acknowledged is missing, doubled, changed or
// out of order afterwards, when something does not come to pass, or when a node ends by itself. `make chaos` runs
// all of them, `make chaos ARGS="rolling groups"` some.
//
//	life        3 -> 5 -> 3 nodes: two join, every partition moves, two of the first three are drained, stopped and removed,
//	            under half of the rate that mrbench has just reached here. Then a node is killed for good, and the controller
//	            replaces it.
//	snapshot    A follower stays away until the log that it needs is truncated, and is filled by InstallSnapshot: undisturbed,
//	            with its stream cut at random places, and with flipped bits. A proxy in this program stands between it
//	            and its peers.
//	controller  Joins, moves, a drain, a replacement and a snapshot, with kill -9 of the node that leads the metadata group in
//	            the middle of each; what was over by then does not count, and is a failure.
//	remedies    Each reason of `mrctl cluster health` is caused, awaited (exit 10), and its remedy typed in as printed, until
//	            health ends with 0. One node has a disk of its own, an ext4 file system in a file, that is filled, frozen and
//	            put back in time: this one needs root.
//	rolling     Three nodes are restarted one after the other, with SIGTERM and with SIGKILL, in turn.
//	strangers   One node is flooded in each way that deploy/flood knows, by a process of its own with the lowest priority,
//	            beside a load on all nodes of a quarter of the rate that mrbench has just reached here: what others still get,
//	            and what the flood costs the node. -floods takes some of them.
//	groups      1,000 groups with three replicas, or -groups: time to create, to go quiet, memory, idle processors, restart, a
//	            node's loss while they are quiet.
//
// The load is `mrbench append --verify`, which reads everything back at its end and measures stops: times in which
// something was in flight and nothing was acknowledged, of one partition or of all. Where few lines are enough,
// mrctl appends and reads them.
//
// It knows the binaries and their command lines, and none of the project's code. It judges no figure: all processes
// share the processors and the disk of one machine. Figures go to stdout, progress to stderr. With a failure, the
// data and logs stay; else they are removed, unless -keep is given.
package main
