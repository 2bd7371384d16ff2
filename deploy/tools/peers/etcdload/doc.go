// Command etcdload puts mrbench's load on etcd: every record is a Put of a key of its own, partitions are prefixes of keys,
// for etcd has one Raft group, and each client has connections of its own and as many concurrent callers as it may have
// records in flight.
//
// It starts no servers: deploy/peers does.
package main
