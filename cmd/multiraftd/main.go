package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/multiraftd/multiraftd/node"
)

// version is set by the linker.
var version = "devel"

// Exit codes; see docs/operations.md.
const (
	exitOK      = 0
	exitFailed  = 1
	exitUsage   = 2
	exitData    = 3
	exitStorage = 4
)

func main() {
	ctx, stop := signalContext()
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// doubledSignal is how soon after the first a second signal counts as the same one: make passes a group's
// SIGTERM on to a daemon that has had it already.
const doubledSignal = 500 * time.Millisecond

// signalContext ends with the first SIGTERM or SIGINT; the second one ends the process at once.
func signalContext() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-signals
		first := time.Now()
		fmt.Fprintln(os.Stderr, "stopping; once more to stop at once")
		cancel()
		for range signals {
			if time.Since(first) > doubledSignal {
				os.Exit(exitFailed)
			}
		}
	}()
	return ctx, cancel
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:           "multiraftd",
		Short:         "A server for partitioned, replicated logs: every append is fsynced on a majority before it is acknowledged",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SetOut(cmd.ErrOrStderr())
			return errors.Join(cmd.Help(), &node.UsageError{Faults: []string{"a command is missing"}})
		},
	}
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &node.UsageError{Faults: []string{err.Error()}} })
	root.AddCommand(startCommand(), devCommand(), configCommand(), versionCommand())
	started := false
	for _, c := range root.Commands() {
		markStarted(c, &started)
	}
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	complain(stderr, err)
	code := exitCode(err)
	if !started {
		code = exitUsage // what cobra refuses before a command runs: an unknown command or argument
	}
	if code == exitUsage {
		fmt.Fprintln(stderr, "multiraftd: see multiraftd --help")
	}
	return code
}

// markStarted makes a command and those below it say when they run.
func markStarted(c *cobra.Command, started *bool) {
	if wrapped := c.RunE; wrapped != nil {
		c.RunE = func(cmd *cobra.Command, args []string) error {
			*started = true
			return wrapped(cmd, args)
		}
	}
	for _, sub := range c.Commands() {
		markStarted(sub, started)
	}
}

// complain says why the command failed: each fault of a configuration on a line of its own.
func complain(w io.Writer, err error) {
	var usage *node.UsageError
	if !errors.As(err, &usage) {
		fmt.Fprintln(w, "multiraftd:", err)
		return
	}
	for _, f := range usage.Faults {
		fmt.Fprintln(w, "multiraftd:", f)
	}
}

func exitCode(err error) int {
	var usage *node.UsageError
	var data *node.DataError
	var storage *node.StorageError
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &data):
		return exitData
	case errors.As(err, &storage):
		return exitStorage
	}
	return exitFailed
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "multiraftd %s %s\n", version, runtime.Version())
			return err
		},
	}
}
