package actors

import (
	"slices"

	"github.com/multiraftd/multiraftd/raftcore"
)

// readAttemptsMax bounds how often a lost ReadIndex is asked again, with a fresh context each time.
const readAttemptsMax = 3

// readRound is one ReadIndex and the reads that share it.
type readRound struct {
	ctx       uint64
	index     raftcore.Index // valid when confirmed
	confirmed bool
	ticks     int
	attempts  int
	replies   []ReadEndReply
}

// askReadIndex opens one round for all reads that came in this turn.
func (r *Replica) askReadIndex() {
	if len(r.ends) == 0 {
		return
	}
	replies := slices.Clone(r.ends)
	clear(r.ends)
	r.ends = r.ends[:0]
	if r.leading == 0 {
		endReads(replies, r.notLeader())
		return
	}
	round := readRound{replies: replies}
	if err := r.ask(&round); err != nil {
		endReads(replies, r.notLeader())
		return
	}
	r.rounds = append(r.rounds, round)
}

// ask never reuses a context: a late answer to an earlier attempt would serve a stale read.
func (r *Replica) ask(round *readRound) error {
	r.readCtx++
	round.ctx, round.ticks = r.readCtx, 0
	round.attempts++
	return r.core.ReadIndex(round.ctx)
}

func (r *Replica) confirmRounds(states []raftcore.ReadState) {
	for _, s := range states {
		for i := range r.rounds {
			if r.rounds[i].ctx == s.Context {
				r.rounds[i].index, r.rounds[i].confirmed = s.Index, true
			}
		}
	}
	if len(states) > 0 {
		r.answerRounds()
	}
}

// answerRounds answers the reads whose index has been applied.
func (r *Replica) answerRounds() {
	start, high := r.machine.Bounds()
	r.rounds = slices.DeleteFunc(r.rounds, func(round readRound) bool {
		if !round.confirmed || round.index > r.state.Applied {
			return false
		}
		for _, reply := range round.replies {
			reply.ReadEnd(start, high, r.leading, nil)
		}
		return true
	})
}

// ageRounds asks again for rounds that were lost on the way, and gives up in the end.
func (r *Replica) ageRounds(ticks int) {
	r.rounds = slices.DeleteFunc(r.rounds, func(round readRound) bool { return round.attempts == 0 })
	for i := range r.rounds {
		round := &r.rounds[i]
		if round.confirmed {
			continue
		}
		if round.ticks += ticks; round.ticks < r.cfg.ElectionTicks {
			continue
		}
		if round.attempts == readAttemptsMax {
			endReads(round.replies, ErrReadTimeout)
			round.attempts = 0 // taken out at the next ageing
			round.replies = nil
			continue
		}
		if err := r.ask(round); err != nil {
			endReads(round.replies, r.notLeader())
			round.attempts, round.replies = 0, nil
		}
	}
}

func (r *Replica) endRounds(err error) {
	for _, round := range r.rounds {
		endReads(round.replies, err)
	}
	r.rounds = nil
}

func endReads(replies []ReadEndReply, err error) {
	for _, reply := range replies {
		reply.ReadEnd(0, 0, 0, err)
	}
}

// waitReadable answers at once when a View can already serve the offset.
func (r *Replica) waitReadable(w WaitReadable) {
	if w.Offset < r.readable {
		w.Reply <- nil
		return
	}
	r.readWaits = append(r.readWaits, w)
}

func (r *Replica) cancelWait(id uint64) {
	r.readWaits = slices.DeleteFunc(r.readWaits, func(w WaitReadable) bool { return w.ID == id })
}

func (r *Replica) becomeReadable(o raftcore.Offset) {
	r.readable = o
	r.readWaits = slices.DeleteFunc(r.readWaits, func(w WaitReadable) bool {
		if w.Offset >= o {
			return false
		}
		w.Reply <- nil
		return true
	})
}
