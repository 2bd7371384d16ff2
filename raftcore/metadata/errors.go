package metadata

import (
	"errors"
	"fmt"
)

// Why a command is refused; Outcome.Value of a Refused one wraps exactly one of these.
var (
	// ErrInvalid: a field is not acceptable whatever the state is. See InvalidError.
	ErrInvalid = errors.New("metadata: invalid argument")
	// ErrTopicExists: another request has created a topic with this name.
	ErrTopicExists = errors.New("metadata: topic exists")
	// ErrNotEnoughNodes: fewer nodes than replicas wanted. See NotEnoughNodesError.
	ErrNotEnoughNodes = errors.New("metadata: not enough nodes")
	// ErrLimit: the cluster would have more of something than the machine keeps. See LimitError.
	ErrLimit = errors.New("metadata: limit reached")
	// ErrStoreChanged: a node came with another store than it had; a wiped node needs a new id.
	ErrStoreChanged = errors.New("metadata: node has another store")
	// ErrStaleStart: a node came with a smaller start number than is recorded; an old copy of its disk.
	ErrStaleStart = errors.New("metadata: start number went back")
)

// ErrCorrupt is returned by Open: what is stored contradicts itself.
var ErrCorrupt = errors.New("metadata: stored state is corrupt")

// InvalidError is an ErrInvalid that names the field, as it is called in the API.
type InvalidError struct{ Field, Reason string }

func (e *InvalidError) Error() string {
	return fmt.Sprintf("%v: %s: %s", ErrInvalid, e.Field, e.Reason)
}

// Unwrap returns ErrInvalid.
func (e *InvalidError) Unwrap() error { return ErrInvalid }

// NotEnoughNodesError is an ErrNotEnoughNodes.
type NotEnoughNodesError struct{ Have, Want int }

func (e *NotEnoughNodesError) Error() string {
	return fmt.Sprintf("%v: %d replicas wanted, %d nodes registered", ErrNotEnoughNodes, e.Want, e.Have)
}

// Unwrap returns ErrNotEnoughNodes.
func (e *NotEnoughNodesError) Unwrap() error { return ErrNotEnoughNodes }

// LimitError is an ErrLimit.
type LimitError struct {
	What string
	Max  int
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("%v: at most %d %s", ErrLimit, e.Max, e.What)
}

// Unwrap returns ErrLimit.
func (e *LimitError) Unwrap() error { return ErrLimit }

func invalid(field, format string, args ...any) error {
	return &InvalidError{field, fmt.Sprintf(format, args...)}
}

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}
