package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"time"

	"github.com/multiraftd/multiraftd/proto/lineage"
	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/transport/tlsfiles"
)

// Identity is who this node is, from one start of its process to the next.
type Identity struct {
	// Cluster is the cluster's UUID, as text.
	Cluster string
	// StoreID is the UUID of this node's store.
	StoreID string
	// Node is the node's id.
	Node uint64
	// Start is this start on that store, with the id that was drawn for it.
	Start lineage.Start
}

// Receiver takes what arrives. It is called from the transport's goroutines and must return soon: while it
// holds a frame, that peer's window fills. Frames of one node come one at a time and in order, but for those
// that hold only controls, which may come beside another.
type Receiver interface {
	// Frame hands over a frame of node from, which belongs to the receiver from then on. The frame's header
	// has been checked; what is in its envelopes has not.
	Frame(from uint64, f *raftv1.Frame)
	// Lost names groups of which an APPEND envelope for node was, or may have been, lost: each group once
	// per lost connection, and once per burst of drops from a full queue (rule 21).
	Lost(node uint64, groups []uint64)
	// Gone says that node's process has ended: an Exchange with it broke, and its address refuses
	// connections. It comes once per lost Exchange, and may be wrong (a listener that was closed first).
	Gone(node uint64)
}

// RPC answers the canonical RPCs. Their headers have been checked as far as nodes go (cluster, sender,
// incarnation, this side's existence); groups and replicas have not.
type RPC interface {
	AppendEntries(context.Context, *raftv1.AppendEntriesRequest) (*raftv1.AppendEntriesResponse, error)
	RequestVote(context.Context, *raftv1.RequestVoteRequest) (*raftv1.RequestVoteResponse, error)
	// InstallSnapshot takes one request of a stream. Without an answer and an error the next one may come.
	InstallSnapshot(context.Context, *raftv1.InstallSnapshotRequest) (*raftv1.InstallSnapshotResponse, error)
}

// Registered is what is registered about a node: its latest start, without those before, and its store, "" for unknown.
type Registered struct {
	Start   lineage.Start
	StoreID string
}

// KnownFunc says what is registered about a node. It must not block.
type KnownFunc func(node uint64) (r Registered, ok bool)

// Config is what a Transport needs before the node knows who it is.
type Config struct {
	// Listener is the peer address. Required; the transport closes it. Reflection is served if it is loopback.
	Listener net.Listener
	// Probe answers the Probe RPC, at any time. Required.
	Probe func() *raftv1.ProbeResponse
	// Known is asked at each handshake. Default: nothing is known but what this process has seen.
	Known KnownFunc
	// TLS has the certificates for connections from and to peers. nil = plaintext.
	TLS *tlsfiles.Files
	// Dial opens a connection to a peer. Default: TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// Rand returns a number in [0, n), for the jitter of the back-off. Default: math/rand.
	Rand func(n uint64) uint64
	// Logger hears of connections and refusals. Default: none.
	Logger *slog.Logger
	// EnvelopeBytesMax bounds one envelope, in bytes; default 16 MiB. An entry above it never replicates:
	// keep it above the largest entry and above MaxSizePerMsg, with room for overhead (rule 2). It also
	// decides the largest gRPC message taken: FrameBytesMax.
	EnvelopeBytesMax int
	// QueueBytesMax bounds what waits for one peer, in bytes; default 64 MiB. Above it appends are dropped
	// and reported. More rides out longer stalls; less bounds memory.
	QueueBytesMax int
	// SnapshotsMax is how many snapshots are sent at once, and how many received; default 4. More fill many
	// replicas sooner, and hold more memory and disk.
	SnapshotsMax int
	// SnapshotBytesPerSecond bounds all snapshots sent together, and all received; default 64 MiB. More fills
	// replicas sooner, and leaves less of disk and network to everything else.
	SnapshotBytesPerSecond int
	// SnapshotStallTimeout ends a stream of a snapshot on which nothing moves, on both sides; default 30 s.
	SnapshotStallTimeout time.Duration
	// HandshakeTimeout bounds a handshake, on both sides; default 5 s.
	HandshakeTimeout time.Duration
}

// FrameBytesMax is the largest frame that this configuration sends or takes, in bytes.
func (c *Config) FrameBytesMax() int {
	return c.EnvelopeBytesMax + frameFillBytesMax + bulkEnvelopeBytesMin + frameOverheadBytes
}

// Validate reports all faults at once.
func (c *Config) Validate() error {
	var faults []error
	if c.Listener == nil {
		faults = append(faults, errors.New("no Listener"))
	}
	if c.Probe == nil {
		faults = append(faults, errors.New("no Probe"))
	}
	if c.EnvelopeBytesMax < bulkEnvelopeBytesMin || c.EnvelopeBytesMax > math.MaxInt32/2 {
		faults = append(faults, fmt.Errorf("value of EnvelopeBytesMax is %d, want %d to %d", c.EnvelopeBytesMax, bulkEnvelopeBytesMin, math.MaxInt32/2))
	}
	if c.QueueBytesMax < c.EnvelopeBytesMax {
		faults = append(faults, fmt.Errorf("value of QueueBytesMax is %d, want at least EnvelopeBytesMax, %d", c.QueueBytesMax, c.EnvelopeBytesMax))
	}
	if c.SnapshotsMax <= 0 || c.SnapshotBytesPerSecond <= 0 || c.SnapshotStallTimeout <= 0 {
		faults = append(faults, fmt.Errorf("values of SnapshotsMax, SnapshotBytesPerSecond and SnapshotStallTimeout are %d, %d and %v, want more than 0", c.SnapshotsMax, c.SnapshotBytesPerSecond, c.SnapshotStallTimeout))
	}
	if c.HandshakeTimeout <= 0 {
		faults = append(faults, fmt.Errorf("value of HandshakeTimeout is %v, want more than 0", c.HandshakeTimeout))
	}
	if len(faults) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrConfig, errors.Join(faults...))
}

func (c *Config) limits() Limits {
	return Limits{EnvelopeBytesMax: c.EnvelopeBytesMax, QueueBytesMax: c.QueueBytesMax}
}

func (id *Identity) header() *raftv1.Header {
	return &raftv1.Header{ClusterId: id.Cluster, FromNode: id.Node, StartNumber: id.Start.Number, BootId: id.Start.ID}
}

func (id *Identity) handshake(to uint64) *raftv1.Handshake {
	return &raftv1.Handshake{Header: id.header(), StoreId: id.StoreID, ToNode: to, EarlierBootIds: id.Start.Earlier}
}

// validate: the zero Identity refuses.
func (id *Identity) validate() error {
	if id.Cluster == "" || id.StoreID == "" || id.Node == 0 || id.Start.Number == 0 || len(id.Start.ID) != bootIDBytes || !id.Start.Valid() {
		return fmt.Errorf("%w: identity: cluster, store, node, start and a boot id of %d bytes are required", ErrConfig, bootIDBytes)
	}
	return nil
}
