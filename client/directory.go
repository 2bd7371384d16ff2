package client

import (
	"cmp"
	"slices"
	"sync"
	"time"

	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
)

// directory knows where nodes serve clients and which addresses did not answer lately.
//
// The addresses that the user gave stay in use beside those that the cluster tells: behind address
// translation the latter may be of no use.
type directory struct {
	mu    sync.Mutex
	seeds []string
	nodes map[uint64]string
	down  map[string]outage
	turn  int // rotates the order, so that calls without a leader spread over the nodes
}

// outage is an address that failed and is asked last until a time.
type outage struct {
	until    time.Time
	failures int
}

func newDirectory(seeds []string) *directory {
	return &directory{seeds: slices.Compact(slices.Clone(seeds)), nodes: make(map[uint64]string), down: make(map[string]outage)}
}

// learn replaces what is known about nodes.
func (d *directory) learn(nodes []*multiraftv1.NodeAddress) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(nodes) > 0 {
		clear(d.nodes)
	}
	for _, n := range nodes {
		if n.GetClientAddr() != "" {
			d.nodes[n.GetNodeId()] = n.GetClientAddr()
		}
	}
}

// hint notes one node's address.
func (d *directory) hint(node uint64, addr string) {
	if node == 0 || addr == "" {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.nodes[node] = addr
}

// addr is where node serves, "" when that is not known or it did not answer lately.
func (d *directory) addr(node uint64, now time.Time) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	a := d.nodes[node]
	if now.Before(d.down[a].until) {
		return ""
	}
	return a
}

// order lists all addresses: the node asked for, those in good standing in turn, and those that are down,
// the one whose pause ends first in front.
func (d *directory) order(node uint64, now time.Time) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turn++
	all := d.all()
	n := d.turn % len(all)
	all = append(all[n:], all[:n]...)
	preferred := d.nodes[node]
	slices.SortStableFunc(all, func(a, b string) int {
		return cmp.Or(d.down[a].remaining(now).Compare(d.down[b].remaining(now)), prefer(a, b, preferred))
	})
	return all
}

// all is a fresh list in a fixed order: nodes by id, then the seeds that are not among them.
func (d *directory) all() []string {
	ids := make([]uint64, 0, len(d.nodes))
	for id := range d.nodes {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	addrs := make([]string, 0, len(ids)+len(d.seeds))
	for _, id := range ids {
		addrs = append(addrs, d.nodes[id])
	}
	for _, s := range d.seeds {
		if !slices.Contains(addrs, s) {
			addrs = append(addrs, s)
		}
	}
	return addrs
}

func prefer(a, b, preferred string) int {
	switch preferred {
	case a:
		return -1
	case b:
		return 1
	}
	return 0
}

// remaining is the end of the pause, or the zero time when it is over.
func (o outage) remaining(now time.Time) time.Time {
	if now.Before(o.until) {
		return o.until
	}
	return time.Time{}
}

func (d *directory) failed(addr string, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	o := d.down[addr]
	d.down[addr] = outage{until: now.Add(pause(o.failures, 0)), failures: o.failures + 1}
}

func (d *directory) succeeded(addr string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.down, addr)
}
