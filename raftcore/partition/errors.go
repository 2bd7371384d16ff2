package partition

import (
	"errors"
	"fmt"

	"github.com/multiraftd/multiraftd/raftcore"
)

// Errors of opening and reading.
var (
	// ErrOutOfRange: the offset is not between log start and high watermark. See OutOfRangeError.
	ErrOutOfRange = errors.New("partition: offset out of range")
	// ErrCorrupt: what is stored contradicts itself. The replica is of no use any more.
	ErrCorrupt = errors.New("partition: stored state is corrupt")
)

// OutOfRangeError is an ErrOutOfRange with both ends, from the same view as the failed read.
type OutOfRangeError struct {
	Offset, LogStart, HighWatermark raftcore.Offset
}

func (e *OutOfRangeError) Error() string {
	return fmt.Sprintf("%v: %d is not within log start %d and high watermark %d", ErrOutOfRange, e.Offset, e.LogStart, e.HighWatermark)
}

// Unwrap returns ErrOutOfRange.
func (e *OutOfRangeError) Unwrap() error { return ErrOutOfRange }

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}
