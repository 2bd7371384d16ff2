package history

// checkOrder is linearizability. Each answer shows the log to be stored up to some offset at the time of the
// answer. Two things can be wrong, and nothing else:
//
//   - a later question about the end is answered with less than was shown before it was asked;
//   - a batch stands below what was shown before it was appended.
//
// Why that is all: order appends by offset, and each end h between the batch that ends at h and the one that
// begins there. Two operations contradict this order only if the one that comes later in it was answered before
// the other was asked. If the other is an end, it is the first case; if it is an append, the second. An append
// without an answer has no Return, so only its call can contradict. An order that nothing contradicts can be
// made one of all operations. A plain Read may be behind, so it shows, and is never too low.
//
// One pass over the events keeps what has been shown and by whom.
func (w *witness) checkOrder() *Violation {
	shownBy := make([]Ref, len(w.at)) // by offset: whose answer showed it first
	for o := range shownBy {
		shownBy[o] = none
	}
	var latest, started Ref = none, none // who showed the most, and who was told the highest log start
	known, logStart := int64(0), int64(0)
	for _, e := range w.h.events()[1:] {
		if e >= 0 {
			if v := w.checkNotStale(e, known, latest, logStart, started); v != nil {
				return v
			}
			continue
		}
		r := ^e
		if end := min(w.shown(r), int64(len(w.at))); end > known {
			for o := known; o < end; o++ {
				shownBy[o] = r
			}
			known, latest = end, r
		}
		if op := &w.h.ops[r]; op.Kind == End && op.LogStart > logStart {
			logStart, started = op.LogStart, r
		}
	}
	return w.checkCalledInTime(shownBy)
}

// checkNotStale is at the call of r.
func (w *witness) checkNotStale(r Ref, known int64, latest Ref, logStart int64, started Ref) *Violation {
	op := &w.h.ops[r]
	if !op.linearizable() {
		return nil
	}
	if end := op.end(); end < known {
		return violation(RuleStaleEnd, "%s; before its call, the log was known up to %d from %s",
			w.h.Describe(r), known, w.h.Describe(latest))
	}
	if op.Kind == End && op.LogStart < logStart {
		return violation(RuleLogStart, "%s; before its call, the log start was known to be %d from %s",
			w.h.Describe(r), logStart, w.h.Describe(started))
	}
	return nil
}

// checkCalledInTime wants each batch to be appended before the first answer that shows any of it.
func (w *witness) checkCalledInTime(shownBy []Ref) *Violation {
	for _, o := range w.occurrences {
		r := shownBy[o.base]
		if o.submission == none || r == none || w.calledAt(o.submission).Before(w.h.ops[r].Return) {
			continue
		}
		rule := RuleEndTooHigh
		switch w.h.ops[r].Kind {
		case Append:
			rule = RuleAppendOrder
		case Read:
			rule = RuleReadPastCommit
		}
		return violation(rule, "[%d, %d) was appended by %s, after it had been shown by %s",
			o.base, o.end, w.describe(&w.submissions[o.submission]), w.h.Describe(r))
	}
	return nil
}
