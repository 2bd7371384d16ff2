package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/multiraftd/multiraftd/node"
	"github.com/multiraftd/multiraftd/node/tracing"
)

func startCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "start",
		Short: "Run one node",
		Long: "Run one node. On an empty data directory --bootstrap is required, and the nodes listed there found the cluster\n" +
			"together; or --join, which names members of a cluster that exists. With data present the same line, with or\n" +
			"without either, just starts the node.\n\n" +
			"Every flag can also be set in the environment (--data-dir as MULTIRAFT_DATA_DIR) or in the file named by\n" +
			"--config (YAML, data-dir: ...). A flag wins over the environment, the environment over the file.",
		Args: cobra.NoArgs,
	}
	defineStartFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, logger, err := loadConfig(cmd.Flags(), cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		tracing.LogErrors(logger)
		return serve(cmd.Context(), cfg, logger)
	}
	return cmd
}

// serve runs one node until ctx ends or the node fails.
func serve(ctx context.Context, cfg node.Config, logger *slog.Logger) error {
	begin, sup := time.Now(), newSupervisor(logger)
	sup.starting()
	n, err := node.Start(ctx, cfg)
	if err != nil {
		return stopped(ctx, err)
	}
	go announce(ctx, n, begin, logger, sup)
	go sup.watch(ctx, n)
	select {
	case <-ctx.Done():
	case <-n.Done():
	}
	sup.stopping()
	if n.Err() == nil {
		handOver(n, logger)
	}
	logger.Info("stopping", "node", n.ID())
	return errors.Join(n.Err(), n.Close())
}

// handoverTimeout bounds how long a node that stops waits for others to take over what it leads.
const handoverTimeout = 10 * time.Second

// handOver lets others lead what the node leads. That it may be left undone is no failure: they elect then.
func handOver(n *node.Node, logger *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), handoverTimeout)
	defer cancel()
	if err := n.Handover(ctx); err != nil {
		logger.Warn("leadership not handed over", "node", n.ID(), "err", err)
	}
}

// announce says when the node is ready, and what it waits for until then.
func announce(ctx context.Context, n *node.Node, begin time.Time, logger *slog.Logger, sup *supervisor) {
	for {
		wait, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := n.Ready(wait)
		cancel()
		switch {
		case err == nil:
			logger.Info("ready", "node", n.ID(), "took", time.Since(begin).Round(time.Millisecond))
			sup.ready()
			return
		case ctx.Err() != nil || n.Err() != nil:
			return
		}
		logger.Info("not ready yet", "node", n.ID(), "waiting", err)
		sup.waiting(err)
	}
}

// stopped turns the end of a start that was asked to end into a clean stop.
func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// newLogger returns the logger, or everything that is wrong with what it should be.
func newLogger(w io.Writer, level, format string) (*slog.Logger, []string) {
	var faults []string
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		faults = append(faults, fmt.Sprintf("--log-level %q: want debug, info, warn or error", level))
	}
	opts := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), faults
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), faults
	}
	return nil, append(faults, fmt.Sprintf("--log-format %q: want text or json", format))
}
