package transport

import (
	"sync/atomic"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/transport/guard"
)

// Counters counts what a Transport or an Inproc network has done. They only grow. Heartbeats are not in the
// envelope counts, but for drops.
type Counters struct {
	FramesSent, FramesReceived         atomic.Uint64
	EnvelopesSent, EnvelopesReceived   atomic.Uint64
	HeartbeatsSent, HeartbeatsReceived atomic.Uint64
	ControlsSent, ControlsReceived     atomic.Uint64
	HeartbeatsFolded, ControlsFolded   atomic.Uint64
	ReportsSent, ReportsFolded         atomic.Uint64
	LossesReported                     atomic.Uint64
	BytesSent, BytesReceived           atomic.Uint64
	Connects, ConnectionsLost          atomic.Uint64
	ConnectFailures                    atomic.Uint64
	RPCs                               atomic.Uint64
	// SnapshotsSent counts those begun, SnapshotsBroken those of them that ended without an answer.
	SnapshotsSent, SnapshotsBroken, SnapshotsRefused atomic.Uint64
	SnapshotStreamsResumed                           atomic.Uint64
	SnapshotChunksSent, SnapshotChunksReceived       atomic.Uint64
	SnapshotChunksSpoilt, SnapshotChunksLost         atomic.Uint64
	// Faults of an Inproc network: frames lost, doubled, and caught by a cut.
	FramesLost, FramesDoubled, FramesCut, FramesOvertaken, FramesLate atomic.Uint64

	// Shed is what was kept out to bound memory.
	Shed guard.Counters

	envelopesDropped, controlsDropped, reportsDropped [fates]atomic.Uint64
	refused                                           [len(refusals)]atomic.Uint64
}

type namedCounter struct {
	name, help string
	value      *atomic.Uint64
}

func (c *Counters) plain() []namedCounter {
	return []namedCounter{
		{"transport_frames_sent_total", "Frames sent to peers.", &c.FramesSent},
		{"transport_frames_received_total", "Frames received from peers.", &c.FramesReceived},
		{"transport_envelopes_sent_total", "Raft messages sent in frames, without heartbeats.", &c.EnvelopesSent},
		{"transport_envelopes_received_total", "Raft messages received in frames, without heartbeats.", &c.EnvelopesReceived},
		{"transport_heartbeats_sent_total", "Heartbeats and their answers sent in frames.", &c.HeartbeatsSent},
		{"transport_heartbeats_received_total", "Heartbeats and their answers received in frames.", &c.HeartbeatsReceived},
		{"transport_heartbeats_folded_total", "Heartbeats that a newer one replaced before they were sent.", &c.HeartbeatsFolded},
		{"transport_controls_sent_total", "Controls sent in frames.", &c.ControlsSent},
		{"transport_controls_received_total", "Controls received in frames.", &c.ControlsReceived},
		{"transport_controls_folded_total", "Controls that a newer one replaced before they were sent.", &c.ControlsFolded},
		{"transport_reports_sent_total", "Reports on this node sent to the leader of the metadata group.", &c.ReportsSent},
		{"transport_reports_folded_total", "Reports that a newer one replaced before they were sent.", &c.ReportsFolded},
		{"transport_losses_reported_total", "Groups told that an append to a peer was, or may have been, lost.", &c.LossesReported},
		{"transport_bytes_sent_total", "Bytes written to peer connections.", &c.BytesSent},
		{"transport_bytes_received_total", "Bytes read from peer connections.", &c.BytesReceived},
		{"transport_connects_total", "Exchanges opened to peers, handshake included.", &c.Connects},
		{"transport_connections_lost_total", "Exchanges to peers that ended.", &c.ConnectionsLost},
		{"transport_connect_failures_total", "Attempts to open an Exchange that failed.", &c.ConnectFailures},
		{"transport_rpcs_total", "Unary AppendEntries and RequestVote calls handed on.", &c.RPCs},
		{"transport_snapshots_sent_total", "Snapshots begun to be sent.", &c.SnapshotsSent},
		{"transport_snapshots_broken_total", "Snapshots that ended without an answer of the receiver.", &c.SnapshotsBroken},
		{"transport_snapshots_refused_total", "Snapshots not sent because of their number, or because the peer is unknown.", &c.SnapshotsRefused},
		{"transport_snapshot_streams_resumed_total", "Streams of snapshots that were followed by another.", &c.SnapshotStreamsResumed},
		{"transport_snapshot_chunks_sent_total", "Chunks of snapshots sent.", &c.SnapshotChunksSent},
		{"transport_snapshot_chunks_received_total", "Chunks of snapshots handed on.", &c.SnapshotChunksReceived},
		{"transport_inproc_chunks_spoilt_total", "Chunks of snapshots in which the in-process network flipped a bit.", &c.SnapshotChunksSpoilt},
		{"transport_inproc_chunks_lost_total", "Chunks of snapshots, or answers, that the in-process network lost with their stream.", &c.SnapshotChunksLost},
		{"transport_inproc_frames_lost_total", "Frames that the in-process network lost on purpose.", &c.FramesLost},
		{"transport_inproc_frames_doubled_total", "Frames that the in-process network delivered twice on purpose.", &c.FramesDoubled},
		{"transport_inproc_frames_late_total", "Frames that the in-process network kept for a long time on purpose.", &c.FramesLate},
		{"transport_inproc_frames_overtaken_total", "Frames that the in-process network delivered after one sent later.", &c.FramesOvertaken},
		{"transport_inproc_frames_cut_total", "Frames on the way when an in-process connection was cut.", &c.FramesCut},
	}
}

