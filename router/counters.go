package router

import (
	"strings"
	"sync/atomic"

	"github.com/multiraftd/multiraftd/transport/guard"
)

// Counters count what the router of one node did.
type Counters struct {
	UnknownGroup      atomic.Uint64
	PeerGroupUnknown  atomic.Uint64
	PeerReplicaFailed atomic.Uint64
	ReplicasFailed    atomic.Uint64
	ReplicasDeleted   atomic.Uint64
	AppendsAdmitted   atomic.Uint64
	AppendsRefused    [refusalReasons]atomic.Uint64
	Forwarded         atomic.Uint64
	ReadBatches       atomic.Uint64
	ReadBytes         atomic.Uint64
	Abandoned         atomic.Uint64
	// Shed is what was kept out of the client address to bound memory.
	Shed guard.Counters
}

// Each calls f for every counter.
func (c *Counters) Each(f func(name, label, value, help string, v uint64)) {
	f("router_messages_unknown_group_total", "", "", "Groups in frames from peers that have no replica here.", c.UnknownGroup.Load())
	f("router_peer_group_unknown_total", "", "", "Times that a peer said it has no replica of a group.", c.PeerGroupUnknown.Load())
	f("router_peer_replica_failed_total", "", "", "Times that a peer said its replica has failed.", c.PeerReplicaFailed.Load())
	f("router_replicas_failed_total", "", "", "Replicas here that broke an invariant and were stopped.", c.ReplicasFailed.Load())
	f("router_replicas_deleted_total", "", "", "Replicas deleted here because metadata ordered it.", c.ReplicasDeleted.Load())
	f("router_appends_admitted_total", "", "", "Appends admitted to a replica here.", c.AppendsAdmitted.Load())
	for r := range refusalReasons {
		f("router_appends_failed_total", "reason", r.label(), "Appends answered with an error here.", c.AppendsRefused[r].Load())
	}
	f("router_forwarded_total", "", "", "Calls and append items forwarded to another node.", c.Forwarded.Load())
	f("router_proposals_abandoned_total", "", "", "Proposals ended here because their replica did not.", c.Abandoned.Load())
	c.Shed.Each("router", f)
	f("log_read_batches_total", "", "", "Record batches read by clients.", c.ReadBatches.Load())
	f("log_read_bytes_total", "", "", "Bytes of record batches read by clients.", c.ReadBytes.Load())
}

func (r reason) label() string {
	if r == plain {
		return "other"
	}
	return strings.ToLower(reasons[r].name)
}
