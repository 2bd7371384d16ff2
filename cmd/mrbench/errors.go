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
	exitUnreachable = 4
)

var (
	// errVerify: read back, the topic does not hold what was acknowledged. The report has the figures.
	errVerify = errors.New("verification failed")
	// errLoad: some records were not acknowledged.
	errLoad = errors.New("the load failed")
	// errInterrupted: a signal ended the run early. What it did until then has been reported.
	errInterrupted = errors.New("interrupted")
	// errDone ends reading once enough has been read.
	errDone = errors.New("enough")
)

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
	case errors.Is(err, errLoad), errors.Is(err, errVerify): // somebody was there
		return exitFailed
	case errors.Is(err, client.ErrUnreachable):
		return exitUnreachable
	}
	return exitFailed
}
