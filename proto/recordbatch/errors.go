package recordbatch

import (
	"errors"
	"fmt"
)

// What can be wrong with a batch. Errors of this package wrap exactly one of ErrCorrupt, ErrCompressed,
// ErrTooLarge and ErrMalformed.
var (
	// ErrCorrupt: the checksum does not match the bytes. They changed on the way.
	ErrCorrupt = errors.New("record batch: checksum does not match")
	// ErrMalformed: the bytes are not a record batch of format 2. The message names the field.
	ErrMalformed = errors.New("record batch: malformed")
	// ErrCompressed: the records are compressed, which is not supported.
	ErrCompressed = errors.New("record batch: compressed batches are not supported, send it uncompressed")
	// ErrTooLarge: above a limit. ErrRecordTooLarge and ErrBatchTooLarge say which and wrap it.
	ErrTooLarge = errors.New("too large")
	// ErrRecordTooLarge: key, value and headers of a record are above the record limit.
	ErrRecordTooLarge = fmt.Errorf("record batch: record %w", ErrTooLarge)
	// ErrBatchTooLarge: the whole batch is above the batch limit, or above what its length field can say.
	ErrBatchTooLarge = fmt.Errorf("record batch: batch %w", ErrTooLarge)
)

func malformed(field, format string, args ...any) error {
	return fmt.Errorf("%w: %s: %s", ErrMalformed, field, fmt.Sprintf(format, args...))
}
