package driver

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/multiraftd/multiraftd/cmd/mrbench/load"
)

// memory is a system that acknowledges at once, or refuses.
type memory struct {
	options        Options
	refuse         error
	calls, flying  atomic.Int64
	most           atomic.Int64
	closed         bool
	partitionsSeen [8]atomic.Int64
}

func (m *memory) Producer(_ context.Context, _ int, to *load.Generator) (load.Producer, error) {
	return NewCallers(m.options.PerClient(), to, time.Minute, func(partition int, _ uint64, value []byte) error {
		m.most.Store(max(m.most.Load(), m.flying.Add(1)))
		defer m.flying.Add(-1)
		m.calls.Add(1)
		m.partitionsSeen[partition].Add(1)
		if len(value) != m.options.Size {
			return errors.New("the value has another size")
		}
		return m.refuse
	}), nil
}

func (m *memory) Close() error {
	m.closed = true
	return nil
}

func tryRun(t *testing.T, m *memory) (map[string]load.Figures, error) {
	t.Helper()
	o := Options{Partitions: 4, Clients: 2, Window: 20, Size: 100, RunBytes: 1, Duration: 50 * time.Millisecond, Timeout: time.Minute}
	var out strings.Builder
	err := run(t.Context(), o, func(_ context.Context, o Options) (System, error) {
		m.options = o
		return m, nil
	}, &out)
	var report map[string]load.Figures
	if err == nil {
		err = json.Unmarshal([]byte(out.String()), &report)
	}
	return report, err
}

func TestTheReportHasWhatTheSystemAcknowledged(t *testing.T) {
	m := &memory{}
	report, err := tryRun(t, m)
	f := report["append"]
	if err != nil || f.Records == 0 || f.Records != uint64(m.calls.Load()) || f.Errors != 0 || !m.closed {
		t.Errorf("%+v of %d, closed %v, %v", f, m.calls.Load(), m.closed, err)
	}
	if most := m.most.Load(); most > 20 {
		t.Errorf("%d in flight", most)
	}
	for p := range 4 {
		if m.partitionsSeen[p].Load() == 0 {
			t.Errorf("nothing came to partition %d", p)
		}
	}
}

func TestARecordThatIsRefusedFailsTheRun(t *testing.T) {
	m := &memory{refuse: errors.New("disk full")}
	if report, err := tryRun(t, m); !errors.Is(err, m.refuse) || !m.closed {
		t.Errorf("%+v, closed %v, %v", report, m.closed, err)
	}
}

func TestALoadThatMakesNoSenseIsRefused(t *testing.T) {
	good := Options{Partitions: 1, Clients: 2, Window: 2, Size: 16}
	if err := good.validate(); err != nil {
		t.Error(err)
	}
	for _, spoil := range []func(*Options){
		func(o *Options) { o.Partitions = 0 }, func(o *Options) { o.Clients = 0 }, func(o *Options) { o.Window = 1 }, func(o *Options) { o.Size = 15 },
		func(o *Options) { o.Clients = load.ClientsMax + 1 },
	} {
		bad := good
		spoil(&bad)
		if bad.validate() == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

func TestWhatIsNotReadyIsAskedAgainUntilTheContextEnds(t *testing.T) {
	asked := 0
	if err := Until(t.Context(), func() error {
		if asked++; asked < 3 {
			return errors.New("not yet")
		}
		return nil
	}); err != nil || asked != 3 {
		t.Errorf("%v after %d", err, asked)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	never := errors.New("never")
	if err := Until(ctx, func() error { return never }); !errors.Is(err, never) {
		t.Error(err)
	}
}
