package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	controllerPartitions = 6
	controllerRate       = 3000 // records of 1 KiB per second
	controllerReplace    = 6 * time.Second
	controllerData       = 3 * time.Second // of load come first: so much has to be moved that it takes its time
)

// regency is a cluster whose controller is killed in the middle of whatever it does, by the end of its node.
type regency struct {
	*cluster
	topic string
	said  []string // figures
}

// controller lets nodes join, partitions move, a node be drained, one be replaced and a follower be filled, and kills
// the node that leads the metadata group, and so runs the controller, in the middle of each.
func controller(ctx context.Context, st *stage) (string, error) {
	members, err := st.reign(ctx, "members", 3, 3, controllerReplace, (*regency).changes)
	if err != nil {
		return "", err
	}
	// A follower that stays away for so long would be replaced there.
	filled, err := st.reign(ctx, "snapshot", 5, 0, 0, (*regency).fills)
	return "the controller's node killed with -9 in the middle: " + members + "; " + filled, err
}

// reign gives a cluster in a folder of its own to an act.
func (st *stage) reign(ctx context.Context, folder string, nodes, joiners int, replaceAfter time.Duration, act func(*regency, context.Context) error) (said string, err error) {
	own := *st
	own.dir = filepath.Join(st.dir, folder)
	if err := os.Mkdir(own.dir, 0o755); err != nil {
		return "", fmt.Errorf("making a scratch folder: %w", err)
	}
	c, err := own.newCluster(nodes, joiners, "--replace-after", replaceAfter.String(), "--snapshot-rate", "4MiB", "--election-timeout", "500ms")
	if err != nil {
		return "", err
	}
	defer c.close(&err)
	r := &regency{cluster: c, topic: "kept"}
	if err := c.start(ctx); err != nil {
		return "", err
	}
	err = act(r, ctx)
	return strings.Join(r.said, ", "), err
}

// changes is all that the controller does, under load.
func (r *regency) changes(ctx context.Context) error {
	l, err := r.startLoad(ctx, r.topic, controllerPartitions, "--size", "1024", "--rate", fmt.Sprint(controllerRate), "--window", "65536")
	if err != nil {
		return err
	}
	for _, act := range []func(*regency, context.Context) error{(*regency).joins, (*regency).moves, (*regency).drains, (*regency).replaces} {
		if err := act(r, ctx); err != nil {
			return err
		}
	}
	rep, err := l.finish()
	if err != nil {
		return err
	}
	r.said = append(r.said, fmt.Sprintf("%d records verified, 0 missing, doubled, changed or reordered, longest stop of a partition %.0f ms",
		rep.Verify.Acknowledged, rep.Stops.Partitions[0].Millis))
	return nil
}

// behead kills the node that runs the controller.
func (r *regency) behead(ctx context.Context, what string, done func() (bool, error)) error {
	s, err := r.status(ctx)
	if err != nil {
		return err
	}
	return r.succeed(ctx, what, s.MetadataLeader, done)
}

// succeed kills a node, which runs the controller, waits until another one does, and starts it again. Whatever is under
// way must not be done at the moment of the kill.
func (r *regency) succeed(ctx context.Context, what string, controller int, done func() (bool, error)) error {
	if over, err := done(); err != nil || over {
		return errors.Join(err, fmt.Errorf("%s was over before the controller's node could be killed", what))
	}
	if _, err := r.Kill(controller); err != nil {
		return err
	}
	began := time.Now()
	err := until(ctx, "another controller", func() (bool, error) {
		now, err := r.status(ctx)
		return err == nil && now.MetadataLeader != 0 && now.MetadataLeader != controller, nil
	})
	if err != nil {
		return err
	}
	progress("%s: node %d, which ran the controller, killed; another one after %s", what, controller, seconds(time.Since(began)))
	return r.Start(controller)
}

func (r *regency) note(what string, began time.Time) {
	r.said = append(r.said, fmt.Sprintf("%s %s", what, seconds(time.Since(began))))
	progress("%s: done", what)
}

func (r *regency) joins(ctx context.Context) error {
	for id := 4; id <= 5; id++ {
		began := time.Now()
		joined := fmt.Sprintf("as node %d", id)
		s, err := r.status(ctx) // asked first: joining is quick
		if err != nil {
			return err
		}
		if err := r.Join(id, strings.Join([]string{r.PeerAddr(1), r.PeerAddr(2), r.PeerAddr(3)}, ",")); err != nil {
			return err
		}
		if err := r.succeed(ctx, "join", s.MetadataLeader, func() (bool, error) { return strings.Contains(r.Tail(id), joined), nil }); err != nil {
			return err
		}
		if err := errors.Join(r.waitLog(ctx, id, joined), r.healthy(ctx)); err != nil {
			return err
		}
		r.note("join", began)
	}
	return nil
}

// operation is a running mrctl.
type operation struct {
	cmd   *exec.Cmd
	said  bytes.Buffer
	ended chan error
}

func (c *cluster) operate(ctx context.Context, args ...string) (*operation, error) {
	o := &operation{cmd: c.Ctl(ctx, append(args, "--timeout", operationTime)...), ended: make(chan error, 1)}
	o.cmd.Stdout, o.cmd.Stderr = &o.said, &o.said
	if err := o.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting mrctl: %w", err)
	}
	go func() { o.ended <- o.cmd.Wait() }()
	return o, nil
}

func (o *operation) over() (bool, error) { return len(o.ended) > 0, nil }

func (o *operation) finish() error {
	if err := <-o.ended; err != nil {
		return fmt.Errorf("mrctl %v: %w: %s", o.cmd.Args[1:], err, o.said.String())
	}
	return nil
}

