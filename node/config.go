package node

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/multiraftd/multiraftd/actors"
	"github.com/multiraftd/multiraftd/node/tracing"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
	"github.com/multiraftd/multiraftd/transport/tlsfiles"
)

// Limits of a node, in one place. recordBytesMaxDefault < appendBytesMax <= entryBytesMax, and an entry with
// its overhead fits into a frame, which is below gRPC's maximum (rule 2); Validate checks what can be set.
const (
	recordBytesMaxDefault  = 4 << 20
	recordBytesMaxLimit    = 7 << 20
	appendBytesMax         = 8 << 20
	entryBytesMax          = 8 << 20
	electionTimeoutDefault = time.Second
	electionTimeoutMin     = 50 * time.Millisecond
	electionTimeoutMax     = time.Minute
	replaceAfterDefault    = 5 * time.Minute
	joinAddrsMax           = 16
	electionTicks          = 10 // ticks, and so heartbeats, per election timeout
	quietTicks             = 20 // without anything to do until a group goes quiet
	bootstrapNodesMax      = 5  // voters of the metadata group
)

// Config says what a node is. Fields are read once, by Start.
type Config struct {
	// ID of this node; at least 1. 0 = what the data directory says.
	ID raftcore.NodeID
	// DataDir holds everything that the node keeps. Required, unless KV is set.
	DataDir string
	// ClientAddr, PeerAddr and HTTPAddr are what the node listens on, as host:port; port 0 = any free one.
	// HTTPAddr may be empty: no HTTP then.
	ClientAddr, PeerAddr, HTTPAddr string
	// AdvertiseClient and AdvertisePeer are what others are told; empty = what the node listens on.
	AdvertiseClient, AdvertisePeer string
	// Bootstrap lists the nodes that found the cluster, with their peer addresses. Required on an empty data
	// directory; on any other it must be the set that the cluster was founded with, or empty.
	Bootstrap map[raftcore.NodeID]string
	// Join lists peer or client addresses of members of a cluster that exists, which gives the node its ID. On an
	// empty data directory either Join or Bootstrap is required; on any other it is not looked at.
	Join []string
	// ReplaceAfter is how long a node must be silent, or a replica failed, before the controller places its
	// replicas elsewhere. Shorter restores the number of replicas sooner, and copies data for nodes that would
	// have come back. 0 = 5 min, negative = never.
	ReplaceAfter time.Duration
	// Rack is where the node stands: replicas of a partition are spread over racks. Empty = not told.
	Rack string
	// ElectionTimeout is how long a follower hears nothing before it campaigns (up to twice that, by lot).
	// Shorter finds dead leaders sooner and takes slow ones for dead. 0 = 1 s.
	ElectionTimeout time.Duration
	// RecordBytesMax is the largest record taken, in bytes of key, value and headers. 0 = 4 MiB.
	RecordBytesMax int
	// SnapshotBytesPerSecond bounds what the node sends, and what it receives, of snapshots: to replicas that are new
	// or whose logs have ended before the group's begins. Higher fills them sooner and leaves less to clients.
	// 0 = 64 MiB.
	SnapshotBytesPerSecond int
	// ClientTLS names the certificate that the node shows on its client address, and to the client addresses of other
	// nodes; with a CA, clients must show one that it has signed. The zero value is plaintext. The files may change
	// while the node runs: each handshake takes what is there.
	ClientTLS tlsfiles.Paths
	// PeerTLS is the same for the peer address, on which both sides always show a certificate: a CA is required.
	PeerTLS tlsfiles.Paths
	// Insecure allows a peer address beyond loopback without PeerTLS: whoever reaches it can speak as a node.
	Insecure bool
	// Version is shown to who asks; empty = "devel".
	Version string
	// Tracing says what of the traffic is traced, and where the spans go: Ratio, Endpoint, Exporter and RingSpansMax;
	// the node fills in who it is. The zero value traces what callers sample, and what is rare, and exports only where
	// the OTEL_* variables say so.
	Tracing tracing.Config
	// Logger takes what the node has to say; nil = nothing.
	Logger *slog.Logger

	// KV is the store to use instead of Pebble in DataDir. Close leaves it open: it belongs to the caller.
	KV store.KV
	// FreeSpace says how many bytes are free for the node on the disk that holds a directory, and of how many.
	// nil = the system is asked about DataDir; without DataDir nobody is.
	FreeSpace func(dir string) (free, total uint64, err error)
	// Dispatcher runs all actors; nil = protoactor's default.
	Dispatcher actor.Dispatcher

	metadataKeep actors.Keep // zero = the router's default; tests want less
	groupSeries  int         // 0 = groupSeriesMax; tests want less
}

