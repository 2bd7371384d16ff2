package transport

import (
	"time"

	"github.com/multiraftd/multiraftd/proto/lineage"
)

// Limits in bytes. The configurable ones are the defaults of Config.
const (
	envelopeBytesMax     = 16 << 20  // one envelope, estimated as on the wire
	queueBytesMax        = 64 << 20  // waiting for one peer; above it appends are dropped
	queueReserveBytesMax = 16 << 20  // on top, for everything that is not an append
	frameFillBytesMax    = 1 << 20   // a frame is filled up to here, so that bulk never delays heartbeats for long
	bulkEnvelopeBytesMin = 64 << 10  // from here an envelope waits in the bulk lane
	reportBytesMax       = 512 << 10 // a node's report
	frameOverheadBytes   = 32 << 10  // header, framing and contexts of one frame
	lostWindowBytes      = 32 << 20  // at least the appends of the last so many bytes count as lost with a connection
	receiveWindowBytes   = 8 << 20   // HTTP/2 window of one stream: what a peer may have sent that we have not read
	connWindowBytes      = 16 << 20  // of one connection
	ioBufferBytes        = 128 << 10
	headerListBytesMax   = 8 << 10
	probeBytesMax        = 64 << 10
	snapshotRateBytes    = 64 << 20  // of all snapshots together, per second and direction
	partialBytesMax      = 128 << 20 // of messages that have begun and not ended, from all connections
	handshakeBytesMax    = 2 << 10   // what is kept of a node must be small
	bootIDBytes          = lineage.IDBytes
)

// Limits in counts.
const (
	controlsMax            = 8192 // different controls waiting for one peer
	nodesSeenMax           = 1024 // nodes whose incarnation is remembered
	connectionsMax         = 512  // accepted connections on the peer address
	connectionsPerHostMax  = 128  // of them, from one address
	connectionsPerSecond   = 50   // from one address, in the long run
	resetsMax              = 128  // calls that one address breaks off at once
	resetsPerSecond        = 50
	offencesMax            = 128 // of one address, as guard.Limits has them
	offencesPerSecond      = 4
	streamsPerConnMax      = 16
	snapshotsMax           = 4    // at once, in each direction
	snapshotSetbacksMax    = 10   // ends of streams of one snapshot in a row without progress
	streamsMax             = 2048 // in all; above it a connection gets no more than streamsFloor
	streamsFloor           = 4
	strangersMax           = 16       // Exchanges at once of nodes that neither metadata nor the bootstrap set names
	fifoKeepItemsMax       = 16 << 10 // an empty queue keeps memory for so many items
	fifoCompactItemsMin    = 1024
	rotatedGenerationCount = 2
)

// Limits in time.
const (
	handshakeTimeout   = 5 * time.Second
	snapshotStall      = 30 * time.Second // without a chunk
	connectTimeout     = 3 * time.Second
	knockTimeout       = time.Second // to see whether a peer whose connection broke still listens
	backoffMin         = 50 * time.Millisecond
	backoffMax         = time.Second
	rpcTimeout         = 10 * time.Second // a unary AppendEntries or RequestVote
	clientPingInterval = 15 * time.Second // above the server's minimum: equal ones would strike by jitter
	clientPingTimeout  = 5 * time.Second  // also TCP_USER_TIMEOUT: unacknowledged bytes end the connection
	serverPingMin      = 10 * time.Second
	serverPingInterval = 30 * time.Second
	serverPingTimeout  = 10 * time.Second
	connectionIdleMax  = 15 * time.Minute
	writeTimeout       = 20 * time.Second // for a peer to take something of what is written to it
	complaintInterval  = time.Second      // between two warnings about refused handshakes
)
