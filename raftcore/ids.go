package raftcore

// GroupID names a Raft group in a cluster; group 1 is the metadata group. Never reused.
type GroupID uint64

// MetadataGroup is the group that holds the cluster's metadata.
const MetadataGroup GroupID = 1

// ReplicaID names a member of one group; it is etcd/raft's node id. Never reused in its group once removed.
// In the metadata group the initial replica ids are the node ids.
type ReplicaID uint64

// NodeID names a node of the cluster.
type NodeID uint64

// Index is a position in a group's Raft log. It is never shown to users as an Offset: elections and
// membership changes consume indexes, never offsets.
type Index uint64

// Offset is the position of a record in its partition: dense, from 0.
type Offset int64

// Position is where an entry stands in a group's log.
type Position struct {
	Index Index
	Term  uint64
}
