package main

import (
	"fmt"
	"sync"

	"github.com/multiraftd/multiraftd/client"
	"github.com/multiraftd/multiraftd/cmd/mrbench/load"
)

// verdict is what reading back has shown.
type verdict struct {
	Acknowledged uint64 `json:"acknowledged"`
	Missing      uint64 `json:"missing"`            // acknowledged, not there
	Doubled      uint64 `json:"doubled"`            // there again
	Changed      uint64 `json:"changed"`            // of this run, but not as it was appended
	Reordered    uint64 `json:"reordered"`          // behind a later one of the same client in its partition
	Refused      uint64 `json:"refused_but_stored"` // not acknowledged, and there: legitimate where the outcome was unknown
	Foreign      uint64 `json:"foreign"`            // of other runs or programs
	Example      string `json:"example,omitempty"`
}

func (v *verdict) failed() bool { return v.Missing+v.Doubled+v.Changed+v.Reordered > 0 }

func (v *verdict) example(format string, args ...any) {
	if v.Example == "" {
		v.Example = fmt.Sprintf(format, args...)
	}
}

// checker remembers which records of a run it has seen: one bit each.
type checker struct {
	payload *load.Payload

	mu   sync.Mutex
	v    verdict
	seen [][]uint64 // per client, a bit per sequence
	last [][]uint64 // per partition and client: 1 + the highest sequence so far
}

func newChecker(p *load.Payload, clients, partitions int) *checker {
	c := &checker{payload: p, seen: make([][]uint64, clients), last: make([][]uint64, partitions)}
	for i := range c.last {
		c.last[i] = make([]uint64, clients)
	}
	return c
}

// take is a sink.
func (c *checker) take(partition int, records []client.Record) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range records {
		c.check(partition, &records[i])
	}
	return nil
}

func (c *checker) check(partition int, r *client.Record) {
	id, seq, ours, intact := c.payload.Read(r.Value)
	switch {
	case !ours:
		c.v.Foreign++
		return
	case !intact || id >= len(c.seen) || r.Key != nil:
		c.v.Changed++
		c.v.example("the record at offset %d of partition %d has changed", r.Offset, partition)
		return
	}
	if last := &c.last[partition][id]; seq+1 < *last {
		c.v.Reordered++
		c.v.example("record %d of client %d, at offset %d of partition %d, is behind its record %d", seq, id, r.Offset, partition, *last-1)
	} else {
		*last = seq + 1
	}
	word, bit := seq/64, uint64(1)<<(seq%64)
	if n := uint64(len(c.seen[id])); word >= n {
		c.seen[id] = append(c.seen[id], make([]uint64, word+1-n)...)
	}
	if c.seen[id][word]&bit != 0 {
		c.v.Doubled++
		c.v.example("record %d of client %d is stored again at offset %d of partition %d", seq, id, r.Offset, partition)
	}
	c.seen[id][word] |= bit
}

// has says whether a record has been seen.
func (c *checker) has(id int, seq uint64) bool {
	word := seq / 64
	return word < uint64(len(c.seen[id])) && c.seen[id][word]>>(seq%64)&1 != 0
}

// finish compares what was seen with what a client appended, for each.
func (c *checker) finish(outcomes []load.Outcome) *verdict {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range outcomes {
		refused := make(map[uint64]bool)
		for _, span := range o.Refused {
			for seq := span.From; seq < span.To; seq++ {
				refused[seq] = true
			}
		}
		c.compare(o, refused)
	}
	return &c.v
}

func (c *checker) compare(o load.Outcome, refused map[uint64]bool) {
	for seq := range o.Appended {
		switch there := c.has(o.Client, seq); {
		case refused[seq] && there:
			c.v.Refused++
		case refused[seq]:
		case there:
			c.v.Acknowledged++
		default:
			c.v.Acknowledged++
			c.v.Missing++
			c.v.example("record %d of client %d is missing", seq, o.Client)
		}
	}
	for seq := o.Appended; seq < 64*uint64(len(c.seen[o.Client])); seq++ {
		if c.has(o.Client, seq) {
			c.v.Changed++
			c.v.example("record %d of client %d was never appended", seq, o.Client)
		}
	}
}
