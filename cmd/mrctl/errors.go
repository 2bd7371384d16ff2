package main

import (
	"errors"

	"github.com/multiraftd/multiraftd/client"
)

// Exit codes, as documented for scripts.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitUnknown     = 3
	exitUnreachable = 4
	exitNo          = 10
)

// errNo is the answer "no" or "unhealthy": it has been printed already.
var errNo = errors.New("no")

// usageError is a command line that makes no sense.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usage(err error) error {
	if err == nil {
		return nil
	}
	return usageError{err}
}

func exitCode(err error) int {
	var u usageError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &u):
		return exitUsage
	case errors.Is(err, errNo):
		return exitNo
	case errors.Is(err, client.OutcomeUnknown):
		return exitUnknown
	case errors.Is(err, client.ErrUnreachable):
		return exitUnreachable
	}
	return exitFailed
}
