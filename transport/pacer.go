package transport

import (
	"context"
	"sync"
	"time"
)

// Pacer keeps what passes it to a number of bytes per second, whoever brings it. Safe for concurrent use.
type Pacer struct {
	BytesPerSecond int // above 0

	mu   sync.Mutex
	free time.Time // when what has passed is paid for
}

// Wait lets n bytes pass, as soon as it may. It returns early, with the reason, when ctx ends.
func (p *Pacer) Wait(ctx context.Context, n int) error {
	p.mu.Lock()
	now := time.Now()
	if p.free.Before(now) {
		p.free = now
	}
	pause := p.free.Sub(now)
	p.free = p.free.Add(time.Duration(n) * time.Second / time.Duration(p.BytesPerSecond))
	p.mu.Unlock()
	if pause <= 0 {
		return context.Cause(ctx)
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
