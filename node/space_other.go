//go:build !linux

package node

import (
	"errors"
	"fmt"
	"os"
)

// Free space is watched on Linux only; elsewhere a node takes appends until its store fails.
func freeSpace(string) (free, total uint64, err error) {
	return 0, 0, fmt.Errorf("free disk space: %w on this system", errors.ErrUnsupported)
}

func allocate(*os.File, int64) error { return errors.ErrUnsupported }
