package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

const (
	remedyElection = time.Second
	rollBacksMax   = 5
	// bulkLines are more than the files of a node's write-ahead log hold, which it keeps for use (docs/operations.md).
	bulkLines = 400 << 20 / lineBytes
)

// ward is the cluster on which illnesses are caused and cured. Node 2 has a disk of its own, which can be filled and
// stalled. Topic "t" has four partitions, topic "log" one, of lines.
type ward struct {
	*cluster
	bin   string
	disk  *disk
	lines int
	third int // the node that is replaced: 3, then those that joined in its place
}

// illness causes something that health has a reason for, and does what the reason says.
type illness struct {
	name string
	cure func(*ward, context.Context) error
}

var illnesses = []illness{
	{"dead node", (*ward).deadNode},
	{"group without quorum", (*ward).noQuorum},
	{"stalled disk", (*ward).stalledDisk},
	{"nearly full disk", (*ward).fullDisk},
	{"lagging follower", (*ward).lagging},
	{"stuck drain", (*ward).stuckDrain},
	{"failed replica", (*ward).failedReplica},
	{"wiped node", (*ward).wipedNode},
	{"disk back in time", (*ward).backInTime},
}

// remedies causes each illness that cluster health knows, and does what it says.
func remedies(ctx context.Context, st *stage) (figures string, err error) {
	c, err := st.newCluster(3, 3, "--election-timeout", remedyElection.String(), "--replace-after", "0", "--snapshot-rate", "2MiB")
	if err != nil {
		return "", err
	}
	d, err := newDisk(ctx, c.DataDir(2))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, d.remove(context.WithoutCancel(ctx))) }()
	defer c.close(&err)
	defer func() { err = errors.Join(err, d.thaw(context.WithoutCancel(ctx))) }()
	w := &ward{cluster: c, bin: st.bin, disk: d, third: 3}
	if err := w.admit(ctx); err != nil {
		return "", err
	}
	var all []string
	for _, i := range illnesses {
		began := time.Now()
		if err := i.cure(w, ctx); err != nil {
			return "", fmt.Errorf("%s: %w", i.name, err)
		}
		if err := c.healthy(ctx); err != nil {
			return "", fmt.Errorf("%s, after the remedy: %w", i.name, err)
		}
		progress("%s: healthy again", i.name)
		all = append(all, fmt.Sprintf("%s %s", i.name, seconds(time.Since(began))))
		if err := w.sound(ctx); err != nil {
			return "", fmt.Errorf("%s, after the remedy: %w", i.name, err)
		}
	}
	return fmt.Sprintf("caused, named with exit 10, remedy typed in, exit 0, %d lines as appended: %s", w.lines, strings.Join(all, ", ")), nil
}

func (w *ward) admit(ctx context.Context) error {
	if err := w.start(ctx); err != nil {
		return err
	}
	for topic, partitions := range map[string]string{"t": "4", "log": "1"} {
		if _, err := w.ctl(ctx, "topic", "create", topic, "--partitions", partitions, "--replicas", "3"); err != nil {
			return err
		}
	}
	return w.more(ctx, 1000)
}

// more appends lines to the log.
func (w *ward) more(ctx context.Context, n int) error {
	w.lines += n
	return w.appendLines(ctx, "log", w.lines-n, w.lines)
}

// sound appends something and reads all lines.
func (w *ward) sound(ctx context.Context) error {
	if err := w.more(ctx, 100); err != nil {
		return err
	}
	parts, err := w.describe(ctx, "log")
	if err != nil {
		return err
	}
	n, err := w.checkLines(ctx, "log", parts[0].Leader, w.lines)
	if err == nil && n != w.lines {
		return fmt.Errorf("%d lines of %d are there", n, w.lines)
	}
	return err
}

// deadNode kills a node: groups are under-replicated, too.
func (w *ward) deadNode(ctx context.Context) error {
	if _, err := w.Kill(3); err != nil {
		return err
	}
	for _, what := range []string{"^node 3 is not alive", `^group \d+ .*under-replicated`} {
		r, err := w.ill(ctx, what)
		if err != nil {
			return err
		}
		if !strings.Contains(r.Try, "start") {
			return fmt.Errorf("the remedy does not say to start the node: %q", r.Try)
		}
	}
	return w.Start(3)
}

func (w *ward) noQuorum(ctx context.Context) error {
	for _, id := range []int{1, 3} {
		if _, err := w.Kill(id); err != nil {
			return err
		}
	}
	r, err := w.ill(ctx, `^group \d+ .*has no leader`)
	if err != nil {
		return err
	}
	if !strings.Contains(r.Try, "start the nodes that are not alive") || !strings.Contains(r.Why, "nodes [1 3] do not answer") {
		return fmt.Errorf("health says %+v", r)
	}
	return errors.Join(w.Start(1), w.Start(3))
}

// stalledDisk freezes the disk of node 2: appends go on without it. Then the disk goes on, as after a repair.
func (w *ward) stalledDisk(ctx context.Context) error {
	if err := w.disk.freeze(ctx); err != nil {
		return err
	}
	ends := make(chan error, 1)
	go func() { ends <- w.more(ctx, 1000) }() // without something to write no disk stalls
	_, err := w.ill(ctx, "^the disk of node 2 has stalled")
	if err := errors.Join(err, <-ends); err != nil {
		return err
	}
	return w.disk.thaw(ctx)
}

