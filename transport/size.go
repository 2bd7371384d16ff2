package transport

import (
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
)

// Upper bounds of encoded sizes, in bytes: a tag and a varint of 64 bits take at most 11, a length prefix
// with its tag at most 6. Walking each message with proto.Size would double the cost of marshalling.
const (
	fieldBytes      = 11
	lengthBytes     = 6
	entryBytes      = lengthBytes + 3*fieldBytes + lengthBytes
	envelopeBytes   = lengthBytes + 10*fieldBytes + lengthBytes
	heartbeatBytes  = lengthBytes + 6*fieldBytes + lengthBytes
	controlBytes    = lengthBytes + 5*fieldBytes
	snapshotBytes   = 2*lengthBytes + 3*fieldBytes
	confStateFields = 4
)

// envelopeSize returns an upper bound of e's encoded size in a frame.
func envelopeSize(e *raftv1.Envelope) int {
	size := envelopeBytes + len(e.GetContext())
	for _, entry := range e.GetEntries() {
		size += entryBytes + len(entry.GetData())
	}
	if s := e.GetSnapshot(); s != nil {
		size += snapshotBytes + confStateSize(s.GetConfState())
	}
	return size
}

func confStateSize(c *raftv1.ConfState) int {
	ids := len(c.GetVoters()) + len(c.GetLearners()) + len(c.GetVotersOutgoing()) + len(c.GetLearnersNext())
	return confStateFields*lengthBytes + fieldBytes*ids
}

func heartbeatSize(h *raftv1.GroupHeartbeat) int { return heartbeatBytes + len(h.GetContext()) }
