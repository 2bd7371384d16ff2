package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"syscall"
)

// failedReplica lets the disk of node 2 go back in time, as one restored from an image does: the replica of the log is
// behind what it has acknowledged, and quarantined. Starting the node again does not help.
func (w *ward) failedReplica(ctx context.Context) error {
	for tries := 1; ; tries++ {
		done, err := w.rollBack(ctx, 2)
		if err != nil {
			return err
		}
		if done {
			break
		}
		if tries == rollBacksMax {
			return fmt.Errorf("leadership or the metadata changed in each of %d tries", tries)
		}
		if err := errors.Join(w.Start(2), w.healthy(ctx)); err != nil {
			return err
		}
	}
	const failed = `^the replica of group \d+ .*on node 2 has failed`
	if _, err := w.failsAgain(ctx, 2, failed); err != nil {
		return err
	}
	if _, err := w.ill(ctx, failed); err != nil { // it takes a moment, each time
		return err
	}
	return w.replaceAll(ctx, regexp.MustCompile(failed))
}

// replaceAll types in what health says of each replica that has failed, until there is none: while its disk was frozen,
// node 2 may have lost the lead of other groups as well, and acknowledged their new leaders' first entries since.
func (w *ward) replaceAll(ctx context.Context, failed *regexp.Regexp) error {
	ctx, cancel := context.WithTimeout(ctx, healthWaitMax)
	defer cancel()
	typed := map[string]bool{}
	return until(ctx, "no replica has failed", func() (bool, error) {
		h, err := w.reasons(ctx)
		if err != nil {
			return false, nil // as in ill
		}
		none := true
		for _, r := range h.Reasons {
			if !failed.MatchString(r.What) {
				continue
			}
			none = false
			_, replace, ok := strings.Cut(r.Try, "replace it: ")
			if !ok {
				return false, fmt.Errorf("the remedy is %q", r.Try)
			}
			if typed[replace] {
				continue
			}
			typed[replace] = true
			if err := w.typeIn(ctx, w.bin, replace); err != nil {
				return false, err
			}
		}
		return none, nil
	})
}

// rollBack kills node 2, whose disk can be frozen, and puts its data back to what they were some acknowledgements ago,
// of the log and of nothing else. It is not done when that cannot be: another leader of the log does not know
// what the replica has acknowledged, and fills it up again; with the metadata gone back, it is another illness.
func (w *ward) rollBack(ctx context.Context, n int) (done bool, err error) {
	if _, err := w.ctl(ctx, "partition", "transfer-leader", "log", "0", "--to", "1"); err != nil {
		return false, err
	}
	before, err := w.whatCounts(ctx)
	if err != nil {
		return false, err
	}
	back := w.DataDir(n) + ".back"
	if err := w.disk.freeze(ctx); err != nil {
		return false, err
	}
	copied := os.CopyFS(back, os.DirFS(w.DataDir(n)))
	if err := errors.Join(copied, w.disk.thaw(ctx), w.more(ctx, 500), w.healthy(ctx), w.caughtUp(ctx, "log")); err != nil {
		return false, err
	}
	if _, err := w.Kill(n); err != nil {
		return false, err
	}
	after, err := w.whatCounts(ctx)
	if err != nil || after != before {
		return false, errors.Join(err, os.RemoveAll(back))
	}
	if err := errors.Join(empty(w.DataDir(n)), os.CopyFS(w.DataDir(n), os.DirFS(back)), os.RemoveAll(back)); err != nil {
		return false, fmt.Errorf("restoring a data directory: %w", err)
	}
	return true, nil
}

// caughtUp waits until all replicas of a topic's first partition have acknowledged all of its log: before that the disk of
// one may go back in time, and nothing that it has acknowledged is lost.
func (w *ward) caughtUp(ctx context.Context, topic string) error {
	parts, err := w.describe(ctx, topic)
	if err != nil {
		return err
	}
	return w.acknowledged(ctx, parts[0].Group)
}

