package trial

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/multiraftd/multiraftd/deploy/localcluster"
)

const healthWaitMax = 60 * time.Second

// Config says what to run.
type Config struct {
	Bin     string   // folder of multiraftd and mrctl
	Flags   []string // of multiraftd start, in addition
	LoadBin string   // folder of mrbench
	Load    []string // arguments of mrbench append, but for the addresses
}

// Multiraftd runs a load once, against three new processes with new data.
func Multiraftd(ctx context.Context, config Config) (f Figures, err error) {
	dir, err := os.MkdirTemp("", "multiraftd-trial-")
	if err != nil {
		return Figures{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	c, err := localcluster.New(localcluster.Config{Bin: config.Bin, Dir: dir, Flags: config.Flags})
	if err != nil {
		return Figures{}, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.StartAll(); err != nil {
		return Figures{}, err
	}
	waiting, cancel := context.WithTimeout(ctx, healthWaitMax)
	defer cancel()
	if err := c.Healthy(waiting); err != nil {
		return Figures{}, err
	}
	f, err = Load(exec.CommandContext(ctx, filepath.Join(config.LoadBin, "mrbench"), append([]string{"append", "--addr", c.Addr(), "-o", "json"}, config.Load...)...))
	return f, errors.Join(err, c.Err())
}

// Load runs a load program to its end and reads its figures.
func Load(cmd *exec.Cmd) (Figures, error) {
	said, err := cmd.Output()
	name := filepath.Base(cmd.Path)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return Figures{}, fmt.Errorf("%s: %w: %s", name, err, exit.Stderr)
	}
	if err != nil {
		return Figures{}, fmt.Errorf("%s: %w", name, err)
	}
	f, err := Parse(said)
	if err != nil {
		return Figures{}, fmt.Errorf("%s: %w", name, err)
	}
	return f, nil
}
