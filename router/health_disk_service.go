package router

import (
	"fmt"
	"slices"

	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/raftcore"
)

// diskReasons says which nodes' disks are nearly full or have stalled, by node.
func (c *census) diskReasons() []*multiraftv1.HealthReason {
	var full, stalled reasonList
	for _, n := range c.nodes {
		answer := c.answers[raftcore.NodeID(n.GetNodeId())]
		if level := answer.GetDiskSpace(); level == multiraftv1.DiskSpace_DISK_SPACE_LOW || level == multiraftv1.DiskSpace_DISK_SPACE_SHORT {
			why := fmt.Sprintf("%d MiB of %d MiB are free: what clients append to partitions led there is refused (DISK_FULL)", answer.GetDiskFreeBytes()>>20, answer.GetDiskBytes()>>20)
			if level == multiraftv1.DiskSpace_DISK_SPACE_SHORT {
				why += ", its replicas fall behind, and its reserve is used up"
			}
			full.add(fmt.Sprintf("the disk of node %d is nearly full", n.GetNodeId()), why,
				"delete what else is on that disk or enlarge it; or keep less: mrctl topic alter NAME --retention-bytes SIZE, mrctl topic delete NAME")
		}
		i := slices.IndexFunc(answer.GetReplicas(), (*multiraftv1.ReplicaStatus).GetStalled)
		if i >= 0 {
			stalled.add(fmt.Sprintf("the disk of node %d has stalled", n.GetNodeId()),
				fmt.Sprintf("a write of group %d, perhaps of others, has not been synced for an election timeout: what it led is handed over", answer.GetReplicas()[i].GetGroupId()),
				fmt.Sprintf("look at the disk of node %d (iostat -x, dmesg); if it does not recover, stop the node: a majority goes on without it", n.GetNodeId()))
		}
	}
	return slices.Concat(stalled.all(), full.all())
}
