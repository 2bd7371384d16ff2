package main

import (
	"context"
	"os/exec"
	"testing"
	"time"
)

// TestTheDemoOnASmallerInputLosesNothing is `make demo` in little: real processes, real kills.
func TestTheDemoOnASmallerInputLosesNothing(t *testing.T) {
	bin := t.TempDir()
	build := append([]string{"build", "-o", bin + "/"}, buildFlags...)
	if out, err := exec.CommandContext(t.Context(), "go", append(build, "../../cmd/multiraftd", "../../cmd/mrctl")...).CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	t.Setenv("GORACE", "halt_on_error=1")
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	if err := run(ctx, options{bin: bin, lines: 60_000, kills: 2, every: 5 * time.Second}); err != nil {
		t.Fatal(err)
	}
}