// UsageError says what is wrong with a Config; all faults at once.
type UsageError struct{ Faults []string }

func (e *UsageError) Error() string { return strings.Join(e.Faults, "; ") }

// Validate reports every fault of c at once, as a *UsageError.
func (c *Config) Validate() error {
	var faults []string
	bad := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	if c.DataDir == "" && c.KV == nil {
		bad("--data-dir is missing: the directory in which the node keeps its data")
	}
	c.validateAddrs(bad)
	c.validateTLS(bad)
	c.validateBootstrap(bad)
	c.validateJoin(bad)
	if t := c.ElectionTimeout; t != 0 && (t < electionTimeoutMin || t > electionTimeoutMax) {
		bad("--election-timeout %v is out of range: %v to %v", t, electionTimeoutMin, electionTimeoutMax)
	}
	if n := c.RecordBytesMax; n < 0 || n > recordBytesMaxLimit {
		bad("--record-bytes-max %d is out of range: 1 to %d bytes", n, recordBytesMaxLimit)
	}
	if c.SnapshotBytesPerSecond < 0 {
		bad("--snapshot-rate %d is negative", c.SnapshotBytesPerSecond)
	}
	if r := c.Tracing.Ratio; !(r >= 0 && r <= 1) {
		bad("--trace-ratio %v is not between 0 and 1", r)
	}
	if err := tracing.CheckEndpoint(c.Tracing.Endpoint); err != nil {
		bad("--otlp-endpoint %q: %v", c.Tracing.Endpoint, err)
	}
	if len(faults) > 0 {
		return &UsageError{faults}
	}
	return nil
}

func (c *Config) validateAddrs(bad func(string, ...any)) {
	for _, a := range []struct {
		flag, addr string
		required   bool
	}{
		{"--client-addr", c.ClientAddr, true}, {"--peer-addr", c.PeerAddr, true}, {"--http-addr", c.HTTPAddr, false},
		{"--advertise-client", c.AdvertiseClient, false}, {"--advertise-peer", c.AdvertisePeer, false},
	} {
		if a.addr == "" {
			if a.required {
				bad("%s is missing: host:port", a.flag)
			}
			continue
		}
		if err := checkAddr(a.addr); err != nil {
			bad("%s %q: %v", a.flag, a.addr, err)
		}
	}
	if host, _, err := net.SplitHostPort(c.PeerAddr); err == nil && !c.Insecure && !c.PeerTLS.Set() && !isLoopback(host) {
		bad("--peer-addr %s is not a loopback address, and peers are not authenticated: give --peer-tls-cert, --peer-tls-key and --peer-tls-ca, or, on a network that you trust, --insecure", c.PeerAddr)
	}
}

