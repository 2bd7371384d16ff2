// Command peers compares multiraftd with what its users would take instead: NATS JetStream, etcd and dragonboat. For each
// workload it runs every system once per round, in an order that moves on, each time as three new server processes with
// new data on this machine, under the same clients, windows, sizes and turns of partitions (cmd/mrbench/load), through the
// system's own Go client. At the end stand the medians, the ratio of multiraftd to each system over the pairs of the
// rounds with its 95 % interval, and what each system promises when it acknowledges, with its settings.
//
//	bin/compare -rounds 1 -duration 2s -workloads 16B -systems multiraftd,nats-always
//
// `make compare` builds what it needs; the other systems are modules of their own below deploy/tools/peers, none of them a
// dependency of multiraftd's. Servers, clients and disks share the machine: the ratios say how the systems compare here,
// not what each can do elsewhere. It judges nothing.
package main
