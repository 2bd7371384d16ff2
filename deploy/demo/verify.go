package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
)

// verifyOne wants the partition's records, as lines, to be the input: same bytes, same order. What was read
// stays in the folder as "output".
func verifyOne(ctx context.Context, p *part) error {
	path := filepath.Join(p.dir, "output")
	out, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("creating the output: %w", err)
	}
	err = p.read(ctx, 0, "value", func(r io.Reader) error {
		_, err := io.Copy(out, r)
		return err
	})
	if err := errors.Join(err, out.Close()); err != nil {
		return err
	}
	// cmp itself, as the reader of these figures would type it.
	if diff, err := exec.CommandContext(ctx, "cmp", p.in.path, path).CombinedOutput(); err != nil {
		return fmt.Errorf("the output is not the input: %s(%w)", diff, err)
	}
	say("%s: cmp: %d records read back, identical", p, p.in.lines)
	return nil
}

// verifyThree wants every partition's offsets to be 0..n-1, and the records of all of them, sorted, to be the
// input's lines, sorted.
func verifyThree(ctx context.Context, p *part) error {
	var got [][]byte
	for partition := range p.partitions {
		before := len(got)
		err := p.read(ctx, partition, "offset,key,value", func(r io.Reader) error {
			values, err := denseValues(r)
			got = append(got, values...)
			return err
		})
		if err != nil {
			return fmt.Errorf("partition %d: %w", partition, err)
		}
		say("%s: partition %d has offsets 0..%d, each once", p, partition, len(got)-before-1)
		if len(got) == before {
			return fmt.Errorf("partition %d is empty: the records were not spread", partition)
		}
	}
	file, err := os.ReadFile(p.in.path)
	if err != nil {
		return fmt.Errorf("reading the input again: %w", err)
	}
	if err := sameMultiset(bytes.Split(bytes.TrimSuffix(file, []byte("\n")), []byte("\n")), got); err != nil {
		return err
	}
	say("%s: sorted, %d records equal the %d lines of the input", p, len(got), p.in.lines)
	return nil
}

// read runs `mrctl read` over a whole partition and hands its stdout to consume.
func (p *part) read(ctx context.Context, partition int, format string, consume func(io.Reader) error) error {
	cmd := p.cluster.Ctl(ctx, "read", p.topic, "--partition", fmt.Sprint(partition), "--from", "start", "--to", "end", "--print", format)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("making a pipe: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting mrctl read: %w", err)
	}
	consumed := consume(bufio.NewReaderSize(out, bufferBytes))
	if consumed != nil {
		consumed = errors.Join(consumed, cmd.Process.Kill())
	}
	if err := cmd.Wait(); err != nil {
		return errors.Join(consumed, fmt.Errorf("mrctl read: %w: %s", err, lastLine(stderr.String())))
	}
	return consumed
}

// denseValues reads "offset, tab, key, tab, value" lines and wants the offsets to count from 0.
func denseValues(r io.Reader) ([][]byte, error) {
	var values [][]byte
	for lines := bufio.NewReaderSize(r, bufferBytes); ; {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF && len(line) == 0 {
			return values, nil
		}
		if err != nil && err != io.EOF {
			return nil, fmt.Errorf("reading records: %w", err)
		}
		fields := bytes.SplitN(bytes.TrimSuffix(line, []byte("\n")), []byte("\t"), 3)
		if len(fields) != 3 {
			return nil, fmt.Errorf("not offset, key, value: %q", line)
		}
		if string(fields[0]) != strconv.Itoa(len(values)) {
			return nil, fmt.Errorf("offset %q where %d should be", fields[0], len(values))
		}
		values = append(values, fields[2])
	}
}

// sameMultiset sorts both in place.
func sameMultiset(want, got [][]byte) error {
	slices.SortFunc(want, bytes.Compare)
	slices.SortFunc(got, bytes.Compare)
	for i := range min(len(want), len(got)) {
		if !bytes.Equal(want[i], got[i]) {
			return fmt.Errorf("sorted, line %d is %.200q, not %.200q", i, got[i], want[i])
		}
	}
	if len(want) != len(got) {
		return fmt.Errorf("%d records read, %d lines appended", len(got), len(want))
	}
	return nil
}
