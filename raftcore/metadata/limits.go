package metadata

import (
	"github.com/multiraftd/multiraftd/proto/lineage"
	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
)

// Limits. They are checked at apply and part of the state machine: all replicas must have the same.
const (
	TopicNameBytesMax = 249 // as Kafka's
	PartitionsMax     = 1000
	ReplicasMax       = 7
	RequestIDBytes    = 16
	ProducersMax      = 1_000_000 // given out by one command
	NodesMax          = 1000
	NodesRemovedMax   = 10_000  // remembered, so that they are refused
	MetadataVotersMax = 5       // of the metadata group
	GroupsMax         = 100_000 // of all topics that exist
	NodeFieldBytesMax = 512     // an address, a rack, a store id
)

// ValidateTopic checks what does not depend on the cluster's state. The error is an *InvalidError.
func ValidateTopic(name string, partitions, replicas uint32) error {
	if err := validateName(name); err != nil {
		return err
	}
	if partitions < 1 || partitions > PartitionsMax {
		return invalid("partitions", "%d, must be 1 to %d", partitions, PartitionsMax)
	}
	if replicas < 1 || replicas > ReplicasMax {
		return invalid("replicas", "%d, must be 1 to %d", replicas, ReplicasMax)
	}
	return nil
}

func validateName(name string) error {
	if name == "" || len(name) > TopicNameBytesMax {
		return invalid("name", "%d characters, must be 1 to %d", len(name), TopicNameBytesMax)
	}
	if name == "." || name == ".." {
		return invalid("name", "%q is not allowed", name)
	}
	for _, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && c != '.' && c != '_' && c != '-' {
			return invalid("name", "%q has a character other than a-z A-Z 0-9 . _ -", name)
		}
	}
	return nil
}

func validateConfig(c *metav1.TopicConfig) error {
	if c.GetRetentionMs() < 0 {
		return invalid("retention_ms", "%d, must be at least 0", c.GetRetentionMs())
	}
	if c.GetRetentionBytes() < 0 {
		return invalid("retention_bytes", "%d, must be at least 0", c.GetRetentionBytes())
	}
	return nil
}

// ValidateNode reports the first field of a registration that is missing or out of range.
func ValidateNode(n *metav1.Node) error {
	switch {
	case n.GetNodeId() == 0:
		return invalid("node_id", "must not be 0")
	case n.GetStartNumber() == 0:
		return invalid("start_number", "must not be 0")
	}
	return ValidateStore(n)
}

// ValidateStarts checks the boot ids of a registration.
func ValidateStarts(n *metav1.Node, earlier [][]byte) error {
	if len(n.GetBootId()) != 0 && len(n.GetBootId()) != lineage.IDBytes {
		return invalid("boot_id", "%d bytes, must be %d", len(n.GetBootId()), lineage.IDBytes)
	}
	if !startOf(n, earlier).Valid() {
		return invalid("earlier_boot_ids", "must be at most %d, of %d bytes each", lineage.EarlierMax, lineage.IDBytes)
	}
	return nil
}

// ValidateStore checks what a node knows of itself before it has an id.
func ValidateStore(n *metav1.Node) error {
	if n.GetStoreId() == "" {
		return invalid("store_id", "must not be empty")
	}
	for _, f := range []struct{ name, value string }{
		{"store_id", n.GetStoreId()}, {"client_addr", n.GetClientAddr()}, {"peer_addr", n.GetPeerAddr()}, {"rack", n.GetRack()},
	} {
		if len(f.value) > NodeFieldBytesMax {
			return invalid(f.name, "%d bytes, must be at most %d", len(f.value), NodeFieldBytesMax)
		}
	}
	return nil
}
