package router

import (
	"strings"
	"testing"

	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
)

func TestAClusterThatIsBeingFoundedHasOneIllness(t *testing.T) {
	members := []raftcore.NodeID{1, 2, 3}
	c := census{groups: []groupState{{id: raftcore.MetadataGroup, what: "the metadata group", members: members, missing: members[:2]}}}
	if r := c.reasons(); len(r) != 1 || !strings.Contains(r[0].GetWhat(), "just been founded") || !strings.Contains(r[0].GetWhy(), "[1 2 3]") {
		t.Errorf("health says %v", r)
	}
	c.nodes = []*metav1.Node{{NodeId: 1, ClientAddr: "a:1"}}
	var all []string
	for _, r := range c.reasons() {
		all = append(all, r.GetWhat())
	}
	if said := strings.Join(all, "; "); !strings.Contains(said, "node 2 is not registered; node 3 is not registered; the metadata group has no leader") {
		t.Errorf("when one is registered health says %s", said)
	}
}

// TestAFailedReplicaIsReplacedByAMoveWhereItsNodeCanHearOfIt: a node learns of a move from its replica of the metadata
// group. With that failed, as after a disk that went back in time, a move would never end.
func TestAFailedReplicaIsReplacedByAMoveWhereItsNodeCanHearOfIt(t *testing.T) {
	const failure = "the replica is quarantined"
	c := census{answers: map[raftcore.NodeID]*multiraftv1.NodeStatusResponse{1: {}, 2: {}, 3: {}}}
	for id := range uint64(3) {
		c.nodes = append(c.nodes, &metav1.Node{NodeId: id + 1, ClientAddr: strings.Repeat("abc"[id:id+1], 3) + ":1"})
	}
	members := []raftcore.NodeID{1, 2, 3}
	c.groups = []groupState{
		{id: raftcore.MetadataGroup, what: "the metadata group", leader: 2, members: members, failed: []*multiraftv1.ReplicaStatus{{NodeId: 1, Failure: failure}}},
		{id: 7, what: "group 7", topic: "t", partition: 3, leader: 2, members: members,
			failed: []*multiraftv1.ReplicaStatus{{NodeId: 1, Failure: failure}, {NodeId: 3, Failure: failure}}},
	}
	const anew = "mrctl node remove 1 --force, then multiraftd start --data-dir NEW_DIR --client-addr H:P --peer-addr H:P --http-addr H:P --join bbb:1"
	want := map[string]string{
		"the replica of the metadata group on node 1 has failed": anew,
		"the replica of group 7 on node 1 has failed":            anew,
		"the replica of group 7 on node 3 has failed":            "mrctl partition move t 3 --to 1,2 && mrctl partition move t 3 --to 1,2,3",
	}
	for _, r := range c.reasons() {
		try, ok := want[r.GetWhat()]
		if !ok {
			t.Errorf("health says %v", r)
		}
		if !strings.HasSuffix(r.GetTry(), "replace it: "+try) {
			t.Errorf("%s: try %q, which should end with %q", r.GetWhat(), r.GetTry(), try)
		}
		delete(want, r.GetWhat())
	}
	if len(want) > 0 {
		t.Errorf("health does not say %v", want)
	}
}
