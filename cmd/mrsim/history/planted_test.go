package history

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
)

// garden is a correct history in which one thing will be made wrong.
type garden struct {
	*History
	w   *witness
	rng *rand.Rand
}

func newGarden(t *testing.T, seed uint64) *garden {
	t.Helper()
	toy := generate(seed, 2+int(seed%5), 80)
	w, err := newWitness(toy.h)
	if err != nil {
		t.Fatal(err)
	}
	return &garden{History: toy.h, w: w, rng: rand.New(rand.NewPCG(seed, 5))}
}

// pick returns a random operation for which is holds, or none.
func (g *garden) pick(is func(r Ref, op *Op) bool) (Ref, *Op) {
	var found []Ref
	for i := range g.ops {
		if is(Ref(i), &g.ops[i]) {
			found = append(found, Ref(i))
		}
	}
	if found == nil {
		return none, nil
	}
	r := found[g.rng.IntN(len(found))]
	return r, &g.ops[r]
}

// pickStored returns a random batch of the log for which is holds, or nil.
func (g *garden) pickStored(is func(o *occurrence) bool) *occurrence {
	var found []*occurrence
	for i := range g.w.occurrences {
		if o := &g.w.occurrences[i]; is(o) {
			found = append(found, o)
		}
	}
	if found == nil {
		return nil
	}
	return found[g.rng.IntN(len(found))]
}

func (g *garden) end() int64 { return int64(len(g.w.at)) }

func (g *garden) fresh() uint64 { return 1<<40 + g.rng.Uint64N(1<<40) }

// single says whether an append is the only one of its records.
func (g *garden) single(r Ref) bool {
	s := &g.w.submissions[g.w.ofAppend[r]]
	return len(s.attempts) == 1 && len(g.w.contents[s.content].submissions) == 1
}

// ackedInLog says whether an append is acknowledged, the only one of its records, and still in the log.
func (g *garden) ackedInLog(r Ref, op *Op) bool {
	return op.Kind == Append && op.Outcome == Done && op.Offset >= g.logStart && g.single(r)
}

// knownBefore is what the answers before a call showed.
func (g *garden) knownBefore(m Moment) int64 {
	known := int64(0)
	for i := range g.ops {
		if g.ops[i].Return.Before(m) {
			known = max(known, g.w.shown(Ref(i)))
		}
	}
	return known
}

func (g *garden) addToLog(values ...uint64) { g.log = append(g.log, values...) }

func (g *garden) valuesOf(o *occurrence) []uint64 { return g.w.contents[o.content].values }

func (g *garden) firstAttempt(o *occurrence) *Op {
	return &g.ops[g.w.submissions[o.submission].attempts[0]]
}

func (g *garden) setValues(op *Op, values []uint64) {
	op.from = len(g.values)
	g.values = append(g.values, values...)
	op.to = len(g.values)
}

var realTime = []string{RuleAppendOrder, RuleEndTooHigh, RuleReadPastCommit, RuleStaleEnd}

const plantedTimes = 200

func TestEachPlantedViolationIsFound(t *testing.T) {
	for _, p := range plants {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			planted := 0
			for seed := uint64(0); planted < plantedTimes; seed++ {
				if seed > 100*plantedTimes {
					t.Fatalf("planted only %d times in %d histories", planted, seed)
				}
				g := newGarden(t, seed)
				if !p.plant(g) {
					continue
				}
				planted++
				var v *Violation
				if err := Check(g.History); !errors.As(err, &v) || !slices.Contains(p.rules, v.Rule) {
					t.Fatalf("seed %d: Check finds %v, want one of %q", seed, err, p.rules)
				}
				if err := checkPorcupine(t, g.History); p.checkOnly == "" && (!errors.As(err, &v) || v.Rule != RuleOrder) {
					t.Fatalf("seed %d: Porcupine finds %v; Check found %v", seed, err, Check(g.History))
				}
			}
		})
	}
}