// fullDisk fills the disk of node 2 twice: what somebody else left there is deleted, and less is kept.
func (w *ward) fullDisk(ctx context.Context) error {
	const left = diskBytes / 5
	file, err := w.disk.fill(left)
	if err != nil {
		return err
	}
	r, err := w.ill(ctx, "^the disk of node 2 is nearly full")
	if err != nil {
		return err
	}
	if !strings.Contains(r.Try, "delete what else is on that disk") {
		return fmt.Errorf("the remedy is %q", r.Try)
	}
	if err := os.Remove(file); err != nil {
		return err
	}
	if err := w.healthy(ctx); err != nil {
		return err
	}
	if _, err := w.ctl(ctx, "topic", "create", "bulk", "--partitions", "1", "--replicas", "3"); err != nil {
		return err
	}
	if err := w.appendLines(ctx, "bulk", 0, bulkLines); err != nil { // to be given back
		return err
	}
	if file, err = w.disk.fill(left); err != nil {
		return err
	}
	if r, err = w.ill(ctx, "^the disk of node 2 is nearly full"); err != nil {
		return err
	}
	for _, line := range commandsOf(r.Try) {
		if err := w.typeIn(ctx, w.bin, line, "NAME", "bulk", "SIZE", "16MiB"); err != nil {
			return err
		}
	}
	err = w.healthy(ctx)
	return errors.Join(err, os.Remove(file))
}

// lagging fills a follower slowly: snapshots are limited to 2 MiB a second here.
func (w *ward) lagging(ctx context.Context) error {
	if _, err := w.ctl(ctx, "topic", "create", "short", "--partitions", "1", "--replicas", "3", "--retention-bytes", "12MiB"); err != nil {
		return err
	}
	if _, err := w.Kill(3); err != nil {
		return err
	}
	if err := w.appendLines(ctx, "short", 0, 30000); err != nil {
		return err
	}
	if err := until(ctx, "the log is truncated", func() (bool, error) {
		parts, err := w.describe(ctx, "short")
		return err == nil && parts[0].LogStart > 0, err
	}); err != nil {
		return err
	}
	if err := w.Start(3); err != nil {
		return err
	}
	r, err := w.ill(ctx, `^the replica of group \d+ .*on node 3 lags behind`)
	if err != nil {
		return err
	}
	for _, line := range commandsOf(r.Try) {
		if err := w.typeIn(ctx, w.bin, line); err != nil {
			return err
		}
	}
	if err := w.healthy(ctx); err != nil {
		return err
	}
	_, err = w.checkLines(ctx, "short", 3, 30000)
	return err
}

// stuckDrain drains one of three nodes where every partition has three replicas.
func (w *ward) stuckDrain(ctx context.Context) error {
	if _, err := w.ctlCode(ctx, 1, "node", "drain", "3", "--timeout", "3s"); err != nil {
		return err
	}
	r, err := w.ill(ctx, `replicas cannot leave node 3`)
	if err != nil {
		return err
	}
	lines := commandsOf(r.Try)
	if len(lines) != 2 {
		return fmt.Errorf("the remedy %q has %d commands, not 2", r.Try, len(lines))
	}
	if err := w.typeIn(ctx, w.bin, lines[1]); err != nil { // the cancelling one; the other is typed for the wiped node
		return err
	}
	return w.healthy(ctx)
}

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
	group := fmt.Sprint(parts[0].Group)
	return until(ctx, "all replicas have acknowledged the log", func() (bool, error) {
		var g struct{ Replicas []acknowledging }
		if err := w.ask(ctx, &g, "group", "describe", group); err != nil {
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

// reigns are the term of the log's leader, and how much is committed in the metadata group.
type reigns struct{ term, commit uint64 }

func (w *ward) whatCounts(ctx context.Context) (r reigns, err error) {
	parts, err := w.describe(ctx, "log")
	if err != nil {
		return r, err
	}
	var meta struct{ Replicas []struct{ Commit uint64 } }
	if err := w.ask(ctx, &meta, "group", "describe", "1"); err != nil {
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

// empty removes what a directory holds.
func empty(dir string) error {
	all, err := os.ReadDir(dir)
	for _, e := range all {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
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
	if err := errors.Join(w.healthy(ctx), w.more(ctx, 500), w.healthy(ctx), w.caughtUp(ctx, "log")); err != nil {
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

var joinAt = regexp.MustCompile(`^multiraftd start --data-dir NEW_DIR --client-addr H:P --peer-addr H:P --http-addr H:P --join (\S+)$`)

// wipedNode empties the data directory of node 3: it must not come back under its old id.
func (w *ward) wipedNode(ctx context.Context) error {
	if _, err := w.Kill(3); err != nil {
		return err
	}
	if err := os.RemoveAll(w.DataDir(3)); err != nil {
		return err
	}
	if err := w.Start(3); err != nil {
		return err
	}
	if code, err := w.Wait(ctx, 3); err != nil || code != 3 {
		return fmt.Errorf("the wiped node ended with %d, %w:\n%s", code, err, w.Tail(3))
	}
	r, err := w.ill(ctx, "^node 3 is not alive")
	if err != nil {
		return err
	}
	return w.rejoin(ctx, r)
}

// rejoin types in what is printed for a node whose data are lost.
func (w *ward) rejoin(ctx context.Context, r reason) error {
	lines := commandsOf(r.Try)
	if len(lines) != 2 {
		return fmt.Errorf("the remedy %q has %d commands, not 2", r.Try, len(lines))
	}
	if err := w.typeIn(ctx, w.bin, lines[0]); err != nil {
		return err
	}
	at := joinAt.FindStringSubmatch(lines[1])
	if at == nil {
		return fmt.Errorf("the remedy's second command is %q", lines[1])
	}
	progress("typed: %s", lines[1])
	id := w.third + 1
	w.third = id
	if err := w.Join(id, at[1]); err != nil {
		return err
	}
	return w.waitLog(ctx, id, fmt.Sprintf("as node %d", id))
}
