package actors

import (
	"slices"
	"testing"

	raftv1 "github.com/multiraftd/multiraftd/proto/multiraft/raft/v1"
)

func TestADeletionIsConfirmedWhenItsNodeReportsItAndNotBefore(t *testing.T) {
	r := newClusterRig(t, 0, "", "", "", "")
	r.topic("t", 4, 3)
	r.tick(40)
	r.drain(3)
	r.tick(200)
	orders := r.machine.State().Removals(3)
	if len(orders) != 3 {
		t.Fatalf("%d orders", len(orders))
	}
	r.reports[3] = func(rep *raftv1.NodeReport) {
		rep.Deleted = []*raftv1.DeletedReplica{
			{GroupId: uint64(orders[0].Group), ReplicaId: uint64(orders[0].Replica)},
			{GroupId: uint64(orders[1].Group), ReplicaId: uint64(orders[1].Replica) + 7}, // another one than ordered
		}
	}
	r.tick(30)
	if left := r.machine.State().Removals(3); !slices.Equal(left, orders[1:]) {
		t.Fatalf("left are %v of %v", left, orders)
	}
}
