package router

import (
	"context"
	"errors"
	"net/url"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/keepalive"

	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/transport/tlsfiles"
)

// How nodes hold connections to the client addresses of others.
const (
	keepaliveInterval = 10 * time.Second
	keepaliveTimeout  = 3 * time.Second // without an answer for this long a node is gone
	reconnectDelayMin = 50 * time.Millisecond
	reconnectDelayMax = time.Second
)

// conns are the connections to the client addresses of other nodes, made when they are first used.
type conns struct {
	mu     sync.Mutex
	byNode map[raftcore.NodeID]nodeConn
	closed bool
	certs  *tlsfiles.Files // nil = plaintext
}

type nodeConn struct {
	addr string
	conn *grpc.ClientConn
}

var errConnsClosed = errors.New("the node's connections are closed")

func newConns(certs *tlsfiles.Files) *conns {
	return &conns{byNode: map[raftcore.NodeID]nodeConn{}, certs: certs}
}

// get returns the connection to a node, which may not be up. A node that has moved gets a new one.
func (c *conns) get(n raftcore.NodeID, addr string) (*grpc.ClientConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errConnsClosed
	}
	old, ok := c.byNode[n]
	if ok && old.addr == addr {
		return old.conn, nil
	}
	conn, err := grpc.NewClient("dns:///"+url.PathEscape(addr), c.dialOptions()...) // see client: a target is a URL
	if err != nil {
		return nil, err
	}
	c.byNode[n] = nodeConn{addr, conn}
	if ok {
		return conn, old.conn.Close()
	}
	return conn, nil
}

// failing says that the last attempt to reach a node failed.
func (c *conns) failing(n raftcore.NodeID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	nc, ok := c.byNode[n]
	return ok && nc.conn.GetState() == connectivity.TransientFailure
}

func (c *conns) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for n, nc := range c.byNode {
		delete(c.byNode, n)
		_ = nc.conn.Close() // fails only when it is closed already
	}
}

func (c *conns) dialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithTransportCredentials(c.certs.Dial(nil, c.certs.Complain)),
		grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageBytesMax), grpc.MaxCallSendMsgSize(messageBytesMax)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveInterval, Timeout: keepaliveTimeout}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: reconnectDelayMin, Multiplier: 1.6, Jitter: 0.2, MaxDelay: reconnectDelayMax},
			MinConnectTimeout: connectTimeout,
		}),
	}
}

// connect returns a connection to a node that is up. When it fails, nothing was sent.
func (s *Services) connect(ctx context.Context, n raftcore.NodeID) (*grpc.ClientConn, error) {
	rec, ok := s.core.Table().Meta.Node(n)
	if !ok {
		return nil, fail(noLeader, "the address of node %d is not known yet", n)
	}
	conn, err := s.conns.get(n, rec.GetClientAddr())
	if errors.Is(err, errConnsClosed) {
		return nil, errStopping()
	}
	if err != nil {
		return nil, fail(noLeader, "node %d at %s: %v", n, rec.GetClientAddr(), err)
	}
	wait, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	for {
		switch st := conn.GetState(); st {
		case connectivity.Ready:
			return conn, nil
		case connectivity.TransientFailure, connectivity.Shutdown:
			return nil, fail(noLeader, "node %d at %s cannot be reached", n, rec.GetClientAddr())
		case connectivity.Idle:
			conn.Connect()
			fallthrough
		default:
			if conn.WaitForStateChange(wait, st) {
				continue
			}
			if ctx.Err() != nil {
				return nil, fromStatus(ctx.Err())
			}
			return nil, fail(noLeader, "node %d at %s does not answer", n, rec.GetClientAddr())
		}
	}
}
