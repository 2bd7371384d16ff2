package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/multiraftd/multiraftd/actors"
)

// Marks of free space, for the disk of the data directory; smaller disks have smaller ones (marksOf).
//
// diskLowBytesMax is where appends of clients are refused. Above it there must be room for what was admitted
// before (router.nodeBytesMax), and below it for what the store writes by itself: its memtables, and what a
// compaction writes before it deletes. diskShortBytesMax is where appends of leaders are not taken either.
// diskReserveBytesMax is the size of the reserve file: what it frees is for truncations, deletions and, above all,
// for a start after the disk has run full, which writes out the memtables.
const (
	diskLowBytesMax     = 512 << 20
	diskShortBytesMax   = 128 << 20
	diskReserveBytesMax = 128 << 20
	diskLowShare        = 4 // of a small disk: a quarter is the low mark, and so on
	spaceInterval       = 100 * time.Millisecond
	reserveFile         = "reserve"
)

// diskMarks are the marks of one disk.
type diskMarks struct{ low, short, reserve uint64 }

func marksOf(total uint64) diskMarks {
	return diskMarks{
		low: min(diskLowBytesMax, total/diskLowShare), short: min(diskShortBytesMax, total/(4*diskLowShare)),
		reserve: min(diskReserveBytesMax, total/(4*diskLowShare)),
	}
}

// next is the level after a look at the disk. A level is left only when there is more room than where it began, so
// that a disk at a mark does not change it back and forth.
func (m diskMarks) next(level actors.SpaceLevel, free uint64) actors.SpaceLevel {
	switch {
	case free < m.short, level == actors.SpaceShort && free < 2*m.short:
		return actors.SpaceShort
	case free < m.low, level != actors.SpaceEnough && free < m.enough():
		return actors.SpaceLow
	default:
		return actors.SpaceEnough
	}
}

// enough is what ends a shortage.
func (m diskMarks) enough() uint64 { return m.low + m.low/4 }

// spaceWatch keeps a Space up to date with the disk, and holds a reserve on it:
//
//	enough room --> the reserve is there  --> nearly full --> it is deleted --> enough room --> it is made again
type spaceWatch struct {
	dir   string
	free  func(dir string) (free, total uint64, err error)
	space *actors.Space
	log   *slog.Logger
	fault string // the last failure that was logged
}

// look looks at the disk once.
func (w *spaceWatch) look() {
	if err := w.act(); err != nil && err.Error() != w.fault {
		w.fault = err.Error()
		w.log.Warn("the disk's free space is not watched as it should be", "err", err)
	}
}

func (w *spaceWatch) act() error {
	free, total, err := w.free(w.dir)
	if err != nil {
		return err
	}
	marks, was := marksOf(total), w.space.Level()
	level := marks.next(was, free)
	w.space.SetBytes(free, total)
	w.space.Set(level)
	if level != was {
		w.log.Warn("disk space", "level", level, "was", was, "free_bytes", free, "bytes", total, "low_mark", marks.low, "short_mark", marks.short)
	}
	switch {
	case level == actors.SpaceShort:
		err = os.Remove(w.reserve())
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		w.log.Warn("the reserve file is given up", "bytes", marks.reserve)
	case level == actors.SpaceEnough && free >= marks.enough()+marks.reserve:
		err = w.makeReserve(marks.reserve)
	}
	return err
}

func (w *spaceWatch) reserve() string { return filepath.Join(w.dir, reserveFile) }

// makeReserve makes the file, unless it is there. A part of one, after a crash, is completed.
func (w *spaceWatch) makeReserve(bytes uint64) error {
	if info, err := os.Stat(w.reserve()); err == nil && info.Size() >= int64(bytes) {
		return nil
	}
	f, err := os.OpenFile(w.reserve(), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(allocate(f, int64(bytes)), f.Close()); err != nil {
		return fmt.Errorf("reserve file: %w", errors.Join(err, os.Remove(w.reserve())))
	}
	return nil
}

// run looks at the disk until ctx ends.
func (w *spaceWatch) run(ctx context.Context) {
	t := time.NewTicker(spaceInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			w.look()
		}
	}
}
