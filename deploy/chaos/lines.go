package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"strconv"
	"strings"
)

// lineMark stands in every line.
var lineMark = []byte("all work and no play makes jack a dull boy")

const lineBytes = 1000

// line is the n-th record of a topic with one partition. It hardly compresses: what is stored takes its space.
func line(n int) []byte {
	const printable = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+/" // 64: six bits each
	l := append(fmt.Appendf(make([]byte, 0, lineBytes+1), "%010d %s ", n, lineMark), make([]byte, lineBytes)...)[:lineBytes]
	random := rand.NewPCG(uint64(n), 0)
	for i := 12 + len(lineMark); i < lineBytes; {
		for bits, k := random.Uint64(), 0; k < 10 && i < lineBytes; i, k, bits = i+1, k+1, bits>>6 {
			l[i] = printable[bits&63]
		}
	}
	return l
}

// appendLines appends lines from to to-1 with mrctl.
func (c *cluster) appendLines(ctx context.Context, topic string, from, to int) error {
	cmd := c.Ctl(ctx, "append", topic, "--partition", "0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("making a pipe: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting mrctl append: %w", err)
	}
	w := bufio.NewWriterSize(in, proxyBytes)
	for n := from; n < to && err == nil; n++ {
		_, err = w.Write(append(line(n), '\n'))
	}
	err = errors.Join(err, w.Flush(), in.Close())
	if ended := cmd.Wait(); ended != nil {
		return fmt.Errorf("mrctl append: %w: %s", ended, stderr.String())
	}
	return err
}

// checkLines reads a topic's only partition from its start to its end, from one node, which must lead it, and wants
// the lines up to n-1, each at its offset. It returns how many there are.
func (c *cluster) checkLines(ctx context.Context, topic string, node, n int) (int, error) {
	if _, err := c.ctl(ctx, "partition", "transfer-leader", topic, "0", "--to", fmt.Sprint(node)); err != nil {
		return 0, err
	}
	cmd := c.Command(ctx, "mrctl", "--addr", c.ClientAddr(node), "read", topic, "--partition", "0", "--from", "start", "--to", "end", "--print", "offset,key,value")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, fmt.Errorf("making a pipe: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("starting mrctl read: %w", err)
	}
	first, got, bad := compareLines(out)
	if bad != nil {
		bad = errors.Join(bad, killed(cmd))
	}
	if err := cmd.Wait(); err != nil || bad != nil {
		return 0, errors.Join(bad, fmt.Errorf("mrctl read: %w: %s", err, stderr.String()))
	}
	if first+got != n || got == 0 {
		return 0, fmt.Errorf("lines %d to %d were read, the last should be %d", first, first+got-1, n-1)
	}
	return got, nil
}

func killed(cmd *exec.Cmd) error { return cmd.Process.Kill() }

// compareLines wants lines whose offsets are their numbers, one after the other, and returns the first and how many.
func compareLines(r io.Reader) (first, got int, err error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		offset, value, ok := strings.Cut(lines.Text(), "\t\t")
		n, err := strconv.Atoi(offset)
		switch {
		case err != nil || !ok:
			return first, got, fmt.Errorf("not offset, no key, value: %.100q", lines.Text())
		case got == 0:
			first = n
		case n != first+got:
			return first, got, fmt.Errorf("offset %d where %d should be", n, first+got)
		}
		if value != string(line(n)) {
			return first, got, fmt.Errorf("line %d is not as it was appended: %.100q", n, value)
		}
		got++
	}
	return first, got, lines.Err()
}
