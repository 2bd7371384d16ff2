package actors

import (
	"fmt"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/multiraftd/multiraftd/proto/trace"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// commitBytesMax bounds one commit: a quarter of the store's 64 MiB memtable.
const commitBytesMax = 16 << 20

// LogWriterConfig says what a LogWriter works with.
type LogWriterConfig struct {
	Log    Log
	Sender Sender
	// OnFailure is told, once, why the log cannot be written any more. The node must end: nothing is
	// acknowledged from then on.
	OnFailure func(error)
	Counters  *Counters
	// Tracing observes; its zero value does not.
	Tracing Tracing
}

// LogWriter is the actor that owns the disk's write side. It drains the writes of all groups into one batch,
// commits it with one fsync when any of them needs it, and only then releases what waited for it: answers
// to peers, then storage responses to the replicas. The next batch forms while the fsync runs.
//
// Invariant: writes are committed in the order of arrival, so in Ready order for each group.
// Invariant: after the first failure nothing is committed or released; there is no second try, since a
// failed fsync may have thrown away the pages that it was asked to keep.
type LogWriter struct {
	cfg    LogWriterConfig
	queue  []*Write
	batch  store.Batch
	failed bool
}

// LogWriterProps returns the Props with which a LogWriter is spawned.
func LogWriterProps(cfg LogWriterConfig, opts ...actor.PropsOption) *actor.Props {
	opts = append(opts, actor.WithMailbox(func() actor.Mailbox {
		b := newDrainMailbox()
		b.posted = func(m any) {
			if w, ok := m.(*Write); ok {
				cfg.Counters.queued(w, 1)
			}
		}
		return b
	}))
	return actor.PropsFromProducer(func() actor.Actor { return &LogWriter{cfg: cfg} }, opts...)
}

// Receive is part of actor.Actor.
func (l *LogWriter) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *Write:
		l.queue = append(l.queue, m)
	case drained:
		l.flush(ctx)
	}
}

func (l *LogWriter) flush(ctx actor.Context) {
	rest := l.queue
	for len(rest) > 0 && !l.failed {
		n := l.fill(rest)
		if err := l.commit(rest[:n]); err != nil {
			l.failed = true
			l.cfg.Counters.WriteFailures.Add(1)
			l.cfg.OnFailure(err)
			break
		}
		l.release(ctx, rest[:n])
		rest = rest[n:]
	}
	clear(l.queue)
	l.queue = l.queue[:0]
}

// fill puts as many writes into the batch as one commit may hold, at least one.
func (l *LogWriter) fill(ws []*Write) int {
	l.batch.Reset()
	for i, w := range ws {
		if i > 0 && l.batch.Bytes()+w.Batch.Bytes() > commitBytesMax {
			return i
		}
		l.batch.Merge(w.Batch)
	}
	return len(ws)
}

// commit never lets a panic of the store reach the supervisor, which would only stop this actor: a log that
// panics has failed.
func (l *LogWriter) commit(ws []*Write) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("the log panicked: %v", reason)
		}
	}()
	sync, appends, entries := false, uint64(0), 0
	var fsync *trace.Span
	for _, w := range ws {
		if w.traced != nil {
			fsync = l.beginFsync(fsync, w.traced)
		}
		if entries += w.entries; w.Sync {
			sync = true
			appends++
		}
	}
	c := l.cfg.Counters
	began := c.now()
	if err := l.cfg.Log.Commit(&l.batch, sync); err != nil {
		return err
	}
	if fsync != nil {
		endFsync(fsync, ws, appends)
	}
	c.Commits.Add(1)
	c.CommitBytes.Observe(l.batch.Bytes())
	if sync {
		c.since(&c.Sync, began)
		c.Syncs.Add(1)
		c.SyncedAppends.Add(appends)
		c.SyncEntries.Observe(entries)
	}
	return nil
}

func (l *LogWriter) release(ctx actor.Context, ws []*Write) {
	for _, w := range ws {
		l.cfg.Counters.queued(w, -1)
		for _, out := range w.Remote {
			if w.traced != nil {
				if beside := append(out.beside, l.answers(w.traced, out.Env)...); beside != nil {
					l.cfg.Tracing.Carrier.Carry(out.Node, out.Env, beside)
					continue
				}
			}
			l.cfg.Sender.Send(out.Node, out.Env)
		}
		for _, u := range w.unary {
			u.reply.Answered(u.answer)
		}
		if w.Done != nil {
			ctx.Send(w.To, w.Done)
		}
	}
}
