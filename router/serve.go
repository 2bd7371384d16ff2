package router

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/multiraftd/multiraftd/actors"
	"github.com/multiraftd/multiraftd/transport/guard"
	"github.com/multiraftd/multiraftd/transport/tlsfiles"
)

// Limits of a server on a client address. gRPC's own defaults are unlimited streams and two minutes for a
// handshake.
const (
	messageBytesMax      = 32 << 20
	requestBytesMax      = 16 << 20  // a batch far above its limit is still answered with a reason
	partialBytesMax      = 128 << 20 // of requests that have begun and not ended, from all connections
	headerListMax        = 8 << 10
	connectionsMax       = 4096
	hostConnectionsMax   = 512  // from one address
	connectionsPerSecond = 100  // from one address, in the long run
	resetsMax            = 1000 // calls that one address breaks off at once; for another node these are its clients
	resetsPerSecond      = 500
	offencesMax          = 128 // of one address, as guard.Limits has them
	offencesPerSecond    = 4
	connStreamsMax       = 1000 // of one connection; another node forwards all that it has on one
	streamsMax           = 4096 // in all; above it a connection gets no more than streamsFloor
	streamsFloor         = 8
	streamWindowBytes    = 64 << 10 // what a stream may hold that nobody has read; a larger request gets more
	connWindowBytes      = 4 << 20
	handshakeTimeout     = 5 * time.Second
	pingIntervalMin      = 5 * time.Second // clients may not ping more often
	idlePingInterval     = 30 * time.Second
	idlePingTimeout      = 10 * time.Second
	idleConnectionMax    = 15 * time.Minute
	writeTimeout         = 20 * time.Second // for a client to take something of what is written to it
	connectionAgeMax     = 12 * time.Hour   // then it is asked to reconnect; what runs on it may finish
	stopTimeout          = time.Second      // after the services are closed
)

// Service is something that a Server serves. Register is called once, before the server starts. Close ends
// what is in flight, within a bounded time; calling it again does nothing.
type Service interface {
	Register(grpc.ServiceRegistrar)
	Close()
}

// Server serves services on a client address, with grpc.health.v1 and reflection.
type Server struct {
	lis      net.Listener
	grpc     *grpc.Server
	health   *health.Server
	services []Service
	loops    sync.WaitGroup
	done     chan struct{}
	err      error // valid when done is closed
	closing  sync.Once
}

// ServerConfig is what a Server may have beyond its services; the zero value has none of it.
type ServerConfig struct {
	// Tracer is for the unary calls whose callers sample them.
	Tracer actors.Tracer
	// TLS has the certificates for clients' connections. nil = plaintext.
	TLS *tlsfiles.Files
}

// NewServer returns a server on a listener, which it owns from then on.
func NewServer(lis net.Listener, cfg ServerConfig, services ...Service) *Server {
	counters := new(guard.Counters)
	for _, svc := range services {
		if c, ok := svc.(interface{ shed() *guard.Counters }); ok {
			counters = c.shed()
		}
	}
	guarded := guard.Listen(lis, guardLimits(), fail(overloaded, "too many calls on this node"), counters)
	s := &Server{lis: guarded, services: services, health: health.NewServer(), done: make(chan struct{})}
	opts := serverOptions(guarded)
	if cfg.Tracer != nil {
		opts = append(opts, grpc.ChainUnaryInterceptor(TraceCalls(cfg.Tracer)))
	}
	if cfg.TLS != nil {
		opts = append(opts, grpc.Creds(guarded.Credentials(cfg.TLS.Server, cfg.TLS.Complain)))
	}
	s.grpc = grpc.NewServer(opts...)
	for _, svc := range services {
		svc.Register(guard.Registrar(s.grpc))
	}
	healthv1.RegisterHealthServer(s.grpc, s.health)
	for name := range s.grpc.GetServiceInfo() {
		s.health.SetServingStatus(name, healthv1.HealthCheckResponse_SERVING)
	}
	reflection.Register(s.grpc)
	return s
}

func guardLimits() guard.Limits {
	return guard.Limits{
		Connections: connectionsMax, ConnectionsPerHost: hostConnectionsMax, Streams: streamsMax, StreamsFloor: streamsFloor,
		ConnectionRate: connectionsPerSecond, Resets: resetsMax, ResetRate: resetsPerSecond, Offences: offencesMax, OffenceRate: offencesPerSecond,
		PartialBytes: partialBytesMax, WriteTimeout: writeTimeout,
	}
}

func serverOptions(l *guard.Listener) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(requestBytesMax), grpc.MaxSendMsgSize(messageBytesMax), grpc.MaxHeaderListSize(headerListMax),
		grpc.MaxConcurrentStreams(connStreamsMax), grpc.ConnectionTimeout(handshakeTimeout), grpc.WaitForHandlers(true),
		grpc.StaticStreamWindowSize(streamWindowBytes), grpc.StaticConnWindowSize(connWindowBytes),
		grpc.InTapHandle(l.Tap), grpc.ForceServerCodecV2(guard.Codec()),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingIntervalMin, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: idlePingInterval, Timeout: idlePingTimeout, MaxConnectionIdle: idleConnectionMax, MaxConnectionAge: connectionAgeMax,
		}),
	}
}

// Start serves until Close.
func (s *Server) Start() {
	s.loops.Go(func() {
		s.err = s.grpc.Serve(s.lis) // nil after Close
		close(s.done)
	})
}

// Done is closed when the server has stopped serving; Err then says why, if not because of Close.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err returns why the server stopped, or nil.
func (s *Server) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// Close stops: health says so first, then the services end what is in flight, then connections close; who does
// not take its answers by then loses them. Calling it again does nothing.
func (s *Server) Close() { s.closing.Do(s.close) }

func (s *Server) close() {
	s.health.Shutdown()
	for _, svc := range s.services {
		svc.Close()
	}
	late := time.AfterFunc(stopTimeout, s.grpc.Stop)
	s.grpc.GracefulStop()
	late.Stop()
	s.grpc.Stop()
	_ = s.lis.Close() // for a server that was never started; otherwise it is closed already
	s.loops.Wait()
}

// Serve serves services on addr until ctx ends, then stops gracefully. It returns an error when addr can't be
// listened on or accepting fails.
func Serve(ctx context.Context, addr string, services ...Service) error {
	lis, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("serving clients on %s: %w", addr, err)
	}
	s := NewServer(lis, ServerConfig{}, services...)
	s.Start()
	select {
	case <-ctx.Done():
	case <-s.done:
	}
	s.Close()
	return s.err
}
