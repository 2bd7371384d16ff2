// Package metadata is the state machine of the metadata group: the cluster's nodes, its topics with the
// placement of their partitions, and the allocators of ids.
//
//	entry {commands} --Apply--> one Outcome per command, what must be stored, a new State
//	                              |
//	   prefix|0            allocators: next topic, group, producer and node id
//	   prefix|1|node id    a node
//	   prefix|2|topic id   a topic with its partitions, their groups and initial replicas
//	   prefix|3|group id   a partition that has had a target: takes the place of the one in its topic
//	   prefix|4            the voters of the metadata group
//	   prefix|5|node id    a node that was removed
//	   prefix|6|node id|group id|replica id    a replica that the node has to delete
//
// Machine belongs to the replica's actor. State is what everybody else reads: immutable, so a pointer to it
// may go to any goroutine; Apply replaces it, and only when something has changed. Successive states share
// what did not change.
//
// Each id is given out once: topics from 1, groups from 2 (1 is this group), producers from 1, nodes above all
// that ever were. A topic's groups have consecutive ids, which is how a group's topic is found without an
// index.
//
// # Membership is intent
//
// A group's ConfState says who its members are; what is here is where they should be. Replicas are born from
// it and die by it:
//
//	created: Replicas, the initial voters, for ever
//	SetTarget --> Open: members that stay keep their replicas, other nodes get new ids (Births)
//	   |  supersede: another Open; what only the one before wanted is Leaving
//	GroupSettled(target id) --> Current = the target's; everybody else placed is ordered deleted (Removals)
//	ReplicaGone --> the order is forgotten
//
// A deleted topic orders all its replicas deleted. Nothing is ever deleted for not being mentioned. A node has
// at most one replica of a group, and gets another one only when it has confirmed the deletion of the last.
//
// Of the metadata group every node is a member: the recorded voters, and as learners all others. Its replica
// ids are the node ids, which is why a node id is never used twice: a removed node leaves its id and its store
// id, by which it is refused for ever.
//
// # Placement
//
// Placement is decided here, at apply, from nothing but the state, so all replicas decide alike: each
// partition spreads over racks first, then goes to the nodes with the fewest replicas, then to the lowest
// ids; never to draining ones. Nodes without a rack count as being in one rack together. The first replica of
// a partition is the one that is asked to campaign first: of those chosen, the node with the fewest such
// partitions.
//
// It does not know which nodes are alive, who leads what (a fact of each group) or what a group's members
// are now. It contacts nobody.
package metadata
