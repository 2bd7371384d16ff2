package router

import (
	"strings"
	"sync"
	"testing"

	multiraftv1 "github.com/multiraftd/multiraftd/proto/multiraft/v1"
	"github.com/multiraftd/multiraftd/proto/recordbatch"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/store"
)

// stallingKV holds synced commits while it is stalled, as a disk that does not answer does.
type stallingKV struct {
	store.KV
	disk sync.RWMutex // held for writing while stalled
}

func (k *stallingKV) Commit(b *store.Batch, sync bool) error {
	k.disk.RLock()
	defer k.disk.RUnlock()
	return k.KV.Commit(b, sync)
}

func TestLeadershipMovesAwayFromADiskThatHasStalledAndHealthSaysSo(t *testing.T) {
	ctx := testContext(t)
	disks := map[raftcore.NodeID]*stallingKV{}
	c := newClusterOn(t, 3, func(id raftcore.NodeID, kv store.KV) store.KV {
		disks[id] = &stallingKV{KV: kv}
		return disks[id]
	})
	topic := c.nodes[1].createTopic(ctx, "t", 1, 3)
	c.nodes[1].append(ctx, topic, 0, "before")
	leader, other := c.ledBy()
	disk := disks[leader.id]
	disk.disk.Lock()
	stuck := make(chan error, 1)
	go func() { // committed by the two others, or unknown to its client: either way it ends
		_, err := leader.log.AppendOnce(ctx, &multiraftv1.AppendOnceRequest{Item: batchItem(1, topic, 0, batch(t, recordbatch.None, "meanwhile"))})
		stuck <- err
	}()
	eventually(t, "another node leads", func() bool {
		st := firstHosted(other).Board.Load()
		return st.Leader != 0 && st.Leader != leader.id
	})
	eventually(t, "health names the disk", func() bool {
		health, err := other.admin.ClusterHealth(ctx, &multiraftv1.ClusterHealthRequest{})
		if err != nil {
			return false
		}
		for _, r := range health.GetReasons() {
			if strings.Contains(r.GetWhat(), "has stalled") {
				return true
			}
		}
		return false
	})
	other.append(ctx, topic, 0, "after")
	disk.disk.Unlock()
	if err := <-stuck; err != nil && fromStatus(err).reason != outcomeUnknown {
		t.Errorf("the append to the stalled leader: %v", err)
	}
	eventually(t, "all replicas are alike again", func() bool {
		a, b := firstHosted(leader).Board.Load(), firstHosted(other).Board.Load()
		return !a.Stalled && a.Applied == b.Applied && a.Hash == b.Hash
	})
	if n := leader.core.cfg.Replica.Counters.StallHandovers.Load(); n == 0 {
		t.Errorf("no handover was attempted: %+v; other: %+v", firstHosted(leader).Board.Load(), firstHosted(other).Board.Load())
	}
}
