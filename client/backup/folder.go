package backup

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/multiraftd/multiraftd/proto/recordbatch"
)

const (
	// segmentBytesMax is where a segment ends, unless one batch is larger.
	segmentBytesMax = 256 << 20
	partialName     = manifestName + ".partial"
	// lostAndFound is in the root of a new file system: a folder with nothing else is empty.
	lostAndFound = "lost+found"

	// Backups hold what topics hold: they are for whoever made them.
	folderMode = 0o700
	fileMode   = 0o600
)

var errBusy = errors.New("another process writes a backup to this folder")

// folder is a backup that is being written, or added to. It is safe for concurrent use.
type folder struct {
	path     string
	root     *os.Root
	dir      *os.File // root, for its lock
	made     bool     // the folder itself is new
	progress *Progress

	mu      sync.Mutex
	created []string // by this run, in order
	topics  map[string]bool
}

// openFolder makes a folder, or takes an empty one, or with add one that holds a backup: old is its manifest.
func openFolder(path string, add bool, progress *Progress) (f *folder, old *Manifest, err error) {
	f = &folder{path: path, progress: progress, topics: map[string]bool{}}
	if err = os.Mkdir(path, folderMode); err == nil {
		f.made = true
	} else if !errors.Is(err, os.ErrExist) {
		return nil, nil, fmt.Errorf("backup: %w", err)
	}
	if f.root, err = os.OpenRoot(path); err != nil {
		return nil, nil, fmt.Errorf("backup: %w", err)
	}
	if f.dir, err = f.root.Open("."); err == nil {
		if err = lockFolder(f.dir); err == nil {
			old, err = f.older(add)
		}
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("backup: %s: %w", path, err), f.close())
	}
	return f, old, nil
}

// older is the manifest of the backup that is there; nil in an empty folder.
func (f *folder) older(add bool) (*Manifest, error) {
	names, err := f.dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 || len(names) == 1 && names[0] == lostAndFound {
		return nil, nil
	}
	old, err := readManifest(f.root)
	switch {
	case add:
		return old, err
	case err == nil:
		return nil, fmt.Errorf("%w: it holds a backup of %s; --incremental adds to it", ErrNotEmpty, old.Ended.Format("2006-01-02 15:04:05Z07:00"))
	case errors.Is(err, ErrNoManifest):
		return nil, fmt.Errorf("%w, and what it holds is no backup, or one that did not come to its end: take another folder, or empty this one", ErrNotEmpty)
	}
	return nil, errors.Join(ErrNotEmpty, err)
}

func readManifest(root *os.Root) (*Manifest, error) {
	st, err := root.Lstat(manifestName)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, ErrNoManifest
	case err != nil:
		return nil, fmt.Errorf("backup: %w", err)
	case !st.Mode().IsRegular():
		return nil, damaged(manifestName, "it is no plain file")
	}
	f, err := root.Open(manifestName)
	if err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, manifestBytesMax+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	return decodeManifest(b)
}

// close gives the folder free.
func (f *folder) close() error {
	var errs []error
	if f.dir != nil {
		errs = append(errs, f.dir.Close())
	}
	if f.root != nil {
		errs = append(errs, f.root.Close())
	}
	return errors.Join(errs...)
}

// discard removes what this run has created.
func (f *folder) discard() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var errs []error
	for len(f.created) > 0 {
		name := f.created[len(f.created)-1]
		f.created = f.created[:len(f.created)-1]
		if err := f.root.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if f.made {
		errs = append(errs, os.Remove(f.path))
	}
	return errors.Join(errs...)
}

// create creates a file, in the place of one that a run left behind which did not come to its end.
func (f *folder) create(name string) (*os.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.root.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	file, err := f.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err == nil {
		f.created = append(f.created, name)
	}
	return file, err
}

// enter makes the folder of a topic.
func (f *folder) enter(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.topics[dir] {
		return nil
	}
	err := f.root.Mkdir(dir, folderMode)
	if err == nil {
		f.created = append(f.created, dir)
	} else if !errors.Is(err, os.ErrExist) {
		return err
	}
	f.topics[dir] = true
	return nil
}

