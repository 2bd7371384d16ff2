package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestScenariosInLittleLoseNothing is `make chaos ARGS="snapshot strangers"` in little: real processes, a stream that is
// cut and spoilt, a moment of some floods.
func TestScenariosInLittleLoseNothing(t *testing.T) {
	bin := t.TempDir()
	build := append([]string{"build", "-o", bin + "/"}, buildFlags...)
	if out, err := exec.CommandContext(t.Context(), "go", append(build, "../../cmd/multiraftd", "../../cmd/mrctl", "../../cmd/mrbench", "../flood")...).CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	t.Setenv("GORACE", "halt_on_error=1")
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	chosen, err := choose([]string{"snapshot", "strangers"})
	if err != nil {
		t.Fatal(err)
	}
	if err := run(ctx, options{bin: bin, small: true, partitions: 3, flooding: 100 * time.Millisecond, floods: []string{"headers", "garbage", "refused-frames"}}, chosen); err != nil {
		t.Fatal(err)
	}
}

func TestAScenarioThatDoesNotExistIsRefused(t *testing.T) {
	if _, err := choose([]string{"rolling", "stones"}); err == nil || !strings.Contains(err.Error(), "stones") {
		t.Errorf("got %v", err)
	}
	if all, err := choose(nil); err != nil || len(all) != len(scenarios) {
		t.Errorf("got %d scenarios, %v", len(all), err)
	}
}

func TestOptionsThatMakeNoSenseAreRefused(t *testing.T) {
	good := options{partitions: 1, pairs: 1, groups: 1, idle: 1, flooding: 1, floods: floodKinds}
	if err := good.check(); err != nil {
		t.Fatal(err)
	}
	other, none := good, good
	other.floods, none.groups = []string{"pings", "frogs"}, 0
	if err := other.check(); err == nil || !strings.Contains(err.Error(), `"frogs"`) {
		t.Errorf("got %v", err)
	}
	if err := none.check(); err == nil {
		t.Error("no groups at all were taken")
	}
}

func TestTheCommandsOfARemedyAreTakenAsPrinted(t *testing.T) {
	for try, want := range map[string][]string{
		"restart node 2. If it fails again, replace it: mrctl partition move t 0 --to 1,2 && mrctl partition move t 0 --to 1,2,3": {
			"mrctl partition move t 0 --to 1,2 && mrctl partition move t 0 --to 1,2,3"},
		"If that is lost: mrctl node remove 3 --force, then multiraftd start --data-dir NEW_DIR --join 127.0.0.1:7071": {
			"mrctl node remove 3 --force", "multiraftd start --data-dir NEW_DIR --join 127.0.0.1:7071"},
		"multiraftd start --join a:1, or mrctl node drain 3 --cancel": {"multiraftd start --join a:1", "mrctl node drain 3 --cancel"},
		"keep less: mrctl topic alter NAME, mrctl topic delete NAME":  {"mrctl topic alter NAME", "mrctl topic delete NAME"},
		"wait": nil,
	} {
		if got := commandsOf(try); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %q", try, got)
		}
	}
}

func TestALineThatIsMissingDoubledOrChangedIsFound(t *testing.T) {
	read := func(numbers ...int) *bytes.Buffer {
		b := new(bytes.Buffer)
		for _, n := range numbers {
			b.WriteString(strings.TrimLeft(string(line(n)[:10]), "0") + "\t\t" + string(line(n)) + "\n")
		}
		return b
	}
	if first, got, err := compareLines(read(7, 8, 9)); first != 7 || got != 3 || err != nil {
		t.Errorf("got %d, %d, %v", first, got, err)
	}
	changed := read(7, 8)
	changed.Bytes()[changed.Len()-20] ^= 4
	for name, r := range map[string]*bytes.Buffer{"missing": read(7, 9), "doubled": read(7, 7), "changed": changed} {
		if _, _, err := compareLines(r); err == nil {
			t.Errorf("a line that is %s passes", name)
		}
	}
}

func TestWhatProcSaysIsRead(t *testing.T) {
	if d, err := parseStat("1 (a ) b) S 2 3 4 5 6 7 8 9 10 11 100 23 0 0"); err != nil || d != 1230*time.Millisecond {
		t.Errorf("got %v, %v", d, err)
	}
	if n, err := parseResident("VmHWM:\t  9 kB\nVmRSS:\t    12 kB\n"); err != nil || n != 12<<10 {
		t.Errorf("got %d, %v", n, err)
	}
	for _, bad := range []string{"", "1 (a) S 2 3", "1 (a) S 2 3 4 5 6 7 8 9 10 11 x 23 0 0"} {
		if _, err := parseStat(bad); err == nil {
			t.Errorf("%q passes", bad)
		}
	}
	if d, err := cpuTime(os.Getpid()); err != nil || d < 0 {
		t.Errorf("got %v, %v", d, err)
	}
	if n, err := residentBytes(os.Getpid()); err != nil || n < 1<<20 {
		t.Errorf("got %d, %v", n, err)
	}
}

func TestSamplesAreKeptWithTheirLabels(t *testing.T) {
	got, err := samples(strings.NewReader("# HELP a_total Words.\na_total{reason=\"x y\"} 1\nb 2e3\n"))
	if err != nil || got[`a_total{reason="x y"}`] != 1 || got["b"] != 2000 {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := samples(strings.NewReader("a many\n")); err == nil {
		t.Error("a value that is no number passes")
	}
}

func TestAStopIsPutDownToWhatItTouches(t *testing.T) {
	at := time.Unix(1000, 0)
	after := func(ms int) time.Time { return at.Add(time.Duration(ms) * time.Millisecond) }
	restarts := []restart{{ended: after(1000), started: after(2000), back: after(2500)}, {ended: after(3500), started: after(4500), back: after(5000)}}
	w := attribute([]stop{
		{Millis: 90, At: after(100)}, {Millis: 30, At: after(2600)}, // calm
		{Millis: 40, At: after(980)}, {Millis: 50, At: after(4490)}, // at an end, though the second goes on into a start
		{Millis: 60, At: after(2400)}, {Millis: 70, At: after(4800)}, // at a start
	}, restarts)
	if want := (worst{end: 50 * time.Millisecond, start: 70 * time.Millisecond, calm: 90 * time.Millisecond}); w != want {
		t.Errorf("got %v, want %v", w, want)
	}
}

func TestTheMedianOfAnEvenNumberIsInTheMiddle(t *testing.T) {
	if m := median([]time.Duration{4 * time.Millisecond, 100 * time.Millisecond, 2 * time.Millisecond, time.Millisecond}); m != 3 {
		t.Errorf("got %v", m)
	}
}
