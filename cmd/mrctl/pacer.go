package main

import (
	"context"
	"time"
)

// paceInterval is how far ahead of its rate a pacer lets records go, so that it sleeps per run of records
// and not per record.
const paceInterval = 2 * time.Millisecond

// pacer holds records back to a rate. Time that was lost, such as in an election, is not made up for: the
// schedule moves instead.
type pacer struct {
	gap  time.Duration // between two records; 0 = no limit
	next time.Time     // when the next record is due
}

func newPacer(perSecond float64) *pacer {
	if perSecond <= 0 {
		return &pacer{}
	}
	return &pacer{gap: time.Duration(float64(time.Second) / perSecond), next: time.Now()}
}

func (p *pacer) wait(ctx context.Context) error {
	if p.gap == 0 {
		return nil
	}
	now := time.Now()
	if ahead := p.next.Sub(now); ahead > paceInterval {
		t := time.NewTimer(ahead)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	} else if -ahead > time.Second {
		p.next = now
	}
	p.next = p.next.Add(p.gap)
	return nil
}
