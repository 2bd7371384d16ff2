package main

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/multiraftd/multiraftd/deploy/trial"
)

func TestTheFlagsChooseWorkloadsAndSystems(t *testing.T) {
	o, err := parse([]string{"-workloads", "one,16B", "-systems", "etcd,multiraftd", "-rounds", "2", "-duration", "1s"})
	if err != nil || names(o.workloads) != "one,16B" || names(o.systems) != "etcd,multiraftd" || o.rounds != 2 || o.duration != time.Second {
		t.Errorf("%+v, %v", o, err)
	}
	if o, err = parse(nil); err != nil || len(o.workloads) != len(workloads) || len(o.systems) != len(systems) {
		t.Errorf("without flags: %+v, %v", o, err)
	}
	for _, bad := range []string{"-workloads=all", "-systems=", "-rounds=0", "-duration=0s", "-duration=fast"} {
		if _, err := parse([]string{bad}); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

func TestEverySystemGetsTheSameLoadUnlessItsNotesSayWhatElse(t *testing.T) {
	o := options{bin: "bin", duration: time.Second}
	for _, w := range workloads {
		for _, s := range systems {
			l := s.load(o, w)
			if s.adapt == nil && l.workload != w {
				t.Errorf("%s gets %v for %v", s.name, l, w)
			}
			if s.adapt != nil && l.workload != w && !strings.Contains(s.notes, "4,096") {
				t.Errorf("%s gets %v for %v, and its notes do not say so", s.name, l, w)
			}
			if l.partitions != w.partitions || l.size != w.size || l.window > w.window || l.window < l.clients {
				t.Errorf("%s gets %v for %v", s.name, l, w)
			}
		}
	}
}

func TestALoadOfMultiraftdBatchesOrNot(t *testing.T) {
	many, one := load{workload: workloads[0]}, load{workload: workloads[2]}
	for _, c := range []struct {
		mode mode
		load load
		want string // of its own, after the flags of the topic
	}{
		{stream, many, ""}, {single, many, "--batch-bytes 1 --linger 0"}, {unary, many, "--batch-bytes 1 --linger 0 --mode unary"}, {stream, one, "--linger 0"},
	} {
		got := c.mode.flags(c.load)
		if own := strings.Join(got[slices.Index(got, "3")+1:], " "); own != c.want {
			t.Errorf("mode %d with %d in flight: %q, want %q", c.mode, c.load.window, own, c.want)
		}
	}
}

func TestNATSIsToldToFsyncOrLeftToItsDefault(t *testing.T) {
	s := &servers{dir: "/d", clients: []string{"c1", "c2", "c3"}, peers: []string{"p1", "p2", "p3"}}
	always, left := natsConfig(s, 1, "always"), natsConfig(s, 1, "")
	for _, line := range []string{"server_name: server2\n", `listen: "c2"`, `listen: "p2"`, `routes: ["nats-route://p1", "nats-route://p2", "nats-route://p3"]`, `store_dir: "/d/data2"`} {
		if !strings.Contains(always, line) || !strings.Contains(left, line) {
			t.Errorf("%s is not in\n%s", line, always)
		}
	}
	if !strings.Contains(always, "sync_interval: always\n") || strings.Contains(left, "sync") {
		t.Errorf("%s\n%s", always, left)
	}
}

func figures(rate, p50 float64) trial.Figures {
	f := trial.Figures{RecordsPerS: rate, MBPerS: rate / 1e6}
	f.Latency.P50, f.Latency.P99 = p50, 2*p50
	return f
}

func TestATableHasMediansAndRatiosOfTheRoundsInWhichBothHaveFigures(t *testing.T) {
	x := newTable(workloads[0], []system{{name: "ours", fsync: majority}, {name: "theirs", fsync: notYet}, {name: "broken", fsync: majority}})
	failed := errors.New("failed")
	for round, f := range []trial.Figures{figures(100, 1), figures(200, 2), figures(900, 30)} {
		x.rows[0].add(f, nil)
		var err error
		if round == 1 {
			err = failed
		}
		x.rows[1].add(figures(f.RecordsPerS/4, 1000), err)
		x.rows[2].add(trial.Figures{}, failed)
	}
	var out strings.Builder
	x.print(&out)
	lines := strings.Split(out.String(), "\n")
	for i, want := range map[int]string{
		0: "| System | fsync before ack | records/s | MB/s | p50 ms | p99 ms | ours / it (95 % interval) |",
		2: "| ours | on a majority | 200 | 0.00 | 2.00 | 4.00 | |",
		3: "| theirs (1 of 3 runs failed) | none yet | 125 | 0.00 | 1000 | 2000 | 4.00 (4.00 to 4.00) |",
		4: "| broken (3 of 3 runs failed) | on a majority | ? | ? | ? | ? | ? |",
	} {
		if lines[i] != want {
			t.Errorf("line %d is %s\nwant %s", i, lines[i], want)
		}
	}
}

func TestAWorkloadWithNothingToBatchLeavesOutThoseWhoDoNot(t *testing.T) {
	for _, w := range workloads {
		there := slices.ContainsFunc(newTable(w, systems).rows, func(r *row) bool { return r.system.name == "multiraftd-single" })
		if there != (w.window > 1) {
			t.Errorf("%v: %v", w, there)
		}
	}
}

func TestARunThatFailsIsCountedAndTheRestGoesOn(t *testing.T) {
	turn := 0
	broken := system{name: "broken", fsync: majority, run: func(context.Context, load) (trial.Figures, error) { return trial.Figures{}, errors.New("no disk") }}
	works := system{name: "works", fsync: majority, run: func(context.Context, load) (trial.Figures, error) {
		turn++
		return figures(100, 1), nil
	}}
	var out, progress strings.Builder
	err := compare(t.Context(), options{rounds: 2, workloads: workloads[:1], systems: []system{works, broken}}, &out, &progress)
	if !errors.Is(err, errFailed) || turn != 2 || !strings.Contains(out.String(), "| broken (2 of 2 runs failed) |") || !strings.Contains(progress.String(), "broken: failed: no disk") {
		t.Errorf("%v after %d turns\n%s\n%s", err, turn, &out, &progress)
	}
}

func TestASystemThatWasNotBuiltIsNamed(t *testing.T) {
	err := compare(t.Context(), options{bin: t.TempDir(), rounds: 1, workloads: workloads, systems: systems}, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "make compare") {
		t.Error(err)
	}
}

// One real run of two systems, each as three processes: make test-compare builds them.
func TestThreeProcessesOfEachAcknowledgeWhatTheirClientsAppend(t *testing.T) {
	bin := os.Getenv("COMPARE_TEST_BIN")
	if bin == "" {
		t.Skip("make test-compare builds the systems, and says where they are")
	}
	chosen, err := choose(systems, "multiraftd,multiraftd-single,multiraftd-unary,nats-always,nats-default")
	if err != nil {
		t.Fatal(err)
	}
	var out, progress strings.Builder
	o := options{bin: bin, rounds: 1, duration: 200 * time.Millisecond, systems: chosen,
		workloads: []workload{{name: "tiny", partitions: 3, clients: 2, window: 16, size: 100}}}
	if err := compare(t.Context(), o, &out, &progress); err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	t.Logf("\n%s", &out)
	for _, s := range chosen {
		if !strings.Contains(out.String(), "| "+s.name+" |") || s.programs != nil && !strings.Contains(out.String(), "nats-server/v2 v2.") {
			t.Errorf("%s is missing in\n%s", s.name, &out)
		}
	}
}
