package router

import (
	"strings"
	"testing"

	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
)

func TestHealthSaysWhoseDiskIsFullOrStalledAndWhatToDo(t *testing.T) {
	c := census{answers: map[raftcore.NodeID]*multiraftv1.NodeStatusResponse{
		1: {DiskSpace: multiraftv1.DiskSpace_DISK_SPACE_ENOUGH, Replicas: []*multiraftv1.ReplicaStatus{{GroupId: 4}}},
		2: {DiskSpace: multiraftv1.DiskSpace_DISK_SPACE_LOW, DiskFreeBytes: 300 << 20, DiskBytes: 9 << 30},
		3: {DiskSpace: multiraftv1.DiskSpace_DISK_SPACE_SHORT, Replicas: []*multiraftv1.ReplicaStatus{{GroupId: 4}, {GroupId: 5, Stalled: true}}},
	}}
	for id := range uint64(4) { // node 4 does not answer
		c.nodes = append(c.nodes, &metav1.Node{NodeId: id + 1})
	}
	got := c.diskReasons()
	want := []string{"node 3 has stalled group 5 iostat", "node 2 is nearly full 300 MiB of 9216 MiB topic alter", "node 3 is nearly full reserve is used up topic delete"}
	if len(got) != len(want) {
		t.Fatalf("%v", got)
	}
	for i, words := range want {
		text := strings.Join([]string{got[i].GetWhat(), got[i].GetWhy(), got[i].GetTry()}, " ")
		for word := range strings.FieldsSeq(words) {
			if !strings.Contains(text, word) {
				t.Errorf("%q lacks %q", text, word)
			}
		}
	}
}