func (c *Config) validateBootstrap(bad func(string, ...any)) {
	if len(c.Bootstrap) == 0 {
		return
	}
	if len(c.Bootstrap) > bootstrapNodesMax {
		bad("--bootstrap lists %d nodes: at most %d found a cluster", len(c.Bootstrap), bootstrapNodesMax)
	}
	seen := map[string]raftcore.NodeID{}
	for _, id := range sortedIDs(c.Bootstrap) {
		addr := c.Bootstrap[id]
		if err := checkAddr(addr); err != nil {
			bad("--bootstrap: address %q of node %d: %v", addr, id, err)
		}
		if other, ok := seen[addr]; ok {
			bad("--bootstrap: nodes %d and %d have the same address %s", other, id, addr)
		}
		seen[addr] = id
	}
	own, ok := c.Bootstrap[c.ID]
	switch {
	case c.ID == 0:
		bad("--node-id is missing: with --bootstrap it says which of the listed nodes this one is")
	case !ok:
		bad("--node-id %d is not in --bootstrap, which lists %v", c.ID, sortedIDs(c.Bootstrap))
	case own != c.advertisedPeer():
		bad("--bootstrap lists node %d at %s, but its peer address is %s: the two must be the same (see --advertise-peer)", c.ID, own, c.advertisedPeer())
	}
}

func (c *Config) validateJoin(bad func(string, ...any)) {
	if len(c.Join) > joinAddrsMax {
		bad("--join lists %d addresses: at most %d", len(c.Join), joinAddrsMax)
	}
	for _, addr := range c.Join {
		if err := checkAddr(addr); err != nil {
			bad("--join: address %q: %v", addr, err)
		}
	}
	if len(c.Join) > 0 && len(c.Bootstrap) > 0 {
		bad("--join and --bootstrap contradict each other: a node joins a cluster that exists or founds one")
	}
}

func (c *Config) advertisedPeer() string {
	if c.AdvertisePeer != "" {
		return c.AdvertisePeer
	}
	return c.PeerAddr
}

func checkAddr(addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return errors.New("want host:port")
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("port %q is not a number from 0 to 65535", port)
	}
	return nil
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func (c Config) withDefaults() Config {
	if c.ElectionTimeout == 0 {
		c.ElectionTimeout = electionTimeoutDefault
	}
	if c.RecordBytesMax == 0 {
		c.RecordBytesMax = recordBytesMaxDefault
	}
	if c.ReplaceAfter == 0 {
		c.ReplaceAfter = replaceAfterDefault
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Version == "" {
		c.Version = "devel"
	}
	return c
}

func sortedIDs(set map[raftcore.NodeID]string) []raftcore.NodeID {
	ids := make([]raftcore.NodeID, 0, len(set))
	for id := range set {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// FormatBootstrap writes a bootstrap set as --bootstrap takes it, in ascending order of ids.
func FormatBootstrap(set map[raftcore.NodeID]string) string {
	var parts []string
	for _, id := range sortedIDs(set) {
		parts = append(parts, fmt.Sprintf("%d=%s", id, set[id]))
	}
	return strings.Join(parts, ",")
}

// ParseBootstrap reads "1=host:port,2=host:port,...". Its error says what is wrong with which part.
func ParseBootstrap(s string) (map[raftcore.NodeID]string, error) {
	set := map[raftcore.NodeID]string{}
	for part := range strings.SplitSeq(s, ",") {
		id, addr, ok := strings.Cut(part, "=")
		n, err := strconv.ParseUint(id, 10, 32)
		if !ok || err != nil || n == 0 {
			return nil, fmt.Errorf("%q: want ID=host:port with an id of at least 1", part)
		}
		if _, twice := set[raftcore.NodeID(n)]; twice {
			return nil, fmt.Errorf("node %d is listed twice", n)
		}
		set[raftcore.NodeID(n)] = addr
	}
	return set, nil
}

// parseContacts reads a stored set, which may be empty.
func parseContacts(s string) (map[raftcore.NodeID]string, error) {
	if s == "" {
		return map[raftcore.NodeID]string{}, nil
	}
	return ParseBootstrap(s)
}

// bootstrapHash is what Probe shows of a bootstrap set; nil for none.
func bootstrapHash(set string) []byte {
	if set == "" {
		return nil
	}
	sum := sha256.Sum256([]byte(set))
	return sum[:]
}
