package router

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/multiraftd/multiraftd/actors"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
	"github.com/multiraftd/multiraftd/transport/guard"
	"github.com/multiraftd/multiraftd/transport/tlsfiles"
)

// Limits of the services. What is admitted of appends is in admission.go.
const (
	unaryTimeout        = 30 * time.Second // of a call that names no deadline
	outcomeTimeout      = 30 * time.Second // an append without an end for this long ends as unknown
	sweepInterval       = 250 * time.Millisecond
	drainTimeout        = 3 * time.Second // at the end, for what is in flight
	connectTimeout      = 2 * time.Second // to another node
	statusTimeout       = 2 * time.Second // of one node, when all are asked
	readStreamsMax      = 4096            // Read and Describe calls under way
	readBytesDefault    = 1 << 20
	readBytesMax        = 8 << 20
	catchUpTimeout      = 5 * time.Second // for records that exist to come to the replica that reads
	streamItemsMax      = 8192            // of one Append stream: taken and not yet sent back
	responseItemsMax    = 128             // results in one message; more would go out in a buffer of 1 MiB
	forwardBytesMax     = 1 << 20         // soft bound of one forwarded message; one item always fits
	leaderAttemptsMax   = 3               // ways tried to a leader that moves
	producerIDsPerRange = 1000
	detailedGroupsMax   = 16 // whose replicas are asked themselves in one call
)

// Backend is what the services need of a Core.
type Backend interface {
	Node() raftcore.NodeID
	Table() *Table
	Dispatch(...Routed)
	View() (store.View, error)
	// Liveness says who was heard of lately; Findings what the Controller here wants done and can't do.
	Liveness() *Liveness
	Findings() []actors.Finding
}

// ServicesConfig says what the services work with.
type ServicesConfig struct {
	Core    Backend
	Cluster string // its UUID
	Start   uint64 // the node's start number
	// BootID is told in the headers of answers to canonical RPCs; optional.
	BootID   []byte
	Counters *Counters
	Logger   *slog.Logger // nil = nothing
	// RecordBytesMax is the largest record taken, in bytes of key, value and headers; BatchBytesMax the largest
	// batch. Neither may be above what a replica takes as an entry.
	RecordBytesMax, BatchBytesMax int
	// Space of the disk, with what there is to say about it; nil = always enough.
	Space *actors.Space
	// Failed is closed when the replicas will answer nothing any more: Close then does not wait for them.
	// nil = never.
	Failed <-chan struct{}
	// Tracing observes; its zero value does not.
	Tracing TracingConfig
	// TLS has the certificates for connections to the client addresses of other nodes. nil = plaintext.
	TLS *tlsfiles.Files
	// ElectionTimeout of the groups: reads give a replica without leader ten of them.
	ElectionTimeout time.Duration
}

// Services are LogService and AdminService of one node, and what its transport asks for the canonical peer
// RPCs. They decode, validate, admit and enqueue; what this node can't answer they forward.
//
// A request ends in one of three ways: success, a definite error, or OUTCOME_UNKNOWN. Replicas end what they
// were given; should one be lost on the way (a replica that panicked with a full mailbox), the sweeper ends it.
type Services struct {
	multiraftv1.UnimplementedLogServiceServer
	multiraftv1.UnimplementedAdminServiceServer

	cfg       ServicesConfig
	core      Backend
	admitted  gauge // of this node
	reads     atomic.Int64
	readsMax  int64         // readStreamsMax but in tests
	patience  time.Duration // drainTimeout but in tests
	waitIDs   atomic.Uint64
	conns     *conns
	outflow   *outflow
	producers producerIDs

	draining context.Context // ends when Close begins
	drain    context.CancelFunc
	closed   context.Context // ends when Close no longer waits
	finish   context.CancelFunc
	loops    sync.WaitGroup
	closing  sync.Once

	mu     sync.Mutex
	active int           // calls under way
	idle   chan struct{} // closed when draining and active is 0
}