func (w *ward) acknowledged(ctx context.Context, group uint64) error {
	return until(ctx, "all replicas have acknowledged the log", func() (bool, error) {
		var g struct{ Replicas []acknowledging }
		if err := w.ask(ctx, &g, "group", "describe", fmt.Sprint(group)); err != nil {
			return false, err
		}
		for _, r := range g.Replicas {
			if r.Role == "leader" {
				return r.all(), nil
			}
		}
		return false, nil
	})
}

// acknowledging is what the leader of a group knows of its members.
type acknowledging struct {
	Role   string
	Last   uint64 `json:"last_index"`
	Detail *struct{ Members []struct{ Match uint64 } }
}

func (a *acknowledging) all() bool {
	if a.Detail == nil {
		return false
	}
	for _, m := range a.Detail.Members {
		if m.Match != a.Last {
			return false
		}
	}
	return true
}

const metadataGroup = 1

// reigns are the term of the log's leader, and how much is committed in the metadata group.
type reigns struct{ term, commit uint64 }

func (w *ward) whatCounts(ctx context.Context) (r reigns, err error) {
	parts, err := w.describe(ctx, "log")
	if err != nil {
		return r, err
	}
	var meta struct{ Replicas []struct{ Commit uint64 } }
	if err := w.ask(ctx, &meta, "group", "describe", fmt.Sprint(metadataGroup)); err != nil {
		return r, err
	}
	r.term = parts[0].Term
	for _, replica := range meta.Replicas {
		r.commit = max(r.commit, replica.Commit)
	}
	return r, nil
}

// failsAgain starts a node, waits for a reason, and does what it says first: it starts the node again.
func (w *ward) failsAgain(ctx context.Context, id int, what string) (r reason, err error) {
	for range 2 {
		if err := w.Start(id); err != nil {
			return r, err
		}
		if r, err = w.ill(ctx, what); err != nil {
			return r, err
		}
		if !strings.Contains(r.Try, fmt.Sprintf("restart node %d, and keep its log for a report. If it fails again, ", id)) {
			return r, fmt.Errorf("the remedy is %q", r.Try)
		}
		if _, err := w.Kill(id); err != nil {
			return r, err
		}
	}
	return r, w.Start(id)
}

// backInTime restores an older copy of the data directory of a node, as a snapshot of a virtual machine does: made while
// it ran, and it has not been started again since, or the copy would be told from it at once. Its replica of the metadata
// group is quarantined as well, so that another node has to come.
func (w *ward) backInTime(ctx context.Context) error {
	n := w.third
	back := w.DataDir(n) + ".back"
	if err := syscall.Kill(w.PID(n), syscall.SIGSTOP); err != nil {
		return fmt.Errorf("pausing node %d: %w", n, err)
	}
	err := os.CopyFS(back, os.DirFS(w.DataDir(n)))
	if err = errors.Join(err, syscall.Kill(w.PID(n), syscall.SIGCONT)); err != nil {
		return fmt.Errorf("copying a data directory: %w", err)
	}
	if err := errors.Join(w.healthy(ctx), w.more(ctx, 500)); err != nil {
		return err
	}
	if _, err := w.ctl(ctx, "topic", "create", "since", "--partitions", "1", "--replicas", "3"); err != nil { // something in the metadata's log
		return err
	}
	if err := errors.Join(w.healthy(ctx), w.acknowledged(ctx, metadataGroup), w.caughtUp(ctx, "log")); err != nil {
		return err
	}
	if _, err := w.Kill(n); err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(w.DataDir(n)), os.Rename(back, w.DataDir(n))); err != nil {
		return err
	}
	r, err := w.failsAgain(ctx, n, fmt.Sprintf("^the replica of the metadata group on node %d has failed", n))
	if err != nil {
		return err
	}
	if _, err := w.Kill(n); err != nil { // stop it, it says
		return err
	}
	return w.rejoin(ctx, r)
}
