package backup

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/multiraftd/multiraftd/proto/recordbatch"
)

const (
	bufferBytes = 1 << 20
	// batchBytesMax is the largest batch that is read: as much as a partition takes.
	batchBytesMax = 64 << 20
	// frameBytes is the part of a batch that tells its length, which is counted from there on.
	frameBytes = 12
)

// source reads the batches of one partition, segment after segment. It checks what it reads against the manifest;
// the checksum of a segment only when its end has been reached.
type source struct {
	root      *os.Root
	topic     *Topic
	partition *Partition
	progress  *Progress

	segment int // the next one to open
	open    *segmentReader
	next    int64 // the offset after what was read
}

func (a *archive) source(t *Topic, p *Partition) *source {
	return &source{root: a.root, topic: t, partition: p, progress: a.progress, next: p.Start}
}

// batch returns the next batch, which is the caller's own, io.EOF behind the last one.
func (s *source) batch() ([]byte, recordbatch.Info, error) {
	for {
		if s.open == nil {
			if s.segment == len(s.partition.Segments) {
				return nil, recordbatch.Info{}, io.EOF
			}
			s.segment++ // also when it can't be opened: whoever goes on, goes on behind it
			open, err := openSegment(s.root, s.topic, s.partition, s.segment-1)
			if err != nil {
				return nil, recordbatch.Info{}, err
			}
			s.open = open
		}
		b, info, err := s.open.batch()
		if !errors.Is(err, io.EOF) {
			if err == nil {
				s.next = info.BaseOffset + int64(info.Count)
				s.progress.add(0, int64(len(b)))
			}
			return b, info, err
		}
		if err := s.close(); err != nil {
			return nil, recordbatch.Info{}, err
		}
	}
}

func (s *source) close() error {
	if s.open == nil {
		return nil
	}
	err := s.open.file.Close()
	s.open = nil
	return err
}

// segmentReader reads one segment.
type segmentReader struct {
	decoder
	file   *os.File
	sum    hash.Hash
	sha256 string
}

// openSegment opens a plain file of the size that the manifest says.
func openSegment(root *os.Root, t *Topic, p *Partition, i int) (*segmentReader, error) {
	seg := &p.Segments[i]
	name := segmentName(t.ID, p.Partition, seg.Start)
	st, err := root.Lstat(name)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, damaged(name, "the file is missing")
	case err != nil:
		return nil, fmt.Errorf("backup: %w", err)
	case !st.Mode().IsRegular():
		return nil, damaged(name, "it is no plain file")
	case st.Size() != seg.Bytes:
		return nil, damaged(name, "it has %d bytes, the manifest says %d", st.Size(), seg.Bytes)
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	sum := sha256.New()
	r := &segmentReader{file: f, sum: sum, sha256: seg.SHA256}
	r.decoder = decoder{in: bufio.NewReaderSize(io.TeeReader(f, sum), bufferBytes), name: name, left: seg.Bytes, next: seg.Start, end: seg.End}
	return r, nil
}

// batch returns the next batch; io.EOF when all are there and the checksum is right.
func (r *segmentReader) batch() ([]byte, recordbatch.Info, error) {
	b, info, err := r.decoder.batch()
	if !errors.Is(err, io.EOF) {
		return b, info, err
	}
	if got := hex.EncodeToString(r.sum.Sum(nil)); got != r.sha256 {
		return nil, info, damaged(r.name, "its sha256 is %s, the manifest says %s", got, r.sha256)
	}
	return nil, info, io.EOF
}

// decoder takes batches off a segment.
type decoder struct {
	in        *bufio.Reader
	name      string // for errors
	at        int64  // bytes taken
	left      int64  // bytes that must be there
	next, end int64  // offsets
}

// batch returns the next batch. Memory is bounded by what is left of the file.
func (d *decoder) batch() ([]byte, recordbatch.Info, error) {
	if d.left == 0 {
		if d.next != d.end {
			return nil, recordbatch.Info{}, damaged(d.name, "it ends at offset %d, the manifest says %d", d.next, d.end)
		}
		return nil, recordbatch.Info{}, io.EOF
	}
	frame, err := d.in.Peek(int(min(frameBytes, d.left)))
	if err != nil {
		return nil, recordbatch.Info{}, d.unread(err)
	}
	if len(frame) < frameBytes {
		return nil, recordbatch.Info{}, damaged(d.name, "at byte %d: %d bytes are no batch", d.at, d.left)
	}
	size := frameBytes + int64(int32(binary.BigEndian.Uint32(frame[8:])))
	if size < recordbatch.HeaderBytes || size > min(d.left, batchBytesMax) {
		return nil, recordbatch.Info{}, damaged(d.name, "at byte %d: a batch of %d bytes where %d are left", d.at, size, d.left)
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(d.in, b); err != nil {
		return nil, recordbatch.Info{}, d.unread(err)
	}
	info, err := recordbatch.Check(b)
	if err != nil {
		return nil, recordbatch.Info{}, damaged(d.name, "at byte %d, offset %d: %v", d.at, d.next, err)
	}
	if info.BaseOffset != d.next || int64(info.Count) > d.end-d.next {
		return nil, recordbatch.Info{}, damaged(d.name, "at byte %d: %d records from offset %d where %d to %d must be", d.at, info.Count, info.BaseOffset, d.next, d.end-1)
	}
	d.at, d.left, d.next = d.at+size, d.left-size, d.next+int64(info.Count)
	return b, info, nil
}

func (d *decoder) unread(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return damaged(d.name, "it ends %d bytes too early", d.left)
	}
	return fmt.Errorf("backup: %w", err)
}
