package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/multiraftd/multiraftd/proto/recordbatch"
)

// victim is a backup to be damaged.
type victim struct {
	*testing.T
	dir string
}

func newVictim(t *testing.T, r *rig) *victim {
	v := &victim{t, fresh(t)}
	r.backup(v.dir)
	return v
}

func (v *victim) path(name string) string { return filepath.Join(v.dir, name) }

func (v *victim) must(err error) {
	v.Helper()
	if err != nil {
		v.Fatal(err)
	}
}

// segment changes the segment of a/0.
func (v *victim) segment(change func(b []byte) []byte) {
	v.Helper()
	b, err := os.ReadFile(v.path(segmentA0))
	v.must(err)
	v.must(os.WriteFile(v.path(segmentA0), change(b), 0o600))
}

// sealed changes the segment of a/0, and makes the manifest agree with it: only what is inside can show it.
func (v *victim) sealed(change func(b []byte) []byte) {
	v.Helper()
	v.segment(change)
	b, err := os.ReadFile(v.path(segmentA0))
	v.must(err)
	v.manifest(func(m *Manifest) {
		sum := sha256.Sum256(b)
		s := &m.Topics[0].Partitions[0].Segments[0]
		s.Bytes, s.SHA256 = int64(len(b)), hex.EncodeToString(sum[:])
	})
}

// manifest changes the manifest, and makes its checksum right.
func (v *victim) manifest(change func(m *Manifest)) {
	v.Helper()
	m, err := Load(v.dir)
	v.must(err)
	change(m)
	b, err := m.encode()
	v.must(err)
	v.must(os.WriteFile(v.path(manifestName), b, 0o600))
}

// raw changes the bytes of the manifest.
func (v *victim) raw(change func(b []byte) []byte) {
	v.Helper()
	b, err := os.ReadFile(v.path(manifestName))
	v.must(err)
	v.must(os.WriteFile(v.path(manifestName), change(b), 0o600))
}

const (
	segmentA0 = "topic-1/00000-00000000000000000000.batches"
	segmentB0 = "topic-2/00000-00000000000000000000.batches"
)

func flip(at int) func(b []byte) []byte {
	return func(b []byte) []byte { b[at] ^= 1; return b }
}

func cut(n int) func(b []byte) []byte { return func(b []byte) []byte { return b[:len(b)-n] } }

// reseal makes the checksum of the first batch right.
func reseal(b []byte) []byte {
	size := 12 + int(binary.BigEndian.Uint32(b[8:]))
	info, err := recordbatch.ParseHeader(b[:size])
	if err == nil {
		recordbatch.SetProducer(b[:size], recordbatch.Producer{ID: info.ProducerID, Epoch: info.Epoch, Sequence: info.BaseSequence})
	}
	return b
}

