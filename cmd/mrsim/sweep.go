package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// total adds up what runs tell.
type total struct {
	seeds     uint64
	simulated time.Duration
	acked     uint64
	fired     [faultKinds]uint64
	calmMax   time.Duration
	windows   uint64
	truncated uint64 // log starts seen to move
	quiet     uint64 // times that a replica went quiet
	failed    []result
}

func (t *total) add(r result) {
	t.seeds++
	t.simulated += r.Simulated
	t.acked += r.Acked
	for k, n := range r.Fired {
		t.fired[k] += n
	}
	t.calmMax = max(t.calmMax, r.Calm)
	t.windows += uint64(r.Windows)
	t.truncated += r.Truncated
	t.quiet += r.Quiet
	if r.Violation != "" {
		t.failed = append(t.failed, r)
	}
}

// print says what was done. Its last line is the summary; that of a failed run is err's.
func (t *total) print(out io.Writer, took time.Duration) {
	for k, n := range t.fired {
		fmt.Fprintf(out, "%10d %s\n", n, faultKind(k))
	}
	fmt.Fprintf(out, "everything pending ended at most %v after a quorum had healed; porcupine searched %d windows; logs were cut %d times; replicas went quiet %d times\n", t.calmMax, t.windows, t.truncated, t.quiet)
	faults := uint64(0)
	for _, n := range t.fired {
		faults += n
	}
	fmt.Fprintf(out, "%d seeds in %v (%.1f per s), %.2f simulated hours, %d records acknowledged, %d faults fired\n",
		t.seeds, took.Round(time.Millisecond), float64(t.seeds)/took.Seconds(), t.simulated.Hours(), t.acked, faults)
}

func (t *total) err() error {
	if len(t.failed) == 0 {
		if t.acked == 0 {
			return errors.New("no record was acknowledged: this tested nothing")
		}
		return nil
	}
	first := t.failed[0]
	return fmt.Errorf("%d of %d seeds failed; seed %d (make sim SEED=%d V=1) %s", len(t.failed), t.seeds, first.Seed, first.Seed, first.Violation)
}

// neverFired lists the faults that did not take effect.
func (t *total) neverFired() (quiet []faultKind) {
	for k, n := range t.fired {
		if n == 0 {
			quiet = append(quiet, faultKind(k))
		}
	}
	return quiet
}

// sweep runs many seeds in several processes: etcd/raft draws its timeouts from a variable of the process, so
// that each can hold one world at a time. It ends early when enough have failed, or with ctx, and says now and then how
// far it is.
func sweep(ctx context.Context, o options, out, progress io.Writer) error {
	began := time.Now()
	said := began
	var t total
	err := farm(o, func(r result) bool {
		t.add(r)
		if r.Violation != "" {
			fmt.Fprintf(out, "seed %d: %s\n", r.Seed, r.Violation)
		}
		if now := time.Now(); now.Sub(said) >= progressInterval {
			said = now
			fmt.Fprintf(progress, "%d of %d seeds in %v, %d failed\n", t.seeds, o.seeds, now.Sub(began).Round(time.Second), len(t.failed))
		}
		return len(t.failed) < failuresMax && ctx.Err() == nil
	})
	if ctx.Err() != nil && t.seeds < o.seeds {
		err = errors.Join(err, fmt.Errorf("interrupted after %d of %d seeds", t.seeds, o.seeds))
	}
	t.print(out, time.Since(began))
	return errors.Join(err, t.err())
}

const progressInterval = 30 * time.Second

// failuresMax ends a sweep: more of the same say nothing new.
const failuresMax = 20

// farm hands the seeds out to workers, and their results to take, one at a time, until it returns false.
func farm(o options, take func(result) bool) error {
	seeds, results := make(chan uint64), make(chan result)
	stop := make(chan struct{})
	var feeding, working sync.WaitGroup
	feeding.Go(func() {
		defer close(seeds)
		for s := o.from; s < o.from+o.seeds; s++ {
			select {
			case seeds <- s:
			case <-stop:
				return
			}
		}
	})
	errs := make([]error, o.jobs)
	for i := range errs {
		working.Go(func() { errs[i] = work(o, seeds, results) })
	}
	go func() {
		working.Wait()
		close(results)
	}()
	stopped := false
	for r := range results {
		if !stopped && !take(r) {
			stopped = true
			close(stop)
		}
	}
	feeding.Wait()
	return errors.Join(errs...)
}

// work keeps one worker process busy. A worker that dies names the seed that it was at.
func work(o options, seeds <-chan uint64, results chan<- result) error {
	cmd := exec.Command(cmp.Or(o.binary, os.Args[0]), "-worker", "-bug", o.bug)
	cmd.Env = append(os.Environ(), workerEnv+"=1", "GOMAXPROCS=2", "GOGC=400") // one for the world, one for the collector, which runs seldom: a world is small and short
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	outPipe, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	out := json.NewDecoder(bufio.NewReader(outPipe))
	for s := range seeds {
		r, err := ask(in, out, s)
		if err != nil {
			r = result{Seed: s, Violation: fmt.Sprintf("the worker died: %v", err)}
			results <- r
			break
		}
		results <- r
	}
	return errors.Join(in.Close(), cmd.Wait())
}

func ask(in io.Writer, out *json.Decoder, seed uint64) (r result, err error) {
	if _, err = fmt.Fprintln(in, seed); err == nil {
		err = out.Decode(&r)
	}
	return r, err
}

// workerEnv tells a test binary that it was started as a worker.
const workerEnv = "MRSIM_WORKER"
