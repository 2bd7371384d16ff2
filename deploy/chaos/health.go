package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// reason is one that cluster health gives.
type reason struct{ What, Why, Try string }

type health struct {
	Healthy bool
	Reasons []reason
}

const exitNo = 10 // unhealthy

// reasons asks for health, whatever it is.
func (c *cluster) reasons(ctx context.Context) (h health, err error) {
	cmd := c.Ctl(ctx, "cluster", "health", "-o", "json", "--timeout", "5s")
	out, err := cmd.Output()
	code := cmd.ProcessState.ExitCode()
	if code != 0 && code != exitNo {
		return h, fmt.Errorf("mrctl cluster health: %w", err)
	}
	if err := json.Unmarshal(out, &h); err != nil {
		return h, fmt.Errorf("mrctl cluster health printed %q: %w", out, err)
	}
	if h.Healthy != (code == 0) || h.Healthy != (len(h.Reasons) == 0) {
		return h, fmt.Errorf("mrctl cluster health ended with %d and printed %s", code, out)
	}
	return h, nil
}

// ill waits until health gives a reason whose what matches.
func (c *cluster) ill(ctx context.Context, what string) (found reason, err error) {
	ctx, cancel := context.WithTimeout(ctx, healthWaitMax)
	defer cancel()
	re := regexp.MustCompile(what)
	var last health
	err = until(ctx, fmt.Sprintf("health says %q", what), func() (bool, error) {
		h, err := c.reasons(ctx)
		if err != nil { // the node that was asked may be the one in trouble
			return false, nil
		}
		last = h
		for _, r := range h.Reasons {
			if re.MatchString(r.What) {
				found = r
				return true, nil
			}
		}
		return false, nil
	})
	if err != nil {
		return found, fmt.Errorf("%w; it says %+v", err, last)
	}
	progress("health: %s; because %s; try: %s", found.What, found.Why, found.Try)
	return found, nil
}

// commandsOf finds the command lines in a remedy: from the name of one of the binaries to the end of the phrase.
func commandsOf(try string) (all []string) {
	for {
		i := strings.Index(try, "mrctl ")
		if j := strings.Index(try, "multiraftd "); i < 0 || j >= 0 && j < i {
			i = j
		}
		if i < 0 {
			return all
		}
		try = try[i:]
		end := len(try)
		for _, stop := range []string{", ", "; ", ". ", " or "} {
			if k := strings.Index(try, stop); k >= 0 {
				end = min(end, k)
			}
		}
		all = append(all, try[:end])
		try = try[end:]
	}
}

// typeIn runs a command line of a remedy in a shell, as it is printed, but for what it leaves to the reader.
func (c *cluster) typeIn(ctx context.Context, bin, line string, fill ...string) error {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return err
	}
	line = strings.NewReplacer(fill...).Replace(line)
	progress("typed: %s", line)
	cmd := exec.CommandContext(ctx, "sh", "-ec", line)
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "MULTIRAFT_ADDR="+c.Addr())
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("typed in as printed, %q ended with %w: %s", line, err, out)
	}
	return nil
}