// fileDamages are what segments may have suffered, and what is said of it. Spaces at the end tell keys apart.
func fileDamages(t *testing.T) map[string]func(v *victim) {
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	return map[string]func(v *victim){
		segmentA0 + ": the file is missing": func(v *victim) { v.must(os.Remove(v.path(segmentA0))) },
		segmentA0 + ": it has ":             func(v *victim) { v.segment(cut(1)) },
		"bytes, the manifest says 203288":   func(v *victim) { v.segment(func(b []byte) []byte { return append(b, 0) }) },
		"at byte 0: a batch of ":            func(v *victim) { v.segment(flip(8)) },
		"records from offset 1":             func(v *victim) { v.segment(flip(7)) },
		"record batch: malformed: magic":    func(v *victim) { v.segment(flip(16)) },
		"record batch: checksum":            func(v *victim) { v.segment(flip(17)) },
		"offset 0: record batch: checksum":  func(v *victim) { v.segment(flip(62)) },
		"its sha256 is ":                    func(v *victim) { v.segment(flip(12)) }, // the leader epoch: only the manifest covers it
		"it is no plain file":               func(v *victim) { v.must(os.Remove(v.path(segmentA0))); v.must(os.Mkdir(v.path(segmentA0), 0o700)) },
		"no plain file ":                    func(v *victim) { v.must(os.Remove(v.path(segmentA0))); v.must(os.Symlink(outside, v.path(segmentA0))) },
		"plain file ": func(v *victim) {
			v.must(os.Remove(v.path(segmentA0)))
			v.must(syscall.Mkfifo(v.path(segmentA0), 0o600))
		},
		"manifest says ": func(v *victim) { v.segment(func([]byte) []byte { return []byte(tree(v.T, v.dir)["/"+segmentB0]) }) },
		// The manifest agrees, so it was no accident.
		"at byte 0: a batch of 2147483659":   func(v *victim) { v.sealed(put32(8, 1<<31-1)) },
		"at byte 0: a batch of -2147483636":  func(v *victim) { v.sealed(put32(8, 1<<31)) },
		"at byte 0: a batch of 12 bytes":     func(v *victim) { v.sealed(put32(8, 0)) },
		"at byte 0: 5 bytes are no batch":    func(v *victim) { v.sealed(func(b []byte) []byte { return b[:5] }) },
		"malformed: record count":            func(v *victim) { v.sealed(put32(57, 1<<31-1)) },
		"malformed: attributes":              func(v *victim) { v.sealed(flip(21)) },
		"malformed: producer id":             func(v *victim) { v.sealed(put32(43, 1<<31)) },
		"malformed: records: record 0 does":  func(v *victim) { v.sealed(func(b []byte) []byte { b[61] = 0; return reseal(b) }) },
		"0: 1 records from offset 512 where": func(v *victim) { v.sealed(func(b []byte) []byte { b[6] = 2; return b }) },
	}
}

// manifestDamages are what the manifest may have suffered.
func manifestDamages() map[string]func(v *victim) {
	return map[string]func(v *victim){
		manifestName + ": its checksum":       func(v *victim) { v.raw(replace(`"replicas": 3`, `"replicas": 1`)) },
		manifestName + ": its checksum does":  func(v *victim) { v.raw(replace(`"checksum": "`, `"checksum": "0`)) },
		manifestName + ": it is not in":       func(v *victim) { v.raw(replace(`"version": 1`, `"version":  1`)) },
		manifestName + ": it is not in the ":  func(v *victim) { v.raw(replace(`"format"`, `"FORMAT"`)) },
		manifestName + ": it is not in the f": func(v *victim) { v.raw(replace(`"format"`, `"more": 1, "format"`)) },
		manifestName + ": unexpected end":     func(v *victim) { v.raw(cut(100)) },
		manifestName + ": unexpected end of":  func(v *victim) { v.raw(func([]byte) []byte { return nil }) },
		manifestName + ": format":             func(v *victim) { v.manifest(func(m *Manifest) { m.Format = "tar" }) },
		`backup_id ""`:                        func(v *victim) { v.manifest(func(m *Manifest) { m.ID = "" }) },
		`cluster_id ""`:                       func(v *victim) { v.manifest(func(m *Manifest) { m.Cluster = "" }) },
		`"../../etc" is no name`:              func(v *victim) { v.manifest(func(m *Manifest) { m.Topics[0].Name = "../../etc" }) },
		`".." is no name`:                     func(v *victim) { v.manifest(func(m *Manifest) { m.Topics[0].Name = ".." }) },
		"topic b is there twice":              func(v *victim) { v.manifest(func(m *Manifest) { m.Topics[0].Name = "b" }) },
		"topic id 1 follows 1":                func(v *victim) { v.manifest(func(m *Manifest) { m.Topics[1].ID = 1 }) },
		"topic id 0 follows 0":                func(v *victim) { v.manifest(func(m *Manifest) { m.Topics[0].ID = 0 }) },
		"has 0 partitions":                    func(v *victim) { v.manifest(func(m *Manifest) { m.Topics[0].Partitions = nil }) },
		"has 1001 partitions":                 func(v *victim) { v.manifest(func(m *Manifest) { m.Topics[0].Partitions = make([]Partition, 1001) }) },
		"has no replicas":                     func(v *victim) { v.manifest(func(m *Manifest) { m.Topics[0].Replicas = 0 }) },
		"has a negative retention":            func(v *victim) { v.manifest(func(m *Manifest) { m.Topics[0].RetentionBytes = -1 }) },
		"partition 2 in the place of 1":       func(v *victim) { v.manifest(func(m *Manifest) { m.Topics[0].Partitions[1].Partition = 2 }) },
		"offsets -1 to -1": func(v *victim) {
			v.manifest(func(m *Manifest) { m.Topics[0].Partitions[1] = Partition{1, -1, -1, []Segment{}} })
		},
		"offsets 0 to 999, its segments":   func(v *victim) { v.manifest(func(m *Manifest) { m.Topics[0].Partitions[0].End = 999 }) },
		"0 to 0 where 0 is next":           func(v *victim) { v.manifest(func(m *Manifest) { a0(m).End = 0 }) },
		"5 to 313 where 0 is next":         func(v *victim) { v.manifest(func(m *Manifest) { a0(m).Start = 5 }) },
		`"../../../etc/passwd" is not the`: func(v *victim) { v.manifest(func(m *Manifest) { a0(m).File = "../../../etc/passwd" }) },
		`"/etc/passwd" is not the name`:    func(v *victim) { v.manifest(func(m *Manifest) { a0(m).File = "/etc/passwd" }) },
		"has 0 bytes":                      func(v *victim) { v.manifest(func(m *Manifest) { a0(m).Bytes = 0 }) },
		`sha256 "x"`:                       func(v *victim) { v.manifest(func(m *Manifest) { a0(m).SHA256 = "x" }) },
		"the manifest says 9223372036854775807": func(v *victim) {
			v.manifest(func(m *Manifest) { a0(m).Bytes = 1<<63 - 1 })
		},
		"ends at offset 313, the manifest": func(v *victim) {
			v.manifest(func(m *Manifest) { a0(m).End, m.Topics[0].Partitions[0].End = 999, 999 })
		},
		"where 311 to 311 must be": func(v *victim) {
			v.manifest(func(m *Manifest) { a0(m).End, m.Topics[0].Partitions[0].End = 312, 312 })
		},
	}
}

