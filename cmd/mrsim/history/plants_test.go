package history

import "slices"

// plants are the ways in which a history can go wrong. plant says false where this history has no place for it.
var plants = []struct {
	name      string
	rules     []string // what Check may call it; several where one wrong thing contradicts others in many ways
	checkOnly string   // why Porcupine need not find it
	plant     func(g *garden) bool
}{
	{"the log loses its end from an acknowledged batch on", []string{RuleLost, RuleElsewhere}, "", func(g *garden) bool {
		_, op := g.pick(g.ackedInLog)
		if op == nil {
			return false
		}
		g.log = g.log[:op.Offset-g.logStart]
		return true
	}},
	{"the log loses an acknowledged batch from its middle", []string{RuleLost, RuleElsewhere, RuleChanged}, "", func(g *garden) bool {
		_, op := g.pick(g.ackedInLog)
		if op == nil {
			return false
		}
		g.log = slices.Delete(g.log, int(op.Offset-g.logStart), int(op.end()-g.logStart))
		return true
	}},
	{"a batch is acknowledged that was never stored", []string{RuleLost}, "", func(g *garden) bool {
		_, op := g.pick(func(r Ref, op *Op) bool { return g.neverStored(r) && op.Outcome == Unknown })
		if op == nil {
			return false
		}
		op.Outcome, op.Offset, op.Return = Done, g.end(), g.tick(g.last.Time)
		return true
	}},
	{"a batch is acknowledged at another's offset", []string{RuleChanged, RuleLost}, "", func(g *garden) bool {
		_, op := g.pick(func(r Ref, op *Op) bool { return g.neverStored(r) && op.Outcome == Unknown })
		_, other := g.pick(g.ackedInLog)
		if op == nil || other == nil {
			return false
		}
		op.Outcome, op.Offset, op.Return = Done, other.Offset, g.tick(g.last.Time)
		return true
	}},
	{"a batch is acknowledged beside where it stands", []string{RuleElsewhere}, "", func(g *garden) bool {
		_, op := g.pick(g.ackedInLog)
		if op == nil {
			return false
		}
		op.Offset += int64(g.rng.IntN(2)*2 - 1)
		return true
	}},
	{"two appends are acknowledged at one offset", []string{RuleSharedOffset}, "", func(g *garden) bool {
		_, op := g.pick(func(r Ref, op *Op) bool { return g.otherAcked(r) != none })
		if op == nil {
			return false
		}
		op.Offset = g.ops[g.otherAcked(Ref(slices.Index(g.ops, *op)))].Offset
		return true
	}},
	{"a record of an acknowledged batch has changed", []string{RuleChanged}, "", func(g *garden) bool {
		_, op := g.pick(g.ackedInLog)
		if op == nil {
			return false
		}
		g.log[op.Offset-g.logStart+g.rng.Int64N(op.end()-op.Offset)] = g.fresh()
		return true
	}},
	{"two records of a batch are exchanged", []string{RuleChanged}, "", func(g *garden) bool {
		_, op := g.pick(func(r Ref, op *Op) bool { return g.ackedInLog(r, op) && op.to-op.from > 1 })
		if op == nil {
			return false
		}
		at := g.log[op.Offset-g.logStart:]
		at[0], at[1] = at[1], at[0]
		return true
	}},
	{"a record comes out of thin air", []string{RuleInvented}, "", func(g *garden) bool {
		g.addToLog(g.fresh())
		return true
	}},
	{"an idempotent batch is stored twice", []string{RuleStoredTwice}, "", func(g *garden) bool {
		o := g.pickStored(func(o *occurrence) bool { return g.firstAttempt(o).Producer.ID != 0 })
		if o == nil {
			return false
		}
		g.addToLog(g.valuesOf(o)...)
		return true
	}},
	{"a plain append is stored twice", []string{RuleStoredTwice}, "", func(g *garden) bool {
		o := g.pickStored(func(o *occurrence) bool {
			return g.firstAttempt(o).Producer.ID == 0 && g.single(g.w.submissions[o.submission].attempts[0])
		})
		if o == nil {
			return false
		}
		g.addToLog(g.valuesOf(o)...)
		return true
	}},
	{"a definite failure is stored", []string{RuleStoredFailed}, "", func(g *garden) bool {
		r, op := g.pick(func(r Ref, op *Op) bool { return op.Outcome == Failed && g.single(r) })
		if op == nil {
			return false
		}
		g.addToLog(g.Values(r)...)
		return true
	}},
	{"a part of a batch is stored", []string{RuleTorn}, "", func(g *garden) bool {
		r, op := g.pick(func(r Ref, op *Op) bool { return g.neverStored(r) && op.to-op.from > 1 })
		if op == nil {
			return false
		}
		cut := 1 + g.rng.IntN(op.to-op.from-1)
		if g.rng.IntN(2) == 0 {
			g.addToLog(g.Values(r)[:cut]...)
		} else {
			g.addToLog(g.Values(r)[cut:]...)
		}
		return true
	}},
	{"a batch that is nowhere is called a duplicate", []string{RuleNotADuplicate}, "", func(g *garden) bool {
		_, op := g.pick(func(r Ref, op *Op) bool { return g.neverStored(r) && op.Outcome == Unknown && op.Producer.ID != 0 })
		if op == nil || len(g.w.holes) > 0 {
			return false
		}
		op.Outcome, op.Return = Duplicate, g.tick(g.last.Time)
		return true
	}},
	{"a producer's batches change places", []string{RuleProducerOrder, RuleProducerGap}, "its model has no sequences", func(g *garden) bool {
		o := g.pickStored(func(o *occurrence) bool {
			next := g.nextOfProducer(o)
			return next != nil && next.end-next.base == o.end-o.base
		})
		if o == nil {
			return false
		}
		a, b := g.firstAttempt(o).Producer, g.firstAttempt(g.nextOfProducer(o)).Producer
		g.setProducer(o, b)
		g.setProducer(g.nextOfProducer(o), a)
		return true
	}},
	{"a producer's batch is stored without the one before", []string{RuleProducerGap}, "its model has no sequences", func(g *garden) bool {
		o := g.pickStored(func(o *occurrence) bool { return g.firstAttempt(o).Producer.ID != 0 && g.nextOfProducer(o) == nil })
		if o == nil || len(g.w.holes) > 0 {
			return false
		}
		p := g.firstAttempt(o).Producer
		p.Sequence += 1000
		g.setProducer(o, p)
		return true
	}},
	{"an old epoch's batch is stored after a newer one's", []string{RuleProducerOrder}, "its model has no epochs", func(g *garden) bool {
		o := g.pickStored(func(o *occurrence) bool {
			return g.nextOfProducer(o) != nil && g.firstAttempt(o).Producer.Sequence == 0
		})
		if o == nil {
			return false
		}
		p := g.firstAttempt(o).Producer
		p.Epoch++
		g.setProducer(o, p)
		return true
	}},
	{"acknowledged appends stand in the wrong order", realTime, "", plantReordered},
	{"an end is stale", []string{RuleStaleEnd}, "", func(g *garden) bool {
		_, op := g.pick(func(r Ref, op *Op) bool { return op.Kind == End && op.Outcome == Done && g.lastBatchBefore(op) >= 0 })
		if op == nil {
			return false
		}
		op.HighWatermark = g.lastBatchBefore(op)
		op.LogStart = min(op.LogStart, op.HighWatermark)
		return true
	}},
	{"a read to the end is stale", []string{RuleStaleEnd}, "", func(g *garden) bool {
		_, op := g.pick(func(r Ref, op *Op) bool {
			return op.Kind == ReadToEnd && op.Outcome == Done && g.lastBatchBefore(op) >= op.Offset
		})
		if op == nil {
			return false
		}
		op.to = op.from + int(g.lastBatchBefore(op)-op.Offset)
		return true
	}},
	{"an end counts what is appended only later", realTime, "", func(g *garden) bool {
		_, op := g.pick(func(r Ref, op *Op) bool { return op.Kind == End && op.Outcome == Done && g.storedAfter(op) != nil })
		if op == nil {
			return false
		}
		op.HighWatermark = g.storedAfter(op).end
		return true
	}},
	{"an end is beyond the log", []string{RuleLost}, "", func(g *garden) bool {
		_, op := g.pick(func(r Ref, op *Op) bool { return op.Kind == End && op.Outcome == Done })
		if op == nil {
			return false
		}
		op.HighWatermark = g.end() + 1 + g.rng.Int64N(3)
		return true
	}},
	{"an end is within a batch", []string{RuleEndInBatch}, "", func(g *garden) bool {
		_, op := g.pick(func(r Ref, op *Op) bool {
			return op.Kind == End && op.Outcome == Done && op.HighWatermark > 0 && g.w.inBatch(op.HighWatermark-1)
		})
		if op == nil {
			return false
		}
		op.HighWatermark--
		op.LogStart = min(op.LogStart, op.HighWatermark)
		return true
	}},
	{"a read returns what is appended only later", realTime, "", func(g *garden) bool {
		_, op := g.pick(func(r Ref, op *Op) bool { return op.Kind == Read && op.Outcome == Done && g.storedAfter(op) != nil })
		if op == nil {
			return false
		}
		o := g.storedAfter(op)
		op.Offset = o.base
		g.setValues(op, g.valuesOf(o)[:1])
		return true
	}},
	{"a read returns what was never committed", []string{RuleLost}, "", func(g *garden) bool {
		r, batch := g.pick(func(r Ref, op *Op) bool { return g.neverStored(r) })
		_, op := g.pick(func(r Ref, op *Op) bool { return op.Kind == Read && op.Outcome == Done })
		if batch == nil || op == nil {
			return false
		}
		op.Offset = g.end()
		g.setValues(op, g.Values(r))
		return true
	}},
	{"a read returns a changed record", []string{RuleChanged}, "", func(g *garden) bool {
		_, op := g.pick(func(r Ref, op *Op) bool {
			return (op.Kind == Read || op.Kind == ReadToEnd) && op.to > op.from && op.Offset >= g.logStart
		})
		if op == nil {
			return false
		}
		g.values[op.from+g.rng.IntN(op.to-op.from)] = g.fresh()
		return true
	}},
	{"a log start falls", []string{RuleLogStart}, "its model has no log start", func(g *garden) bool {
		_, op := g.pick(func(r Ref, op *Op) bool { return op.Kind == End && op.Outcome == Done && g.startBefore(op) > 0 })
		if op == nil {
			return false
		}
		op.LogStart = g.rng.Int64N(g.startBefore(op))
		return true
	}},
	{"a log start is above what was truncated", []string{RuleLogStart}, "its model has no log start", func(g *garden) bool {
		_, op := g.pick(func(r Ref, op *Op) bool { return op.Kind == End && op.Outcome == Done })
		if op == nil {
			return false
		}
		op.LogStart = g.logStart + 1
		return true
	}},
}

