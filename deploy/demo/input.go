package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const bufferBytes = 1 << 20

// input is a file of lines; the last one ends in "\n" too, so that the file can be compared with what is read.
type input struct {
	path    string
	lines   int
	bytes   int64
	longest int
}

var errEnough = errors.New("enough lines")

// writeInput writes all Go files of the toolchain, or the first linesMax lines of them, to path.
func writeInput(ctx context.Context, path string, linesMax int) (input, error) {
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return input{}, fmt.Errorf("asking go for GOROOT: %w", err)
	}
	f, err := os.Create(path)
	if err != nil {
		return input{}, fmt.Errorf("creating the input: %w", err)
	}
	w := &lineWriter{input: input{path: path}, to: bufio.NewWriterSize(f, bufferBytes), linesMax: linesMax}
	err = filepath.WalkDir(filepath.Join(strings.TrimSpace(string(root)), "src"), w.visit)
	if errors.Is(err, errEnough) {
		err = nil
	}
	if err = errors.Join(err, w.to.Flush(), f.Close()); err != nil {
		return input{}, fmt.Errorf("writing the input: %w", err)
	}
	return w.input, nil
}

type lineWriter struct {
	input
	to       *bufio.Writer
	linesMax int // 0 = no bound
}

func (w *lineWriter) visit(path string, d fs.DirEntry, err error) error {
	if err != nil || !d.Type().IsRegular() || filepath.Ext(path) != ".go" {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() // read only
	for r := bufio.NewReader(f); ; {
		line, err := r.ReadString('\n')
		if err == io.EOF && line == "" {
			return nil
		}
		if err != nil && err != io.EOF {
			return err
		}
		if err := w.write(strings.TrimSuffix(line, "\n")); err != nil {
			return err
		}
	}
}

func (w *lineWriter) write(line string) error {
	w.lines, w.bytes, w.longest = w.lines+1, w.bytes+int64(len(line))+1, max(w.longest, len(line))
	w.to.WriteString(line)
	if err := w.to.WriteByte('\n'); err != nil {
		return err
	}
	if w.lines == w.linesMax {
		return errEnough
	}
	return nil
}
