package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
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

func TestALoadEndsWithItsInput(t *testing.T) {
	l := &load{stops: newStopWatch(5)}
	g := newTestGenerator(10, 0)
	g.failed = func(err error) { t.Error(err) }
	l.generators, l.producers = []*generator{g}, []producer{newFakeProducer(g.acked, nil)}
	r, w := io.Pipe()
	go func() {
		for g.acknowledged.Load() == 0 {
			if _, err := w.Write([]byte("go on\n")); err != nil {
				t.Error(err)
			}
		}
		_ = w.Close() // never fails
	}()
	var progress strings.Builder
	res, err := l.run(t.Context(), 0, r, &progress)
	if err != nil || res.err != nil || res.acknowledged == 0 || res.acknowledged != g.appended {
		t.Errorf("%+v, %v", res, err)
	}
}
