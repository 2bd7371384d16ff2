package load

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestAStopIsTimeWithSomethingInFlightAndNothingAcknowledged(t *testing.T) {
	s, at := newStopWatch(2), time.Unix(100, 0)
	s.waiting(0, 0) // the wait for the first acknowledgement, connecting, is no stop
	s.acknowledged(0, 50, false)
	s.waiting(1, 51)
	s.acknowledged(1, 52, true)
	s.waiting(0, 53) // another client
	s.acknowledged(0, 60, true)
	s.acknowledged(0, 62, true)
	s.waiting(0, 1000) // nothing was in flight until now
	s.waiting(1, 1001)
	s.acknowledged(1, 1004, true)
	s.acknowledged(0, 1021, true)
	got := s.seen(at)
	if len(got.Partitions) != 2 || got.Partitions[0].Partition != 0 || got.Partitions[0].Millis != 21e-6 || !got.Partitions[0].At.Equal(at.Add(1000)) {
		t.Errorf("the longest stop of a partition is %+v", got.Partitions)
	}
	if got.All.Millis != 17e-6 || !got.All.At.Equal(at.Add(1004)) {
		t.Errorf("the longest stop of all is %+v", got.All)
	}
}

func TestLongStopsAreListedInTheOrderInWhichTheyBegan(t *testing.T) {
	s, at := newStopWatch(2), time.Unix(100, 0)
	const ms = time.Millisecond
	for p := range 2 {
		s.waiting(p, 0)
		s.acknowledged(p, 0, false)
	}
	s.acknowledged(0, 19*ms, false) // not long
	s.acknowledged(1, 30*ms, false)
	s.acknowledged(0, 60*ms, false)
	s.acknowledged(1, 55*ms, false)
	var got []string
	for _, l := range s.seen(at).Listed {
		got = append(got, fmt.Sprint(l.Partition, " ", l.Millis, " ", l.At.Sub(at)))
	}
	if want := []string{"1 30 0s", "0 41 19ms", "1 25 30ms"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
