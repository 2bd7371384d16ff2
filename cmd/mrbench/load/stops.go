package load

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// stopWatch notes how long acknowledgements stood still: of each partition, and of all together, whichever client
// they are for. Time in which nothing was in flight does not count, nor does the wait for the first one of all.
type stopWatch struct {
	mu         sync.Mutex
	all        lull
	partitions []lull
}

// Of the stops of each partition those are listed that last so long, as many as may be.
const (
	listedMin     = 20 * time.Millisecond
	listedMaxEach = 1000
)

// lull follows one series of acknowledgements.
type lull struct {
	waiting        int // clients that have something in flight
	begun          bool
	since          time.Duration // the last acknowledgement, or the first record in flight after a pause
	longest, start time.Duration
	listed         []span
}

// span is a time in which nothing was acknowledged.
type span struct{ start, length time.Duration }

func newStopWatch(partitions int) *stopWatch { return &stopWatch{partitions: make([]lull, partitions)} }

// waiting notes that a client has something in flight to a partition to which it had nothing.
func (s *stopWatch) waiting(partition int, now time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all.wait(now)
	s.partitions[partition].wait(now)
}

// acknowledged notes an acknowledgement, and whether its client has nothing in flight to the partition any more.
func (s *stopWatch) acknowledged(partition int, now time.Duration, empty bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all.acknowledged(now, empty)
	s.partitions[partition].acknowledged(now, empty)
}

func (l *lull) wait(now time.Duration) {
	if l.waiting == 0 {
		l.since = now
	}
	l.waiting++
}

func (l *lull) acknowledged(now time.Duration, empty bool) {
	if d := now - l.since; l.begun {
		if d > l.longest {
			l.longest, l.start = d, l.since
		}
		if d >= listedMin && len(l.listed) < listedMaxEach {
			l.listed = append(l.listed, span{l.since, d})
		}
	}
	l.begun, l.since = true, now
	if empty {
		l.waiting--
	}
}

// Stops is what a stopWatch has seen, for people and programs.
type Stops struct {
	All        Stop            `json:"all"`
	Partitions []PartitionStop `json:"partitions"` // the longest of each, the longest first
	Listed     []PartitionStop `json:"listed"`     // of all partitions those of 20 ms and more, as they began
}

// Stop is a time in which something was in flight and nothing was acknowledged.
type Stop struct {
	Millis float64   `json:"ms"`
	At     time.Time `json:"at"` // when it began
}

// PartitionStop is a stop of one partition.
type PartitionStop struct {
	Partition int `json:"partition"`
	Stop
}

func (s *stopWatch) seen(started time.Time) *Stops {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := &Stops{All: Stop{millis(s.all.longest), started.Add(s.all.start)}}
	for p := range s.partitions {
		l := &s.partitions[p]
		seen.Partitions = append(seen.Partitions, PartitionStop{p, Stop{millis(l.longest), started.Add(l.start)}})
		for _, one := range l.listed {
			seen.Listed = append(seen.Listed, PartitionStop{p, Stop{millis(one.length), started.Add(one.start)}})
		}
	}
	slices.SortStableFunc(seen.Partitions, func(a, b PartitionStop) int { return cmp.Compare(b.Millis, a.Millis) })
	slices.SortStableFunc(seen.Listed, func(a, b PartitionStop) int { return a.At.Compare(b.At) })
	return seen
}
