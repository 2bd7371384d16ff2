package backup

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/multiraftd/multiraftd/client"
	"github.com/multiraftd/multiraftd/client/clienttest"
)

func TestAnIncrementAddsWhatIsNewAndNothingElse(t *testing.T) {
	r := filled(t)
	dir := fresh(t)
	_, err := r.add(dir) // into nothing, it makes the first one
	r.must(err)
	first := verified(t, dir)
	old := tree(t, dir)
	r.append("a", 0, 4)
	r.append("a", 1, 2)
	r.cluster.CreateTopic("c", 1)
	r.append("c", 0, 9)
	r.cluster.Truncate("a", 0) // what the backup has, it keeps
	res, err := r.add(dir)
	r.must(err)
	if res.Added[1].Records != 6 || res.Added[2].Records != 0 || res.Added[3].Records != 9 || len(res.Notes) > 0 {
		t.Errorf("%+v", res)
	}
	m := verified(t, dir)
	if m.ID != first.ID || len(m.Topics) != 3 || m.Topics[0].Partitions[0].Start != 0 || m.Topics[0].Partitions[0].End != 317 {
		t.Errorf("%+v", m)
	}
	now := tree(t, dir)
	for name, content := range old {
		if name != "/"+manifestName && now[name] != content {
			t.Errorf("%s was changed", name)
		}
	}
	if len(now) != len(old)+3 {
		t.Errorf("%d files, before there were %d", len(now), len(old))
	}
	to := newRig(t)
	to.restore(dir)
	to.wantSame("a", 1, r, "a")
	to.wantSame("c", 0, r, "c")
	if n := len(to.records("a", 0)); n != 317 {
		t.Errorf("%d records", n)
	}
}

func TestAnIncrementThatFailsLeavesTheOldBackup(t *testing.T) {
	r := filled(t)
	dir := fresh(t)
	r.backup(dir)
	before := tree(t, dir)
	r.append("a", 0, 4)
	r.append("a", 1, 4)
	reads := 0
	r.cluster.SetFault(func(c clienttest.Call) clienttest.Fault {
		if c.Read && c.Partition == 2 {
			if reads++; reads == 1 {
				go r.cluster.DeleteTopic("a") // ends every reader
			}
			return clienttest.NoLeader
		}
		return clienttest.None
	})
	_, err := r.add(dir)
	wantError(t, err, client.UnknownTopic)
	if now := tree(t, dir); !reflect.DeepEqual(before, now) {
		t.Errorf("%d files became %d", len(before), len(now))
	}
	verified(t, dir)
}

func TestWhatAKilledIncrementLeftBehindIsWrittenOver(t *testing.T) {
	r := filled(t)
	dir := fresh(t)
	r.backup(dir)
	r.append("b", 0, 4)
	for _, name := range []string{segmentName(2, 0, 15), partialName} {
		r.must(os.WriteFile(filepath.Join(dir, name), []byte(strings.Repeat("x", 10000)), 0o600))
	}
	verified(t, dir) // it is no part of the backup
	_, err := r.add(dir)
	r.must(err)
	if m := verified(t, dir); m.Topics[1].Partitions[0].End != 19 {
		t.Errorf("%+v", m.Topics[1])
	}
	wantGone(t, filepath.Join(dir, partialName))
}

func TestAnIncrementIsRefusedWhereItWouldNotFit(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(r *rig, dir string)
		want   error
		says   string
	}{
		"another cluster": {func(r *rig, _ string) { r.cluster.SetID("another") }, ErrOtherCluster, "this one is another"},
		"records that are gone": {func(r *rig, _ string) {
			r.append("b", 0, 1, 1)
			for range 4 {
				r.cluster.Truncate("b", 0)
			}
		}, ErrRetired, "b/0"},
		"a topic made anew": {func(r *rig, _ string) { r.cluster.DeleteTopic("b"); r.cluster.CreateTopic("b", 1) }, nil, "topic b was deleted and created again"},
		"no backup":         {func(r *rig, dir string) { r.must(os.Remove(filepath.Join(dir, manifestName))) }, ErrNoManifest, ""},
		"a damaged one":     {func(r *rig, dir string) { r.must(os.Truncate(filepath.Join(dir, manifestName), 100)) }, ErrDamaged, manifestName},
	} {
		t.Run(name, func(t *testing.T) {
			r := filled(t)
			dir := fresh(t)
			r.backup(dir)
			tt.change(r, dir)
			before := tree(t, dir)
			_, err := r.add(dir)
			if tt.want == nil {
				tt.want = err
			}
			wantError(t, err, tt.want, tt.says)
			if err == nil || !reflect.DeepEqual(before, tree(t, dir)) {
				t.Errorf("%v, and the folder was changed", err)
			}
		})
	}
}

func TestATopicThatIsGoneStaysInTheBackup(t *testing.T) {
	r := filled(t)
	dir := fresh(t)
	r.backup(dir)
	r.cluster.DeleteTopic("a")
	res, err := r.add(dir)
	r.must(err)
	if len(res.Notes) != 1 || !strings.Contains(res.Notes[0], "no longer in the cluster, what the backup has of it stays: a") {
		t.Errorf("%q", res.Notes)
	}
	if m := verified(t, dir); len(m.Topics) != 2 || m.Topics[0].Records() != 353 {
		t.Errorf("%+v", m.Topics)
	}
}
