package backup

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/multiraftd/multiraftd/proto/decodetest"
	"github.com/multiraftd/multiraftd/proto/recordbatch"
)

// example is a manifest with a bit of everything.
func example() *Manifest {
	sum := strings.Repeat("0123456789abcdef", 4)
	at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	return &Manifest{Format: formatName, Version: formatVersion, ID: sum[:32], Cluster: "6f1b0a52-6f0d-4d5e-9d6c-000000000001", Began: at, Ended: at, Topics: []Topic{
		{Name: "a", ID: 1, Replicas: 3, RetentionMillis: 1000, Partitions: []Partition{
			{Start: 7, End: 9, Segments: []Segment{{segmentName(1, 0, 7), 7, 8, 70, sum}, {segmentName(1, 0, 8), 8, 9, 80, sum}}},
			{Partition: 1, Start: 5, End: 5, Segments: []Segment{}}}},
		{Name: "b", ID: 9, Replicas: 1, RetentionBytes: 5, Partitions: []Partition{{Segments: []Segment{}}}},
	}}
}

// FuzzManifest: what is decoded is, byte for byte, what is encoded again; every file that it makes us open is below the
// folder; and nothing else of it panics or allocates beyond its size. Sealed makes form and checksum right, which no
// mutation would.
func FuzzManifest(f *testing.F) {
	b, err := example().encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, false)
	f.Add(b, true)
	f.Add(bytes.Replace(b, []byte("topic-1/"), []byte("../../topic-1/"), 1), true)
	f.Add([]byte(`{"format":"multiraftd-backup","version":1,"topics":[{},{}]}`), false)
	f.Add([]byte(`{"format":"multiraftd-backup","version":2}`), false)
	f.Add([]byte(`{"began":"9999-12-31T23:59:59.999999999+23:59"`), true)
	f.Fuzz(func(t *testing.T, b []byte, sealed bool) {
		if sealed {
			b = sealManifest(b)
		}
		decodetest.Bounded(t, len(b), decodetest.PerByte, func() {
			m, err := decodeManifest(b)
			if err != nil {
				if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewer) {
					t.Errorf("the error is of no kind: %v", err)
				}
				return
			}
			again, err := m.encode()
			if err != nil || !bytes.Equal(again, b) {
				t.Errorf("it is encoded as %s, %v", again, err)
			}
			checkNames(t, m)
		})
	})
}

// sealManifest writes what can be decoded in the form that it must have.
func sealManifest(b []byte) []byte {
	var m Manifest
	if json.Unmarshal(b, &m) != nil {
		return b
	}
	if sealed, err := m.encode(); err == nil {
		return sealed
	}
	return b
}

func checkNames(t *testing.T, m *Manifest) {
	for i := range m.Topics {
		topic := &m.Topics[i]
		if !validName(topic.Name) {
			t.Errorf("topic %q", topic.Name)
		}
		for j := range topic.Partitions {
			for _, s := range topic.Partitions[j].Segments {
				if name := segmentName(topic.ID, topic.Partitions[j].Partition, s.Start); s.File != name || !filepath.IsLocal(name) || filepath.Clean(name) != name {
					t.Errorf("%q is opened, and called %q", name, s.File)
				}
			}
		}
	}
}

