package main

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"
)

const majority = 2 // of three replicas

// receipt is one line of `mrctl append --receipt`.
type receipt struct {
	partition int
	offset    int64
	count     int
	term      uint64
	index     uint64
	fsynced   int
}

func parseReceipt(line string) (receipt, error) {
	var n [6]int64
	fields := strings.Split(line, "\t")
	if len(fields) != len(n) {
		return receipt{}, fmt.Errorf("a receipt with %d fields: %q", len(fields), line)
	}
	for i, f := range fields {
		v, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return receipt{}, fmt.Errorf("a receipt that is not numbers: %q", line)
		}
		n[i] = v
	}
	return receipt{int(n[0]), n[1], int(n[2]), uint64(n[3]), uint64(n[4]), int(n[5])}, nil
}

// ledger takes in receipts as they are printed.
type ledger struct {
	mu       sync.Mutex
	records  int            // sum of counts
	terms    map[int]uint64 // latest by partition
	partial  int            // receipts that name fewer than a majority
	watching watch
}

// watch is what a killer waits for: a receipt of a partition above a term.
type watch struct {
	partition int
	above     uint64
	seen      chan time.Time // one slot; nil = nobody waits
}

func newLedger() *ledger { return &ledger{terms: make(map[int]uint64)} }

// readAll reads receipts to the end. It must keep up: a full pipe would stop the appender.
func (l *ledger) readAll(r io.Reader) error {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		at := time.Now()
		rec, err := parseReceipt(lines.Text())
		if err != nil {
			return err
		}
		l.take(rec, at)
	}
	return lines.Err()
}

func (l *ledger) take(r receipt, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records += r.count
	l.terms[r.partition] = max(l.terms[r.partition], r.term)
	if r.fsynced < majority {
		l.partial++
	}
	if w := l.watching; w.seen != nil && w.partition == r.partition && r.term > w.above {
		w.seen <- at
		l.watching = watch{}
	}
}

// watch returns a channel that gets the time of the first receipt of the partition above the term.
func (l *ledger) watch(partition int, above uint64) <-chan time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watching = watch{partition: partition, above: above, seen: make(chan time.Time, 1)}
	return l.watching.seen
}

// term is the latest that a receipt of the partition carried; 0 = none has come.
func (l *ledger) term(partition int) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.terms[partition]
}

// acknowledged is how many records have a receipt.
func (l *ledger) acknowledged() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.records
}

// check holds the receipts against the number of records appended.
func (l *ledger) check(appended int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.records != appended {
		return fmt.Errorf("the receipts count %d records of %d", l.records, appended)
	}
	if l.partial > 0 {
		return fmt.Errorf("%d receipts name fewer than %d fsynced replicas", l.partial, majority)
	}
	return nil
}
