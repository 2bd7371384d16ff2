package backup

import (
	"errors"
	"fmt"
)

// Of Backup.
var (
	// ErrNotEmpty: the folder holds something, and nothing is written over.
	ErrNotEmpty = errors.New("the folder is not empty")
	// ErrOtherCluster: a backup can only be added to from the cluster that it is of.
	ErrOtherCluster = errors.New("the backup is of another cluster")
	// ErrRetired: retention took records before they were copied.
	ErrRetired = errors.New("records were retired before they were copied")
)

// Of Verify and Restore.
var (
	// ErrNoManifest: no backup, or one that did not come to its end.
	ErrNoManifest = errors.New("no " + manifestName + ": this is no backup, or one that did not come to its end")
	// ErrNewer: a newer version has written it.
	ErrNewer = errors.New("the backup has a format that this version does not know")
	// ErrDamaged: something is not as it was written.
	ErrDamaged = errors.New("the backup is damaged")
)

// Of Restore.
var (
	// ErrOffsets: the first records of a partition had gone, so the offsets of the others can't be kept.
	ErrOffsets = errors.New("the offsets can't be kept")
	// ErrForeign: a topic holds what is not in the backup.
	ErrForeign = errors.New("the topic holds records that are not those of the backup")
)

// ErrStalled: nothing moved for the timeout.
var ErrStalled = errors.New("no progress")

func damaged(where, format string, args ...any) error {
	return fmt.Errorf("%w: %s: %s", ErrDamaged, where, fmt.Sprintf(format, args...))
}
