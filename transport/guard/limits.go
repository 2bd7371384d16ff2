package guard

import "time"

// Limits bound what the clients of one Listener may take of a node. One that is 0 lets nothing through, or, of
// a rate, nothing more.
type Limits struct {
	// Connections are open at once, in all; ConnectionsPerHost from one address (IPv6: one /64).
	Connections, ConnectionsPerHost int
	// Resets is how many calls a host may break off at once: each costs as much as one that ends.
	Resets int
	// Offences is how often at once a host may do what no client does: send messages that can't be unpacked, endless
	// headers, too many pings, begin what it does not end while others wait for the room.
	Offences int
	// ConnectionRate is how many connections a host may open in a second, ResetRate how many calls it may break off, and
	// OffenceRate how many offences it is forgiven, in the long run, when ConnectionsPerHost, Resets and Offences are
	// used up.
	ConnectionRate, ResetRate, OffenceRate float64
	// Streams are calls under way, in all. Above it a connection gets no more than StreamsFloor.
	Streams, StreamsFloor int
	// PartialBytes is what may be held of messages that have begun and not ended.
	PartialBytes int64
	// WriteTimeout is how long a client may take nothing of what is written to its connection.
	WriteTimeout time.Duration
}

// Limits that are the same for all.
const (
	elementsMin        = 8192    // in any message
	elementsMax        = 1 << 18 // whatever its size
	elementBytesMin    = 8       // on the wire, on average, in a message with more than elementsMin
	frameCostBytes     = 128     // what a DATA frame costs beyond its payload
	streamsTrackedMax  = 1 << 14 // of one connection, refused ones included; more is no client
	ipv6HostPrefixBits = 64
	hostsKeptMin       = 1024     // of those that are not connected
	handshakeBytesMax  = 32 << 10 // read of a TLS handshake: some certificates; crypto/tls alone would hold ten times as much
	headerBlockMax     = 64 << 10 // bytes of a call's headers, packed; servers refuse far shorter ones, but read them all
)
