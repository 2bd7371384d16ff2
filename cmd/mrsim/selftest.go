package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/multiraftd/multiraftd/cmd/mrsim/planted"
)

// selftest proves that the simulator finds what it is for: each planted bug within a number of seeds, and
// nothing in the tree without them, on the same seeds.
func selftest(o options, out io.Writer) error {
	bugs, err := planted.Bugs()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mrsim-selftest-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary, err := buildPlanted(dir, bugs)
	if err != nil {
		return err
	}
	var needed []uint64
	last := o.from
	for _, b := range bugs {
		if o.bug != "" && o.bug != b.Name {
			continue
		}
		began := time.Now()
		hunt := o
		hunt.binary, hunt.bug = binary, b.Name
		found, seeds, err := find(hunt)
		if err != nil {
			return fmt.Errorf("%s: %w", b.Name, err)
		}
		if found == nil {
			fmt.Fprintf(out, "%-28s NOT FOUND in %d seeds, %v: %s\n", b.Name, seeds, time.Since(began).Round(time.Second), b.Text)
			continue
		}
		last, needed = max(last, found.Seed), append(needed, seeds)
		fmt.Fprintf(out, "%-28s %5d seeds %5.1f s  %s\n", b.Name, seeds, time.Since(began).Seconds(), found.Violation)
	}
	return conclude(o, out, binary, len(bugs), needed, last)
}

// conclude runs the seeds that the bugs took without any of them, and adds up.
func conclude(o options, out io.Writer, binary string, bugs int, needed []uint64, last uint64) error {
	if o.bug != "" {
		bugs = 1
	}
	clean := o
	clean.binary, clean.bug, clean.seeds = binary, "", last-o.from+1
	var t total
	if err := farm(clean, func(r result) bool { t.add(r); return true }); err != nil {
		return err
	}
	if err := t.err(); err != nil {
		return fmt.Errorf("without any bug: %w", err)
	}
	if quiet := t.neverFired(); len(quiet) > 0 && clean.seeds >= 100 {
		return fmt.Errorf("faults that never fired in %d seeds: %s", clean.seeds, join(quiet))
	}
	if len(needed) < bugs {
		return fmt.Errorf("%d of %d planted bugs found", len(needed), bugs)
	}
	slices.Sort(needed)
	fmt.Fprintf(out, "%d of %d planted bugs found, median %d seeds, at most %d; the same %d seeds are clean without them\n",
		len(needed), bugs, needed[len(needed)/2], needed[len(needed)-1], clean.seeds)
	return nil
}

// find runs seeds until one fails, and says how many it took.
func find(o options) (found *result, seeds uint64, err error) {
	err = farm(o, func(r result) bool {
		if r.Violation == "" {
			return true
		}
		if found == nil || r.Seed < found.Seed {
			found = &r
		}
		return false
	})
	if found == nil {
		return nil, o.seeds, err
	}
	return found, found.Seed - o.from + 1, err
}

// buildPlanted builds mrsim with the bugs in it, from the project that contains the current directory.
func buildPlanted(dir string, bugs []planted.Bug) (string, error) {
	root, err := projectRoot()
	if err != nil {
		return "", err
	}
	overlay, err := planted.Overlay(root, dir, bugs)
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "mrsim-planted")
	cmd := exec.Command("go", "build", "-overlay", overlay, "-o", binary, "./cmd/mrsim")
	cmd.Dir = root
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("the planted bugs do not compile: %w\n%s", err, text)
	}
	return binary, nil
}

func projectRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no go.mod here or above: the planted bugs are changes of the project's source, so run this in a checkout")
		}
	}
}
