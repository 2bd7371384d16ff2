package actors

import (
	"errors"
	"testing"

	"github.com/asynkron/protoactor-go/actor"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

func write(key string, sync bool, to *actor.PID, done any) *Write {
	w := &Write{Batch: new(store.Batch), Sync: sync, To: to, Done: done}
	w.Batch.Set([]byte(key), []byte("v"))
	return w
}

func TestWritesOfManyGroupsShareOneFsync(t *testing.T) {
	r := newRig(t, nil)
	r.disp.run()
	commits, syncs, appends := r.counters.Commits.Load(), r.counters.Syncs.Load(), r.counters.SyncedAppends.Load()
	for _, k := range []string{"a", "b", "c", "d"} {
		r.system.Root.Send(r.writer, write("test/"+k, k != "d", nil, nil))
	}
	r.run()
	if c, s, a := r.counters.Commits.Load()-commits, r.counters.Syncs.Load()-syncs, r.counters.SyncedAppends.Load()-appends; c != 1 || s != 1 || a != 3 {
		t.Fatalf("%d commits, %d syncs, %d synced appends; want 1, 1, 3", c, s, a)
	}
}

func TestAFailedWriteAcknowledgesNothingAndIsReportedOnce(t *testing.T) {
	for name, how := range map[string]func() error{
		"an error": func() error { return errors.New("disk is gone") },
		"a panic":  func() error { panic("disk is gone") },
	} {
		t.Run(name, func(t *testing.T) {
			var kv *failingKV
			r := newRig(t, func(k store.KV) store.KV { kv = &failingKV{KV: k, left: 1 << 30, how: how}; return kv })
			r.elect()
			kv.left = 0
			ms, results := proposals(t, "a")
			r.tell(ms...)
			app := only(t, r.run(), raftv1.MessageType_MESSAGE_TYPE_APPEND, 2)
			r.tell(inbound(2, &raftv1.Envelope{Type: raftv1.MessageType_MESSAGE_TYPE_PRE_VOTE, Term: app.Term + 1, Index: 9, LogTerm: app.Term}))
			r.run()
			kv.left = 1 << 30 // a disk that comes back must not be believed
			ms, more := proposals(t, "b")
			r.tell(ms...)
			r.run()
			if len(r.failed) != 1 || len(r.panics) != 0 {
				t.Fatalf("reported %d times, %d panics reached the supervisor", len(r.failed), len(r.panics))
			}
			if results[0].ended || more[0].ended {
				t.Fatalf("acknowledged after the failure: %+v, %+v", results[0], more[0])
			}
		})
	}
}
