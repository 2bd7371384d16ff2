// Package metadata is the state machine of the metadata group: the cluster's nodes, its topics with the
// placement of their partitions, and the allocators of ids.
//
//	entry {commands} --Apply--> one Outcome per command, what must be stored, a new State
//	                              |
//	   prefix|0            allocators: next topic, group and producer id
//	   prefix|1|node id    a node
//	   prefix|2|topic id   a topic with its partitions, their groups and initial replicas
//
// Machine belongs to the replica's actor. State is what everybody else reads: immutable, so a pointer to it
// may go to any goroutine; Apply replaces it, and only when something has changed. Successive states share
// what did not change.
//
// Each id is given out once: topics from 1, groups from 2 (1 is this group), producers from 1. A topic's
// groups have consecutive ids, which is how a group's topic is found without an index.
//
// Placement is decided here, at apply, from nothing but the state, so all replicas decide alike: each
// partition spreads over racks first, then goes to the nodes with the fewest replicas, then to the lowest
// ids. Nodes without a rack count as being in one rack together. The first replica of a partition is the
// one that is asked to campaign first: of those chosen, the node with the fewest such partitions.
//
// It does not know which nodes are alive, who leads what (a fact of each group) or what a group's members
// are now (its ConfState is the truth; placement is what they were at birth). It does not place the
// metadata group, and it contacts nobody.
package metadata
