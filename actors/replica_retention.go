package actors

import (
	"math"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/partition"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// Records is a Machine whose records go in the end.
type Records interface {
	Machine
	Bytes() int64              // of the records that are stored
	Discarded() raftcore.Index // the last entry that holds no record any more, by a committed truncation
}

// retentionTicksDefault is how often a leader looks whether records are to go: every ten election timeouts.
const retentionTicksDefault = 100

// shortEntriesBytesMax bounds the entries of one append that a follower takes when its disk is nearly full: what
// frees space is small.
const shortEntriesBytesMax = 4 << 10

// retain proposes the truncation that is due. Only a leader decides, by its clock; what it decided is an entry
// like any other, so that all replicas drop the same records. One is under way at most, and between two looks lie
// RetentionTicks, so that a partition costs next to nothing while nothing is due.
func (r *Replica) retain(ticks int) {
	if r.retainIn -= ticks; r.retainIn > 0 {
		return
	}
	r.retainIn = r.cfg.RetentionTicks
	records, ok := r.machine.(Records)
	if !ok || r.leading == 0 || r.truncating || r.cfg.Retention == (partition.Retention{}) {
		return
	}
	t, ok, err := r.truncation(records)
	if err != nil {
		r.cfg.Logger.Error("retention failed", "group", r.cfg.Group, "err", err)
		return
	}
	if !ok {
		return
	}
	r.cfg.Logger.Debug("proposes a truncation", "group", r.cfg.Group, "to", t.To, "discard", t.Discard)
	r.cfg.Counters.Truncations.Add(1)
	r.truncating = true
	r.proposals = append(r.proposals, &Propose{Payload: t.AppendTo(nil), Reply: truncationEnd{r}})
}

// truncation reads from the store only when something is due, or where the records begin is not known.
func (r *Replica) truncation(records Records) (t partition.Truncation, ok bool, err error) {
	start, _ := records.Bounds()
	now := r.cfg.Clock.NowMillis()
	known := r.oldest.Offset == start && r.oldest.TimeMillis != math.MaxInt64
	if known && !r.cfg.Retention.Due(r.oldest, records.Bytes(), now) {
		return t, false, nil
	}
	v, err := r.cfg.Log.View()
	if err != nil {
		return t, false, err
	}
	defer func() {
		if closeErr := v.Close(); err == nil {
			err = closeErr
		}
	}()
	prefix := store.MachinePrefix(r.cfg.Group, r.log.Generation())
	if r.oldest, err = partition.LoadOldest(v, prefix); err != nil {
		return t, false, err
	}
	if r.oldest.Offset != start || !r.cfg.Retention.Due(r.oldest, records.Bytes(), now) {
		return t, false, nil // the image may lack the truncation before this one
	}
	return r.cfg.Retention.Truncation(v, prefix, now)
}

// truncationEnd hears the end of a truncation. One that is lost is proposed again by whoever leads.
type truncationEnd struct{ r *Replica }

// Proposed is part of ProposeReply.
func (e truncationEnd) Proposed(res ProposeResult) {
	e.r.truncating = false
	if res.Err == nil && res.Outcome.Verdict == raftcore.Invalid {
		e.r.cfg.Logger.Error("a truncation was refused", "group", e.r.cfg.Group, "at", res.At.Index)
	}
}

// shortOfSpace says whether a message brings more than a nearly full disk should take. Its sender probes from
// then on, one append per heartbeat, and goes on when there is room: nothing is lost but time.
func (r *Replica) shortOfSpace(m *raftpb.Message) bool {
	if m.GetType() != raftpb.MsgApp || r.cfg.Space.Level() != SpaceShort {
		return false
	}
	bytes := 0
	for _, e := range m.GetEntries() {
		bytes += len(e.GetData())
	}
	return bytes > shortEntriesBytesMax
}
