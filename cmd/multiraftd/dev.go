package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/multiraftd/multiraftd/node"
	"github.com/multiraftd/multiraftd/node/tracing"
	"github.com/multiraftd/multiraftd/raftcore"
)

// Addresses of `multiraftd dev`: node i listens on base+i, base+10+i and base+20+i.
const (
	devNodesMax   = 5
	devPeerOffset = 10
	devHTTPOffset = 20
	devBasePort   = 7070
)

type devOptions struct {
	nodes    int
	dataDir  string
	basePort int
	logLevel string
	tracing  tracing.Config // as the OTEL_* variables say
}

func devCommand() *cobra.Command {
	var o devOptions
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a whole cluster in this process, to try things out",
		Long: "Run a whole cluster in this process, on loopback: node i serves clients on port 7070+i. Its data are fsynced as\n" +
			"in production. Without --data-dir they are in a temporary directory that is removed at the end.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context(), cmd.ErrOrStderr()) },
	}
	cmd.Flags().IntVar(&o.nodes, "nodes", 3, "how many nodes, 1 to 5")
	cmd.Flags().StringVar(&o.dataDir, "data-dir", "", "keep the data here, for the next run to find")
	cmd.Flags().IntVar(&o.basePort, "base-port", devBasePort, "node i: client BASE+i, peer BASE+10+i, http BASE+20+i")
	cmd.Flags().StringVar(&o.logLevel, "log-level", "warn", "debug, info, warn or error")
	return cmd
}

func (o *devOptions) run(ctx context.Context, stderr io.Writer) (err error) {
	logger, err := o.validate(stderr)
	if err != nil {
		return err
	}
	if o.dataDir == "" {
		dir, err := os.MkdirTemp("", "multiraftd-dev-")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		o.dataDir = dir
	}
	tracing.LogErrors(logger)
	begin := time.Now()
	nodes, err := o.start(ctx, logger)
	if err != nil {
		return stopped(ctx, errors.Join(err, closeAll(nodes)))
	}
	if err := o.waitReady(ctx, nodes); err != nil {
		return stopped(ctx, errors.Join(err, closeAll(nodes)))
	}
	o.greet(stderr, nodes, time.Since(begin))
	failed := firstFailure(ctx, nodes)
	return errors.Join(failed, o.stop(nodes, logger))
}

// stop stops the nodes, one after the other as long as those left can take over, then the rest at once.
func (o *devOptions) stop(nodes []*node.Node, logger *slog.Logger) error {
	var errs []error
	for majority := len(nodes)/2 + 1; len(nodes) > majority; nodes = nodes[1:] {
		if nodes[0].Err() == nil {
			handOver(nodes[0], logger)
		}
		errs = append(errs, nodes[0].Close())
	}
	return errors.Join(append(errs, closeAll(nodes))...)
}

func (o *devOptions) validate(stderr io.Writer) (*slog.Logger, error) {
	var faults []string
	if o.nodes < 1 || o.nodes > devNodesMax {
		faults = append(faults, fmt.Sprintf("--nodes %d is out of range: 1 to %d", o.nodes, devNodesMax))
	}
	if o.basePort < 1 || o.basePort > 65535-devHTTPOffset-devNodesMax {
		faults = append(faults, fmt.Sprintf("--base-port %d is out of range: 1 to %d", o.basePort, 65535-devHTTPOffset-devNodesMax))
	}
	logger, more := newLogger(stderr, o.logLevel, "text")
	faults = append(faults, more...)
	var err error
	if o.tracing.Ratio, err = tracing.Ratio("", ""); err != nil {
		faults = append(faults, err.Error())
	}
	if len(faults) > 0 {
		return nil, &node.UsageError{Faults: faults}
	}
	return logger, nil
}

func (o *devOptions) addr(offset, i int) string {
	return fmt.Sprintf("127.0.0.1:%d", o.basePort+offset+i)
}

// start starts all nodes at once: those of an empty cluster wait for each other.
func (o *devOptions) start(ctx context.Context, logger *slog.Logger) ([]*node.Node, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	set := map[raftcore.NodeID]string{}
	for i := 1; i <= o.nodes; i++ {
		set[raftcore.NodeID(i)] = o.addr(devPeerOffset, i)
	}
	nodes, errs := make([]*node.Node, o.nodes), make([]error, o.nodes)
	var wg sync.WaitGroup
	for i := 1; i <= o.nodes; i++ {
		wg.Go(func() {
			nodes[i-1], errs[i-1] = node.Start(ctx, node.Config{
				ID: raftcore.NodeID(i), DataDir: filepath.Join(o.dataDir, fmt.Sprintf("node%d", i)), Bootstrap: set,
				ClientAddr: o.addr(0, i), PeerAddr: o.addr(devPeerOffset, i), HTTPAddr: o.addr(devHTTPOffset, i),
				Version: version, Logger: logger.With("node", i), Tracing: o.tracing,
			})
			if errs[i-1] != nil {
				cancel() // the others may wait for this one
			}
		})
	}
	wg.Wait()
	return nodes, firstCause(errs)
}

// firstCause prefers what went wrong over the cancellations that followed from it.
func firstCause(errs []error) error {
	var canceled error
	for _, err := range errs {
		switch {
		case err == nil:
		case errors.Is(err, context.Canceled):
			canceled = err
		default:
			return err
		}
	}
	return canceled
}

func (o *devOptions) waitReady(ctx context.Context, nodes []*node.Node) error {
	for _, n := range nodes {
		if err := n.Ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (o *devOptions) greet(w io.Writer, nodes []*node.Node, took time.Duration) {
	fmt.Fprintf(w, "multiraftd %s: %d nodes, cluster %s, data in %s (fsynced before every acknowledgement)\n", version, len(nodes), nodes[0].Cluster(), o.dataDir)
	var addrs []string
	for _, n := range nodes {
		fmt.Fprintf(w, "  node %d   clients %s   http %s (/readyz /metrics /debug/groups /debug/pprof)\n", n.ID(), n.ClientAddr(), n.HTTPAddr())
		addrs = append(addrs, n.ClientAddr())
	}
	fmt.Fprintf(w, "ready in %v. In another terminal, in this directory:\n\n", took.Round(time.Millisecond))
	if o.basePort != devBasePort || o.nodes != 3 {
		fmt.Fprintf(w, "  export MULTIRAFT_ADDR=%s\n", strings.Join(addrs, ","))
	}
	fmt.Fprintf(w, "  bin/mrctl topic create hello --partitions 3 --replicas %d\n", min(o.nodes, 3))
	fmt.Fprint(w, "  seq 1 10 | bin/mrctl append hello\n  bin/mrctl read hello --from start --to end\n  bin/mrctl cluster status\n\n")
	fmt.Fprintln(w, "Ctrl-C stops the cluster.")
}

// firstFailure waits until ctx ends or a node fails.
func firstFailure(ctx context.Context, nodes []*node.Node) error {
	failed := make(chan error, len(nodes))
	for _, n := range nodes {
		go func() {
			select {
			case <-n.Done():
				failed <- n.Err()
			case <-ctx.Done():
			}
		}()
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

func closeAll(nodes []*node.Node) error {
	errs := make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		if n != nil {
			wg.Go(func() { errs[i] = n.Close() })
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}