// Each calls f for every counter; label and value are "" for one without label.
func (c *Counters) Each(f func(name, label, value, help string, v uint64)) {
	for _, n := range c.plain() {
		f(n.name, "", "", n.help, n.value.Load())
	}
	for fate := NotConnected; fate < fates; fate++ {
		f("transport_envelopes_dropped_total", "reason", fate.String(), "Raft messages and heartbeats dropped before they were sent.", c.envelopesDropped[fate].Load())
	}
	for fate := NotConnected; fate < fates; fate++ {
		f("transport_controls_dropped_total", "reason", fate.String(), "Controls dropped before they were sent.", c.controlsDropped[fate].Load())
	}
	for fate := NotConnected; fate < fates; fate++ {
		f("transport_reports_dropped_total", "reason", fate.String(), "Reports dropped before they were sent.", c.reportsDropped[fate].Load())
	}
	for i := range refusals {
		f("transport_refused_total", "reason", refusals[i].reason, "Handshakes, frames and unary calls refused.", c.refused[i].Load())
	}
	c.Shed.Each("transport", f)
}

// EnvelopesDropped returns how many envelopes and heartbeats met the fate.
func (c *Counters) EnvelopesDropped(f Fate) uint64 { return c.envelopesDropped[f].Load() }

// Refused returns how many handshakes, frames and unary calls were refused with err.
func (c *Counters) Refused(err error) uint64 {
	if i := refusalOf(err); i >= 0 {
		return c.refused[i].Load()
	}
	return 0
}

func (c *Counters) refuse(err error) {
	if i := refusalOf(err); i >= 0 {
		c.refused[i].Add(1)
	}
}

func (c *Counters) envelope(f Fate) {
	switch {
	case f.Dropped():
		c.envelopesDropped[f].Add(1)
	case f == Folded:
		c.HeartbeatsFolded.Add(1)
	}
}

func (c *Counters) control(f Fate) {
	switch {
	case f.Dropped():
		c.controlsDropped[f].Add(1)
	case f == Folded:
		c.ControlsFolded.Add(1)
	}
}

func (c *Counters) report(f Fate) {
	switch {
	case f.Dropped():
		c.reportsDropped[f].Add(1)
	case f == Folded:
		c.ReportsFolded.Add(1)
	}
}

func (c *Counters) failed(envelopes, controls int) {
	c.envelopesDropped[ConnectionLost].Add(uint64(envelopes))
	c.controlsDropped[ConnectionLost].Add(uint64(controls))
}

func (c *Counters) sent(f *raftv1.Frame) {
	c.FramesSent.Add(1)
	c.EnvelopesSent.Add(uint64(len(f.GetEnvelopes())))
	c.HeartbeatsSent.Add(uint64(len(f.GetHeartbeats())))
	c.ControlsSent.Add(uint64(len(f.GetControls())))
	if f.GetReport() != nil {
		c.ReportsSent.Add(1)
	}
}

func (c *Counters) received(f *raftv1.Frame) {
	c.FramesReceived.Add(1)
	c.EnvelopesReceived.Add(uint64(len(f.GetEnvelopes())))
	c.HeartbeatsReceived.Add(uint64(len(f.GetHeartbeats())))
	c.ControlsReceived.Add(uint64(len(f.GetControls())))
}
