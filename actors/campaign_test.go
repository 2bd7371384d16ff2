package actors

import (
	"testing"

	"github.com/multiraftd/multiraftd/raftcore"
)

// TestALeadersEndIsMadeUpForWithoutATickAlsoWhenTheFirstInLineLacksAnEntry: the first in line asks at once, and in vain
// where the second has a longer log, as under load about every second group. The second must not wait for its turn.
func TestALeadersEndIsMadeUpForWithoutATickAlsoWhenTheFirstInLineLacksAnEntry(t *testing.T) {
	for name, behind := range map[string]raftcore.NodeID{"the first has all": 3, "the first lacks an entry": 2, "none lacks one": 1} {
		t.Run(name, func(t *testing.T) {
			g := newGroup(t, Keep{})
			g.propose("before")
			g.cut[behind] = behind != 1
			g.propose("not everywhere")
			g.cut = map[raftcore.NodeID]bool{1: true}
			g.nodes[2].tell(&NodeGone{Node: 1})
			g.nodes[3].tell(&NodeGone{Node: 1})
			g.run()
			leader := 5 - behind
			if behind == 1 {
				leader = 2
			}
			if st := g.nodes[leader].status(); st.Role != raftcore.Leader || st.Commit != st.Last {
				t.Errorf("node %d: %+v", leader, st)
			}
		})
	}
}
