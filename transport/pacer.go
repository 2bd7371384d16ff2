package transport

import (
	"context"
	"sync"
	"time"
)

// pacer keeps what passes it to a number of bytes per second, whoever brings it.
type pacer struct {
	bytesPerSecond int

	mu   sync.Mutex
	free time.Time // when what has passed is paid for
}

// wait lets n bytes pass, as soon as it may. It returns early, with the reason, when ctx ends.
func (p *pacer) wait(ctx context.Context, n int) error {
	p.mu.Lock()
	now := time.Now()
	if p.free.Before(now) {
		p.free = now
	}
	pause := p.free.Sub(now)
	p.free = p.free.Add(time.Duration(n) * time.Second / time.Duration(p.bytesPerSecond))
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
