package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A torn tail of the log is cut at Open; damage before a later fsync must keep the store shut, or records that
// were acknowledged would silently be gone. Pebble v2.1.7 tells the two apart by an offset in its chunk
// headers that says how far the log was synced, but it counts only the last block of each write into it
// (record/log_writer.go:727), and looks for it only from the next block (32 KiB) on: damage within the newest
// 32 KiB, or with entries of 100 KB within the newest megabyte, reads as the end of the log (tested).
//
// So each commit notes in its record how much of which log file was synced before it, and the check below,
// before each Open, looks for such notes behind the first chunk that is not valid. A note is written after
// the fsync that it tells of, so it never claims too much: a torn tail can't be taken for damage.

// syncNote is the state of a log file: bytes [0, Synced) of file Log were synced.
type syncNote struct {
	Log    uint32 // as in chunk headers: the lower half of the file's number
	Synced uint64
}

const (
	syncNoteMagic = "mrsync01"
	syncNoteBytes = len(syncNoteMagic) + 4 + 8
)

func (n syncNote) encode(dst []byte) []byte {
	dst = append(dst, syncNoteMagic...)
	dst = binary.LittleEndian.AppendUint32(dst, n.Log)
	return binary.LittleEndian.AppendUint64(dst, n.Synced)
}

// The log's format: pebble/v2/record. Blocks hold chunks; a chunk is CRC, length, type, log number, with
// types from walSyncFull on an offset, and then the payload. A batch starts in chunks of a full or first type.
const (
	walBlockBytes      = 32 << 10
	walHeaderBytes     = 11
	walSyncHeaderBytes = 19
	walTypeFull        = 5
	walTypeFirst       = 6
	walTypeSyncFull    = 9
	walTypeSyncFirst   = 10
	walTypeLast        = 12
	batchHeaderBytes   = 12
	batchKindLogData   = 3
)

var walTable = crc32.MakeTable(crc32.Castagnoli)

func walChecksum(b []byte) uint32 {
	c := crc32.Checksum(b, walTable)
	return (c>>15 | c<<17) + 0xa282ead8
}

// walChunk returns the length of the valid chunk at the start of b, or 0, and the note in it, if there is one.
func walChunk(b []byte, log uint32) (size int, note syncNote, noted bool) {
	if len(b) < walHeaderBytes || b[6] < walTypeFull || b[6] > walTypeLast || binary.LittleEndian.Uint32(b[7:]) != log {
		return 0, note, false
	}
	header := walHeaderBytes
	if b[6] >= walTypeSyncFull {
		header = walSyncHeaderBytes
	}
	size = header + int(binary.LittleEndian.Uint16(b[4:]))
	if size > len(b) || walChecksum(b[6:size]) != binary.LittleEndian.Uint32(b) {
		return 0, note, false
	}
	payload := b[header:size]
	starts := b[6] == walTypeFull || b[6] == walTypeFirst || b[6] == walTypeSyncFull || b[6] == walTypeSyncFirst
	if !starts || len(payload) < batchHeaderBytes+2+syncNoteBytes {
		return size, note, false
	}
	data := payload[batchHeaderBytes:]
	if data[0] != batchKindLogData || int(data[1]) != syncNoteBytes || string(data[2:2+len(syncNoteMagic)]) != syncNoteMagic {
		return size, note, false
	}
	data = data[2+len(syncNoteMagic):]
	return size, syncNote{binary.LittleEndian.Uint32(data), binary.LittleEndian.Uint64(data[4:])}, true
}

// walScan is what the files of a log say: where each is valid to, and the latest note on each.
type walScan struct {
	names  map[uint32]string
	valid  map[uint32]uint64
	synced map[uint32]uint64
}

// scan reads one file.
func (s *walScan) scan(log uint32, name string, r io.Reader) error {
	s.names[log] = name
	buf := make([]byte, walBlockBytes)
	intact := true
	for base := uint64(0); ; base += walBlockBytes {
		n, err := io.ReadFull(r, buf)
		valid, closed := s.scanBlock(buf[:n], log)
		if intact {
			s.valid[log] = base + uint64(valid)
		}
		intact = intact && valid == n
		if closed || err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// scanBlock notes what the chunks of a block say and returns how far the block is valid, and whether the log
// was closed there. Behind an invalid chunk it tries every byte: that chunk's length may be what is wrong.
func (s *walScan) scanBlock(b []byte, log uint32) (valid int, closed bool) {
	intact := true
	for at := 0; at < len(b); {
		size, note, noted := walChunk(b[at:], log)
		if noted {
			s.synced[note.Log] = max(s.synced[note.Log], note.Synced)
		}
		switch {
		case size > 0:
			at += size
		case intact && isTrailer(b[at:], log):
			return at + walHeaderBytes, true
		case intact && isPadding(b[at:]):
			at = len(b)
		default:
			intact = false
			at++
		}
		if intact {
			valid = at
		}
	}
	return valid, false
}

// isTrailer tells the chunk that ends a closed log: an empty one with the next log's number and no checksum.
func isTrailer(b []byte, log uint32) bool {
	return len(b) >= walHeaderBytes && binary.LittleEndian.Uint32(b) == 0 && binary.LittleEndian.Uint16(b[4:]) == 0 &&
		b[6] == walTypeFull && binary.LittleEndian.Uint32(b[7:]) == log+1
}

// isPadding tells the zeros that fill a full block whose rest is too small for a chunk.
func isPadding(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return len(b) < walSyncHeaderBytes
}

// checkLog returns ErrDamaged if a log file in dir is not valid as far as it is known to have been synced.
// The directory must be locked. A missing directory is an empty one.
func checkLog(dir string, in vfs.FS) error {
	names, err := in.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	s := &walScan{map[uint32]string{}, map[uint32]uint64{}, map[uint32]uint64{}}
	for _, name := range names {
		number, ok := logNumber(name)
		if !ok {
			continue
		}
		f, err := in.Open(in.PathJoin(dir, name), vfs.SequentialReadsOption)
		if err != nil {
			return err
		}
		if err := errors.Join(s.scan(number, name, f), f.Close()); err != nil {
			return err
		}
	}
	return s.verdict()
}

func (s *walScan) verdict() error {
	var faults []error
	for log, name := range s.names {
		if s.synced[log] > s.valid[log] {
			faults = append(faults, fmt.Errorf("%w: log file %s was synced to byte %d, but is valid only to byte %d", ErrDamaged, name, s.synced[log], s.valid[log]))
		}
	}
	return errors.Join(faults...)
}

func logNumber(name string) (uint32, bool) {
	number, ok := strings.CutSuffix(name, ".log")
	n, err := strconv.ParseUint(number, 10, 64)
	return uint32(n), ok && err == nil
}
