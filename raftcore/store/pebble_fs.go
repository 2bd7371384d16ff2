package store

import (
	"path"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// logFS is the filesystem as Pebble sees it. The files of the log, and directories, do not return failures
// of writing: they stop the goroutine. What is synced of the log is noted for the commits that follow.
type logFS struct {
	vfs.FS
	kv *pebbleKV
}

func (f *logFS) Unwrap() vfs.FS { return f.FS }

func (f *logFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, category)
	return f.wrap(name, file, err)
}

func (f *logFS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.ReuseForWrite(oldname, newname, category)
	return f.wrap(newname, file, err)
}

func (f *logFS) OpenDir(name string) (vfs.File, error) {
	file, err := f.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &guardedFile{File: file, kv: f.kv, name: name}, nil
}

func (f *logFS) wrap(name string, file vfs.File, err error) (vfs.File, error) {
	log, ok := logNumber(path.Base(name))
	if !ok {
		return file, err
	}
	if err != nil {
		f.kv.stop("create %s: %w", name, err)
	}
	return &guardedFile{File: file, kv: f.kv, name: name, log: log, isLog: true}, nil
}

// guardedFile is a directory, or a log file, which Pebble writes in order, from one goroutine at a time.
type guardedFile struct {
	vfs.File
	kv      *pebbleKV
	name    string
	log     uint32
	isLog   bool
	written uint64
}

func (f *guardedFile) check(what string, err error) error {
	if err != nil {
		f.kv.stop("%s %s: %w", what, f.name, err)
	}
	return nil
}

func (f *guardedFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	f.written += uint64(n)
	return n, f.check("write", err)
}

func (f *guardedFile) SyncTo(length int64) (bool, error) {
	full, err := f.File.SyncTo(length)
	return full, f.check("sync", err)
}

func (f *guardedFile) Sync() error     { return f.synced(time.Now(), f.File.Sync) }
func (f *guardedFile) SyncData() error { return f.synced(time.Now(), f.File.SyncData) }
func (f *guardedFile) Close() error    { return f.check("close", f.File.Close()) }

func (f *guardedFile) synced(began time.Time, sync func() error) error {
	err := sync()
	if f.isLog {
		f.kv.counters.Fsync.Observe(time.Since(began).Nanoseconds())
	}
	if err == nil && f.isLog {
		f.kv.note.Store(&syncNote{Log: f.log, Synced: f.written})
	}
	return f.check("fsync", err)
}
