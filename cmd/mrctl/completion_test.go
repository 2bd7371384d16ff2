package main

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
)

func TestEveryShellThatCanBeCompletedGetsAScript(t *testing.T) {
	for shell, want := range map[string]string{"bash": "__start_mrctl", "zsh": "#compdef mrctl", "fish": "complete -c mrctl"} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), []string{"completion", shell}, nil, &out, &errs); code != exitDone || !strings.Contains(out.String(), want) || errs.Len() > 0 {
			t.Errorf("%s: exit %d, %q is not in %d bytes, stderr %q", shell, code, want, out.Len(), errs.String())
		}
		path, err := exec.LookPath(shell)
		if err != nil {
			continue // the shell is not here to ask
		}
		check := exec.CommandContext(t.Context(), path, "-n")
		check.Stdin = &out
		if text, err := check.CombinedOutput(); err != nil {
			t.Errorf("%s does not understand its script: %v: %s", shell, err, text)
		}
	}
}

func TestCompletionKnowsCommandsAndFlags(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want []string
	}{
		{[]string{""}, []string{"topic", "append", "read", "cluster", "node", "partition", "group", "completion", "version"}},
		{[]string{"group", ""}, []string{"describe"}},
		{[]string{"topic", "create", "t", "--"}, []string{"--partitions", "--replicas", "--retention", "--addr"}},
	} {
		var out, errs bytes.Buffer
		code := run(t.Context(), append([]string{"__complete"}, tt.args...), nil, &out, &errs)
		for _, want := range tt.want {
			if code != exitDone || !strings.Contains("\n"+out.String(), "\n"+want) {
				t.Errorf("%q: exit %d, %q is not offered:\n%s%s", tt.args, code, want, out.String(), errs.String())
			}
		}
	}
}
