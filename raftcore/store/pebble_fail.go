package store

import (
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
)

// fail records the first failure and tells OnFatal of it. It returns the recorded one.
func (k *pebbleKV) fail(format string, args ...any) error {
	err := fmt.Errorf("%w: %w", ErrFailed, fmt.Errorf(format, args...))
	if k.failure.CompareAndSwap(nil, &err) && k.onFatal != nil {
		k.onFatal(err)
	}
	return k.failed()
}

func (k *pebbleKV) failed() error {
	if err := k.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// Infof is part of pebble.Logger. What it says is not for operators.
func (k *pebbleKV) Infof(string, ...any) {}

// Errorf is part of pebble.Logger.
func (k *pebbleKV) Errorf(format string, args ...any) {
	if k.logf != nil {
		k.logf(format, args...)
	}
}

// fatalStop is what Fatalf unwinds a call of ours with.
type fatalStop struct{}

// Fatalf is part of pebble.Logger. Pebble calls it when it cannot go on, and counts on it not to return: it
// would go on all the same, and Commit would return nil for an fsync that failed. In a call of ours the stack
// is unwound and the call returns the failure. On a goroutine of Pebble's own there is nobody to tell: it
// stops here for good, with whatever it has locked. The process is about to end.
func (k *pebbleKV) Fatalf(format string, args ...any) {
	_ = k.fail(format, args...) // recorded there
	if onOurStack() {
		panic(fatalStop{})
	}
	select {}
}

// recoverTo turns a panic of Pebble into the failure of the call: a failed write to the WAL is one.
func (k *pebbleKV) recoverTo(err *error) {
	switch reason := recover().(type) {
	case nil:
	case fatalStop:
		*err = k.failed()
	default:
		*err = k.fail("panic: %v\n%s", reason, debug.Stack())
	}
}

// recovering names the methods that recover fatalStop.
var recovering = map[string]bool{
	funcName((*pebbleKV).open):   true,
	funcName((*pebbleKV).commit): true,
	funcName((*pebbleKV).shut):   true,
}

func funcName(f any) string { return runtime.FuncForPC(reflect.ValueOf(f).Pointer()).Name() }

// stackDepthMax is far beyond the depth of any call of Pebble.
const stackDepthMax = 256

// onOurStack tells whether this goroutine is inside a method that recovers. It runs once in a lifetime.
func onOurStack() bool {
	pcs := make([]uintptr, stackDepthMax)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs)])
	for {
		frame, more := frames.Next()
		if recovering[frame.Function] {
			return true
		}
		if !more {
			return false
		}
	}
}

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
