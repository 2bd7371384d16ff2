package localcluster

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	healthPoll   = 100 * time.Millisecond
	tailBytesMax = 4096
)

// Config says where the binaries are and where the data goes.
type Config struct {
	// Bin is the folder that holds multiraftd, mrctl and mrbench. Required.
	Bin string
	// Dir is an existing folder for the nodes' data and logs. Required; the caller removes it.
	Dir string
	// Nodes is how many processes to run; 0 = 3.
	Nodes int
	// Joiners is how many more there are ports for. They have the ids after the others', found nothing, and are
	// started one by one: each joins at node 1's peer address, and, in this order, gets its own id.
	Joiners int
	// Flags are added to each node's command line; NodeFlags, by id, to that of one node.
	Flags     []string
	NodeFlags map[int][]string
}

// Cluster is a set of node processes with ids from 1. Its methods are for one goroutine at a time.
type Cluster struct {
	config  Config
	base    int // ports: clients base+1.., peers base+n+1.., http base+2n+1..
	running map[int]*Process
	// advertised is where others dial a node, where that is not its own peer address.
	advertised map[int]string
}

// New chooses ports. It starts nothing.
func New(c Config) (*Cluster, error) {
	if c.Bin == "" || c.Dir == "" {
		return nil, errors.New("localcluster: Bin and Dir are required")
	}
	if c.Nodes == 0 {
		c.Nodes = 3
	}
	base, err := freePorts(3*(c.Nodes+c.Joiners) + 1)
	if err != nil {
		return nil, err
	}
	return &Cluster{config: c, base: base, running: make(map[int]*Process), advertised: make(map[int]string)}, nil
}

// StartAll starts every node that does not run.
func (c *Cluster) StartAll() error {
	for id := 1; id <= c.config.Nodes; id++ {
		if p := c.running[id]; p != nil && p.Running() {
			continue
		}
		if err := c.Start(id); err != nil {
			return err
		}
	}
	return nil
}

// Start starts node id, with the same command line each time.
func (c *Cluster) Start(id int) error {
	if id > c.config.Nodes {
		return c.Join(id, c.PeerAddr(1))
	}
	return c.start(id, "--node-id", fmt.Sprint(id), "--bootstrap", c.bootstrap())
}

// Join starts the process of node id with --join.
func (c *Cluster) Join(id int, at string) error { return c.start(id, "--join", at) }

func (c *Cluster) start(id int, how ...string) error {
	args := append([]string{"start",
		"--data-dir", c.DataDir(id),
		"--client-addr", c.ClientAddr(id),
		"--peer-addr", c.PeerAddr(id),
		"--http-addr", c.HTTPAddr(id),
	}, slices.Concat(how, c.config.Flags, c.config.NodeFlags[id])...)
	if addr := c.advertised[id]; addr != "" {
		args = append(args, "--advertise-peer", addr)
	}
	p, err := Launch(exec.Command(c.binary("multiraftd"), args...), c.log(id))
	if err != nil {
		return err
	}
	c.running[id] = p
	return nil
}

// AdvertisePeer lets the others dial node id at addr, where something stands in front of it. Before its first start.
func (c *Cluster) AdvertisePeer(id int, addr string) { c.advertised[id] = addr }

// PID is the process id of node id, or 0 when it does not run.
func (c *Cluster) PID(id int) int {
	p := c.running[id]
	if p == nil || !p.Running() {
		return 0
	}
	return p.cmd.Process.Pid
}

// Kill sends SIGKILL to node id, waits for its end, and returns the time right before the signal.
func (c *Cluster) Kill(id int) (time.Time, error) {
	p := c.running[id]
	if p == nil || !p.Running() {
		return time.Time{}, fmt.Errorf("node %d does not run: %w", id, c.Err())
	}
	return p.Kill()
}

// Stop sends SIGTERM to node id, waits for its end, and returns its exit code.
func (c *Cluster) Stop(id int) (code int, err error) {
	p := c.running[id]
	if p == nil || !p.Running() {
		return 0, fmt.Errorf("node %d does not run: %w", id, c.Err())
	}
	if _, err := p.end(syscall.SIGTERM); err != nil {
		return 0, err
	}
	return p.cmd.ProcessState.ExitCode(), nil
}

// Wait waits until node id has ended by itself, and returns its exit code.
func (c *Cluster) Wait(ctx context.Context, id int) (code int, err error) {
	p := c.running[id]
	if p == nil {
		return 0, fmt.Errorf("node %d was never started", id)
	}
	select {
	case <-p.ended:
		delete(c.running, id)
		return p.cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("node %d did not end: %w; the end of its log:\n%s", id, ctx.Err(), c.Tail(id))
	}
}

