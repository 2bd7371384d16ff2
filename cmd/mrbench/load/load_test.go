package load

import (
	"context"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
)

func TestALoadEndsWithItsInput(t *testing.T) {
	l := New(Config{Partitions: 5, Clients: 1, Window: 10, BatchBytes: 1 << 20}, NewPayload(7, 16))
	g := l.Clients()[0]
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
	res := l.Run(t.Context(), []Producer{newFakeProducer(g.Acked, nil)}, 0, r, &progress)
	if res.Err != nil || res.Acknowledged == 0 || res.Acknowledged != g.appended {
		t.Errorf("%+v", res)
	}
}

func TestTheFiguresAreThoseOfAllClients(t *testing.T) {
	l := New(Config{Partitions: 5, Clients: 3, Window: 30, Records: 1000, BatchBytes: 1 << 20}, NewPayload(7, 16))
	var producers []Producer
	for _, g := range l.Clients() {
		producers = append(producers, newFakeProducer(g.Acked, nil))
	}
	res := l.Run(t.Context(), producers, 0, nil, io.Discard)
	f := res.Figures(16)
	if res.Err != nil || f.Records != 1000 || f.Errors != 0 || f.RecordsPerS <= 0 || math.Abs(f.MBPerS/f.RecordsPerS-16e-6) > 1e-12 || f.LatencyMillis.Max < f.LatencyMillis.P50 {
		t.Errorf("%+v, %v", f, res.Err)
	}
	appended := uint64(0)
	for i, o := range l.Outcomes() {
		appended += o.Appended
		if o.Client != i || o.Refused != nil {
			t.Errorf("outcome %d is %+v", i, o)
		}
	}
	if appended != 1000 {
		t.Errorf("%d appended", appended)
	}
}

// lateProducer refuses what it took in, when it is closed: after the end of the load.
type lateProducer struct {
	stuckProducer
	g *Generator
}

var errLate = errors.New("late")

func (p *lateProducer) Close(context.Context) error {
	p.g.Acked(p.g.partition, 1, errLate)
	return nil
}

func TestARecordThatIsRefusedAfterTheEndOfTheLoadSaysWhy(t *testing.T) {
	l := New(Config{Partitions: 1, Clients: 1, Window: 1, BatchBytes: 1}, NewPayload(7, 16))
	p := &lateProducer{stuckProducer{full: make(chan struct{}), limit: 1}, l.Clients()[0]}
	r, w := io.Pipe()
	go func() {
		<-p.full
		_ = w.Close() // never fails
	}()
	if res := l.Run(t.Context(), []Producer{p}, 0, r, io.Discard); res.Errors != 1 || !errors.Is(res.Err, errLate) {
		t.Errorf("%d errors, %v", res.Errors, res.Err)
	}
}