// commit makes m the manifest. installed says that it is in its place, though perhaps not durably: then nothing that
// it names may be removed any more.
func (f *folder) commit(m *Manifest) (installed bool, err error) {
	if err := m.check(); err != nil {
		return false, fmt.Errorf("what was copied does not fit together: %w", err)
	}
	b, err := m.encode()
	if err != nil {
		return false, err
	}
	for dir := range f.topics {
		if err := f.sync(dir); err != nil {
			return false, err
		}
	}
	file, err := f.create(partialName)
	if err != nil {
		return false, err
	}
	_, err = file.Write(b)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return false, err
	}
	if err := f.sync("."); err != nil {
		return false, err
	}
	if err := f.root.Rename(partialName, manifestName); err != nil {
		return false, err
	}
	err = f.sync(".")
	if f.made && err == nil {
		err = syncParent(f.path)
	}
	return true, err
}

func (f *folder) sync(name string) error {
	dir, err := f.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(syncFolder(dir), dir.Close())
}

func syncParent(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(syncFolder(dir), dir.Close())
}

// partitionWriter writes the segments of one partition.
type partitionWriter struct {
	folder    *folder
	topic     uint64
	partition uint32
	done      []Segment

	segment Segment // being written, while file is not nil
	file    *os.File
	out     *bufio.Writer
	sum     hash.Hash
}

func newPartitionWriter(f *folder, topic uint64, partition uint32) *partitionWriter {
	return &partitionWriter{folder: f, topic: topic, partition: partition, out: bufio.NewWriterSize(nil, bufferBytes), sum: sha256.New()}
}

// add appends a batch that follows what is there.
func (w *partitionWriter) add(batch []byte, info recordbatch.Info) error {
	return w.folder.progress.onDisk(func() error {
		if w.file != nil && w.segment.Bytes+int64(len(batch)) > segmentBytesMax {
			if err := w.finishSegment(); err != nil {
				return err
			}
		}
		if w.file == nil {
			if err := w.begin(info.BaseOffset); err != nil {
				return err
			}
		}
		if _, err := w.out.Write(batch); err != nil {
			return err
		}
		w.segment.Bytes += int64(len(batch))
		w.segment.End = info.BaseOffset + int64(info.Count)
		return nil
	})
}

func (w *partitionWriter) begin(start int64) error {
	if err := w.folder.enter(topicDir(w.topic)); err != nil {
		return err
	}
	name := segmentName(w.topic, w.partition, start)
	file, err := w.folder.create(name)
	if err != nil {
		return err
	}
	w.sum.Reset()
	w.file, w.segment = file, Segment{File: name, Start: start}
	w.out.Reset(io.MultiWriter(file, w.sum))
	return nil
}

// finish makes everything durable.
func (w *partitionWriter) finish() error {
	if w.file == nil {
		return nil
	}
	return w.folder.progress.onDisk(w.finishSegment)
}

func (w *partitionWriter) finishSegment() error {
	err := w.out.Flush()
	if err == nil {
		err = w.file.Sync()
	}
	err = errors.Join(err, w.file.Close())
	w.file = nil
	if err != nil {
		return err
	}
	w.segment.SHA256 = hex.EncodeToString(w.sum.Sum(nil))
	w.done = append(w.done, w.segment)
	return nil
}

// drop closes what is open. What was written goes with the folder's discard, or is written over.
func (w *partitionWriter) drop() error {
	if w.file == nil {
		return nil
	}
	err := w.file.Close()
	w.file = nil
	return err
}

// erase removes what was written, for another try.
func (w *partitionWriter) erase() error {
	err := w.drop()
	for _, s := range append(w.done, w.segment) {
		if s.File != "" {
			if removed := w.folder.root.Remove(s.File); !errors.Is(removed, os.ErrNotExist) {
				err = errors.Join(err, removed)
			}
		}
	}
	w.done, w.segment = nil, Segment{}
	return err
}
