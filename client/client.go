package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
)

// Client talks to one cluster. It is safe for concurrent use; producers and readers share its connections.
//
// It keeps no connection that it was not asked to use: the first call connects. A node that does not answer
// is asked last until its pause is over, so one dead node costs a call at most one failed attempt.
type Client struct {
	cfg Config
	dir *directory

	mu     sync.Mutex
	topics map[string]*multiraftv1.DescribeResponse // what AppendOnce has resolved
	conns  map[string]*grpc.ClientConn
	closed bool
}

// Open prepares a client. It does not connect yet: a cluster that is down shows at the first call.
func Open(cfg Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Client{cfg: cfg, dir: newDirectory(cfg.Addrs), conns: make(map[string]*grpc.ClientConn),
		topics: make(map[string]*multiraftv1.DescribeResponse)}, nil
}

// Close closes the connections. Close producers first: their batches cannot be delivered any more.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	var errs []error
	for addr, conn := range c.conns {
		errs = append(errs, conn.Close())
		delete(c.conns, addr)
	}
	return errors.Join(errs...)
}

// conn returns the connection to addr, which may not be up.
func (c *Client) conn(addr string) (*grpc.ClientConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	if conn, ok := c.conns[addr]; ok {
		return conn, nil
	}
	// Escaped, since a target is a URL: gRPC would read a zone, as in [fe80::1%eth0]:7071, as something else.
	conn, err := grpc.NewClient("dns:///"+url.PathEscape(addr), append(dialOptions(c.cfg.TLS), c.cfg.DialOptions...)...)
	if err != nil {
		return nil, fmt.Errorf("client: %s: %w", addr, err)
	}
	c.conns[addr] = conn
	return conn, nil
}

func dialOptions(cfg *tls.Config) []grpc.DialOption {
	creds := insecure.NewCredentials()
	if cfg != nil {
		creds = credentials.NewTLS(cfg)
	}
	return []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithNoProxy(), // a web proxy is not the way to a database
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(responseBytesMax), grpc.MaxCallSendMsgSize(responseBytesMax)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveInterval, Timeout: keepaliveTimeout}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: retryDelayMin, Multiplier: 1.6, Jitter: 0.2, MaxDelay: reconnectDelayMax},
			MinConnectTimeout: connectTimeout,
		}),
	}
}

// request is a unary call that may be repeated.
type request struct {
	op      string
	node    uint64        // asked first; 0 = any
	timeout time.Duration // of one attempt
	once    bool          // not to be repeated when an attempt may have had an effect
	call    func(context.Context, *grpc.ClientConn) error
}

// do repeats r, node by node and round by round, until one answers with something that repeating will not
// change, or ctx ends, or no node has been reachable for Config.UnreachableTimeout.
func (c *Client) do(ctx context.Context, r request) error {
	unreachableSince := time.Now()
	for tries := 0; ; tries++ {
		res := c.round(ctx, r)
		if res.done {
			return res.err
		}
		if res.answered {
			unreachableSince = time.Now()
		} else if t := c.cfg.UnreachableTimeout; t > 0 && time.Since(unreachableSince) >= t {
			return res.err
		}
		if err := sleep(ctx, pause(tries, retryAfter(res.err))); err != nil {
			return fmt.Errorf("%w: %w", err, res.err)
		}
	}
}

type roundResult struct {
	err      error
	done     bool // err is the answer
	answered bool // at least one node spoke
}

// round asks each address once. Not found counts only when all that answer say so: a node may learn of a
// topic a little later than the one that created it.
func (c *Client) round(ctx context.Context, r request) roundResult {
	var res roundResult
	var notFound error
	for _, addr := range c.dir.order(r.node, time.Now()) {
		err := c.attempt(ctx, addr, r)
		if err == nil {
			return roundResult{done: true}
		}
		var e *Error
		if !errors.As(err, &e) {
			return roundResult{err: err, done: true}
		}
		if ctx.Err() != nil && !(r.once && e.maybeStored()) {
			return roundResult{err: fmt.Errorf("%w: %w", ctx.Err(), err), done: true}
		}
		if !e.lostOnTheWay() || !res.answered { // what a node said is worth more than silence
			res.err, res.answered = err, !e.lostOnTheWay()
		}
		switch {
		case r.once && e.maybeStored():
			return roundResult{err: unknownOutcome(e), done: true}
		case e.Reason == UnknownTopic || e.Reason == UnknownGroup || e.Reason == UnknownPartition:
			notFound = err
		case !e.retriable():
			return roundResult{err: err, done: true}
		}
	}
	if notFound != nil {
		return roundResult{err: notFound, done: true}
	}
	return res
}

func (c *Client) attempt(ctx context.Context, addr string, r request) error {
	conn, err := c.conn(addr)
	if err != nil {
		return err
	}
	actx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	if err = r.call(actx, conn); err == nil {
		c.dir.succeeded(addr)
		return nil
	}
	var e *Error
	if !errors.As(err, &e) {
		e = fromStatus(r.op, err)
	}
	if e.Reason == "" && e.retriable() { // lost, or slower than it may be
		c.dir.failed(addr, time.Now())
	}
	return e
}

// pause is how long to wait after the given number of failures: what the node asked for, else doubling.
// The jitter keeps many clients from coming back in step.
func pause(failures int, asked time.Duration) time.Duration {
	d := retryDelayMax
	if shift := min(failures, 10); retryDelayMin<<shift < d {
		d = retryDelayMin << shift
	}
	if asked > 0 {
		d = min(asked, retryAfterMax)
	}
	return d + rand.N(d/4+1)
}

func retryAfter(err error) time.Duration {
	var e *Error
	if errors.As(err, &e) {
		return e.RetryAfter
	}
	return 0
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
