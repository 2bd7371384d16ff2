package store

import (
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// PebbleOptions says where a Pebble store is and whom it tells of its end.
type PebbleOptions struct {
	// Dir is the store's directory. It is created if it is missing, and must hold nothing else.
	Dir string
	// FS is the filesystem; nil means the operating system's.
	FS vfs.FS
	// OnFatal is called once, with the first failure of a write, an fsync or a background job, on whatever
	// goroutine found it, perhaps with locks of the store held. It must end the node: nothing is durable from
	// then on. It must not call the store. When it returns, the store stays failed. nil means that only the
	// errors of Commit tell.
	OnFatal func(error)
	// CacheBytes bounds the block cache. 0 means 64 MiB. More helps readers of old records.
	CacheBytes int64
	// Logf receives what Pebble reports as errors. nil means nobody.
	Logf func(format string, args ...any)
	// Counters counts; nil means a set that nobody reads.
	Counters *Counters

	reclaimDelay time.Duration // 0 means 20 s
}

const (
	memtableBytes         = 64 << 20
	blockCacheBytes       = 64 << 20
	separatedValueBytes   = 512      // values from this size on live in blob files: compaction does not move them
	batchRetainedBytes    = 32 << 20 // a batch buffer up to this size is used again: growing one copies it over and over
	memtablesMax          = 4        // then writes wait for a flush
	l0SublevelsStop       = 1000     // then writes wait for compaction; far off, since blobs keep tables small
	blobReferenceDepthMax = 10
	blobGarbageRatio      = 0.20
	compactionsMax        = 2
	blobRewriteAge        = 5 * time.Minute
	deleteRangeFlushDelay = 10 * time.Second // so that tables that are deleted whole go on an idle store
)

// comparer is Pebble's own order of bytes under a name of ours. The name is in each manifest: Pebble refuses
// a directory with another one, and other programs refuse ours, before anything is changed.
var comparer = func() *pebble.Comparer {
	c := *pebble.DefaultComparer
	c.Name = "multiraftd.bytes.1"
	return &c
}()

func (o *PebbleOptions) setDefaults() {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = blockCacheBytes
	}
	if o.reclaimDelay == 0 {
		o.reclaimDelay = reclaimDelayDefault
	}
	if o.Counters == nil {
		o.Counters = new(Counters)
	}
}

// pebbleOptions is rule 7. The format is explicit, and not "the newest": unset it would be the oldest, with
// value separation silently off and a damaged last WAL that reads as its end; the newest would change under
// an update of Pebble, and an older multiraftd could not go back.
func (k *pebbleKV) pebbleOptions(o PebbleOptions) *pebble.Options {
	opts := &pebble.Options{
		FS:                          &logFS{o.FS, k},
		Comparer:                    comparer,
		FormatMajorVersion:          pebble.FormatValueSeparation,
		CacheSize:                   o.CacheBytes,
		MemTableSize:                memtableBytes,
		MemTableStopWritesThreshold: memtablesMax,
		L0StopWritesThreshold:       l0SublevelsStop,
		FlushDelayDeleteRange:       deleteRangeFlushDelay,
		CompactionConcurrencyRange:  func() (int, int) { return 1, compactionsMax },
		Logger:                      k,
		EventListener: &pebble.EventListener{
			BackgroundError: k.backgroundError,
			DataCorruption:  func(info pebble.DataCorruptionInfo) { _ = k.fail("corruption: %s", info) },
			WriteStallBegin: func(pebble.WriteStallBeginInfo) { k.counters.WriteStalls.Add(1) },
		},
	}
	opts.Experimental.ValueSeparationPolicy = func() pebble.ValueSeparationPolicy {
		return pebble.ValueSeparationPolicy{
			Enabled: true, MinimumSize: separatedValueBytes, MaxBlobReferenceDepth: blobReferenceDepthMax,
			RewriteMinimumAge: blobRewriteAge, TargetGarbageRatio: blobGarbageRatio,
		}
	}
	return opts
}
