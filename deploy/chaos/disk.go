package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// diskBytes is the size of a disk made for one node: a quarter of it is where appends are refused.
const diskBytes = 2 << 30

var errNotRoot = errors.New("this scenario makes file systems of its own, fills and freezes them: run it as root")

// disk is an ext4 file system in a file, mounted where a node keeps its data.
type disk struct {
	image, dir string
	frozen     bool
}

// newDisk mounts one at dir, which does not exist yet.
func newDisk(ctx context.Context, dir string) (*disk, error) {
	if os.Geteuid() != 0 {
		return nil, errNotRoot
	}
	d := &disk{image: dir + ".img", dir: dir}
	f, err := os.Create(d.image)
	if err != nil {
		return nil, fmt.Errorf("making a disk: %w", err)
	}
	if err := errors.Join(f.Truncate(diskBytes), f.Close(), os.Mkdir(dir, 0o700)); err != nil {
		return nil, fmt.Errorf("making a disk: %w", err)
	}
	for _, args := range [][]string{{"mkfs.ext4", "-q", "-F", d.image}, {"mount", "-o", "loop", d.image, dir}} {
		if err := command(ctx, args...); err != nil {
			return nil, err
		}
	}
	// A node refuses a directory that holds something else.
	return d, os.Remove(filepath.Join(dir, "lost+found"))
}

func command(ctx context.Context, args ...string) error {
	if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", args[0], err, out)
	}
	return nil
}

// freeze stalls the disk: writes and syncs wait, and the processes that wait cannot even be killed, until thaw.
func (d *disk) freeze(ctx context.Context) error {
	err := command(ctx, "fsfreeze", "-f", d.dir)
	d.frozen = err == nil
	return err
}

func (d *disk) thaw(ctx context.Context) error {
	if !d.frozen {
		return nil
	}
	d.frozen = false
	return command(ctx, "fsfreeze", "-u", d.dir)
}

// fill takes all but some bytes of the disk, with a file that somebody else could have left there.
func (d *disk) fill(leave int64) (file string, err error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(d.dir, &st); err != nil {
		return "", fmt.Errorf("asking for free space: %w", err)
	}
	f, err := os.CreateTemp(d.dir, "somebody-else-")
	if err != nil {
		return "", fmt.Errorf("filling a disk: %w", err)
	}
	file = f.Name()
	return file, errors.Join(syscall.Fallocate(int(f.Fd()), 0, 0, int64(st.Bavail)*st.Bsize-leave), f.Close())
}

// remove unmounts the disk, when no node runs on it any more.
func (d *disk) remove(ctx context.Context) error {
	return errors.Join(d.thaw(ctx), command(ctx, "umount", d.dir))
}
