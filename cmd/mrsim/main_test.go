package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/multiraftd/multiraftd/cmd/mrsim/planted"
)

// TestMain lets the test binary be a worker of its own sweeps.
func TestMain(m *testing.M) {
	if os.Getenv(workerEnv) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// freshSeeds is how many new seeds each run of the tests takes: fewer under the race detector, which makes them five
// times slower, and has little to find in what runs in one goroutine.
var freshSeeds = uint64(200)

func TestFreshSeedsShowNothingThatMayNotBe(t *testing.T) {
	o := options{from: 1 + rand.Uint64N(1<<40), seeds: freshSeeds, jobs: runtime.NumCPU()}
	t.Logf("seeds %d to %d", o.from, o.from+o.seeds-1)
	var out bytes.Buffer
	if err := sweep(t.Context(), o, &out, io.Discard); err != nil {
		t.Errorf("%s%v", &out, err)
	}
	t.Logf("%s", &out)
}

func TestASweepThatIsInterruptedSaysWhatItHasDone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out bytes.Buffer
	err := sweep(ctx, options{from: 1, seeds: 100, jobs: 1}, &out, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "interrupted after") || !strings.Contains(out.String(), "simulated hours") {
		t.Errorf("%v\n%s", err, &out)
	}
}

// past are seeds that once failed, with what was wrong. What a seed does changes with the code and the
// simulator, so each fault that was found has a test of its own as well.
var past = map[uint64]string{
	6:    "actors: a receipt said that no replica had fsynced the entry",
	216:  "actors: a leader with a stalled disk kept its followers quiet with appends",
	2333: "mrsim: a client asked the same paused node again and again",
	2360: "mrsim: a leader whose disk has stalled was called healthy",
	4254: "raftcore: two reigns in one term, by votes asked for before the candidate's own was synced",
	4608: "raftcore: the same",

	1000351:     "mrsim: the time for which a leader with a stalled disk was paused counted against it",
	1002480:     "mrsim: a replica that was deleted with its topic was missed by a leader that had not heard of it",
	1004822:     "raftcore: a group elected nobody without its leader, at the end of a change of members",
	5000191:     "actors: a leader went quiet by what it had made of the target before",
	8001558:     "actors: a snapshot announced with an election was cancelled by it",
	8001764:     "mrsim: a drain that was planned among the faults came when all was to be well",
	90016727:    "mrsim: a leader that had won when it went on after a pause was called healthy, with the ticks of the pause still to come",
	34872116653: "mrsim: a leader was called stalled whose last entry had been synced in between",
}

func TestSeedsThatOnceFailedPass(t *testing.T) {
	for seed, what := range past {
		if r := run(seed, nil); r.Violation != "" {
			t.Errorf("seed %d (once: %s): %s", seed, what, r.Violation)
		}
	}
}

func TestASeedGivesTheSameTraceTwiceAndOnOneProcessor(t *testing.T) {
	for seed := uint64(1); seed <= 5; seed++ {
		first, second := run(seed, nil), run(seed, nil)
		before := runtime.GOMAXPROCS(1)
		third := run(seed, nil)
		runtime.GOMAXPROCS(before)
		if first.Trace != second.Trace || first.Trace != third.Trace {
			t.Errorf("seed %d: traces %x, %x, and on one processor %x", seed, first.Trace, second.Trace, third.Trace)
		}
		if first.Acked == 0 || first.Trace == fnvOffset {
			t.Errorf("seed %d: %d records acknowledged: this compared nothing", seed, first.Acked)
		}
	}
	if a, b := run(1, nil), run(2, nil); a.Trace == b.Trace {
		t.Error("seeds 1 and 2 have the same trace")
	}
}

func TestSayingWhatHappensChangesNothing(t *testing.T) {
	lines := 0
	loud, quiet := run(3, func(string) { lines++ }), run(3, nil)
	if loud.Trace != quiet.Trace || lines == 0 {
		t.Fatalf("traces %x and %x, %d lines", loud.Trace, quiet.Trace, lines)
	}
}

// TestPlantedBugsAreFound takes a few that need few seeds; make sim-selftest takes all.
func TestPlantedBugsAreFound(t *testing.T) {
	bugs, err := planted.Bugs()
	if err != nil {
		t.Fatal(err)
	}
	binary, err := buildPlanted(t.TempDir(), bugs)
	if err != nil {
		t.Fatal(err)
	}
	if len(bugs) < 20 {
		t.Errorf("%d planted bugs", len(bugs))
	}
	for _, name := range []string{"ack-before-fsync", "vote-not-synced", "waiters-kept", "session-not-stored"} {
		found, seeds, err := find(options{from: 1, seeds: 100, jobs: 1, binary: binary, bug: name})
		if err != nil || found == nil {
			t.Errorf("%s is not found in %d seeds (%v)", name, seeds, err)
			continue
		}
		t.Logf("%s: %d seeds: %s", name, seeds, found.Violation)
	}
}

func TestABugThatDoesNotFitTheSourceIsAnError(t *testing.T) {
	root, err := projectRoot()
	if err != nil {
		t.Fatal(err)
	}
	bugs, err := planted.Bugs()
	if err != nil {
		t.Fatal(err)
	}
	twice := append(bugs[:1:1], bugs[0], bugs[0]) // ack-before-fsync: gone after the first time
	if _, err := planted.Overlay(root, t.TempDir(), twice); err == nil || !strings.Contains(err.Error(), bugs[0].Name) {
		t.Fatalf("%v", err)
	}
}

func TestAnOrdinaryBinaryHasNoBugs(t *testing.T) {
	if err := planted.Activate("ack-before-fsync"); err == nil {
		t.Fatal("a bug is on")
	}
}

func TestArgumentsThatMakeNoSenseAreRefused(t *testing.T) {
	for _, args := range [][]string{{"-nonsense"}, {"17"}, {"-seeds", "0"}, {"-jobs", "0"}, {"-v"}, {"-seeds", "x"}} {
		var out bytes.Buffer
		if _, err := parse(args, &out); err == nil || out.Len() == 0 {
			t.Errorf("%v: %v, %q", args, err, &out)
		}
	}
}

func TestAFailedRunNamesItsSeedInTheLastLine(t *testing.T) {
	var tot total
	tot.add(result{Seed: 17, Violation: "at 1s: rule: text"})
	tot.add(result{Seed: 18, Acked: 5})
	if err := tot.err(); err == nil || !strings.Contains(err.Error(), "SEED=17 V=1") {
		t.Fatalf("%v", err)
	}
	empty := total{}
	empty.add(result{Seed: 1})
	if empty.err() == nil {
		t.Fatal("a run in which nothing was acknowledged counts as success")
	}
	var names []string
	for k := range faultKinds {
		names = append(names, fmt.Sprint(k))
	}
	if strings.Contains(strings.Join(names, ";"), ";;") {
		t.Fatalf("a fault without a name: %q", names)
	}
}
