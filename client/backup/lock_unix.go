//go:build unix

package backup

import (
	"errors"
	"os"
	"syscall"
)

// lockFolder keeps other processes out of a folder until dir is closed, or this process ends in whatever way. File
// systems that can't lock a folder (some over a network) go without.
func lockFolder(dir *os.File) error {
	err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return errBusy
	}
	return nil
}

// syncFolder makes the names in a folder durable.
func syncFolder(dir *os.File) error { return dir.Sync() }
