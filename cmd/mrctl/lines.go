package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

const lineBufferBytes = 256 << 10

// lines splits its input at "\n", and at nothing else: CR, NUL and invalid UTF-8 are content. A last line
// without "\n" counts. Memory is bounded by the longest line allowed.
type lines struct {
	in       *bufio.Reader
	bytesMax int
	long     []byte // a line that did not fit the reader's buffer
	number   int
}

func newLines(in io.Reader, bytesMax int) *lines {
	return &lines{in: bufio.NewReaderSize(in, lineBufferBytes), bytesMax: bytesMax}
}

// next returns a line without its "\n", valid until the next call, or io.EOF.
func (l *lines) next() ([]byte, error) {
	l.number++
	line, err := l.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		line, err = l.rest(line)
	}
	switch {
	case err == nil:
		line = line[:len(line)-1]
	case !errors.Is(err, io.EOF):
		return nil, err
	case len(line) == 0:
		return nil, io.EOF
	}
	if len(line) > l.bytesMax {
		return nil, fmt.Errorf("line %d has %d bytes, a record may have %d", l.number, len(line), l.bytesMax)
	}
	return line, nil
}

// rest reads on from the first part of a line that is longer than the buffer.
func (l *lines) rest(part []byte) ([]byte, error) {
	l.long = append(l.long[:0], part...)
	for {
		part, err := l.in.ReadSlice('\n')
		l.long = append(l.long, part...)
		if len(l.long) > l.bytesMax+1 {
			return nil, fmt.Errorf("line %d has more than %d bytes, the limit of a record", l.number, l.bytesMax)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return l.long, err
		}
	}
}