// NewServices returns the services of a node. They run until Close.
func NewServices(cfg ServicesConfig) *Services {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Services{cfg: cfg, core: cfg.Core, readsMax: readStreamsMax, patience: drainTimeout, conns: newConns(cfg.TLS), outflow: newOutflow(), idle: make(chan struct{})}
	s.producers.turn = make(chan struct{}, 1)
	s.draining, s.drain = context.WithCancel(context.Background())
	s.closed, s.finish = context.WithCancel(context.Background())
	s.loops.Go(s.sweepLoop)
	return s
}

// Admitted returns how much is admitted on this node and has not ended.
func (s *Services) Admitted() (items, bytes int64) {
	return s.admitted.items.Load(), s.admitted.bytes.Load()
}

// shed counts what the server in front of these services keeps out.
func (s *Services) shed() *guard.Counters { return &s.cfg.Counters.Shed }

// Register is part of Service.
func (s *Services) Register(r grpc.ServiceRegistrar) {
	multiraftv1.RegisterLogServiceServer(r, s)
	multiraftv1.RegisterAdminServiceServer(r, s)
}

// Close refuses new calls, waits for what is in flight, for a short time, and ends the rest as unknown.
// Calling it again does nothing.
func (s *Services) Close() { s.closing.Do(s.close) }

func (s *Services) close() {
	s.mu.Lock()
	s.drain()
	if s.active == 0 {
		close(s.idle)
	}
	s.mu.Unlock()
	late := time.NewTimer(s.patience)
	defer late.Stop()
	select {
	case <-s.idle:
	case <-s.cfg.Failed:
	case <-late.C:
	}
	s.finish()
	for _, h := range s.core.Table().groups {
		s.abandon(h.load.admittedBefore(time.Now().Add(time.Hour)), true)
	}
	s.loops.Wait()
	s.conns.close()
}

// enter counts a call in, or refuses it. Every call that has entered exits.
func (s *Services) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining.Err() != nil {
		return errStopping()
	}
	s.active++
	return nil
}

func (s *Services) exit() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active--; s.active == 0 && s.draining.Err() != nil {
		close(s.idle)
	}
}

// enterRead is enter for calls that read, of which only so many run at once.
func (s *Services) enterRead() error {
	if err := s.enter(); err != nil {
		return err
	}
	if s.reads.Add(1) > s.readsMax {
		s.exitRead()
		return fail(overloaded, "the node has %d reads under way", s.readsMax)
	}
	return nil
}

func (s *Services) exitRead() {
	s.reads.Add(-1)
	s.exit()
}

func errStopping() error { return fail(stopping, "the node is stopping") }

// bounded gives a call that names no deadline one.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, unaryTimeout)
}

// explain is the package's explain, with the addresses that this node knows.
func (s *Services) explain(err error) *failure { return explain(err, s.core.Table().Meta) }

// refused is explain for calls: nil stays nil.
func (s *Services) refused(err error) error {
	if err == nil {
		return nil
	}
	return s.explain(err)
}

// sweepLoop looks for proposals that their replica will not end any more.
func (s *Services) sweepLoop() {
	t := time.NewTicker(sweepInterval)
	defer t.Stop()
	for {
		select {
		case <-s.closed.Done():
			return
		case <-t.C:
			s.sweep(time.Now())
		}
	}
}

// sweep ends what a failed replica left, with its admission, and what has waited for too long, whose
// admission stays taken: a stalled replica still holds it in memory.
func (s *Services) sweep(now time.Time) {
	if s.admitted.items.Load() == 0 { // an idle node, however many groups it has, does nothing here
		return
	}
	for _, h := range s.core.Table().groups {
		if h.load.items.Load() == 0 {
			continue
		}
		if st := h.Board.Load(); st != nil && st.Failure != "" {
			s.abandon(h.load.admittedBefore(now), true)
			continue
		}
		s.abandon(h.load.admittedBefore(now.Add(-outcomeTimeout)), false)
	}
}

func (s *Services) abandon(ps []*proposal, release bool) {
	slices.Reverse(ps) // the oldest first
	for _, p := range ps {
		if release {
			p.release()
		}
		if !p.answered.Load() {
			s.cfg.Counters.Abandoned.Add(1)
		}
		p.answer(actors.ProposeResult{Err: actors.ErrOutcomeUnknown})
	}
}
