package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
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

// empty removes what a directory holds.
func empty(dir string) error {
	all, err := os.ReadDir(dir)
	for _, e := range all {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
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