func a0(m *Manifest) *Segment { return &m.Topics[0].Partitions[0].Segments[0] }

func put32(at int, n uint32) func(b []byte) []byte {
	return func(b []byte) []byte { binary.BigEndian.PutUint32(b[at:], n); return b }
}

func replace(old, with string) func(b []byte) []byte {
	return func(b []byte) []byte { return bytes.Replace(b, []byte(old), []byte(with), 1) }
}

func TestADamagedBackupIsFoundAndNotRestored(t *testing.T) {
	from, to := filled(t), newRig(t)
	damages := fileDamages(t)
	maps.Copy(damages, manifestDamages())
	for says, damage := range damages {
		t.Run(says, func(t *testing.T) {
			v := newVictim(t, from)
			damage(v)
			_, problems, err := Verify(t.Context(), v.dir, nil)
			if err == nil && len(problems) == 1 {
				err = problems[0]
			} else if len(problems) > 0 {
				t.Fatalf("%d problems, %v: %v", len(problems), err, problems)
			}
			wantError(t, err, ErrDamaged, strings.TrimSpace(says))
			_, err = Restore(to.ctx(), to.client, RestoreOptions{Dir: v.dir})
			wantError(t, err, ErrDamaged, strings.TrimSpace(says))
		})
	}
	topics, err := to.client.ListTopics(to.ctx())
	if err != nil || len(topics) > 0 {
		t.Errorf("%d topics were created, %v", len(topics), err)
	}
}

func TestEveryDamagedFileIsListed(t *testing.T) {
	v := newVictim(t, filled(t))
	v.segment(flip(100))
	v.must(os.Remove(v.path(segmentB0)))
	_, problems, err := Verify(t.Context(), v.dir, nil)
	if err != nil || len(problems) != 2 {
		t.Errorf("%v, %v", problems, err)
	}
}

