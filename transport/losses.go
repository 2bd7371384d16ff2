package transport

import "slices"

// losses knows which groups must hear that an append to the peer was lost (rule 21: once per group and lost
// connection).
//
// An append that a frame has taken is lost with the connection if it still was in a buffer on the way, and
// nobody can tell. So every group with an append in the last lostWindowBytes or more (which covers all
// buffers between the two processes) counts as lost. A wrong report costs one probe; a missed one would
// leave a leader streaming past a gap until the next heartbeat's answer.
type losses struct {
	pending groupSet
	// told holds the groups that have been in pending since the connection was lost.
	told map[uint64]struct{}
	// recent holds the groups of appends handed out, in two generations, the current one first.
	recent      [rotatedGenerationCount]groupSet
	recentBytes int
}

// handedOut notes an append that a frame has taken.
func (l *losses) handedOut(group uint64, size int) {
	l.recent[0].add(group)
	if l.recentBytes += size; l.recentBytes >= lostWindowBytes {
		l.recent[0], l.recent[1] = l.recent[1], l.recent[0]
		l.recent[0].reset()
		l.recentBytes = 0
	}
}

// dropped notes an append that a full queue refused on a living connection.
func (l *losses) dropped(group uint64) { l.pending.add(group) }

// outage notes an append lost with a connection, or for want of one: once per group until the next one.
func (l *losses) outage(group uint64) {
	if _, told := l.told[group]; told {
		return
	}
	if l.told == nil {
		l.told = make(map[uint64]struct{})
	}
	l.told[group] = struct{}{}
	l.pending.add(group)
}

func (l *losses) connectionLost() {
	for i := range l.recent {
		for _, group := range l.recent[i].list {
			l.outage(group)
		}
		l.recent[i].reset()
	}
	l.recentBytes = 0
}

func (l *losses) newConnection() { l.told = nil }

func (l *losses) take() []uint64 {
	groups := l.pending.list
	l.pending = groupSet{}
	slices.Sort(groups)
	return groups
}

// groupSet is a set that can be walked in a fixed order. The last group added is remembered, because
// appends of one group come in runs.
type groupSet struct {
	list []uint64
	in   map[uint64]struct{}
}

func (s *groupSet) len() int { return len(s.list) }

func (s *groupSet) add(group uint64) {
	if n := len(s.list); n > 0 && s.list[n-1] == group {
		return
	}
	if _, ok := s.in[group]; ok {
		return
	}
	if s.in == nil {
		s.in = make(map[uint64]struct{})
	}
	s.in[group] = struct{}{}
	s.list = append(s.list, group)
}

func (s *groupSet) reset() { s.list, s.in = s.list[:0], nil }