// moves moves two partitions to nodes that have none of their replicas.
func (r *regency) moves(ctx context.Context) error {
	if err := pause(ctx, controllerData); err != nil {
		return err
	}
	for p := range 2 {
		began := time.Now()
		parts, err := r.describe(ctx, r.topic)
		if err != nil {
			return err
		}
		to := []int{4, 5, parts[p].Replicas[p]}
		o, err := r.operate(ctx, "partition", "move", r.topic, fmt.Sprint(p), "--to", commas(to))
		if err != nil {
			return err
		}
		if err := r.filling(ctx, p); err != nil {
			return err
		}
		if err := r.behead(ctx, "move", o.over); err != nil {
			return err
		}
		if err := errors.Join(o.finish(), r.healthy(ctx)); err != nil {
			return err
		}
		r.note("move", began)
	}
	return nil
}

// filling waits until a partition has learners.
func (r *regency) filling(ctx context.Context, p int) error {
	return until(ctx, "the move is under way", func() (bool, error) {
		parts, err := r.describe(ctx, r.topic)
		return err == nil && len(parts[p].Learners) > 0, err
	})
}

// subject is a node other than the controller's, of those given.
func (r *regency) subject(ctx context.Context, nodes ...int) (int, error) {
	s, err := r.status(ctx)
	i := slices.IndexFunc(nodes, func(n int) bool { return n != s.MetadataLeader })
	return nodes[max(i, 0)], err
}

func (r *regency) drains(ctx context.Context) error {
	began := time.Now()
	n, err := r.subject(ctx, 4, 5)
	if err != nil {
		return err
	}
	o, err := r.operate(ctx, "node", "drain", fmt.Sprint(n))
	if err != nil {
		return err
	}
	if err := until(ctx, "the drain is under way", func() (bool, error) {
		parts, err := r.describe(ctx, r.topic)
		return err == nil && slices.ContainsFunc(parts, func(p partition) bool { return len(p.Learners) > 0 }), err
	}); err != nil {
		return err
	}
	if err := r.behead(ctx, "drain", o.over); err != nil {
		return err
	}
	if err := errors.Join(o.finish(), r.healthy(ctx)); err != nil {
		return err
	}
	if _, err := r.ctl(ctx, "node", "drain", fmt.Sprint(n), "--cancel"); err != nil { // it is of use again
		return err
	}
	r.note("drain", began)
	return nil
}

// replaces kills a node for good, and the controller when it has begun to replace that.
func (r *regency) replaces(ctx context.Context) error {
	n, err := r.subject(ctx, 1, 2)
	if err != nil {
		return err
	}
	began, err := r.Kill(n)
	if err != nil {
		return err
	}
	var left int
	done := func() (bool, error) {
		parts, err := r.describe(ctx, r.topic)
		left = 0
		learners := 0
		for _, p := range parts {
			learners += len(p.Learners)
			if slices.Contains(p.Replicas, n) {
				left++
			}
		}
		return left == 0 && learners == 0 && len(parts) > 0, err
	}
	if err := until(ctx, "the replacement is under way", func() (bool, error) {
		parts, err := r.describe(ctx, r.topic)
		return err == nil && slices.ContainsFunc(parts, func(p partition) bool { return len(p.Learners) > 0 }), err
	}); err != nil {
		return err
	}
	if err := r.behead(ctx, "replacement", done); err != nil {
		return err
	}
	if err := until(ctx, fmt.Sprintf("node %d is replaced", n), done); err != nil {
		return err
	}
	r.note("replacement (--replace-after "+controllerReplace.String()+")", began)
	if _, err := r.ctl(ctx, "node", "remove", fmt.Sprint(n), "--force"); err != nil {
		return err
	}
	return r.healthy(ctx)
}

// fills lets a follower stay away for too long, and kills the controller's node while it is filled by a snapshot.
func (r *regency) fills(ctx context.Context) error {
	const keeps, lines = 12 << 20, 24000
	if _, err := r.ctl(ctx, "topic", "create", "snap", "--partitions", "1", "--replicas", "3", "--retention-bytes", fmt.Sprint(keeps)); err != nil {
		return err
	}
	parts, err := r.describe(ctx, "snap")
	if err != nil {
		return err
	}
	n, err := r.subject(ctx, parts[0].Replicas...)
	if err != nil {
		return err
	}
	if _, err := r.Kill(n); err != nil {
		return err
	}
	if err := r.appendLines(ctx, "snap", 0, lines); err != nil {
		return err
	}
	if err := until(ctx, "the log is truncated", func() (bool, error) {
		parts, err := r.describe(ctx, "snap")
		return err == nil && parts[0].LogStart > 0, err
	}); err != nil {
		return err
	}
	began := time.Now()
	if err := r.Start(n); err != nil {
		return err
	}
	const received, installed = "multiraft_transport_snapshot_chunks_received_total", "multiraft_replica_snapshots_installed_total"
	count := func(name string) float64 {
		v, err := r.sum(ctx, name, n)
		if err != nil { // it does not serve yet
			return 0
		}
		return v
	}
	if err := until(ctx, "a snapshot is on its way", func() (bool, error) { return count(received) > 1, nil }); err != nil {
		return err
	}
	if err := r.behead(ctx, "snapshot", func() (bool, error) { return count(installed) > 0, nil }); err != nil {
		return err
	}
	if err := errors.Join(r.healthy(ctx), r.sameEverywhere(ctx, parts[0].Group, 3)); err != nil {
		return err
	}
	if count(installed) == 0 {
		return errors.New("no snapshot was installed")
	}
	_, err = r.checkLines(ctx, "snap", n, lines)
	r.note("snapshot", began)
	return err
}