// Any bit of a segment that is not as it was is noticed; the manifest is sealed by its own checksum.
func TestEveryFlippedBitIsNoticed(t *testing.T) {
	r := newRig(t)
	r.cluster.CreateTopic("a", 1)
	r.append("a", 0, 3, 2)
	v := newVictim(t, r)
	for _, name := range []string{segmentA0, manifestName} {
		whole, err := os.ReadFile(v.path(name))
		v.must(err)
		for i := range whole {
			changed := bytes.Clone(whole)
			changed[i] ^= 1 << (i % 8)
			v.must(os.WriteFile(v.path(name), changed, 0o600))
			if _, problems, err := Verify(t.Context(), v.dir, nil); err == nil && len(problems) == 0 {
				t.Errorf("%s: a flipped bit of byte %d passes", name, i)
			}
		}
		v.must(os.WriteFile(v.path(name), whole, 0o600))
	}
	verified(t, v.dir)
}

func TestWhatIsNoBackupIsSaidToBeNone(t *testing.T) {
	r := filled(t)
	dir := fresh(t)
	r.backup(dir)
	r.must(os.Rename(filepath.Join(dir, manifestName), filepath.Join(dir, partialName)))
	_, _, err := Verify(t.Context(), dir, nil)
	wantError(t, err, ErrNoManifest)
	_, err = Restore(r.ctx(), r.client, RestoreOptions{Dir: dir})
	wantError(t, err, ErrNoManifest)
	_, err = Load(dir + "no")
	wantError(t, err, os.ErrNotExist)
}

func TestANewerFormatIsNamed(t *testing.T) {
	v := newVictim(t, filled(t))
	v.manifest(func(m *Manifest) { m.Version = 7 })
	_, err := Load(v.dir)
	wantError(t, err, ErrNewer, "version 7")
}

// A topic's folder, or the manifest, may be a link to somewhere else.
func TestLinksOutOfTheFolderAreNotFollowed(t *testing.T) {
	r := filled(t)
	v, other := newVictim(t, r), newVictim(t, r)
	v.must(os.RemoveAll(v.path("topic-1")))
	v.must(os.Symlink(other.path("topic-1"), v.path("topic-1")))
	_, problems, err := Verify(t.Context(), v.dir, nil)
	if err == nil && len(problems) == 0 || err != nil && !strings.Contains(err.Error(), "escapes") {
		t.Errorf("%v, %v", problems, err)
	}
	v.must(os.Remove(v.path(manifestName)))
	v.must(os.Symlink(other.path(manifestName), v.path(manifestName)))
	_, err = Load(v.dir)
	wantError(t, err, ErrDamaged, "no plain file")
	// Neither is anything written through them.
	v.must(os.Remove(v.path(manifestName)))
	v.must(os.WriteFile(v.path(manifestName), []byte(tree(t, other.dir)["/"+manifestName]), 0o600))
	before := tree(t, other.dir)
	r.append("a", 0, 3)
	if _, err := r.add(v.dir); err == nil {
		t.Error("an increment went through a link")
	}
	if now := tree(t, other.dir); fmt.Sprint(now) != fmt.Sprint(before) {
		t.Error("what the link leads to was changed")
	}
}

func TestAManifestOfManyEmptyObjectsIsRefusedBeforeItIsDecoded(t *testing.T) {
	b := []byte(`{"format":"multiraftd-backup","version":1,"topics":[` + strings.Repeat("{},", 1<<20) + "{}]}")
	_, err := decodeManifest(b)
	wantError(t, err, ErrDamaged, "objects in")
	_, err = decodeManifest(make([]byte, manifestBytesMax+1))
	wantError(t, err, ErrDamaged, "more than")
	var empty Manifest
	if smallest, err := json.MarshalIndent(Topic{Partitions: []Partition{{Segments: []Segment{{}}}}}, "", " "); err != nil || len(smallest) < 3*objectBytesMin {
		t.Errorf("three objects take %d bytes, %v", len(smallest), err)
	}
	if _, err := empty.encode(); err != nil {
		t.Error(err)
	}
}
