package store

import (
	"go.etcd.io/raft/v3/raftpb"

	"github.com/multiraftd/multiraftd/raftcore"
)

// cachedEntryBytes is what a cached entry costs on top of its data: the message and the fields it points to.
const cachedEntryBytes = 128

// entryCache keeps the newest entries of one log as raft handed them over: replication to followers that
// keep up and apply never read the store.
//
// Slices of it are handed out, so entries are only appended behind len, or into a new array; a slot is never
// written twice. The price is that entries evicted from the front stay in memory until the array is
// replaced, which happens as soon as they weigh as much as the cache may.
//
// Invariant: ents are contiguous and end with the last entry of the log, or are empty.
type entryCache struct {
	ents     []*raftpb.Entry
	bytes    int // of ents
	stale    int // bytes of entries evicted but still in the array
	bytesMax int
}

func cachedBytes(e *raftpb.Entry) int { return cachedEntryBytes + len(e.GetData()) }

// first is the index from which on the cache can answer; next is the log's last index + 1.
func (c *entryCache) first(next raftcore.Index) raftcore.Index {
	return next - raftcore.Index(len(c.ents))
}

// slice returns the entries [lo, hi), all of them cached. The caller may append to it.
func (c *entryCache) slice(lo, hi, next raftcore.Index) []*raftpb.Entry {
	first := c.first(next)
	return c.ents[lo-first : hi-first : hi-first]
}

// push replaces what the cache has from the index of ents[0] on by ents. next is last + 1 of the log as it
// was before.
func (c *entryCache) push(ents []*raftpb.Entry, next raftcore.Index) {
	if at := raftcore.Index(ents[0].GetIndex()); at < next {
		c.cut(at, next)
	}
	for _, e := range ents {
		c.bytes += cachedBytes(e)
	}
	c.ents = append(c.ents, ents...)
	c.evict(c.bytesMax)
}

// cut drops the entries from index at on.
func (c *entryCache) cut(at, next raftcore.Index) {
	if at <= c.first(next) {
		c.drop()
		return
	}
	keep := at - c.first(next)
	for _, e := range c.ents[keep:] {
		c.bytes -= cachedBytes(e)
	}
	c.ents = c.ents[:keep:keep]
}

// evict drops entries from the front until at most bytesMax are left.
func (c *entryCache) evict(bytesMax int) {
	n := 0
	for ; c.bytes > bytesMax; n++ {
		size := cachedBytes(c.ents[n])
		c.bytes -= size
		c.stale += size
	}
	c.ents = c.ents[n:]
	c.renew()
}

// dropTo drops the entries up to index i.
func (c *entryCache) dropTo(i, next raftcore.Index) {
	first := c.first(next)
	if i < first {
		return
	}
	for _, e := range c.ents[:i+1-first] {
		c.bytes -= cachedBytes(e)
		c.stale += cachedBytes(e)
	}
	c.ents = c.ents[i+1-first:]
	c.renew()
}

func (c *entryCache) renew() {
	if len(c.ents) == 0 {
		c.drop()
	} else if c.stale > c.bytesMax {
		c.ents, c.stale = append(make([]*raftpb.Entry, 0, len(c.ents)+len(c.ents)/4), c.ents...), 0
	}
}

func (c *entryCache) drop() { c.ents, c.bytes, c.stale = nil, 0, 0 }
