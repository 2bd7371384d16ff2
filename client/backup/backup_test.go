package backup

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/multiraftd/multiraftd/client"
	"github.com/multiraftd/multiraftd/client/clienttest"
)

func TestABackupHoldsTheBatchesAsTheyAreStored(t *testing.T) {
	r := filled(t)
	dir := fresh(t)
	res := r.backup(dir)
	m := verified(t, dir)
	if len(m.Topics) != 2 || m.Topics[0].Records() != 353 || m.Topics[1].Records() != 15 || res.Added[1].Records != 353 || res.Added[1].Bytes != m.Topics[0].Bytes() {
		t.Fatalf("%+v, added %+v", m.Topics, res.Added)
	}
	reader, err := r.client.NewReader(r.ctx(), "a", client.ReadConfig{})
	r.must(err)
	defer reader.Close()
	var want []byte
	for {
		b, err := reader.NextBatch(r.ctx())
		if errors.Is(err, io.EOF) {
			break
		}
		r.must(err)
		want = append(want, b...)
	}
	got, err := os.ReadFile(filepath.Join(dir, "topic-1/00000-00000000000000000000.batches"))
	r.must(err)
	if !bytes.Equal(got, want) {
		t.Errorf("the segment has %d bytes, the partition %d", len(got), len(want))
	}
	for name, mode := range map[string]os.FileMode{"": os.ModeDir | 0o700, "topic-1": os.ModeDir | 0o700, manifestName: 0o600} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode() != mode {
			t.Errorf("%q: %v, %v", name, st, err)
		}
	}
}

func TestOnlyTheTopicsAskedForAreCopied(t *testing.T) {
	r := filled(t)
	dir := fresh(t)
	r.backup(dir, "b", "b")
	if m := verified(t, dir); len(m.Topics) != 1 || m.Topics[0].Name != "b" || m.Topics[0].ID != 2 {
		t.Errorf("%+v", m.Topics)
	}
	_, err := Backup(r.ctx(), r.client, Options{Dir: dir + "2", Topics: []string{"b", "c"}})
	if err == nil || !strings.Contains(err.Error(), "topic c is not in the cluster") {
		t.Errorf("an unknown topic: %v", err)
	}
	wantGone(t, dir+"2")
}

func TestABackupGoesOnThroughBrokenStreamsAndLeadersThatMove(t *testing.T) {
	r := filled(t)
	calls, broken := 0, 0
	r.cluster.SetFault(func(c clienttest.Call) clienttest.Fault {
		if calls++; c.Read && calls%3 == 0 && broken < 20 {
			broken++
			return []clienttest.Fault{clienttest.BreakBefore, clienttest.NoLeader}[broken%2]
		}
		return clienttest.None
	})
	dir := fresh(t)
	r.backup(dir)
	if broken == 0 {
		t.Fatal("nothing broke")
	}
	verified(t, dir)
	to := newRig(t)
	to.restore(dir)
	to.wantSame("a", 0, r, "a")
	to.wantSame("b", 0, r, "b")
}

func TestAFolderWithSomethingInItIsRefused(t *testing.T) {
	r := filled(t)
	for name, prepare := range map[string]func(dir string){
		"holds a backup of":    func(dir string) { r.backup(dir) },
		"is no backup, or one": func(dir string) { r.must(os.WriteFile(filepath.Join(dir, "letter"), nil, 0o600)) },
		"is damaged":           func(dir string) { r.must(os.WriteFile(filepath.Join(dir, manifestName), nil, 0o600)) },
	} {
		dir := t.TempDir()
		prepare(dir)
		before := tree(t, dir)
		_, err := Backup(r.ctx(), r.client, Options{Dir: dir})
		wantError(t, err, ErrNotEmpty, name)
		if !reflect.DeepEqual(before, tree(t, dir)) {
			t.Errorf("%s: it was changed", name)
		}
	}
	_, err := Backup(r.ctx(), r.client, Options{Dir: filepath.Join(t.TempDir(), "no", "backup")})
	wantError(t, err, os.ErrNotExist)
}

// An empty folder may be the root of a disk of its own.
func TestAnEmptyFolderIsTakenAndStays(t *testing.T) {
	r := filled(t)
	dir := t.TempDir()
	r.must(os.Mkdir(filepath.Join(dir, lostAndFound), 0o700))
	r.backup(dir)
	verified(t, dir)
	dir = t.TempDir()
	_, err := Backup(r.ctx(), r.client, Options{Dir: dir, Topics: []string{"c"}})
	if err == nil || len(tree(t, dir)) != 0 {
		t.Errorf("%v, %v", err, tree(t, dir))
	}
	if _, err := os.Stat(dir); err != nil {
		t.Error(err)
	}
}

