package router

import (
	"github.com/asynkron/protoactor-go/actor"

	"github.com/multiraftd/multiraftd/actors"
	metav1 "github.com/multiraftd/multiraftd/proto/multiraft/meta/v1"
	"github.com/multiraftd/multiraftd/raftcore"
	"github.com/multiraftd/multiraftd/raftcore/metadata"
	"github.com/multiraftd/multiraftd/raftcore/partition"
)

func retentionOf(t *metav1.Topic) partition.Retention {
	return partition.Retention{Millis: t.GetConfig().GetRetentionMs(), Bytes: t.GetConfig().GetRetentionBytes()}
}

// retain tells the replicas of topics whose retention is another than before. At the start all that are stored
// have been spawned before the metadata is known, with none.
func (r *Router) retain(ctx actor.Context, before *metadata.State) {
	for _, t := range r.meta.Topics() {
		was, _ := before.Topic(t.GetTopicId())
		if was == t || retentionOf(was) == retentionOf(t) {
			continue
		}
		for _, p := range t.GetPartitions() {
			if h, ok := r.groups[raftcore.GroupID(p.GetGroupId())]; ok {
				ctx.Send(h.PID, &actors.Retain{Retention: retentionOf(t)})
			}
		}
	}
}
