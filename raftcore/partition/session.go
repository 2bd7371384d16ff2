package partition

import (
	"math"

	"github.com/multiraftd/multiraftd/proto/recordbatch"
	"github.com/multiraftd/multiraftd/raftcore"
)

// Limits of producer sessions. They are part of the state machine: all replicas must have the same, so a
// change needs a command that switches it at one place of the log.
const (
	windowBatches       = 5                    // remembered per session; clients keep at most as many in flight
	sessionMillisMax    = 7 * 24 * 3600 * 1000 // without an accepted batch, by the log's clock
	sessionsMax         = 32_768               // per partition
	expiredPerApplyMax  = 64
	sequenceDistanceMax = 1 << 30 // sequences wrap; further back counts as ahead
)

// batch is what a session remembers of an accepted batch.
type batch struct {
	base, count int32
	offset      raftcore.Offset
}

// session is one producer's. It exists from its first accepted batch on.
type session struct {
	id         int64
	epoch      int16
	length     int8                 // of window
	changed    bool                 // listed in sessions.changed
	written    uint64               // records accepted in this epoch: tells old sequences from ones never used
	timeMillis int64                // the log's clock at the latest batch
	window     [windowBatches]batch // oldest first
	older      *session
	newer      *session
}

func (s *session) latest() []batch { return s.window[:s.length] }

func (s *session) last() batch { return s.window[s.length-1] }

func (s *session) push(b batch) {
	if s.length == windowBatches {
		copy(s.window[:], s.window[1:])
		s.length--
	}
	s.window[s.length] = b
	s.length++
}

// judge decides about a batch; s is nil for a producer without a session. The offset belongs to Duplicate.
func (s *session) judge(epoch int16, base int32, count int) (raftcore.Verdict, raftcore.Offset) {
	switch {
	case s == nil && base != 0:
		return raftcore.UnknownProducer, -1
	case s == nil:
		return raftcore.Accepted, -1
	case epoch < s.epoch:
		return raftcore.Fenced, -1
	case epoch > s.epoch && base != 0:
		return raftcore.SequenceGap, -1
	case epoch > s.epoch || base == s.expected():
		return raftcore.Accepted, -1
	}
	return s.recall(base, count)
}

func (s *session) expected() int32 {
	return recordbatch.NextSequence(s.last().base, int(s.last().count))
}

// recall judges a batch that does not continue its session: stored before, or out of order.
func (s *session) recall(base int32, count int) (raftcore.Verdict, raftcore.Offset) {
	for _, w := range s.latest() {
		if w.base == base && int(w.count) == count {
			return raftcore.Duplicate, w.offset
		}
	}
	behind, window := s.behind(base), s.behind(s.window[0].base)
	if behind <= sequenceDistanceMax && uint64(behind) <= s.written && behind-int64(count) >= window {
		return raftcore.Duplicate, -1 // it was stored; where, is forgotten
	}
	return raftcore.SequenceGap, -1
}

// behind is how many records back a sequence lies.
func (s *session) behind(base int32) int64 {
	return int64((uint32(s.expected()) - uint32(base)) & math.MaxInt32)
}

func (s *session) accept(epoch int16, b batch, timeMillis int64) {
	if epoch > s.epoch {
		s.epoch, s.written, s.length = epoch, 0, 0
	}
	s.written += uint64(b.count)
	s.timeMillis = timeMillis
	s.push(b)
}

// sessions is all of them, and a list by how recently they were used, which is by the offset of their
// latest batch.
type sessions struct {
	byID           map[int64]*session
	oldest, newest *session
	changed        []*session // since they were last stored
}

// use makes s the newest; it may be new.
func (l *sessions) use(s *session) {
	if l.byID == nil {
		l.byID = map[int64]*session{}
	}
	if l.byID[s.id] == nil {
		l.byID[s.id] = s
	} else {
		l.unlink(s)
	}
	s.older = l.newest
	if l.newest != nil {
		l.newest.newer = s
	} else {
		l.oldest = s
	}
	l.newest = s
}

func (l *sessions) unlink(s *session) {
	if s.older != nil {
		s.older.newer = s.newer
	} else {
		l.oldest = s.newer
	}
	if s.newer != nil {
		s.newer.older = s.older
	} else {
		l.newest = s.older
	}
	s.older, s.newer = nil, nil
}

func (l *sessions) markChanged(s *session) {
	if !s.changed {
		s.changed = true
		l.changed = append(l.changed, s)
	}
}

// dropOldest removes one session if it must go: too many, or expired. expired says whether time may tell.
func (l *sessions) dropOldest(nowMillis int64, expired bool) (id int64, ok bool) {
	s := l.oldest
	if s == nil || len(l.byID) <= sessionsMax && (!expired || nowMillis-s.timeMillis <= sessionMillisMax) {
		return 0, false
	}
	l.unlink(s)
	delete(l.byID, s.id)
	return s.id, true
}
