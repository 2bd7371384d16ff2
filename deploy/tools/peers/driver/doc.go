// Package driver is what the load programs of other systems have in common: the command line, the load of mrbench
// (cmd/mrbench/load: the same clients, windows, turns of partitions and histogram), and the report, of which deploy/trial
// reads the same lines as of mrbench's.
//
// A program opens a System, which is ready when every partition takes records, and makes a producer for each client.
//
// It starts no servers: deploy/peers does.
package driver
