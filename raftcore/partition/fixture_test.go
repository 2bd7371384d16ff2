package partition

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/multiraftd/multiraftd/proto/recordbatch"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

var testPrefix = store.MachinePrefix(5, 1)

// failer is what testing.TB and rapid.T have in common.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// world is a machine, the store under it, and the Raft log that its entries are in.
type world struct {
	t       failer
	kv      *store.MemKV
	m       *Machine
	entries map[raftcore.Index][]byte
	index   raftcore.Index
	term    uint64
}

func newWorld(t failer) *world {
	w := &world{t: t, kv: store.NewMem(), entries: map[raftcore.Index][]byte{}, index: 1, term: 3}
	w.reopen()
	return w
}

func (w *world) view() store.View {
	w.t.Helper()
	v, err := w.kv.View()
	if err != nil {
		w.t.Fatalf("View: %v", err)
	}
	return v
}

func (w *world) reopen() {
	w.t.Helper()
	v := w.view()
	m, err := Open(v, testPrefix)
	if err != nil {
		w.t.Fatalf("Open: %v", err)
	}
	if err := v.Close(); err != nil {
		w.t.Fatalf("Close: %v", err)
	}
	w.m = m
}

// apply applies one entry and stores what it leaves behind.
func (w *world) apply(timeMillis int64, payloads ...[]byte) []raftcore.Outcome {
	w.t.Helper()
	w.index += 2 // indexes are not dense: elections and membership changes take some
	e := raftcore.Entry{Time: timeMillis, Payloads: payloads}
	w.entries[w.index] = e.AppendTo(nil)
	var b store.Batch
	outcomes := w.m.Apply(raftcore.Position{Index: w.index, Term: w.term}, &e, &b)
	if err := w.kv.Commit(&b, false); err != nil {
		w.t.Fatalf("Commit: %v", err)
	}
	return outcomes
}

var errNoEntry = errors.New("no such entry")

func (w *world) source(i raftcore.Index) (raftcore.Position, []byte, error) {
	data, ok := w.entries[i]
	if !ok {
		return raftcore.Position{}, nil, fmt.Errorf("%w: %d", errNoEntry, i)
	}
	return raftcore.Position{Index: i, Term: w.term}, data, nil
}

func (w *world) read(from raftcore.Offset, maxBytes int) (Chunk, error) {
	v := w.view()
	c, err := Read(v, testPrefix, w.source, from, maxBytes)
	if err := v.Close(); err != nil {
		w.t.Fatalf("Close: %v", err)
	}
	return c, err
}

// batchOf encodes count records.
func batchOf(p recordbatch.Producer, count int) []byte {
	b, err := recordbatch.Encode(nil, p, make([]recordbatch.Record, count))
	if err != nil {
		panic(err)
	}
	return b
}

// from is a batch of producer id in epoch 0.
func from(id int64, sequence int32, count int) []byte {
	return batchOf(recordbatch.Producer{ID: id, Sequence: sequence}, count)
}

func plain(count int) []byte { return batchOf(recordbatch.None, count) }

// summary writes outcomes as a test's table does.
func summary(outcomes []raftcore.Outcome) (s []string) {
	for _, o := range outcomes {
		s = append(s, fmt.Sprintf("%v %d", o.Verdict, o.Offset))
	}
	return s
}

func expect(t *testing.T, got []raftcore.Outcome, want ...string) {
	t.Helper()
	if s := summary(got); !slices.Equal(s, want) {
		t.Fatalf("got %q, want %q", s, want)
	}
}