// plantReordered makes two acknowledged batches change places in all that anybody saw.
func plantReordered(g *garden) bool {
	plain := func(r Ref, op *Op) bool { return g.ackedInLog(r, op) && op.Producer.ID == 0 }
	ra, a := g.pick(plain)
	if a == nil {
		return false
	}
	rb, b := g.pick(func(r Ref, op *Op) bool {
		return plain(r, op) && op.to-op.from == a.to-a.from && a.Return.Before(op.Call)
	})
	if b == nil {
		return false
	}
	swap := map[uint64]uint64{}
	for i, v := range g.Values(ra) {
		swap[v], swap[g.Values(rb)[i]] = g.Values(rb)[i], v
	}
	exchange := func(values []uint64) {
		for i, v := range values {
			if to, is := swap[v]; is {
				values[i] = to
			}
		}
	}
	exchange(g.log)
	for i := range g.ops {
		if g.ops[i].Kind != Append {
			exchange(g.Values(Ref(i)))
		}
	}
	a.Offset, b.Offset = b.Offset, a.Offset
	return true
}

// neverStored says whether nothing of an append's records is, or may have been, in the log.
func (g *garden) neverStored(r Ref) bool {
	return g.ops[r].Kind == Append && g.single(r) && g.ops[r].Outcome != Failed && len(g.w.holes) == 0 &&
		g.w.submissions[g.w.ofAppend[r]].occurrence == none
}

