package backup

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// Progress counts, for whoever shows it meanwhile. The zero Progress is ready.
type Progress struct {
	phase   atomic.Pointer[string]
	records atomic.Int64
	bytes   atomic.Int64
	total   atomic.Int64 // bytes, 0 = not known
	parts   atomic.Int64 // partitions that are done
	ofParts atomic.Int64
	moves   atomic.Int64 // anything at all
	local   atomic.Int64 // goroutines that wait for the disk and not for the cluster
}

// State is how far it is: what is being done, and how much of it is done. BytesTotal 0 = not known.
type State struct {
	Phase                      string
	Records, Bytes, BytesTotal int64
	Partitions, PartitionsAll  int64
}

// State may be called at any time.
func (p *Progress) State() State {
	s := State{Records: p.records.Load(), Bytes: p.bytes.Load(), BytesTotal: p.total.Load(),
		Partitions: p.parts.Load(), PartitionsAll: p.ofParts.Load()}
	if phase := p.phase.Load(); phase != nil {
		s.Phase = *phase
	}
	return s
}

func (p *Progress) begin(phase string, totalBytes int64, partitions int) {
	p.parts.Store(0)
	p.ofParts.Store(int64(partitions))
	p.records.Store(0)
	p.bytes.Store(0)
	p.total.Store(totalBytes)
	p.phase.Store(&phase)
}

func (p *Progress) add(records, bytes int64) {
	p.records.Add(records)
	p.bytes.Add(bytes)
	p.moves.Add(1)
}

func (p *Progress) partitionDone() {
	p.parts.Add(1)
	p.moves.Add(1)
}

// onDisk runs f, which waits for this machine's disk: however long that takes, the cluster is not late.
func (p *Progress) onDisk(f func() error) error {
	p.local.Add(1)
	defer p.local.Add(-1)
	defer p.moves.Add(1)
	return f()
}

// watchdogChecks is how often, in a timeout, the watchdog looks.
const watchdogChecks = 8

// watch ends the context that it returns when nothing has moved for twice the timeout. Calls to the cluster give up
// by themselves after the timeout, and say why; this ends what hangs without an error.
func (p *Progress) watch(ctx context.Context, timeout time.Duration) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	if timeout <= 0 {
		return ctx, func() { cancel(nil) }
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(max(timeout/watchdogChecks, time.Millisecond))
		defer tick.Stop()
		for last, still := p.moves.Load(), 0; still < 2*watchdogChecks; {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			still++
			if now := p.moves.Load(); now != last || p.local.Load() > 0 {
				last, still = now, 0
			}
		}
		cancel(fmt.Errorf("%w for %v", ErrStalled, 2*timeout))
	}()
	return ctx, func() { cancel(nil); <-ended }
}