// Err tells of a node that ended without having been killed.
func (c *Cluster) Err() error {
	for id := 1; id <= c.all(); id++ {
		if p := c.running[id]; p != nil && !p.Running() && !p.killed.Load() {
			return fmt.Errorf("node %d ended by itself (%w); the end of its log:\n%s", id, errorOrExit0(p.err), c.Tail(id))
		}
	}
	return nil
}

var errExit0 = errors.New("exit status 0")

func errorOrExit0(err error) error {
	if err == nil {
		return errExit0
	}
	return err
}

// Close kills the nodes that run and waits for them.
func (c *Cluster) Close() error {
	var all []error
	for id := 1; id <= c.all(); id++ {
		if p := c.running[id]; p != nil && p.Running() {
			_, err := p.Kill()
			all = append(all, err)
		}
	}
	return errors.Join(all...)
}

// Healthy waits until mrctl finds the cluster healthy, or says why not when ctx ends.
func (c *Cluster) Healthy(ctx context.Context) error {
	tick := time.NewTicker(healthPoll)
	defer tick.Stop()
	var said []byte // last, by an mrctl that was not cut off
	for {
		out, err := c.Ctl(ctx, "cluster", "health", "--timeout", "3s").CombinedOutput()
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			said = out
		}
		if err := c.Err(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not healthy: %w; mrctl cluster health says:\n%s", ctx.Err(), said)
		case <-tick.C:
		}
	}
}

// Leader asks which node leads a partition, and in which term; node 0 = none known.
func (c *Cluster) Leader(ctx context.Context, topic string, partition int) (node int, term uint64, err error) {
	out, err := c.Ctl(ctx, "topic", "describe", topic, "-o", "json").Output()
	if err != nil {
		return 0, 0, fmt.Errorf("asking for the leader: %w", withStderr(err))
	}
	var described struct {
		Partitions []struct {
			Partition, Leader int
			Term              uint64
		}
	}
	if err := json.Unmarshal(out, &described); err != nil {
		return 0, 0, fmt.Errorf("reading the output of topic describe: %w", err)
	}
	for _, p := range described.Partitions {
		if p.Partition == partition {
			return p.Leader, p.Term, nil
		}
	}
	return 0, 0, fmt.Errorf("topic %s has no partition %d", topic, partition)
}

// withStderr adds what a failed command wrote to stderr.
func withStderr(err error) error {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && len(exit.Stderr) > 0 {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	return err
}

// Ctl is mrctl for this cluster, ended when ctx ends.
func (c *Cluster) Ctl(ctx context.Context, args ...string) *exec.Cmd {
	return c.Command(ctx, "mrctl", append([]string{"--addr", c.Addr()}, args...)...)
}

// Command is one of the binaries, ended when ctx ends.
func (c *Cluster) Command(ctx context.Context, binary string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, c.binary(binary), args...)
}

// Addr lists the client addresses, as --addr takes them.
func (c *Cluster) Addr() string {
	addrs := make([]string, c.all())
	for i := range addrs {
		addrs[i] = c.ClientAddr(i + 1)
	}
	return strings.Join(addrs, ",")
}

// ClientAddr is where node id serves clients.
func (c *Cluster) ClientAddr(id int) string { return loopback(c.base + id) }

// PeerAddr is where node id serves its peers; a test may stand there in its place.
func (c *Cluster) PeerAddr(id int) string { return loopback(c.base + c.all() + id) }

// HTTPAddr is where node id serves /metrics.
func (c *Cluster) HTTPAddr(id int) string { return loopback(c.base + 2*c.all() + id) }

// DataDir is where node id keeps its data.
func (c *Cluster) DataDir(id int) string {
	return filepath.Join(c.config.Dir, fmt.Sprintf("node%d", id))
}

// Tail returns the end of a node's log.
func (c *Cluster) Tail(id int) string { return Tail(c.log(id)) }

// Tail returns the end of the log in a file, or why it cannot be read.
func Tail(file string) string {
	log, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return string(log[max(0, len(log)-tailBytesMax):])
}

func (c *Cluster) all() int { return c.config.Nodes + c.config.Joiners }

func (c *Cluster) bootstrap() string {
	peers := make([]string, c.config.Nodes)
	for i := range peers {
		peers[i] = fmt.Sprintf("%d=%s", i+1, cmp.Or(c.advertised[i+1], c.PeerAddr(i+1)))
	}
	return strings.Join(peers, ",")
}

func (c *Cluster) binary(name string) string { return filepath.Join(c.config.Bin, name) }

func (c *Cluster) log(id int) string {
	return filepath.Join(c.config.Dir, fmt.Sprintf("node%d.log", id))
}

// SetNodeFlags gives node id other flags from its next start on.
func (c *Cluster) SetNodeFlags(id int, flags []string) { c.config.NodeFlags[id] = flags }
