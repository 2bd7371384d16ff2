package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A reader that went away ("| head") shows as a failed write, not as a signal that kills.
	signal.Ignore(syscall.SIGPIPE)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main without the process.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.InitDefaultCompletionCmd() // it remembers stdout
	wrapArgs(root)
	err := root.ExecuteContext(ctx)
	if err == nil || errors.Is(err, syscall.EPIPE) {
		return exitDone
	}
	code := exitCode(err)
	if !errors.Is(err, errNo) {
		fmt.Fprintf(stderr, "mrctl: %v\n", err)
	}
	if code == exitUsage {
		fmt.Fprintln(stderr, `Try "mrctl --help".`)
	}
	return code
}

func newRoot() *cobra.Command {
	o := &options{}
	root := &cobra.Command{
		Use:           "mrctl",
		Short:         "Append, read and look after multiraftd clusters",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          needCommand,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage(err) })
	o.bind(root.PersistentFlags())
	root.AddCommand(newTopic(o), newAppend(o), newRead(o), newCluster(o), newNode(o), newPartition(o), newGroup(o),
		newBackup(o), newRestore(o), newTrace(o), newCert(o), newVersion(o))
	return root
}

// needCommand is what a command does that only groups others.
func needCommand(cmd *cobra.Command, _ []string) error {
	cmd.SetOut(cmd.ErrOrStderr()) // stdout is for data
	if err := cmd.Help(); err != nil {
		return err
	}
	return usage(fmt.Errorf("%s needs a command", cmd.CommandPath()))
}

// wrapArgs makes every complaint about arguments a usage error.
func wrapArgs(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error { return usage(check(cmd, args)) }
	}
	for _, sub := range cmd.Commands() {
		wrapArgs(sub)
	}
}
