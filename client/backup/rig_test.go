package backup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/multiraftd/multiraftd/client"
	"github.com/multiraftd/multiraftd/client/clienttest"
	"github.com/multiraftd/multiraftd/proto/recordbatch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a cluster, a client of it, and a test.
type rig struct {
	*testing.T
	cluster *clienttest.Cluster
	client  *client.Client
}

func newRig(t *testing.T) *rig {
	t.Helper()
	cluster, err := clienttest.Start(3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	c, err := client.Open(client.Config{Addrs: cluster.Addrs()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return &rig{t, cluster, c}
}

func (r *rig) ctx() context.Context {
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	r.Cleanup(cancel)
	return ctx
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// someRecords are n of all kinds: absent, empty and binary keys and values, headers, and times of all sorts.
func someRecords(n, seed int) (rs []client.Record) {
	for i := range n {
		x := seed + i
		rs = append(rs, []client.Record{
			{Value: fmt.Appendf(nil, "value %d", x), TimestampMillis: int64(1_700_000_000_000 + x)},
			{Key: []byte{}, Value: []byte{}, TimestampMillis: 0},
			{Key: fmt.Appendf(nil, "key %d", x), TimestampMillis: -5},
			{Key: []byte{0, 0xff, byte(x)}, Value: []byte("\x00\n"), TimestampMillis: 1 << 60, Headers: []client.Header{{Key: "h", Value: nil}, {Key: "", Value: []byte{}}, {Key: "h", Value: []byte("x")}}},
			{Value: []byte(strings.Repeat("long ", x%1000)), TimestampMillis: int64(x)},
		}[x%5])
	}
	return rs
}

// append stores batches of these sizes in a partition, each as it is.
func (r *rig) append(topic string, partition int, sizes ...int) {
	r.Helper()
	p, err := r.client.NewProducer(r.ctx(), topic, client.ProducerConfig{})
	r.must(err)
	for i, n := range sizes {
		b, err := recordbatch.Encode(nil, recordbatch.None, someRecords(n, 100*i))
		r.must(err)
		_, err = p.AppendBatch(r.ctx(), partition, b)
		r.must(err)
	}
	r.must(p.Close(r.ctx()))
}

// filled is a rig with two topics: "a", three partitions of which one is empty, and "b", with one.
func filled(t *testing.T) *rig {
	r := newRig(t)
	r.cluster.CreateTopic("a", 3)
	r.cluster.CreateTopic("b", 1)
	r.append("a", 0, 1, 1, 1, 7, 1, 300, 2)
	r.append("a", 2, 40)
	r.append("b", 0, 5, 5, 5)
	return r
}

func (r *rig) backup(dir string, topics ...string) *Result {
	r.Helper()
	res, err := Backup(r.ctx(), r.client, Options{Dir: dir, Topics: topics, Timeout: 10 * time.Second})
	r.must(err)
	return res
}

func (r *rig) add(dir string) (*Result, error) {
	r.Helper()
	return Backup(r.ctx(), r.client, Options{Dir: dir, Incremental: true, Timeout: 10 * time.Second})
}

func (r *rig) restore(dir string) []Restored {
	r.Helper()
	restored, err := Restore(r.ctx(), r.client, RestoreOptions{Dir: dir, Timeout: 10 * time.Second})
	r.must(err)
	return restored
}

// verified wants a backup without a fault.
func verified(t *testing.T, dir string) *Manifest {
	t.Helper()
	m, problems, err := Verify(t.Context(), dir, nil)
	if err != nil || len(problems) > 0 {
		t.Fatalf("%v, %v", problems, err)
	}
	return m
}

func (r *rig) records(topic string, partition int) []recordbatch.Record {
	r.Helper()
	rs, err := r.cluster.Records(topic, partition)
	r.must(err)
	return rs
}

// wantSame wants a partition to hold what another one does, to the offset.
func (r *rig) wantSame(topic string, partition int, as *rig, name string) {
	r.Helper()
	got, want := r.records(topic, partition), as.records(name, partition)
	if len(want) == 0 && len(got) == 0 {
		return
	}
	if !reflect.DeepEqual(got, want) {
		for i := range min(len(got), len(want)) {
			if !reflect.DeepEqual(got[i], want[i]) {
				r.Fatalf("%s/%d: record %d is %+v, want %+v", topic, partition, i, got[i], want[i])
			}
		}
		r.Fatalf("%s/%d has %d records, want %d", topic, partition, len(got), len(want))
	}
}

func wantError(t *testing.T, err, want error, says ...string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("the error is %v, want %v", err, want)
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("the error does not say %q: %v", s, err)
		}
	}
}

// fresh is the name of a folder that is not there.
func fresh(t *testing.T) string { return filepath.Join(t.TempDir(), "backup") }

func wantGone(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: %v, it should not be there", path, err)
	}
}

// tree is every file below a folder, with what is in it.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		files[strings.TrimPrefix(path, dir)] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
