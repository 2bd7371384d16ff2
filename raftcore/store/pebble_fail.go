package store

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
)

// Pebble v2.1.7 has no way to return a failed write or fsync of its log. It calls Logger.Fatalf and then
// returns nil (db.go:882), or panics with a mutex held, or, when it was rotating the log, panics in a way that
// unlocks an unlocked mutex, which ends the process without a word. So it never hears of such a failure: the
// goroutine that finds one records it, wakes whoever waits, and stops for good, below or in Fatalf. What
// Pebble has locked stays locked, nothing more reaches the disk, and nothing is acknowledged.

// fail records the first failure, wakes the waiting calls and tells OnFatal. It returns the recorded one.
func (k *pebbleKV) fail(format string, args ...any) error {
	err := fmt.Errorf("%w: %w", ErrFailed, fmt.Errorf(format, args...))
	if k.failure.CompareAndSwap(nil, &err) {
		close(k.dead)
		k.unreclaim()
		if k.opened.Load() && k.onFatal != nil {
			k.onFatal(err)
		}
	}
	return k.failed()
}

func (k *pebbleKV) failed() error {
	if err := k.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// stop records a failure and never returns.
func (k *pebbleKV) stop(format string, args ...any) {
	_ = k.fail(format, args...) // recorded there; there is nobody here to return it to
	select {}
}

// backgroundError ends the flush or compaction that has failed, and with it its goroutine: Pebble would try
// again at once, for ever. The locks are given back, so that readers can close their views.
func (k *pebbleKV) backgroundError(err error) {
	_ = k.fail("background error: %w", err) // recorded there
	runtime.Goexit()
}

// call runs f on the store's own goroutine, so that the caller gets away when that one is stopped.
func (k *pebbleKV) call(f func() error) error {
	done := make(chan error, 1)
	run := func() {
		defer func() {
			if reason := recover(); reason != nil {
				done <- k.fail("panic: %v\n%s", reason, debug.Stack())
			}
		}()
		done <- f()
	}
	select {
	case k.work <- run:
	case <-k.dead:
		return k.failed()
	}
	select {
	case err := <-done:
		if failure := k.failed(); failure != nil {
			return failure
		}
		return err
	case <-k.dead:
		return k.failed()
	}
}

func (k *pebbleKV) run() {
	for f := range k.work {
		f()
	}
}

// Infof is part of pebble.Logger. What it says is not for operators.
func (k *pebbleKV) Infof(string, ...any) {}

// Errorf is part of pebble.Logger.
func (k *pebbleKV) Errorf(format string, args ...any) {
	if k.logf != nil {
		k.logf(format, args...)
	}
}

// Fatalf is part of pebble.Logger. Pebble counts on it not to return.
func (k *pebbleKV) Fatalf(format string, args ...any) { k.stop(format, args...) }

// openError gives the refusals that a caller wants to tell apart their names. Pebble has no errors for them;
// tests prove that these texts are still the right ones.
func openError(err error) error {
	var path *fs.PathError
	held := errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) || strings.Contains(err.Error(), "lock held by current process")
	switch {
	case held && !errors.As(err, &path): // a PathError is a LOCK file that cannot be created
		return fmt.Errorf("%w: %w", ErrLocked, err)
	case strings.Contains(err.Error(), "comparer name from"):
		return fmt.Errorf("%w: %w", ErrForeign, err)
	}
	return err
}
