package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"
)

const (
	manifestName     = "manifest.json"
	manifestBytesMax = 64 << 20
	// objectBytesMin is less than any object of a manifest takes. It bounds what decoding may allocate.
	objectBytesMin = 64

	formatName    = "multiraftd-backup"
	formatVersion = 1

	partitionsMax = 1000 // of a topic, as in the cluster
)

// Manifest says what is in a backup.
type Manifest struct {
	Format   string    `json:"format"`
	Version  int       `json:"version"`
	ID       string    `json:"backup_id"` // 32 hexadecimal digits; stays when the backup is added to
	Cluster  string    `json:"cluster_id"`
	Began    time.Time `json:"began"` // of the run that wrote this manifest
	Ended    time.Time `json:"ended"`
	Topics   []Topic   `json:"topics"`   // by id
	Checksum string    `json:"checksum"` // SHA-256 of the manifest with an empty checksum
}

// Topic is one topic, with its settings.
type Topic struct {
	Name            string      `json:"name"`
	ID              uint64      `json:"id"`
	Replicas        uint32      `json:"replicas"`
	RetentionMillis int64       `json:"retention_ms"`    // 0 = unlimited
	RetentionBytes  int64       `json:"retention_bytes"` // 0 = unlimited
	Partitions      []Partition `json:"partitions"`      // from 0, without a gap
}

// Partition is what was copied of one partition: [Start, End).
type Partition struct {
	Partition uint32    `json:"partition"`
	Start     int64     `json:"start_offset"`
	End       int64     `json:"end_offset"`
	Segments  []Segment `json:"segments"` // contiguous; none without records
}