func TestTwoBackupsAtOnceDoNotShareAFolder(t *testing.T) {
	r := filled(t)
	dir := fresh(t)
	f, _, err := openFolder(dir, false, &Progress{})
	r.must(err)
	_, err = r.add(dir)
	wantError(t, err, errBusy)
	r.must(f.close())
	_, err = r.add(dir)
	r.must(err)
	verified(t, dir)
}

func TestAnInterruptedBackupLeavesNothing(t *testing.T) {
	r := filled(t)
	dir := fresh(t)
	ctx, cancel := context.WithCancelCause(r.ctx())
	why := errors.New("interrupt signal received")
	reads := 0
	r.cluster.SetFault(func(c clienttest.Call) clienttest.Fault {
		if c.Read {
			if reads++; reads == 4 {
				cancel(why)
			}
		}
		return clienttest.None
	})
	_, err := Backup(ctx, r.client, Options{Dir: dir, Timeout: 10 * time.Second})
	wantError(t, err, why, dir+" is as it was before")
	wantGone(t, dir)
}

func TestAClusterThatDoesNotAnswerEndsABackupAfterTheTimeout(t *testing.T) {
	r := filled(t)
	dir := fresh(t)
	r.cluster.SetFault(func(c clienttest.Call) clienttest.Fault { return clienttest.NoLeader })
	_, err := Backup(r.ctx(), r.client, Options{Dir: dir, Timeout: 50 * time.Millisecond})
	if !errors.Is(err, client.NoLeader) && !errors.Is(err, ErrStalled) {
		t.Errorf("%v", err)
	}
	wantGone(t, dir)
}

func TestTheWatchdogEndsWhatHangsButNotASlowDisk(t *testing.T) {
	var p Progress
	ctx, stop := p.watch(t.Context(), time.Millisecond)
	defer stop()
	<-ctx.Done()
	wantError(t, context.Cause(ctx), ErrStalled)

	slow, stopSlow := p.watch(t.Context(), time.Millisecond)
	err := p.onDisk(func() error {
		again, stop := (&Progress{}).watch(t.Context(), 20*time.Millisecond)
		defer stop()
		<-again.Done() // forty times as long as the other one waits
		return slow.Err()
	})
	stopSlow()
	if err != nil {
		t.Errorf("a slow disk: %v", err)
	}
}

// chase lets retention overtake the reader of a partition with batches of a megabyte: when one has been read, the stream
// breaks, and by the time it could go on, the next one has gone. It does so a number of times.
func chase(r *rig, times int) {
	r.cluster.CreateTopic("a", 1)
	p, err := r.client.NewProducer(r.ctx(), "a", client.ProducerConfig{BatchBytes: 1})
	r.must(err)
	const batches = 16
	for range batches {
		_, err := p.Append(r.ctx(), 0, client.Record{Value: make([]byte, 1<<20)})
		r.must(err)
	}
	r.must(p.Close(r.ctx()))
	var gone sync.WaitGroup
	var truncated atomic.Bool
	r.Cleanup(gone.Wait)
	chunks, pending := 0, false
	r.cluster.SetFault(func(c clienttest.Call) clienttest.Fault {
		switch chunks++; {
		case pending && !truncated.Load():
			return clienttest.NoLeader
		case pending: // the stream that finds its next offset gone
			chunks, pending = 0, false
		case chunks == 3 && times > 0: // the stream was opened, and one chunk sent
			times, chunks = times-1, 0
			pending = true
			truncated.Store(false)
			gone.Go(func() {
				r.cluster.Truncate("a", 0)
				r.cluster.Truncate("a", 0)
				truncated.Store(true)
			})
			return clienttest.BreakBefore
		}
		return clienttest.None
	})
}

func TestRetentionDuringABackupBeginsThePartitionAnew(t *testing.T) {
	r := newRig(t)
	chase(r, 2)
	dir := fresh(t)
	r.backup(dir)
	m := verified(t, dir)
	if p := m.Topics[0].Partitions[0]; p.Start != 4 || p.End != 16 || len(p.Segments) != 1 {
		t.Errorf("%+v", p)
	}
	if n := len(tree(t, dir)); n != 2 {
		t.Errorf("%d files: what the first tries wrote is still there", n)
	}
}

func TestRetentionThatIsFasterThanTheBackupIsSaid(t *testing.T) {
	r := newRig(t)
	chase(r, copyTriesMax)
	dir := fresh(t)
	_, err := Backup(r.ctx(), r.client, Options{Dir: dir, Timeout: 10 * time.Second})
	wantError(t, err, ErrRetired, "a/0", "5 times")
	wantGone(t, dir)
}
