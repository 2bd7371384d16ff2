package client

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"

	"github.com/multiraftd/multiraftd/proto/trace"
)

// Limits that callers do not set.
const (
	responseBytesMax      = 64 << 20               // largest answer taken from a node; a batch is far below
	appendRequestBytesMax = 1 << 20                // soft bound of one message on the append stream; one item always fits
	sequenceWindowBatches = 5                      // what a partition remembers of a producer: no more may be unacknowledged
	retryDelayMin         = 20 * time.Millisecond  // first pause after a refusal
	retryDelayMax         = 250 * time.Millisecond // largest pause of our own choice
	retryAfterMax         = 5 * time.Second        // largest pause that a node can ask for
	unknownTopicTriesMax  = 10                     // a node may learn of a topic a little later than its creator
	attemptTimeout        = 5 * time.Second        // one unary attempt on one node
	createTimeout         = 10 * time.Second       // one attempt to create a topic, which waits for its leaders
	answerTimeout         = 10 * time.Second       // an append without an answer for this long ends its stream
	connectTimeout        = 2 * time.Second        // one attempt to connect
	reconnectDelayMax     = time.Second            // largest pause between two of them
	keepaliveInterval     = 10 * time.Second       // the shortest that nodes accept
	keepaliveTimeout      = 3 * time.Second        // without an answer for this long a connection is dead
)

// Config says where the cluster is.
type Config struct {
	// Addrs are client addresses of some of the nodes, as host:port. The others are learned from them.
	Addrs []string
	// UnreachableTimeout ends a call when not one node could be reached for this long. Default 0: only the
	// call's context ends it, which suits a service that shall survive an outage of the whole cluster.
	UnreachableTimeout time.Duration
	// TLS is for clusters whose client addresses have it: the CA that signed the nodes' certificates, and the client's
	// own certificate where nodes want one. A ServerName stands for all nodes; without it each node's certificate must be
	// for the host in its address. nil = plaintext.
	TLS *tls.Config
	// DialOptions are added to those of the client: interceptors, other credentials.
	DialOptions []grpc.DialOption
	// Tracer begins a span for each batch of a Producer and each AppendOnce, and decides which are sampled. nil = none
	// is; then a sampled W3C traceparent in a record's headers still reaches the nodes.
	Tracer Tracer
}

// Tracer begins spans. It must be safe for concurrent use.
type Tracer interface {
	// Start begins a span below parent; without one a trace begins, if it is sampled. nil = it is not.
	Start(name string, parent trace.Context) *trace.Span
}

// Validate reports every fault.
func (c *Config) Validate() error {
	var errs []error
	if len(c.Addrs) == 0 {
		errs = append(errs, errors.New("client: no address given"))
	}
	for _, a := range c.Addrs {
		if _, port, err := net.SplitHostPort(a); err != nil || port == "" {
			errs = append(errs, fmt.Errorf("client: address %q is not host:port", a))
		}
	}
	if c.UnreachableTimeout < 0 {
		errs = append(errs, errors.New("client: UnreachableTimeout is negative"))
	}
	return errors.Join(errs...)
}

// ProducerConfig tunes a Producer. The zero value is usable.
type ProducerConfig struct {
	// BatchBytes is where a batch is closed. Default 256 KiB. Larger: fewer entries and syncs, more latency
	// when the disk is slow. A record above it travels alone.
	BatchBytes int
	// Linger is how long a batch waits for company while nothing holds it up. Default 2 ms; negative = none.
	Linger time.Duration
	// BufferBytes bounds what has been accepted and not been acknowledged. Default 32 MiB. Append blocks on it.
	BufferBytes int
	// InFlight is how many batches of a partition may be unacknowledged. Default and most: 5.
	InFlight int
	// DeliveryTimeout is how long the oldest batch of a partition is tried before that partition's batches
	// fail. Default 0: until Close.
	DeliveryTimeout time.Duration
	// Unary sends each batch in a call of its own instead of on the stream, one at a time per partition.
	Unary bool
	// OnAck hears the fate of every batch, in order within a partition, from one goroutine. It must not call
	// the producer, and what it does delays the acknowledgements after it.
	OnAck func(Ack)
}

// Validate reports every fault.
func (c *ProducerConfig) Validate() error {
	var errs []error
	if c.BatchBytes < 0 || c.BufferBytes < 0 {
		errs = append(errs, errors.New("client: BatchBytes or BufferBytes is negative"))
	}
	if c.InFlight < 0 || c.InFlight > sequenceWindowBatches {
		errs = append(errs, fmt.Errorf("client: InFlight is %d, a partition remembers %d batches", c.InFlight, sequenceWindowBatches))
	}
	if c.DeliveryTimeout < 0 {
		errs = append(errs, errors.New("client: DeliveryTimeout is negative"))
	}
	return errors.Join(errs...)
}

func (c ProducerConfig) withDefaults() ProducerConfig {
	setDefault(&c.BatchBytes, 256<<10)
	setDefault(&c.BufferBytes, 32<<20)
	setDefault(&c.InFlight, sequenceWindowBatches)
	setDefault(&c.Linger, 2*time.Millisecond)
	c.Linger = max(c.Linger, 0)
	if c.Unary {
		c.InFlight = 1
	}
	if c.OnAck == nil {
		c.OnAck = func(Ack) {}
	}
	return c
}

func setDefault[T comparable](v *T, fallback T) {
	var unset T
	if *v == unset {
		*v = fallback
	}
}
