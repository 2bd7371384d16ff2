package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the build: -ldflags "-X main.version=v1.2.3".
var version = "devel"

// gcPercent trades memory for processor time, which the load shares with the nodes on a small machine.
const gcPercent = 400

func main() {
	debug.SetGCPercent(gcPercent)
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, cancel) // a second signal ends the process at once
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	cancel()
	os.Exit(code)
}

// run is main without the process.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	fmt.Fprintf(stderr, "mrbench: %v\n", err)
	code := exitCode(err)
	if code == exitUsage {
		fmt.Fprintln(stderr, `Try "mrbench --help".`)
	}
	return code
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "mrbench",
		Short:         "Load a multiraftd cluster, and verify what it stored",
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage(fmt.Errorf("there is no command %q", args[0]))
			}
			cmd.SetOut(cmd.ErrOrStderr()) // stdout is for results
			if err := cmd.Help(); err != nil {
				return err
			}
			return usage(errors.New("mrbench needs a command"))
		},
		Args: cobra.ArbitraryArgs,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage(err) })
	root.AddCommand(
		newCommand("append", "Append records from many clients, and measure", true, runAppend),
		newCommand("read", "Read all partitions back as fast as possible", false, runRead),
		newCommand("mixed", "Append, and follow every partition meanwhile", true, runMixed),
		&cobra.Command{Use: "version", Short: "Print the version", Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "mrbench %s (%s)\n", version, runtime.Version())
			return err
		}})
	return root
}

func newCommand(name, short string, appends bool, f func(context.Context, *job) error) *cobra.Command {
	o := &options{}
	cmd := &cobra.Command{
		Use:   name + " --topic T",
		Short: short,
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.validate(appends); err != nil {
				return err
			}
			return runJob(cmd.Context(), &job{options: o, name: name, stdin: cmd.InOrStdin(), stdout: cmd.OutOrStdout(), stderr: cmd.ErrOrStderr()}, f)
		},
	}
	o.bind(cmd.Flags())
	return cmd
}

func noArgs(cmd *cobra.Command, args []string) error { return usage(cobra.NoArgs(cmd, args)) }