// otherAcked is another acknowledged plain append of the same records, where both are in the log.
func (g *garden) otherAcked(r Ref) Ref {
	if g.ops[r].Kind != Append || g.ops[r].Producer.ID != 0 || g.ops[r].Outcome != Done || g.ops[r].Offset < g.logStart {
		return none
	}
	for _, s := range g.w.contents[g.w.submissions[g.w.ofAppend[r]].content].submissions {
		other := g.w.submissions[s].attempts[0]
		if other != r && g.ops[other].Outcome == Done && g.ops[other].Offset >= g.logStart {
			return other
		}
	}
	return none
}

// nextOfProducer is the next batch in the log of a batch's idempotent producer, or nil.
func (g *garden) nextOfProducer(o *occurrence) *occurrence {
	id := g.firstAttempt(o).Producer.ID
	for i := range g.w.occurrences {
		if next := &g.w.occurrences[i]; id != 0 && next.base > o.base && g.firstAttempt(next).Producer.ID == id {
			return next
		}
	}
	return nil
}

func (g *garden) setProducer(o *occurrence, p Producer) {
	for _, r := range g.w.submissions[o.submission].attempts {
		g.ops[r].Producer = p
	}
}

// lastBatchBefore is where the last batch starts that was known before a call, or -1.
func (g *garden) lastBatchBefore(op *Op) int64 {
	known := g.knownBefore(op.Call)
	if known == 0 || g.w.ownerOf[known-1] == none {
		return -1
	}
	return g.w.occurrences[g.w.ownerOf[known-1]].base
}

// storedAfter is the first batch of the log that was appended after an answer, or nil.
func (g *garden) storedAfter(op *Op) *occurrence {
	for i := range g.w.occurrences {
		if o := &g.w.occurrences[i]; op.Return.Before(g.w.calledAt(o.submission)) {
			return o
		}
	}
	return nil
}

// startBefore is the highest log start told before a call.
func (g *garden) startBefore(op *Op) int64 {
	start := int64(0)
	for i := range g.ops {
		if g.ops[i].Return.Before(op.Call) {
			start = max(start, g.ops[i].LogStart)
		}
	}
	return start
}
