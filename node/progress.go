package node

import (
	"slices"

	"github.com/multiraftd/multiraftd/actors"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/router"
)

// progress says, for each replica that comes to this node after others have been there, how far it is:
//
//	learner -> caught up -> voter
//
// It looks at groups until they vote here; the metadata group may stay a learner.
type progress struct {
	say    func(stage string, g raftcore.GroupID)
	known  map[raftcore.GroupID]bool // looked at to the end
	stages map[raftcore.GroupID]int
	// done is a table all of whose groups are known; nil = there is none.
	done *router.Table
}

var stages = [...]string{"", "learner", "learner -> caught up", "learner -> caught up -> voter"}

func newProgress(say func(string, raftcore.GroupID)) *progress {
	return &progress{say: say, known: map[raftcore.GroupID]bool{}, stages: map[raftcore.GroupID]int{}}
}

func (p *progress) look(t *router.Table) {
	if p.done != nil && t.SameGroups(p.done) {
		return
	}
	p.done = t
	for _, g := range t.Groups() {
		if p.known[g] {
			continue
		}
		h, _ := t.Hosted(g)
		st := h.Board.Load()
		if st == nil || stageOf(st) < len(stages)-1 {
			p.done = nil
		}
		if st == nil {
			continue
		}
		stage := stageOf(st)
		for p.stages[g] < stage && (stage < len(stages)-1 || p.stages[g] > 0) {
			p.stages[g]++
			p.say(stages[p.stages[g]], g)
		}
		if stage == len(stages)-1 {
			p.known[g] = true
			delete(p.stages, g)
		}
	}
}

// stageOf says how far a replica is; 0 = it has nothing yet.
func stageOf(st *actors.Status) int {
	switch {
	case slices.Contains(st.Voters, st.Node):
		return 3
	case !slices.Contains(st.Learners, st.Node):
		return 0
	case st.Leader != 0 && st.Commit > 0 && st.Applied >= st.Commit:
		return 2
	}
	return 1
}