// Segment is one file of record batches: [Start, End).
type Segment struct {
	// File is for people: it must be what SegmentName makes of the numbers, and is not used.
	File   string `json:"file"`
	Start  int64  `json:"start_offset"`
	End    int64  `json:"end_offset"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Records is how many records are there.
func (p *Partition) Records() int64 { return p.End - p.Start }

// Bytes is how large the segments are.
func (p *Partition) Bytes() (n int64) {
	for i := range p.Segments {
		n += p.Segments[i].Bytes
	}
	return n
}

// Records is how many records are there.
func (t *Topic) Records() (n int64) {
	for i := range t.Partitions {
		n += t.Partitions[i].Records()
	}
	return n
}

// Bytes is how large the segments are.
func (t *Topic) Bytes() (n int64) {
	for i := range t.Partitions {
		n += t.Partitions[i].Bytes()
	}
	return n
}

// topicDir and segmentName make names of numbers. A topic's own name may be too long for a file, or differ from
// another one's in case only.
func topicDir(topic uint64) string { return fmt.Sprintf("topic-%d", topic) }

func segmentName(topic uint64, partition uint32, start int64) string {
	return fmt.Sprintf("%s/%05d-%020d.batches", topicDir(topic), partition, start)
}

// encode sets the checksum and returns the file.
func (m *Manifest) encode() ([]byte, error) {
	m.Checksum = ""
	b, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return nil, fmt.Errorf("backup: manifest: %w", err)
	}
	sum := sha256.Sum256(b)
	m.Checksum = hex.EncodeToString(sum[:])
	if b, err = json.MarshalIndent(m, "", " "); err != nil {
		return nil, fmt.Errorf("backup: manifest: %w", err)
	}
	if b = append(b, '\n'); len(b) > manifestBytesMax {
		return nil, fmt.Errorf("backup: the manifest would have %d bytes, the limit is %d: choose fewer topics, or begin a new backup", len(b), manifestBytesMax)
	}
	return b, nil
}

// decodeManifest takes only what encode makes: with unknown or doubled fields, other spaces or another checksum, it
// has been changed by somebody.
func decodeManifest(b []byte) (*Manifest, error) {
	if len(b) > manifestBytesMax {
		return nil, damaged(manifestName, "more than %d bytes", manifestBytesMax)
	}
	if n := bytes.Count(b, []byte("{")); n > 1+len(b)/objectBytesMin {
		return nil, damaged(manifestName, "%d objects in %d bytes", n, len(b))
	}
	var version struct {
		Format  string `json:"format"`
		Version int    `json:"version"`
	}
	if err := json.Unmarshal(b, &version); err != nil {
		return nil, damaged(manifestName, "%v", err)
	}
	if version.Format == formatName && version.Version > formatVersion {
		return nil, fmt.Errorf("%w: version %d, this one knows version %d: use a newer mrctl", ErrNewer, version.Version, formatVersion)
	}
	var m Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, damaged(manifestName, "%v", err)
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	claimed := m.Checksum
	canonical, err := m.encode()
	if err != nil {
		return nil, damaged(manifestName, "%v", err)
	}
	if m.Checksum != claimed {
		return nil, damaged(manifestName, "its checksum does not match: it was changed")
	}
	if !bytes.Equal(canonical, b) {
		return nil, damaged(manifestName, "it is not in the form in which it was written")
	}
	return &m, nil
}

var (
	hexID       = regexp.MustCompile(`^[0-9a-f]{32}$`)
	hexSHA256   = regexp.MustCompile(`^[0-9a-f]{64}$`)
	clusterText = regexp.MustCompile(`^[0-9A-Za-z-]{1,64}$`)
	topicName   = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)
)

// validName says whether a cluster takes it as a topic's name.
func validName(name string) bool { return topicName.MatchString(name) && name != "." && name != ".." }

func (m *Manifest) check() error {
	switch {
	case m.Format != formatName || m.Version != formatVersion:
		return damaged(manifestName, "format %q version %d, want %q version %d", m.Format, m.Version, formatName, formatVersion)
	case !hexID.MatchString(m.ID):
		return damaged(manifestName, "backup_id %.80q is not 32 hexadecimal digits", m.ID)
	case !clusterText.MatchString(m.Cluster):
		return damaged(manifestName, "cluster_id %.80q is none", m.Cluster)
	}
	names, last := map[string]bool{}, uint64(0)
	for i := range m.Topics {
		t := &m.Topics[i]
		switch {
		case !validName(t.Name):
			return damaged(manifestName, "%.260q is no name of a topic", t.Name)
		case names[t.Name]:
			return damaged(manifestName, "topic %s is there twice", t.Name)
		case t.ID <= last:
			return damaged(manifestName, "topic id %d follows %d", t.ID, last)
		}
		names[t.Name], last = true, t.ID
		if err := t.check(); err != nil {
			return err
		}
	}
	return nil
}

func (t *Topic) check() error {
	switch n := len(t.Partitions); {
	case n < 1 || n > partitionsMax:
		return damaged(manifestName, "topic %s has %d partitions, 1 to %d are possible", t.Name, n, partitionsMax)
	case t.Replicas < 1:
		return damaged(manifestName, "topic %s has no replicas", t.Name)
	case t.RetentionMillis < 0 || t.RetentionBytes < 0:
		return damaged(manifestName, "topic %s has a negative retention", t.Name)
	}
	for i := range t.Partitions {
		if p := &t.Partitions[i]; int(p.Partition) != i {
			return damaged(manifestName, "topic %s has partition %d in the place of %d", t.Name, p.Partition, i)
		} else if err := p.check(t); err != nil {
			return err
		}
	}
	return nil
}

func (p *Partition) check(t *Topic) error {
	next := p.Start
	for i := range p.Segments {
		s := &p.Segments[i]
		if s.Start != next || s.End <= s.Start {
			return damaged(manifestName, "%s/%d: a segment has offsets %d to %d where %d is next", t.Name, p.Partition, s.Start, s.End, next)
		}
		if s.File != segmentName(t.ID, p.Partition, s.Start) {
			return damaged(manifestName, "%s/%d: %.100q is not the name of its segment at offset %d", t.Name, p.Partition, s.File, s.Start)
		}
		if s.Bytes < 1 || !hexSHA256.MatchString(s.SHA256) {
			return damaged(manifestName, "%s/%d: the segment at offset %d has %d bytes and sha256 %.80q", t.Name, p.Partition, s.Start, s.Bytes, s.SHA256)
		}
		next = s.End
	}
	if p.Start < 0 || p.End != next {
		return damaged(manifestName, "%s/%d: offsets %d to %d, its segments end at %d", t.Name, p.Partition, p.Start, p.End, next)
	}
	return nil
}

// topic finds a topic by name.
func (m *Manifest) topic(name string) (*Topic, bool) {
	for i := range m.Topics {
		if m.Topics[i].Name == name {
			return &m.Topics[i], true
		}
	}
	return nil, false
}

// choose lists the topics with these names, all without names.
func (m *Manifest) choose(names []string) ([]*Topic, error) {
	var chosen []*Topic
	if len(names) == 0 {
		for i := range m.Topics {
			chosen = append(chosen, &m.Topics[i])
		}
		return chosen, nil
	}
	for _, name := range dedupe(names) {
		t, ok := m.topic(name)
		if !ok {
			return nil, fmt.Errorf("topic %s is not in the backup; there are: %s", name, some(m.names()))
		}
		chosen = append(chosen, t)
	}
	return chosen, nil
}

func (m *Manifest) names() (names []string) {
	for i := range m.Topics {
		names = append(names, m.Topics[i].Name)
	}
	return names
}

// some lists the first few.
func some(names []string) string {
	const toldMax = 10
	if n := len(names); n > toldMax {
		names = append(names[:toldMax:toldMax], fmt.Sprintf("and %d more", n-toldMax))
	}
	return strings.Join(names, ", ")
}