// FuzzSegment: a file is either refused, with the place, or it is its batches, with offsets that go on without a gap and
// records that can be read. A batch that claims to be large makes nothing larger than the file.
func FuzzSegment(f *testing.F) {
	var two []byte
	for i, base := range []int64{5, 8} {
		b, err := recordbatch.Encode(nil, recordbatch.Producer{ID: 3, Sequence: int32(i)}, someRecords(3, i))
		if err != nil {
			f.Fatal(err)
		}
		recordbatch.SetBase(b, base, 1)
		two = append(two, b...)
	}
	f.Add(two, int64(len(two)), int64(5), int64(11), false)
	f.Add(two, int64(len(two)), int64(5), int64(12), false)
	f.Add(two[:len(two)-1], int64(len(two)), int64(5), int64(11), true)
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x05\x7f\xff\xff\xff"), int64(1)<<62, int64(5), int64(11), false)
	f.Add([]byte{}, int64(0), int64(5), int64(5), false)
	f.Fuzz(func(t *testing.T, file []byte, bytesSaid, start, end int64, seal bool) {
		if seal {
			file = sealBatches(file, start)
		}
		decodetest.Bounded(t, len(file), decodetest.PerByte, func() {
			// The size of a file is compared before it is read: a decoder is never told more than is there.
			d := decoder{in: bufio.NewReaderSize(bytes.NewReader(file), 4096), name: "x", left: max(0, min(bytesSaid, int64(len(file)))), next: start, end: end}
			all, next := d.left, start
			var whole []byte
			for {
				b, info, err := d.batch()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					if !errors.Is(err, ErrDamaged) {
						t.Errorf("the error is of no kind: %v", err)
					}
					return
				}
				if info.BaseOffset != next || info.Count < 1 {
					t.Fatalf("%d records at offset %d, where %d is next", info.Count, info.BaseOffset, next)
				}
				next += int64(info.Count)
				whole = append(whole, b...)
				if _, err := largestRecord(b, info); err != nil && !errors.Is(err, recordbatch.ErrMalformed) {
					t.Errorf("records: %v", err)
				}
			}
			if !bytes.Equal(whole, file[:all]) || next != end {
				t.Errorf("%d of %d bytes, to offset %d of %d", len(whole), all, next, end)
			}
		})
	})
}

// sealBatches makes lengths, offsets and checksums right, where there is a header.
func sealBatches(file []byte, next int64) []byte {
	file = bytes.Clone(file)
	for rest := file; len(rest) >= recordbatch.HeaderBytes; {
		size := frameBytes + int(int32(uint32(rest[8])<<24|uint32(rest[9])<<16|uint32(rest[10])<<8|uint32(rest[11])))
		if size < recordbatch.HeaderBytes || size > len(rest) {
			return file
		}
		b := rest[:size]
		rest = rest[size:]
		info, err := recordbatch.ParseHeader(b)
		if err != nil {
			return file
		}
		recordbatch.SetBase(b, next, 0)
		recordbatch.SetProducer(b, recordbatch.Producer{ID: info.ProducerID, Epoch: info.Epoch, Sequence: info.BaseSequence})
		next += int64(info.Count)
	}
	return file
}

// FuzzFolder: whatever is in the two files of a backup, checking it ends, and says so if it is not what was written.
func FuzzFolder(f *testing.F) {
	segment, err := recordbatch.Encode(nil, recordbatch.None, someRecords(2, 0))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(segment, int64(len(segment)), int64(0), int64(2), true)
	f.Add(segment, int64(len(segment)), int64(1), int64(3), true)
	f.Add(segment[:20], int64(20), int64(0), int64(2), false)
	f.Fuzz(func(t *testing.T, segment []byte, size, start, end int64, rightSum bool) {
		dir := t.TempDir()
		m := example()
		m.Topics = m.Topics[1:]
		sum := strings.Repeat("00", 32)
		if rightSum {
			sum = sumOf(segment)
		}
		name := segmentName(9, 0, start)
		m.Topics[0].Partitions[0] = Partition{Start: start, End: end, Segments: []Segment{{name, start, end, size, sum}}}
		b, err := m.encode()
		if err != nil {
			t.Fatal(err)
		}
		for file, content := range map[string][]byte{manifestName: b, "topic-9/00000-00000000000000000000.batches": segment, name: segment} {
			if err := errors.Join(os.MkdirAll(filepath.Join(dir, filepath.Dir(file)), 0o700), os.WriteFile(filepath.Join(dir, file), content, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		got, problems, err := Verify(t.Context(), dir, nil)
		if err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("%v", err)
		}
		if err == nil && len(problems) == 0 && (got.Topics[0].Bytes() != int64(len(segment)) || !rightSum) {
			t.Errorf("%d bytes pass as %d", len(segment), got.Topics[0].Bytes())
		}
	})
}

func sumOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
