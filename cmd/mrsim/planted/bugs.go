package planted

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ErrNone says that this binary was built without the bugs.
var ErrNone = errors.New("no bug is planted in this binary: make sim-selftest builds one")

//go:embed *.bug
var files embed.FS

// Bug is one planted bug.
type Bug struct {
	Name, Text string
	changes    []change
}

type change struct{ file, from, to string }

// Bugs returns all of them, by name.
func Bugs() ([]Bug, error) {
	names, err := files.ReadDir(".")
	if err != nil {
		return nil, err
	}
	var all []Bug
	for _, n := range names {
		data, err := files.ReadFile(n.Name())
		if err != nil {
			return nil, err
		}
		b, err := parse(strings.TrimSuffix(n.Name(), ".bug"), string(data))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", n.Name(), err)
		}
		all = append(all, b)
	}
	return all, nil
}

const (
	fileMark, fromMark, toMark, endMark = "file ", "<<<<\n", "====\n", ">>>>\n"
)

func parse(name, text string) (Bug, error) {
	head, rest, ok := strings.Cut(text, "\n"+fileMark)
	b := Bug{Name: name, Text: strings.Join(strings.Fields(head), " ")}
	if !ok || b.Text == "" {
		return b, errors.New("want words, then a line that starts with \"file\"")
	}
	for _, part := range strings.Split(rest, "\n"+fileMark) {
		file, body, _ := strings.Cut(part+"\n", "\n") // the newline before the next file is gone
		for {
			body = strings.TrimLeft(body, "\n")
			if body == "" {
				break
			}
			var from, to string
			var ok1, ok2, ok3 bool
			body, ok1 = strings.CutPrefix(body, fromMark)
			from, body, ok2 = strings.Cut(body, toMark)
			to, body, ok3 = strings.Cut(body, endMark)
			if !ok1 || !ok2 || !ok3 || from == "" {
				return b, fmt.Errorf("%s: want %q, the source, %q, the source with the bug, %q", file, fromMark, toMark, endMark)
			}
			b.changes = append(b.changes, change{file, from, to})
		}
	}
	if len(b.changes) == 0 {
		return b, errors.New("changes nothing")
	}
	return b, nil
}

// Overlay writes changed copies of the files of the project at root into dir, and the file for go build
// -overlay, whose path it returns. A bug that does not fit the source is an error.
func Overlay(root, dir string, bugs []Bug) (string, error) {
	sources := map[string]string{}
	for _, b := range bugs {
		for _, c := range b.changes {
			if err := plant(root, sources, b.Name, c); err != nil {
				return "", fmt.Errorf("%s.bug: %w", b.Name, err)
			}
		}
	}
	sources["cmd/mrsim/planted/clean.go"] = "package planted\n\nconst compiled = true\n"
	replace := map[string]string{}
	for i, file := range slices.Sorted(keysOf(sources)) {
		text := sources[file]
		if strings.Contains(text, "planted.On(") {
			text = importPlanted(text)
		}
		to := filepath.Join(dir, fmt.Sprintf("%03d.go", i))
		if err := os.WriteFile(to, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[filepath.Join(root, file)] = to
	}
	data, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, data, 0o600)
}

func keysOf(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func plant(root string, sources map[string]string, name string, c change) error {
	text, ok := sources[c.file]
	if !ok {
		data, err := os.ReadFile(filepath.Join(root, c.file))
		if err != nil {
			return err
		}
		text = string(data)
	}
	if n := strings.Count(text, c.from); n != 1 {
		return fmt.Errorf("%s: the source stands there %d times, want once:\n%s", c.file, n, c.from)
	}
	sources[c.file] = strings.Replace(text, c.from, strings.ReplaceAll(c.to, "BUG", fmt.Sprintf("planted.On(%q)", name)), 1)
	return nil
}

// importPlanted adds the import after the package clause.
func importPlanted(text string) string {
	const line = "\nimport \"github.com/multiraftd/multiraftd/cmd/mrsim/planted\"\n"
	at := strings.Index(text, "\npackage ") + 1
	end := at + bytes.IndexByte([]byte(text[at:]), '\n') + 1
	return text[:end] + line + text[end:]
}
