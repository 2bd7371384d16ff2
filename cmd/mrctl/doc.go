// Command mrctl is the command line of multiraftd: topics, appends, reads, and the state of a cluster.
//
// Data goes to stdout, everything else to stderr. Exits: 0 done, 1 failed or timed out, 2 usage, 3 outcome of
// an append unknown, 4 nobody reachable, 10 unhealthy or "no".
//
// append streams stdin, one record per line, with bounded memory; a partition gets its lines in order and
// each once, whatever happens to the nodes meanwhile. read writes records as lines, or, binary-safe, as JSON.
//
// It does not keep state of its own: no configuration file, no offsets of consumers.
package main
