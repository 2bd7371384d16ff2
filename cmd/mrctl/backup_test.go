package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/multiraftd/multiraftd/client/backup"
	"github.com/multiraftd/multiraftd/client/clienttest"
)

// backedUp is a cluster with topics "a" and "b", and a backup of it.
func backedUp(t *testing.T) (*ctl, string) {
	c := start(t, 3)
	c.must("", "topic", "create", "a", "--partitions", "2", "--replicas", "3", "--retention", "168h")
	c.cluster.CreateTopic("b", 1)
	c.must(numbers(500), "append", "a", "--key-separator", "7")
	dir := filepath.Join(t.TempDir(), "backup")
	c.must("", "backup", dir)
	return c, dir
}

func TestABackupIsMadeShownCheckedAndRestored(t *testing.T) {
	c, dir := backedUp(t)
	to := start(t, 1)
	for columns, args := range map[string][]string{
		"TOPIC PARTITIONS RECORDS BYTES STATUS a 2 500":                                          {"backup", "verify", dir},
		"TOPIC PARTITION START-OFFSET END-OFFSET BYTES REPLICAS RETENTION RETENTION-BYTES a 0 0": {"backup", "show", dir},
		"b 0 0 0 0 3 unlimited unlimited":                                                        {"backup", "show", dir},
		"CLUSTER 6f1b0a52-6f0d-4d5e-9d6c-000000000001 BACKUP ":                                   {"backup", "show", dir},
		"TOPIC RESTORED-AS PARTITIONS RECORDS WERE-THERE a a 2 500 0 b b 1 0 0":                  {"restore", dir, "--replicas", "1"},
	} {
		if out := strings.Join(strings.Fields(to.must("", args...)), " "); !strings.Contains(out, columns) {
			t.Errorf("mrctl %v: %s", args, out)
		}
	}
	for _, p := range []string{"0", "1"} {
		args := []string{"read", "a", "--partition", p, "--print", "json"}
		if want, got := c.must("", args...), to.must("", args...); want != got || want == "" {
			t.Errorf("partition %s: %d bytes came back as %d", p, len(want), len(got))
		}
	}
	if out := to.must("", "restore", dir, "--topic", "a", "--as", "c", "--replicas", "1", "-o", "json"); out != `[{"topic":"a","as":"c","id":3,"partitions":2,"records":500,"were_there":0,"renumbered":[]}]`+"\n" {
		t.Error(out)
	}
}

func TestBackupsAsJSON(t *testing.T) {
	c, dir := backedUp(t)
	c.must("x\n", "append", "b")
	var made struct {
		Cluster string `json:"cluster_id"`
		Topics  []struct {
			Name       string
			Records    int64
			NewRecords int64 `json:"new_records"`
		}
		Notes []string
	}
	if err := json.Unmarshal([]byte(c.must("", "backup", dir, "--incremental", "-o", "json")), &made); err != nil || made.Cluster == "" || made.Notes == nil ||
		len(made.Topics) != 2 || made.Topics[0].Records != 500 || made.Topics[0].NewRecords != 0 || made.Topics[1].NewRecords != 1 {
		t.Errorf("%+v, %v", made, err)
	}
	if out := c.must("", "backup", "verify", dir, "-o", "json"); !strings.HasPrefix(out, `{"ok":true,"problems":[],"dir":`) {
		t.Error(out)
	}
	var shown backup.Manifest
	if err := json.Unmarshal([]byte(c.must("", "backup", "show", dir, "-o", "json")), &shown); err != nil || len(shown.Topics) != 2 || len(shown.Topics[0].Partitions) != 2 {
		t.Errorf("%+v, %v", shown, err)
	}
	segments, err := filepath.Glob(filepath.Join(dir, "topic-*", "*"))
	if err != nil || len(segments) == 0 {
		t.Fatal(err)
	}
	if err := os.Truncate(segments[0], 10); err != nil {
		t.Fatal(err)
	}
	r := c.run(nil, "backup", "verify", dir, "-o", "json")
	if r.code != exitFailed || !strings.HasPrefix(r.stdout, `{"ok":false,"problems":["the backup is damaged: topic-`) || !strings.Contains(r.stderr, "problems: 1") {
		t.Errorf("%+v", r)
	}
}

func TestBackupsSayWhatIsWrongWithTheirExitCodes(t *testing.T) {
	c, dir := backedUp(t)
	for _, tt := range []struct {
		want int
		says string
		args []string
	}{
		{exitUsage, "accepts 1 arg", []string{"backup"}},
		{exitUsage, "--as is a name for one topic", []string{"restore", dir, "--as", "x"}},
		{exitUsage, "--as must not be empty", []string{"restore", dir, "--topic", "a", "--as", ""}},
		{exitUsage, "--replicas must be at least 1", []string{"restore", dir, "--replicas", "0"}},
		{exitUsage, "--timeout must be positive", []string{"backup", "verify", dir, "--timeout", "0s"}},
		{exitFailed, "the folder is not empty", []string{"backup", dir}},
		{exitFailed, "topic c is not in the cluster", []string{"backup", dir + "2", "--topic", "c"}},
		{exitFailed, "TOPIC_EXISTS", []string{"restore", dir}},
		{exitFailed, "no such file", []string{"restore", dir + "2"}},
		{exitFailed, "no such file", []string{"backup", "verify", dir + "2"}},
		{exitFailed, "no manifest.json: this is no backup", []string{"backup", "show", t.TempDir()}},
		{exitUnreachable, "is as it was before", []string{"backup", dir + "2", "--timeout", "1s", "--addr", "127.0.0.1:1"}},
	} {
		r := c.run(nil, tt.args...)
		if r.code != tt.want || !strings.Contains(r.stderr, tt.says) || r.stdout != "" {
			t.Errorf("mrctl %v: %+v, want exit %d and %q", tt.args, r, tt.want, tt.says)
		}
	}
	if _, err := os.Stat(dir + "2"); err == nil {
		t.Error("a backup that failed left its folder")
	}
}

func TestAnInterruptEndsABackupAndARestore(t *testing.T) {
	c, dir := backedUp(t)
	to := start(t, 3)
	for name, tt := range map[string]struct {
		c    *ctl
		read bool
		says string
		args []string
	}{
		"backup":  {c, true, dir + "2 is as it was before", []string{"backup", dir + "2"}},
		"restore": {to, false, "The same command goes on; mrctl topic delete undoes it. In the cluster: a b", []string{"restore", dir}},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		writes := 0
		tt.c.cluster.SetFault(func(call clienttest.Call) clienttest.Fault {
			if !call.Read {
				writes++ // the first two create topics
			}
			if call.Read == tt.read && (tt.read || writes > 2) {
				cancel()
				return clienttest.NoLeader
			}
			return clienttest.None
		})
		var out, stderr bytes.Buffer
		args := append([]string{"--addr", strings.Join(tt.c.cluster.Addrs(), ",")}, tt.args...)
		if code := run(ctx, args, nil, &out, &stderr); code != exitFailed || !strings.Contains(stderr.String(), tt.says) || out.Len() > 0 {
			t.Errorf("%s: exit %d: %s%s", name, code, out.String(), stderr.String())
		}
		tt.c.cluster.SetFault(nil)
	}
	if _, err := os.Stat(dir + "2"); err == nil {
		t.Error("the backup left its folder")
	}
	to.must("", "restore", dir)
	if want, got := c.must("", "read", "a", "--print", "json"), to.must("", "read", "a", "--print", "json"); want != got {
		t.Errorf("%d bytes came back as %d", len(want), len(got))
	}
}
